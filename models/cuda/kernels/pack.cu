#include "models/cuda/kernels/pack.h"

#include "models/cuda/kernels/element.cuh"
#include "models/cuda/launch.cuh"

namespace
{

enum { THREADS = 256 };

template <typename T>
__global__ void __launch_bounds__(THREADS)
    pack_kernel(T *packed, const float *arena, const filter *filters, const pack_piece *pieces)
{
    const pack_piece piece = pieces[blockIdx.x];
    const filter f = filters[piece.filter];
    uint32_t width = (uint32_t)channels_padded((int)f.in);
    for (uint32_t i = threadIdx.x; i < piece.count; i += THREADS) {
        uint64_t at = piece.first + i;
        uint32_t in = (uint32_t)(at % width), tap = (uint32_t)(at / width % f.taps);
        uint64_t out = at / width / f.taps;
        bool real = in < f.in && out < f.out;
        float v = real ? arena[f.arena + (out * f.in + in) * f.taps + tap] : 0.0f;
        element_put(packed + f.packed + at, v);
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    unpack_kernel(float *gradients, const T *packed, filter f)
{
    uint64_t at = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= (uint64_t)f.out * f.in * f.taps)
        return;
    uint32_t width = (uint32_t)channels_padded((int)f.in);
    uint32_t tap = (uint32_t)(at % f.taps), in = (uint32_t)(at / f.taps % f.in);
    uint64_t out = at / f.taps / f.in;
    gradients[f.arena + at] = element_get(packed[(out * f.taps + tap) * width + in]);
}

template <typename T>
cudaError_t pack_typed(void *packed, const float *arena, const filter *filters,
                       const pack_piece *pieces, size_t count, cudaStream_t stream)
{
    return kernel_launch(launch_shape{dim3((unsigned)count), dim3(THREADS), 0, stream},
                         pack_kernel<T>, static_cast<T *>(packed), arena, filters, pieces);
}

template <typename T>
cudaError_t unpack_typed(float *gradients, const void *packed, const filter &f, cudaStream_t stream)
{
    uint64_t count = (uint64_t)f.out * f.in * f.taps;
    return kernel_launch(
        launch_shape{dim3((unsigned)((count + THREADS - 1) / THREADS)), dim3(THREADS), 0, stream},
        unpack_kernel<T>, gradients, static_cast<const T *>(packed), f);
}

} // namespace

cudaError_t pack_launch(void *packed, const float *arena, const struct filter *filters,
                        const struct pack_piece *pieces, size_t piece_count, enum element_type type,
                        cudaStream_t stream)
{
    if (piece_count == 0)
        return cudaSuccess;
    return FOR_ELEMENT(type, pack_typed, packed, arena, filters, pieces, piece_count, stream);
}

cudaError_t unpack_launch(float *gradients, const void *packed, const struct filter *filter,
                          enum element_type type, cudaStream_t stream)
{
    return FOR_ELEMENT(type, unpack_typed, gradients, packed, *filter, stream);
}
