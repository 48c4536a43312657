#include "models/cuda/kernels/gather.h"

#include "models/cuda/launch.cuh"

namespace
{

enum { THREADS = 256 };

// A thread a unit: 16 bytes where rows are made of such, else one.
template <typename Unit>
__global__ void __launch_bounds__(THREADS)
    gather_kernel(Unit *to, const Unit *from, const int64_t *rows, size_t row_units, size_t units)
{
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < units)
        to[i] = from[(size_t)rows[i / row_units] * row_units + i % row_units];
}

template <typename Unit>
cudaError_t launch(void *to, const void *from, const int64_t *rows, size_t count, size_t row_bytes,
                   cudaStream_t stream)
{
    size_t row_units = row_bytes / sizeof(Unit), units = count * row_units;
    dim3 blocks((unsigned)((units + THREADS - 1) / THREADS));
    return kernel_launch(launch_shape{blocks, dim3(THREADS), 0, stream}, gather_kernel<Unit>,
                         static_cast<Unit *>(to), static_cast<const Unit *>(from), rows, row_units,
                         units);
}

bool whole_units(const void *to, const void *from, size_t row_bytes)
{
    return ((uintptr_t)to | (uintptr_t)from | row_bytes) % sizeof(uint4) == 0;
}

} // namespace

cudaError_t gather_launch(void *to, const void *from, const int64_t *rows, size_t count,
                          size_t row_bytes, cudaStream_t stream)
{
    if (count == 0 || row_bytes == 0)
        return cudaSuccess;
    return whole_units(to, from, row_bytes)
               ? launch<uint4>(to, from, rows, count, row_bytes, stream)
               : launch<uint8_t>(to, from, rows, count, row_bytes, stream);
}
