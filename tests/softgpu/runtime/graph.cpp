// Captures, and the graphs they leave.

#include <algorithm>
#include <set>

#include "stream.h"

struct CUgraph_st {
    std::vector<softgpu::GraphNode> nodes;
};

struct CUgraphExec_st {
    std::vector<softgpu::GraphNode> nodes;
    softgpu::NodeRef last; // a graph's launches follow each other
};

namespace softgpu
{

namespace
{

std::set<CaptureRef> captures;

// Whether everything captured is awaited by the origin's tail.
bool capture_joined(const Capture &capture)
{
    std::vector<bool> reached(capture.nodes.size(), false);
    std::vector<int> open = capture.tails.at(capture.origin);
    while (!open.empty()) {
        int index = open.back();
        open.pop_back();
        if (reached[index])
            continue;
        reached[index] = true;
        const std::vector<int> &needs = capture.nodes[index].needs;
        open.insert(open.end(), needs.begin(), needs.end());
    }
    return std::find(reached.begin(), reached.end(), false) == reached.end();
}

cudaError_t capture_begin(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    if (stream == stream_legacy())
        return cudaErrorStreamCaptureUnsupported;
    if (stream->capture)
        return cudaErrorIllegalState;
    CaptureRef capture = std::make_shared<Capture>();
    capture->origin = stream;
    capture->mode = mode;
    capture->tails[stream];
    captures.insert(capture);
    stream->capture = capture;
    return cudaSuccess;
}

cudaError_t capture_end(cudaStream_t stream, cudaGraph_t *out)
{
    *out = nullptr;
    CaptureRef capture = stream->capture;
    if (!capture)
        return cudaErrorIllegalState;
    if (capture->origin != stream)
        return capture_break(*capture, cudaErrorStreamCaptureUnmatched);
    cudaError_t rc = capture->broken;
    if (rc == cudaSuccess && !capture_joined(*capture))
        rc = cudaErrorStreamCaptureUnjoined;
    if (rc == cudaSuccess)
        *out = new CUgraph_st{std::move(capture->nodes)};
    for (const auto &[joined, tail] : capture->tails)
        joined->capture = nullptr;
    captures.erase(capture);
    return rc;
}

cudaError_t graph_launch(CUgraphExec_st *exec, cudaStream_t stream)
{
    if (stream->capture)
        return capture_break(*stream->capture, cudaErrorStreamCaptureUnsupported);
    NodeRefs before = stream_needs(stream), nodes;
    before.push_back(exec->last);
    for (const GraphNode &node : exec->nodes) {
        NodeRefs needs = node.needs.empty() ? before : NodeRefs();
        for (int index : node.needs)
            needs.push_back(nodes[index]);
        // To the random policy each is a stream of its own: branches run ahead and behind.
        nodes.push_back(serial_queue(node.operation, needs, &node));
    }
    nodes.insert(nodes.end(), before.begin(), before.end());
    stream->tail = work_queue(operation("cudaGraphLaunch", [] {}), nodes, stream);
    exec->last = stream->tail;
    return cudaSuccess;
}

} // namespace

cudaError_t capture_break(Capture &capture, cudaError_t code)
{
    capture.broken = cudaErrorStreamCaptureInvalidated;
    return code;
}

cudaError_t capture_add(cudaStream_t stream, Operation operation)
{
    Capture &capture = *stream->capture;
    if (capture.broken != cudaSuccess)
        return capture.broken;
    int index = static_cast<int>(capture.nodes.size());
    std::vector<int> &tail = capture.tails[stream], needs = tail;
    if (operation.serial != nullptr) {
        auto [it, first] = capture.serial.insert({operation.serial, index});
        if (!first)
            needs.push_back(it->second);
        it->second = index;
    }
    capture.nodes.push_back({std::move(operation), needs});
    tail = {index};
    return cudaSuccess;
}

cudaError_t captures_forbid(cudaError_t code)
{
    for (const CaptureRef &capture : captures)
        if (capture->mode != cudaStreamCaptureModeRelaxed)
            return capture_break(*capture, code);
    return cudaSuccess;
}

void captures_reset()
{
    captures.clear();
}

} // namespace softgpu

using namespace softgpu;

cudaError_t cudaStreamBeginCapture(cudaStream_t given, cudaStreamCaptureMode mode)
{
    return with_stream("cudaStreamBeginCapture", given,
                       [&](cudaStream_t stream) { return capture_begin(stream, mode); });
}

cudaError_t cudaStreamEndCapture(cudaStream_t given, cudaGraph_t *out)
{
    return with_stream("cudaStreamEndCapture", given,
                       [&](cudaStream_t stream) { return capture_end(stream, out); });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t given, cudaStreamCaptureStatus *status)
{
    return with_stream("cudaStreamIsCapturing", given, [&](cudaStream_t stream) {
        *status = cudaStreamCaptureStatusNone;
        if (stream->capture)
            *status = stream->capture->broken == cudaSuccess ? cudaStreamCaptureStatusActive
                                                             : cudaStreamCaptureStatusInvalidated;
        return cudaSuccess;
    });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    return api("cudaGraphInstantiate", [&] {
        *out = new CUgraphExec_st{graph->nodes, nullptr};
        return cudaSuccess;
    });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return api("cudaGraphUpload", [] { return cudaSuccess; });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t given)
{
    return with_stream("cudaGraphLaunch", given,
                       [&](cudaStream_t stream) { return graph_launch(exec, stream); });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    return api("cudaGraphGetNodes", [&] {
        if (nodes != nullptr) // their number is all that is known of them here
            return cudaErrorNotSupported;
        *count = graph->nodes.size();
        return cudaSuccess;
    });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    return api("cudaGraphDestroy", [&] {
        delete graph;
        return cudaSuccess;
    });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    return api("cudaGraphExecDestroy", [&] {
        work_finish({exec->last});
        delete exec;
        return cudaSuccess;
    });
}
