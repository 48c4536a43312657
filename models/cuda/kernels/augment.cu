#include "models/cuda/kernels/augment.h"

#include "models/cuda/kernels/element.cuh"
#include "models/cuda/launch.cuh"

namespace
{

enum { THREADS = 256, RGB = 3, LEVELS = 256 };

// Red, green and blue, and zeros behind them.
template <typename T> __device__ void pixel_store(T *values, size_t pixel, const float (&rgb)[RGB])
{
    float unit[CHANNEL_UNIT] = {rgb[0], rgb[1], rgb[2]};
    unit_store(values + pixel * CHANNEL_UNIT, unit);
}

template <typename T> __global__ void __launch_bounds__(THREADS) augment_kernel(augment_job job)
{
    size_t area = (size_t)job.height * job.width;
    size_t pixel = (size_t)blockIdx.x * THREADS + threadIdx.x;
    T *values = static_cast<T *>(job.values);
    if (pixel >= area * job.rows)
        return;
    float rgb[RGB] = {};
    size_t sample = pixel / area;
    if (sample < (size_t)job.count) {
        int at = (int)(pixel % area), y, x;
        const sample_source source = *job.source;
        augment_choice choice = augment_choose(source.augment, source.seed, source.domain,
                                               source.view, (uint64_t)job.sample_id[sample]);
        augment_source(choice, job.height, job.width, at / job.width, at % job.width, &y, &x);
        const uint8_t *from =
            source.pixels + ((size_t)job.slot[sample] * area + (size_t)y * job.width + x) * RGB;
        for (int c = 0; c < RGB; c++) {
            uint8_t level = from[c];
            rgb[c] = job.table[c * LEVELS + level];
            if (job.augmented != nullptr)
                job.augmented[pixel * RGB + c] = level;
        }
    }
    pixel_store(values, pixel, rgb);
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    pictures_kernel(T *values, const float *from, size_t area, size_t count, size_t rows)
{
    size_t pixel = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (pixel >= area * rows)
        return;
    float rgb[RGB] = {};
    size_t sample = pixel / area;
    if (sample < count)
        for (int c = 0; c < RGB; c++)
            rgb[c] = from[(sample * RGB + c) * area + pixel % area];
    pixel_store(values, pixel, rgb);
}

launch_shape shape_of(size_t pixels, cudaStream_t stream)
{
    return launch_shape{dim3((unsigned)((pixels + THREADS - 1) / THREADS)), dim3(THREADS), 0,
                        stream};
}

template <typename T> cudaError_t augment_typed(const augment_job &job, cudaStream_t stream)
{
    size_t pixels = (size_t)job.rows * job.height * job.width;
    return kernel_launch(shape_of(pixels, stream), augment_kernel<T>, job);
}

template <typename T>
cudaError_t pictures_typed(void *values, const float *from, size_t area, int count, int rows,
                           cudaStream_t stream)
{
    return kernel_launch(shape_of(area * rows, stream), pictures_kernel<T>,
                         static_cast<T *>(values), from, area, count, rows);
}

} // namespace

cudaError_t augment_launch(const struct augment_job *job, enum element_type type,
                           cudaStream_t stream)
{
    return job->rows == 0 ? cudaSuccess : FOR_ELEMENT(type, augment_typed, *job, stream);
}

cudaError_t pictures_launch(void *values, const float *from, int count, int rows, int height,
                            int width, enum element_type type, cudaStream_t stream)
{
    return rows == 0 ? cudaSuccess
                     : FOR_ELEMENT(type, pictures_typed, values, from, (size_t)height * width,
                                   count, rows, stream);
}
