#include "tests/nccl/gpu.h"

#include <dlfcn.h>

#include "base/error.h"
#include "models/cuda/kernels/add.h"

#define OK(call) CHECK((call) == cudaSuccess)

static int add(void *context, void *to, const void *from, size_t count, enum real_type type,
               cudaStream_t stream)
{
    (void)context;
    const cudaError_t code = add_launch(to, from, count, type, stream);
    return code == cudaSuccess ? RETORT_OK : FAIL(RETORT_RANK, "%s", cudaGetErrorString(code));
}

static void *create(size_t bytes)
{
    void *p = NULL;
    OK(cudaMalloc(&p, bytes + 1)); // + 1: there is no memory of 0 bytes
    return p;
}

static void destroy(void *p)
{
    OK(cudaFree(p));
}

static void put(void *to, const void *from, size_t bytes)
{
    OK(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}

static void get(void *to, const void *from, size_t bytes)
{
    OK(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}

#ifdef RETORT_SOFTGPU // its kernels are slow
enum { MOST = 10000 };
#else
enum { MOST = 400000 };
#endif

const struct test_memory test_memory_gpu = {create, destroy, put, get, MOST};

static void *device_alloc(void *context, size_t bytes)
{
    (void)context;
    return create(bytes);
}

static void device_free(void *context, void *p)
{
    (void)context;
    destroy(p);
}

bool gpu_rank_open(struct gpu_rank *r)
{
    int count = 0;
    *r = (struct gpu_rank){0};
    CHECK(comm_mpi_create(&r->comm) == RETORT_OK);
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
        comm_destroy(&r->comm);
        return false;
    }
    OK(cudaSetDevice(comm_local_rank(r->comm) % count));
    OK(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking));
    return true;
}

// As a program finds the plug-in's function, or the one it was linked with.
static device_comm_open_function *find_open(void)
{
#ifdef RETORT_PLUGIN
    void *plugin = dlopen(RETORT_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    if (!plugin)
        (void)FAIL(RETORT_FAILED, "%s", dlerror());
    CHECK(plugin);
    device_comm_open_function *open = NULL;
    *(void **)&open = dlsym(plugin, DEVICE_COMM_OPEN); // POSIX: a function fits a pointer
    CHECK(open);
    return open;
#else
    return device_comm_open;
#endif
}

void gpu_rank_connect(struct gpu_rank *r, size_t staging_bytes, double timeout_s)
{
    const struct device_needs needs = {.add = add,
                                       .alloc = device_alloc,
                                       .free = device_free,
                                       .stream = r->stream,
                                       .staging_bytes = staging_bytes,
                                       .timeout_s = timeout_s,
                                       .even_alone = true};
    const int rc = find_open()(&r->device, r->comm, &needs);
    if (rc != RETORT_OK)
        comm_abort(r->comm, rc);
}

void gpu_rank_close(struct gpu_rank *r)
{
    comm_attach_device(r->comm, NULL);
    device_comm_destroy(&r->device);
    OK(cudaStreamDestroy(r->stream));
    comm_destroy(&r->comm);
}
