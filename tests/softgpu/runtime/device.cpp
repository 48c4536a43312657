// The device: what it is, errors, and the launch of kernels.

#include <cstdio>
#include <cstring>
#include <map>
#include <set>

#include "../block.h"
#include "../fault.h"
#include "../launch.h"
#include "../settings.h"
#include "memory.h"
#include "stream.h"

namespace softgpu
{

namespace
{

enum : size_t {
    THREADS_MAX = 1024,
    SHARED_MAX = 48 * 1024,        // dynamic, unless the kernel asked for more
    SHARED_OPTIN_MAX = 227 * 1024, // that it may ask for
    CALL_MAX = 4096,
};

int device; // that was set
uint64_t kernels_run;
std::map<const void *, size_t> shared_allowed; // by kernel

cudaError_t launch_check(const Kernel &k)
{
    size_t threads = (size_t)k.block.x * k.block.y * k.block.z;
    size_t blocks = (size_t)k.grid.x * k.grid.y * k.grid.z;
    if (threads == 0 || blocks == 0 || threads > THREADS_MAX || k.block.z > 64 ||
        k.grid.x > INT32_MAX || k.grid.y > 65535 || k.grid.z > 65535)
        return cudaErrorInvalidConfiguration;
    auto it = shared_allowed.find(k.function);
    if (k.dynamic_bytes > (it == shared_allowed.end() ? SHARED_MAX : it->second))
        return cudaErrorInvalidValue;
    return k.call.size() <= CALL_MAX ? cudaSuccess : cudaErrorInvalidValue;
}

struct Error {
    cudaError_t code;
    const char *name, *text;
};
const Error ERRORS[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
     "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "capturing stream has unjoined work"},
};

const Error &error_of(cudaError_t code)
{
    for (const Error &error : ERRORS)
        if (error.code == code)
            return error;
    static const Error other = {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"};
    return other;
}

} // namespace

cudaError_t kernel_submit(const cudaLaunchConfig_t &config, const void *function, const void *call,
                          size_t call_bytes, void (*run)(const void *call))
{
    return with_stream("cudaLaunchKernelExC", config.stream, [&](cudaStream_t stream) {
        const char *bytes = static_cast<const char *>(call);
        Kernel kernel = {function,
                         config.gridDim,
                         config.blockDim,
                         config.dynamicSmemBytes,
                         std::vector<char>(bytes, bytes + call_bytes),
                         run};
        cudaError_t rc = launch_check(kernel);
        if (rc != cudaSuccess)
            return rc;
        std::string what = "kernel";
        if (settings.trace)
            what = code_at(reinterpret_cast<uintptr_t>(function)).function;
        return submit(stream, operation(what, [kernel] {
                          kernels_run++;
                          grid_run(kernel);
                      }));
    });
}

} // namespace softgpu

using namespace softgpu;

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value)
{
    return api("cudaFuncSetAttribute", [&] {
        if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
            static_cast<size_t>(value) > SHARED_OPTIN_MAX)
            return cudaErrorInvalidValue;
        shared_allowed[function] = static_cast<size_t>(value);
        return cudaSuccess;
    });
}

cudaError_t cudaGetDeviceCount(int *count)
{
    return api("cudaGetDeviceCount", [&] {
        *count = settings.devices;
        return settings.devices > 0 ? cudaSuccess : cudaErrorNoDevice;
    });
}

cudaError_t cudaSetDevice(int number)
{
    return api("cudaSetDevice", [&] {
        if (number < 0 || number >= settings.devices)
            return cudaErrorInvalidDevice;
        device = number;
        return cudaSuccess;
    });
}

cudaError_t cudaGetDevice(int *number)
{
    return api("cudaGetDevice", [&] {
        *number = device;
        return cudaSuccess;
    });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int number)
{
    return api("cudaGetDeviceProperties", [&] {
        if (number < 0 || number >= settings.devices)
            return cudaErrorInvalidDevice;
        *out = {};
        snprintf(out->name, sizeof(out->name), "software GPU");
        snprintf(out->uuid.bytes, sizeof(out->uuid.bytes), "softgpu %d", number);
        out->totalGlobalMem = memory_limit();
        out->major = 9;
        out->multiProcessorCount = 4;
        out->warpSize = 32;
        out->maxThreadsPerBlock = THREADS_MAX;
        out->maxThreadsPerMultiProcessor = 2048;
        out->sharedMemPerBlock = SHARED_MAX;
        out->sharedMemPerBlockOptin = SHARED_OPTIN_MAX;
        out->pciBusID = number;
        out->asyncEngineCount = 1;
        out->concurrentKernels = 1;
        out->unifiedAddressing = 1;
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int number)
{
    return api("cudaDeviceGetAttribute", [&] {
        const std::map<int, int> values = {
            {cudaDevAttrMultiProcessorCount, 4},
            {cudaDevAttrComputeCapabilityMajor, 9},
            {cudaDevAttrComputeCapabilityMinor, 0},
            {cudaDevAttrMaxThreadsPerBlock, THREADS_MAX},
            {cudaDevAttrMaxSharedMemoryPerBlock, SHARED_MAX},
            {cudaDevAttrMaxSharedMemoryPerBlockOptin, SHARED_OPTIN_MAX},
            {cudaDevAttrWarpSize, 32},
            {cudaDevAttrPciBusId, number},
        };
        auto it = values.find(attribute);
        if (number < 0 || number >= settings.devices)
            return cudaErrorInvalidDevice;
        if (it == values.end())
            return cudaErrorInvalidValue;
        *value = it->second;
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceGetPCIBusId(char *out, int length, int number)
{
    return api("cudaDeviceGetPCIBusId", [&] {
        snprintf(out, static_cast<size_t>(length), "0000:%02x:00.0", static_cast<unsigned>(number));
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    return api("cudaDeviceGetStreamPriorityRange", [&] {
        *least = 0;
        *greatest = -5;
        return cudaSuccess;
    });
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    return api("cudaDeviceSynchronize", [] {
        cudaError_t rc = captures_forbid(cudaErrorStreamCaptureUnsupported);
        if (rc == cudaSuccess)
            work_finish(work_all());
        return rc;
    });
}

// All devices are one memory: it is that of them all.
cudaError_t cudaDeviceReset(void)
{
    return api("cudaDeviceReset", [] {
        cudaError_t rc = captures_forbid(cudaErrorStreamCaptureUnsupported);
        if (rc == cudaSuccess) {
            work_finish(work_all());
            memory_free_all();
        }
        return rc;
    });
}

cudaError_t cudaGetLastError(void)
{
    return last_error_take(true);
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error_take(false);
}

const char *cudaGetErrorString(cudaError_t code)
{
    return error_of(code).text;
}

const char *cudaGetErrorName(cudaError_t code)
{
    return error_of(code).name;
}

void softgpu_reset(void)
{
    work_drop();
    captures_reset();
    streams_reset();
    memory_free_all();
    fault_forget();
    settings_read();
    last_error_take(true);
    shared_allowed.clear();
    device = 0;
}

uint64_t softgpu_kernels_run(void)
{
    return kernels_run;
}
