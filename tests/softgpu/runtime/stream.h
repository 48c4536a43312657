#pragma once
// Streams, events and captures: what waits for what.

#include <map>
#include <memory>
#include <vector>

#include "work.h"

namespace softgpu
{

// A graph as captured: operations, each with the indices of those it waits for.
struct GraphNode {
    Operation operation;
    std::vector<int> needs;
};

// A capture in progress. Streams that joined it have a tail: the operations that their next one
// waits for.
struct Capture {
    std::vector<GraphNode> nodes;
    std::map<cudaStream_t, std::vector<int>> tails;
    std::map<const void *, int> serial; // the last operation of each communicator
    cudaStream_t origin;
    cudaStreamCaptureMode mode;
    cudaError_t broken = cudaSuccess; // cudaErrorStreamCaptureInvalidated once it is useless
};
using CaptureRef = std::shared_ptr<Capture>;

// Queues the operation on the stream, or adds it to the graph that the stream captures.
cudaError_t submit(cudaStream_t stream, Operation operation);

// NULL and cudaStreamLegacy: the legacy stream; nullptr: no such stream.
cudaStream_t stream_resolve(cudaStream_t stream);
cudaStream_t stream_legacy();
// What the stream's next operation waits for.
NodeRefs stream_needs(cudaStream_t stream);
// Queues the operation after `needs`, and after the last one of its communicator.
NodeRef serial_queue(Operation operation, NodeRefs needs, const void *stream);
// An API call on a stream that exists.
cudaError_t with_stream(const char *name, cudaStream_t given,
                        const std::function<cudaError_t(cudaStream_t)> &body);
void streams_reset();

// Makes the capture useless and returns `code`, what the call at fault reports.
cudaError_t capture_break(Capture &capture, cudaError_t code);
cudaError_t capture_add(cudaStream_t stream, Operation operation);
// A call that no capture allows (cudaMalloc): breaks those that are not relaxed.
cudaError_t captures_forbid(cudaError_t code);
void captures_reset();

} // namespace softgpu

// What the runtime's opaque types hold.
struct CUstream_st {
    bool blocking; // waits for the legacy stream, and that one for it
    int priority;
    softgpu::NodeRef tail;       // the last operation queued
    softgpu::CaptureRef capture; // NULL: it runs
};

struct CUevent_st {
    bool timed;
    softgpu::NodeRef node; // the last record; NULL: none
    bool captured;         // it was recorded in a capture, and stands for these operations of it
    std::weak_ptr<softgpu::Capture> capture;
    std::vector<int> capture_tail;
};
