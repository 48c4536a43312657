#include "models/cuda/kernels/loss.h"

#include "base/arith/half.h"
#include "models/cuda/kernels/element.cuh"
#include "models/cuda/launch.cuh"

namespace
{

enum { WARP = 32, WARPS = 4, TOP = 5, SLICES = 32 };
const unsigned ALL = 0xffffffffu;

// Every lane gets the sum, added up in the same order everywhere.
__device__ double warp_sum(double v)
{
    for (int bits = WARP / 2; bits > 0; bits /= 2)
        v += __shfl_xor_sync(ALL, v, bits);
    return v;
}

__device__ double warp_max(double v)
{
    for (int bits = WARP / 2; bits > 0; bits /= 2) {
        double other = __shfl_xor_sync(ALL, v, bits);
        if (other > v)
            v = other;
    }
    return v;
}

struct f32_row {
    const float *values;
    __device__ double operator[](int c) const
    {
        return (double)values[c];
    }
};

struct f16_row {
    const uint16_t *values;
    __device__ double operator[](int c) const
    {
        return half_to_double(values[c]);
    }
};

template <typename Row> __device__ loss_softmax softmax_of(Row row, int classes, double scale)
{
    int lane = (int)threadIdx.x % WARP;
    loss_softmax s = {scale, -HUGE_VAL, 0.0};
    double sum = 0.0;
    for (int c = lane; c < classes; c += WARP)
        if (row[c] * scale > s.max)
            s.max = row[c] * scale;
    s.max = warp_max(s.max);
    for (int c = lane; c < classes; c += WARP)
        sum += exp(row[c] * scale - s.max);
    s.lse = log(warp_sum(sum));
    return s;
}

// What this lane's classes add to a row.
struct lane_sums {
    double ce, kl;
    int before; // classes that rank before the label
};

// The row's three softmaxes: of the logits, and at temperature T of student and teacher.
struct softmaxes {
    loss_softmax hard, soft, taught;
};

template <typename T>
__device__ lane_sums over_classes(const loss_job &job, const softmaxes &s, f32_row z, f16_row t,
                                  int label, T *gradient)
{
    const loss_weights &w = job.weights;
    bool distilled = job.teacher != nullptr;
    double mine = z[label], scale = gradient != nullptr ? job.scalars->inverse_batch : 0.0;
    if (job.scale != nullptr)
        scale *= (double)job.scale->scale;
    lane_sums sums = {};
    for (int c = (int)threadIdx.x % WARP; c < job.classes; c += WARP) {
        double log_p = loss_log_softmax(s.hard, z[c]), soft_p = 0.0, soft_q = 0.0;
        double target = loss_target(c, label, job.classes, w.smoothing);
        if (target != 0.0) // not 0 * -infinity
            sums.ce -= target * log_p;
        if (distilled) {
            double log_soft_p = loss_log_softmax(s.soft, z[c]);
            double log_soft_q = loss_log_softmax(s.taught, t[c]);
            soft_q = exp(log_soft_q);
            soft_p = exp(log_soft_p);
            sums.kl += loss_kl_term(soft_q, log_soft_q, log_soft_p);
        }
        sums.before += loss_beats(c, z[c], label, mine);
        if (gradient != nullptr)
            element_put(gradient + c,
                        (float)(loss_gradient(&w, exp(log_p), target, soft_p, soft_q) * scale));
    }
    return sums;
}

__device__ void row_put(const loss_job &job, int row, const lane_sums &lane, bool comparable)
{
    double ce = warp_sum(lane.ce), kd = job.weights.kd_unit * warp_sum(lane.kl);
    double before = warp_sum((double)lane.before);
    double *out = job.row_sums + (size_t)row * LOSS_SUMS;
    if (threadIdx.x % WARP != 0)
        return;
    out[LOSS_TOTAL] = job.teacher != nullptr ? job.weights.ce * ce + job.weights.kd * kd : ce;
    out[LOSS_CE] = ce;
    out[LOSS_KD] = kd;
    out[LOSS_TOP1] = comparable && before < 1.0 ? 1.0 : 0.0;
    out[LOSS_TOP5] = comparable && before < TOP ? 1.0 : 0.0;
}

// The row's label; one that is no class is reported and taken for class 0.
__device__ int label_of(const loss_job &job, int64_t id)
{
    int label = job.labels[id];
    if (label >= 0 && label < job.classes)
        return label;
    if (threadIdx.x % WARP == 0 &&
        atomicCAS(&job.fault->sample, 0ull, (unsigned long long)id + 1) == 0)
        job.fault->label = label;
    return 0;
}

template <typename T> __global__ void __launch_bounds__(WARP *WARPS) rows_kernel(loss_job job)
{
    int row = (int)blockIdx.x * WARPS + (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    int padded = channels_padded(job.classes);
    if (row >= job.rows)
        return;
    T *gradient = static_cast<T *>(job.gradient);
    if (gradient != nullptr) {
        gradient += (size_t)row * padded;
        for (int c = lane + (row < job.count ? job.classes : 0); c < padded; c += WARP)
            element_put(gradient + c, 0.0f);
    }
    if (row >= job.count)
        return;
    int64_t id = job.sample_id[row];
    int label = label_of(job, id);
    f32_row z = {job.logits + (size_t)row * job.classes};
    f16_row t = {job.teacher != nullptr ? *job.teacher + (size_t)id * job.classes : nullptr};
    softmaxes s = {softmax_of(z, job.classes, 1.0), {}, {}};
    if (job.teacher != nullptr) {
        s.soft = softmax_of(z, job.classes, job.weights.softness);
        s.taught = softmax_of(t, job.classes, job.weights.softness);
    }
    row_put(job, row, over_classes(job, s, z, t, label, gradient), z[label] == z[label]);
}

// A sum a warp's width of slices: rows s, s + 32, …, then the slices in order.
__global__ void __launch_bounds__(SLICES *LOSS_SUMS) sums_kernel(loss_job job)
{
    __shared__ double shared[LOSS_SUMS][SLICES];
    int which = (int)threadIdx.x / SLICES, slice = (int)threadIdx.x % SLICES;
    double sum = 0.0;
    for (int row = slice; row < job.count; row += SLICES)
        sum += job.row_sums[(size_t)row * LOSS_SUMS + which];
    shared[which][slice] = sum;
    __syncthreads();
    if (slice != 0)
        return;
    for (int k = 1; k < SLICES; k++)
        sum += shared[which][k];
    job.sums[which] += sum;
}

template <typename T> cudaError_t rows_typed(const loss_job &job, cudaStream_t stream)
{
    unsigned blocks = (unsigned)((job.rows + WARPS - 1) / WARPS);
    return kernel_launch(launch_shape{dim3(blocks), dim3(WARP * WARPS), 0, stream}, rows_kernel<T>,
                         job);
}

} // namespace

cudaError_t loss_launch(const struct loss_job *job, enum element_type type, cudaStream_t stream)
{
    if (job->rows == 0)
        return cudaSuccess;
    cudaError_t status = FOR_ELEMENT(type, rows_typed, *job, stream);
    if (status != cudaSuccess)
        return status;
    return kernel_launch(launch_shape{dim3(1), dim3(SLICES * LOSS_SUMS), 0, stream}, sums_kernel,
                         *job);
}
