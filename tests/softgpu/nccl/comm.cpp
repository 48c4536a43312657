#include "comm.h"

#include <cstdlib>
#include <cstring>

#include "../fault.h"
#include "../runtime/memory.h"
#include "../softgpu.h"
#include "reduce.h"

namespace softgpu
{

namespace
{

Misbehaviour planned = {0, 0, 0};

bool is(const Call &call, const char *name)
{
    return strcmp(call.name, name) == 0;
}

bool point_to_point(const Call &call)
{
    return is(call, "ncclSend") || is(call, "ncclRecv");
}

std::string words(const Call &call)
{
    return text("%s of %lu elements, type %d, operation %d, root %d", call.name, call.count,
                call.type, call.operation, call.root);
}

// Ranks that do not agree on what they do hang, or worse, on hardware: here it is said.
bool calls_agree(const Comm &comm, uint64_t n)
{
    const Channel &channel = *comm.channel;
    const Call &mine = channel.call_of(n, channel.rank());
    for (int r = 0; r < channel.ranks(); r++) {
        const Call &theirs = channel.call_of(n, r);
        if (is(theirs, mine.name) && theirs.count == mine.count && theirs.type == mine.type &&
            theirs.operation == mine.operation && theirs.root == mine.root)
            continue;
        fault(cudaErrorLaunchFailure,
              text("NCCL: collective %lu of rank %d is ", n, channel.rank()) + words(mine) +
                  text("; rank %d's is ", r) + words(theirs));
        return false;
    }
    return true;
}

// The part of every rank's contribution that begins at `offset`.
std::vector<const char *> contributions(const Channel &channel, uint64_t n, size_t offset)
{
    std::vector<const char *> out;
    for (int r = 0; r < channel.ranks(); r++)
        out.push_back(channel.data_of(n, r) + offset);
    return out;
}

void collective_read(const Comm &comm, const Request &request, uint64_t n)
{
    const Channel &channel = *comm.channel;
    const Call &call = request.call;
    ncclDataType_t type = static_cast<ncclDataType_t>(call.type);
    ncclRedOp_t operation = static_cast<ncclRedOp_t>(call.operation);
    size_t bytes = call.count * nccl_type_bytes(type);
    char *to = static_cast<char *>(request.to);
    if (is(call, "ncclBroadcast"))
        memcpy(to, channel.data_of(n, call.root), bytes);
    else if (is(call, "ncclAllGather"))
        for (int r = 0; r < channel.ranks(); r++)
            memcpy(to + r * bytes, channel.data_of(n, r), bytes);
    else if (is(call, "ncclReduceScatter"))
        nccl_reduce(to, contributions(channel, n, channel.rank() * bytes), call.count, type,
                    operation);
    else if (is(call, "ncclAllReduce") || channel.rank() == call.root) // ncclReduce: the root alone
        nccl_reduce(to, contributions(channel, n, 0), call.count, type, operation);
}

// A call on its way: steps say whether it is done.
struct Running {
    Request request;
    uint64_t n; // its number among the communicator's collectives, or the pair's messages
    bool published, done;
};

void collective_step(Comm &comm, Running *run)
{
    Channel &channel = *comm.channel;
    const Request &request = run->request;
    if (!run->published)
        channel.publish(run->n, request.call, request.from, request.bytes);
    run->published = true;
    if (!channel.published_by_all(run->n))
        return;
    if (calls_agree(comm, run->n))
        collective_read(comm, request, run->n);
    run->done = true;
}

void message_step(Comm &comm, Running *run)
{
    Channel &channel = *comm.channel;
    const Request &request = run->request;
    if (is(request.call, "ncclSend")) {
        run->done = channel.send(run->n, request.peer, request.call, request.from, request.bytes);
        return;
    }
    if (!channel.arrived(run->n, request.peer))
        return;
    const Slot &slot = channel.message(run->n, request.peer);
    if (slot.bytes != request.bytes)
        fault(cudaErrorLaunchFailure,
              text("NCCL: rank %d receives %zu bytes from rank %d, which sent %lu", channel.rank(),
                   request.bytes, request.peer, slot.bytes));
    else if (slot.bytes > 0)
        memcpy(request.to, channel.message_data(run->n, request.peer), slot.bytes);
    channel.take(run->n, request.peer);
    run->done = true;
}

bool memory_fits(const Request &request)
{
    const Call &call = request.call;
    size_t bytes = call.count * nccl_type_bytes(static_cast<ncclDataType_t>(call.type));
    return memory_check(request.from, request.bytes, std::string(call.name) + ": source") &&
           (request.to == nullptr ||
            memory_check(request.to, bytes, std::string(call.name) + ": destination"));
}

// What the rank was told to do wrong, when its turn has come.
void misbehave_now(Comm &comm)
{
    if (planned.kind == SOFTGPU_BEHAVES || planned.kind == SOFTGPU_BUSY ||
        ++comm.operations != planned.nth)
        return;
    if (planned.kind == SOFTGPU_SLOW)
        comm.slow_until_ms = clock_ms() + planned.ms;
    else
        comm.hangs = true;
    if (planned.kind == SOFTGPU_FAILS) {
        comm.error = ncclSystemError;
        comm.channel->fail();
    }
}

Running begin(Comm &comm, const Request &request)
{
    Running run = {request, 0, false, false};
    if (!point_to_point(request.call))
        run.n = comm.collectives++;
    else if (is(request.call, "ncclSend"))
        run.n = comm.sent[request.peer]++;
    else
        run.n = comm.received[request.peer]++;
    misbehave_now(comm);
    run.done = !memory_fits(request);
    return run;
}

bool group_step(Comm &comm, std::vector<Running> &group)
{
    if (comm.aborted)
        return true;
    if (comm.hangs || clock_ms() < comm.slow_until_ms)
        return false;
    bool done = true, collectives = true;
    for (Running &run : group) {
        const bool message = point_to_point(run.request.call);
        if (!run.done && message)
            message_step(comm, &run);
        else if (!run.done && collectives)
            collective_step(comm, &run);
        done = done && run.done;
        collectives = collectives && (run.done || message); // one after the other: see channel.h
    }
    return done;
}

} // namespace

Operation comm_operation(const CommRef &comm, const std::vector<Request> &requests)
{
    Operation out;
    out.what = requests[0].call.name;
    out.remote = true;
    out.serial = comm.get();
    out.start = [comm, requests]() -> Step {
        auto group = std::make_shared<std::vector<Running>>();
        for (const Request &request : requests)
            group->push_back(begin(*comm, request));
        return [comm, group] { return group_step(*comm, *group); };
    };
    return out;
}

static ncclResult_t state_now(Comm &comm)
{
    if (comm.error != ncclSuccess)
        return comm.error;
    if (!comm.channel->complete())
        return ncclInProgress;
    if (!comm.ready && comm.channel->duplicate_gpu())
        return comm.error = ncclInvalidUsage;
    comm.ready = true;
    if (comm.channel->peer_failed())
        comm.error = ncclRemoteError;
    if (comm.error == ncclSuccess && comm.busy > 0) {
        comm.busy--;
        return ncclInProgress;
    }
    return comm.error;
}

ncclResult_t comm_state(Comm &comm)
{
    ncclResult_t state = ncclSuccess;
    locked([&] { state = state_now(comm); }); // operations change it while others ask
    return state;
}

ncclResult_t comm_queued(Comm &comm)
{
    enum { POLLS = 2 };
    if (planned.kind != SOFTGPU_BUSY || comm.blocking)
        return ncclSuccess;
    locked([&] { comm.busy = POLLS; });
    return ncclInProgress;
}

void misbehave(const Misbehaviour &how)
{
    planned = how;
}

} // namespace softgpu
