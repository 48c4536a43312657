// Allocation, copies and fills, as the runtime's calls.

#include <cstring>

#include "memory.h"
#include "stream.h"

using namespace softgpu;

namespace
{

struct Copy {
    void *to;
    const void *from;
    size_t bytes;
};

// Both ends are looked at when it is queued and when it runs: memory may be gone by then.
bool copy_check(const Copy &c, const char *name)
{
    return memory_check(c.to, c.bytes, std::string(name) + ": destination") &&
           memory_check(c.from, c.bytes, std::string(name) + ": source");
}

void copy_run(const Copy &c, const char *name)
{
    if (c.bytes > 0 && copy_check(c, name))
        memmove(c.to, c.from, c.bytes);
}

bool direction_fits(const Copy &c, cudaMemcpyKind kind)
{
    bool to_device = memory_kind(c.to, c.bytes) == Memory::DEVICE;
    bool from_device = memory_kind(c.from, c.bytes) == Memory::DEVICE;
    switch (kind) {
    case cudaMemcpyHostToHost:
        return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
        return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
        return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
        return to_device && from_device;
    default:
        return true;
    }
}

// The source's bytes as they are now: pageable memory is read before the call returns.
Operation copy_of_now(const Copy &c, const char *name)
{
    const char *bytes = static_cast<const char *>(c.from);
    auto kept = std::make_shared<std::vector<char>>(bytes, bytes + c.bytes);
    return operation(name, [=] { copy_run({c.to, kept->data(), c.bytes}, name); });
}

cudaError_t copy_submit(const Copy &c, cudaMemcpyKind kind, cudaStream_t stream, const char *name)
{
    if (c.bytes == 0)
        return cudaSuccess;
    if (!copy_check(c, name))
        return cudaErrorInvalidValue;
    if (!direction_fits(c, kind))
        return cudaErrorInvalidMemcpyDirection;
    bool capturing = stream->capture != nullptr;
    if (memory_kind(c.from, c.bytes) == Memory::PAGEABLE && !capturing)
        return submit(stream, copy_of_now(c, name));
    cudaError_t rc = submit(stream, operation(name, [=] { copy_run(c, name); }));
    if (rc == cudaSuccess && memory_kind(c.to, c.bytes) == Memory::PAGEABLE && !capturing)
        work_finish({stream->tail}); // pageable memory is written before the call returns
    return rc;
}

cudaError_t fill_submit(void *p, int value, size_t bytes, cudaStream_t stream, const char *name)
{
    if (bytes == 0)
        return cudaSuccess;
    if (!memory_check(p, bytes, name))
        return cudaErrorInvalidValue;
    if (memory_kind(p, bytes) == Memory::PAGEABLE)
        return cudaErrorInvalidValue;
    return submit(stream, operation(name, [=] {
                      if (memory_check(p, bytes, name))
                          memset(p, value, bytes);
                  }));
}

// Freeing waits for everything that may use the memory.
cudaError_t destroy(const char *name, void *p, bool host)
{
    return api(name, [&] {
        cudaError_t rc = captures_forbid(cudaErrorStreamCaptureUnsupported);
        if (rc != cudaSuccess)
            return rc;
        work_finish(work_all());
        return memory_destroy(p, host);
    });
}

cudaError_t create(const char *name, void **out, size_t bytes,
                   cudaError_t (*how)(void **out, size_t bytes))
{
    return api(name, [&] {
        cudaError_t rc = captures_forbid(cudaErrorStreamCaptureUnsupported);
        return rc == cudaSuccess ? how(out, bytes) : rc;
    });
}

} // namespace

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    return create("cudaMalloc", out, bytes, memory_create);
}

cudaError_t cudaFree(void *p)
{
    return destroy("cudaFree", p, false);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned)
{
    return create("cudaHostAlloc", out, bytes, memory_create_host);
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    return create("cudaMallocHost", out, bytes, memory_create_host);
}

cudaError_t cudaFreeHost(void *p)
{
    return destroy("cudaFreeHost", p, true);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t given)
{
    return with_stream("cudaMemcpyAsync", given, [&](cudaStream_t stream) {
        return copy_submit({to, from, bytes}, kind, stream, "cudaMemcpyAsync");
    });
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    return with_stream("cudaMemcpy", nullptr, [&](cudaStream_t stream) {
        cudaError_t rc = captures_forbid(cudaErrorStreamCaptureImplicit);
        if (rc == cudaSuccess)
            rc = copy_submit({to, from, bytes}, kind, stream, "cudaMemcpy");
        if (rc == cudaSuccess && kind != cudaMemcpyDeviceToDevice)
            work_finish({stream->tail});
        return rc;
    });
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t given)
{
    return with_stream("cudaMemsetAsync", given, [&](cudaStream_t stream) {
        return fill_submit(p, value, bytes, stream, "cudaMemsetAsync");
    });
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    return with_stream("cudaMemset", nullptr, [&](cudaStream_t stream) {
        cudaError_t rc = captures_forbid(cudaErrorStreamCaptureImplicit);
        return rc == cudaSuccess ? fill_submit(p, value, bytes, stream, "cudaMemset") : rc;
    });
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    return api("cudaMemGetInfo", [&] {
        *total_bytes = memory_limit();
        *free_bytes = memory_limit() - memory_used();
        return cudaSuccess;
    });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *out, const void *p)
{
    return api("cudaPointerGetAttributes", [&] {
        const cudaMemoryType types[] = {cudaMemoryTypeUnregistered, cudaMemoryTypeHost,
                                        cudaMemoryTypeDevice, cudaMemoryTypeUnregistered};
        *out = {};
        out->type = types[static_cast<int>(memory_kind(p, 1))];
        if (out->type == cudaMemoryTypeDevice)
            out->devicePointer = const_cast<void *>(p);
        return cudaSuccess;
    });
}
