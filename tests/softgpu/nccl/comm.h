#pragma once
// Communicators: which collective is next, and what the calls of a group become when they run.

#include <string>
#include <vector>

#include "../runtime/work.h"
#include "channel.h"

namespace softgpu
{

// One call as it was made.
struct Request {
    Call call;
    const void *from;
    void *to;
    size_t bytes; // that this rank contributes
    int peer;     // ncclSend, ncclRecv
};

// How a rank misbehaves (softgpu.h): at its nth operation.
struct Misbehaviour {
    int kind, nth, ms;
};

struct Comm {
    std::shared_ptr<Channel> channel;
    uint64_t collectives = 0; // begun so far
    uint64_t sent[RANKS_MAX] = {}, received[RANKS_MAX] = {};
    int operations = 0; // begun so far, of any kind
    bool ready = false, aborted = false;
    bool blocking = true;
    int busy = 0;                     // how often it is still to say that a call is not done
    ncclResult_t error = ncclSuccess; // asynchronous
    bool hangs = false;
    double slow_until_ms = 0.0;
};
using CommRef = std::shared_ptr<Comm>;

// The operation that runs these calls together.
Operation comm_operation(const CommRef &comm, const std::vector<Request> &requests);
// The asynchronous error, ncclInProgress while ranks are missing.
ncclResult_t comm_state(Comm &comm);
void misbehave(const Misbehaviour &how);
// What a call that has queued something returns: on a communicator that does not block, and when
// the test wants it, that it is not done yet.
ncclResult_t comm_queued(Comm &comm);

} // namespace softgpu
