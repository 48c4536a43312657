// NCCL's calls.

#include <nccl.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "../fault.h"
#include "../runtime/memory.h"
#include "../runtime/stream.h"
#include "../settings.h"
#include "comm.h"
#include "reduce.h"

struct ncclComm {
    softgpu::CommRef comm;
};

namespace softgpu
{

namespace
{

// Calls between ncclGroupStart and ncclGroupEnd, by communicator.
struct Pending {
    CommRef comm;
    cudaStream_t stream;
    std::vector<Request> requests;
};
thread_local int group_depth;
thread_local std::vector<Pending> group;
thread_local std::string last_text;

// A GPU goes on while its host waits for something else: what other ranks may be waiting for is run
// by this thread when nobody has for a while, whatever the policy.
class Progress
{
  public:
    Progress() : thread_([this] { loop(); })
    {
    }
    ~Progress()
    {
        stop_ = true;
        thread_.join();
    }

  private:
    void loop()
    {
        enum { PAUSE_MS = 10 };
        while (!stop_) {
            std::this_thread::sleep_for(std::chrono::milliseconds(PAUSE_MS));
            locked([] { work_remote(PAUSE_MS); });
        }
    }
    std::atomic<bool> stop_ = false;
    std::thread thread_;
};

ncclResult_t refuse(ncclResult_t code, const std::string &what)
{
    last_text = what;
    return code;
}

ncclResult_t group_submit()
{
    std::vector<Pending> calls;
    calls.swap(group);
    ncclResult_t state = ncclSuccess;
    for (const Pending &pending : calls) {
        cudaError_t rc = api("NCCL's queueing", [&] {
            return submit(pending.stream, comm_operation(pending.comm, pending.requests));
        });
        if (rc != cudaSuccess)
            return refuse(ncclUnhandledCudaError, cudaGetErrorString(rc));
        if (comm_queued(*pending.comm) == ncclInProgress)
            state = ncclInProgress;
    }
    return state;
}

ncclResult_t request_add(const CommRef &comm, const Request &request, cudaStream_t stream)
{
    Pending *mine = nullptr;
    for (Pending &pending : group)
        if (pending.comm == comm)
            mine = &pending;
    if (mine == nullptr)
        mine = &group.emplace_back(Pending{comm, stream, {}});
    if (mine->stream != stream)
        return refuse(ncclInvalidUsage, "calls of a group are on two streams");
    mine->requests.push_back(request);
    return group_depth > 0 ? ncclSuccess : group_submit();
}

// One call: `bytes` is what this rank contributes, in units of `count`.
ncclResult_t enqueue(const char *name, ncclComm_t handle, Request request, int shares,
                     cudaStream_t stream)
{
    int code = injected(name);
    if (code != 0)
        return refuse(static_cast<ncclResult_t>(code), "as the test wants it");
    if (handle == nullptr)
        return refuse(ncclInvalidArgument, "the communicator is NULL");
    const CommRef &comm = handle->comm;
    ncclResult_t state = comm_state(*comm);
    if (state != ncclSuccess)
        return refuse(state == ncclInProgress ? ncclInvalidUsage : state,
                      std::string(name) + ": the communicator is not ready");
    size_t size = nccl_type_bytes(static_cast<ncclDataType_t>(request.call.type));
    if (size == 0 || !nccl_operation_known(static_cast<ncclRedOp_t>(request.call.operation)))
        return refuse(ncclInvalidArgument, std::string(name) + ": type or operation");
    int limit = comm->channel->ranks();
    if (request.call.root < 0 || request.call.root >= limit || request.peer < 0 ||
        request.peer >= limit)
        return refuse(ncclInvalidArgument, std::string(name) + ": root or peer");
    request.bytes = request.call.count * size * static_cast<size_t>(shares);
    if (request.bytes > SLOT_BYTES)
        return refuse(ncclInvalidArgument, std::string(name) + ": more than softgpu's slots hold");
    snprintf(request.call.name, sizeof(request.call.name), "%s", name);
    return request_add(comm, request, stream);
}

Request request_of(const void *from, void *to, size_t count, ncclDataType_t type,
                   ncclRedOp_t operation, int root)
{
    return {{"", count, type, operation, root}, from, to, 0, 0};
}

int current_device()
{
    int device = 0;
    cudaGetDevice(&device);
    return device;
}

ncclResult_t wait_ready(Comm &comm)
{
    ncclResult_t state;
    while ((state = comm_state(comm)) == ncclInProgress)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return state;
}

} // namespace

} // namespace softgpu

using namespace softgpu;

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    int code = injected("ncclGetUniqueId");
    return code != 0 ? static_cast<ncclResult_t>(code) : Channel::make_id(id);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    static Progress progress;
    *out = nullptr;
    int code = injected("ncclCommInitRankConfig");
    if (code != 0)
        return refuse(static_cast<ncclResult_t>(code), "as the test wants it");
    if (ranks < 1 || ranks > RANKS_MAX || rank < 0 || rank >= ranks)
        return refuse(ncclInvalidArgument, text("rank %d of %d", rank, ranks));
    auto comm = std::make_shared<Comm>();
    comm->channel = Channel::attach(id, ranks, rank, current_device());
    if (!comm->channel)
        return refuse(ncclSystemError, "the id's maker is gone");
    *out = new ncclComm{comm};
    comm->blocking = config == nullptr || config->blocking != 0;
    if (!comm->blocking)
        return ncclInProgress;
    return wait_ready(*comm);
}

ncclResult_t ncclCommInitRank(ncclComm_t *out, int ranks, ncclUniqueId id, int rank)
{
    return ncclCommInitRankConfig(out, ranks, id, rank, nullptr);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    *error = comm_state(*comm->comm);
    return ncclSuccess;
}

// Operations that still wait for peers are given up by ncclCommAbort; the others finish.
ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    locked([&] { comm->comm->aborted = true; });
    delete comm;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    api("ncclCommFinalize", [&] {
        NodeRefs mine;
        for (const NodeRef &node : work_all())
            if (node->operation.serial == comm->comm.get())
                mine.push_back(node);
        work_finish(mine);
        return cudaSuccess;
    });
    return comm_queued(*comm->comm);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    delete comm; // its operations hold what they need
    return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *count)
{
    *count = comm->comm->channel->ranks();
    return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *rank)
{
    *rank = comm->comm->channel->rank();
    return ncclSuccess;
}

ncclResult_t ncclCommRegister(const ncclComm_t, void *p, size_t bytes, void **handle)
{
    *handle = p;
    return memory_kind(p, bytes) == Memory::DEVICE ? ncclSuccess : ncclInvalidArgument;
}

ncclResult_t ncclCommDeregister(const ncclComm_t, void *)
{
    return ncclSuccess;
}

ncclResult_t ncclMemAlloc(void **out, size_t bytes)
{
    return cudaMalloc(out, bytes) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclMemFree(void *p)
{
    return cudaFree(p) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclGroupStart()
{
    group_depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd()
{
    if (group_depth == 0)
        return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    return --group_depth > 0 ? ncclSuccess : group_submit();
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream)
{
    return enqueue("ncclAllReduce", comm, request_of(from, to, count, type, operation, 0), 1,
                   stream);
}

ncclResult_t ncclReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                        ncclRedOp_t operation, int root, ncclComm_t comm, cudaStream_t stream)
{
    return enqueue("ncclReduce", comm, request_of(from, to, count, type, operation, root), 1,
                   stream);
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream)
{
    int mine = comm != nullptr && comm->comm->channel->rank() == root; // others contribute nothing
    return enqueue("ncclBroadcast", comm, request_of(from, to, count, type, ncclSum, root), mine,
                   stream);
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream)
{
    return enqueue("ncclAllGather", comm, request_of(from, to, count, type, ncclSum, 0), 1, stream);
}

ncclResult_t ncclReduceScatter(const void *from, void *to, size_t count, ncclDataType_t type,
                               ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream)
{
    int ranks = comm != nullptr ? comm->comm->channel->ranks() : 1;
    return enqueue("ncclReduceScatter", comm, request_of(from, to, count, type, operation, 0),
                   ranks, stream);
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    Request request = request_of(from, nullptr, count, type, ncclSum, 0);
    request.peer = peer;
    return enqueue("ncclSend", comm, request, 1, stream);
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    Request request = request_of(nullptr, to, count, type, ncclSum, 0);
    request.peer = peer;
    return enqueue("ncclRecv", comm, request, 1, stream);
}

const char *ncclGetErrorString(ncclResult_t code)
{
    const char *const texts[] = {"no error",
                                 "unhandled cuda error",
                                 "unhandled system error",
                                 "internal error",
                                 "invalid argument",
                                 "invalid usage",
                                 "remote process exited or there was a network "
                                 "error",
                                 "NCCL operation in progress"};
    return code >= ncclSuccess && code < ncclNumResults ? texts[code] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t)
{
    return last_text.c_str();
}

void softgpu_nccl_misbehave(enum softgpu_misbehaviour kind, int nth, int ms)
{
    misbehave({kind, nth, ms});
}
