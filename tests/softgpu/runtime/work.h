#pragma once
// Queued work: operations with what they wait for, run when the policy says or a synchronisation
// needs them.

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace softgpu
{

// One run of an operation: false means that it waits for another process, ask again.
using Step = std::function<bool()>;

// What is queued once, or captured and started anew by each launch of the graph.
struct Operation {
    std::string what; // "cudaMemcpyAsync", for the trace
    std::function<Step()> start;
    bool outside = false;         // host code: device memory stays closed
    bool remote = false;          // others wait for it: it runs soon, whatever the policy
    const void *serial = nullptr; // operations of one communicator follow each other
};
// An operation that is done when it has run.
Operation operation(const std::string &what, std::function<void()> run);

struct Node {
    Operation operation;
    std::vector<std::shared_ptr<Node>> needs; // empty once done
    Step step;                                // once started
    const void *stream;
    bool done = false, wanted = false;
    double queued_ms = 0.0, done_ms = 0.0; // when
};
using NodeRef = std::shared_ptr<Node>;
using NodeRefs = std::vector<NodeRef>;

NodeRef work_queue(Operation operation, NodeRefs needs, const void *stream);
// Missing ones (NULL) count as done.
// Runs all that these need; waits for other processes as long as it takes.
void work_finish(const NodeRefs &targets);
// Runs at most one operation that these need; whether they are done.
bool work_poll(const NodeRefs &targets);
NodeRefs work_all(); // whatever has not run
// Runs what remote operations need that were queued so long ago.
void work_remote(double older_than_ms);
// Forgets all queued work.
void work_drop();
double clock_ms();

// Every public call runs its body in here: one at a time, after the sticky error and injected ones,
// keeping the calling thread's last error.
cudaError_t api(const char *name, const std::function<cudaError_t()> &body);
cudaError_t last_error_take(bool clear);
// One thing at a time, without the errors.
void locked(const std::function<void()> &body);

} // namespace softgpu
