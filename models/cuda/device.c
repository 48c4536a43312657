// Which GPUs there are, and which of them is a rank's.

#include <stdio.h>
#include <string.h>

#include "models/cuda/affinity.h"
#include "models/cuda/cuda.h"

enum { CAPABILITY_LOWEST = 8 }; // what kernels are compiled for
// Less than this has no room for cuDNN and a small network.
static const size_t FREE_LEAST_BYTES = (size_t)256 << 20;

// ---- what there is

void cuda_libraries(char out[REPORT_TEXT])
{
    int runtime = 0;
    size_t version = cudnnGetVersion();
    (void)cudaRuntimeGetVersion(&runtime);
    snprintf(out, REPORT_TEXT, "CUDA %d.%d, cuDNN %zu.%zu.%zu", runtime / 1000, runtime % 1000 / 10,
             version / 10000, version % 10000 / 100, version % 100);
}

// Why there is no GPU to use.
static void no_gpu(char why[REPORT_TEXT], cudaError_t status)
{
    int driver = 0, runtime = 0;
    (void)cudaRuntimeGetVersion(&runtime);
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
        snprintf(why, REPORT_TEXT, "there is no NVIDIA driver on this machine");
    else if (status == cudaErrorInsufficientDriver)
        snprintf(why, REPORT_TEXT,
                 "the NVIDIA driver (for CUDA %d.%d) is too old for CUDA %d.%d (update it)",
                 driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    else
        snprintf(why, REPORT_TEXT, "no GPU can be used: %s (is CUDA_VISIBLE_DEVICES right?)",
                 cudaGetErrorString(status));
}

static int count_gpus(char why[REPORT_TEXT])
{
    int count = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaSuccess && count > 0)
        return count;
    no_gpu(why, status == cudaSuccess ? cudaErrorNoDevice : status);
    return 0;
}

// Free memory is told to those only who have a context there: makes the device the current one.
static void report_memory(struct gpu_report *out, int device)
{
    size_t total = 0;
    cudaError_t status = cudaSetDevice(device);
    if (status == cudaSuccess)
        status = cudaMemGetInfo(&out->free_bytes, &total);
    (void)cudaGetLastError(); // it has been seen
    if (status == cudaErrorMemoryAllocation ||
        (status == cudaSuccess && out->free_bytes < FREE_LEAST_BYTES))
        snprintf(out->why, sizeof(out->why), "%.128s has no free memory (%zu of %zu MiB)",
                 out->name, out->free_bytes >> 20, out->memory_bytes >> 20);
    else if (status != cudaSuccess)
        snprintf(out->why, sizeof(out->why), "%.128s: %s", out->name, cudaGetErrorString(status));
}

static void report_gpu(struct gpu_report *out, int device)
{
    struct cudaDeviceProp gpu;
    cudaError_t status = cudaGetDeviceProperties(&gpu, device);
    if (status != cudaSuccess) {
        snprintf(out->name, sizeof(out->name), "GPU %d", device);
        snprintf(out->why, sizeof(out->why), "%s", cudaGetErrorString(status));
        return;
    }
    snprintf(out->name, sizeof(out->name), "%s", gpu.name);
    out->major = gpu.major;
    out->minor = gpu.minor;
    out->memory_bytes = gpu.totalGlobalMem;
    if (gpu.major < CAPABILITY_LOWEST)
        snprintf(out->why, sizeof(out->why),
                 "%.128s is too old (compute capability %d.%d, %d.0 is needed)", gpu.name,
                 gpu.major, gpu.minor, (int)CAPABILITY_LOWEST);
    else
        report_memory(out, device);
}

void cuda_report(struct plugin_report *out)
{
    int driver = 0;
    memset(out, 0, sizeof(*out));
    cuda_libraries(out->libraries);
    if (cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0)
        snprintf(out->driver, sizeof(out->driver), "for CUDA %d.%d", driver / 1000,
                 driver % 1000 / 10);
    out->count = count_gpus(out->why);
    if (out->count > REPORTED_GPUS)
        out->count = REPORTED_GPUS;
    for (int i = 0; i < out->count; i++) {
        report_gpu(&out->gpus[i], i);
        cuda_place(i, out->gpus[i].pci, out->gpus[i].near);
        (void)cudaDeviceReset(); // of what looking took
    }
}

// ---- a rank's

int cuda_pick_device(int local_rank, int *device)
{
    char why[REPORT_TEXT];
    struct gpu_report gpu = {0};
    int count = count_gpus(why);
    if (count == 0)
        return FAIL(RETORT_USAGE, "device cuda: %s; use --device cpu", why);
    *device = local_rank % count; // more ranks than GPUs share them
    report_gpu(&gpu, *device);
    if (gpu.why[0] != '\0')
        return FAIL(RETORT_USAGE,
                    "device cuda: %s; name others by CUDA_VISIBLE_DEVICES, or use --device cpu",
                    gpu.why);
    return RETORT_OK;
}
