#include "stream.h"

#include <algorithm>
#include <set>

namespace softgpu
{

namespace
{

std::set<cudaStream_t> streams;
std::set<cudaEvent_t> events;
std::map<const void *, NodeRef> serial_last; // by communicator
CUstream_st legacy = {true, 0, nullptr, nullptr};

// The event stands for operations of a capture: the stream joins it.
cudaError_t event_wait_captured(cudaStream_t stream, cudaEvent_t event)
{
    CaptureRef capture = event->capture.lock();
    if (!capture)
        return cudaErrorCapturedEvent;
    if (!stream->capture) {
        stream->capture = capture;
        capture->tails[stream];
    }
    if (stream->capture != capture)
        return capture_break(*stream->capture, cudaErrorStreamCaptureMerge);
    std::vector<int> &tail = capture->tails[stream];
    for (int index : event->capture_tail)
        if (std::find(tail.begin(), tail.end(), index) == tail.end())
            tail.push_back(index);
    return cudaSuccess;
}

cudaError_t event_wait(cudaStream_t stream, cudaEvent_t event)
{
    if (event->captured)
        return event_wait_captured(stream, event);
    if (stream->capture)
        return capture_break(*stream->capture, cudaErrorStreamCaptureIsolation);
    NodeRefs needs = stream_needs(stream);
    needs.push_back(event->node);
    stream->tail = work_queue(operation("cudaStreamWaitEvent", [] {}), needs, stream);
    return cudaSuccess;
}

cudaError_t event_record(cudaEvent_t event, cudaStream_t stream)
{
    event->node = nullptr;
    event->captured = stream->capture != nullptr;
    event->capture = stream->capture;
    if (event->captured) {
        event->capture_tail = stream->capture->tails[stream];
        return stream->capture->broken;
    }
    stream->tail = work_queue(operation("cudaEventRecord", [] {}), stream_needs(stream), stream);
    event->node = stream->tail;
    return cudaSuccess;
}

cudaError_t with_event(const char *name, cudaEvent_t event,
                       const std::function<cudaError_t()> &body)
{
    return api(name, [&] {
        if (events.count(event) == 0)
            return cudaErrorInvalidResourceHandle;
        return body();
    });
}

// An API call on a stream that does not capture.
cudaError_t with_running_stream(const char *name, cudaStream_t given,
                                const std::function<cudaError_t(cudaStream_t)> &body)
{
    return with_stream(name, given, [&](cudaStream_t stream) {
        return stream->capture ? capture_break(*stream->capture, cudaErrorStreamCaptureUnsupported)
                               : body(stream);
    });
}

} // namespace

cudaStream_t stream_legacy()
{
    return &legacy;
}

cudaStream_t stream_resolve(cudaStream_t stream)
{
    if (stream == nullptr || stream == cudaStreamLegacy || stream == &legacy)
        return &legacy;
    return streams.count(stream) != 0 ? stream : nullptr;
}

NodeRefs stream_needs(cudaStream_t stream)
{
    NodeRefs needs = {stream->tail};
    if (stream == &legacy) {
        for (cudaStream_t other : streams)
            if (other->blocking)
                needs.push_back(other->tail);
    } else if (stream->blocking)
        needs.push_back(legacy.tail);
    return needs;
}

cudaError_t with_stream(const char *name, cudaStream_t given,
                        const std::function<cudaError_t(cudaStream_t)> &body)
{
    return api(name, [&] {
        cudaStream_t stream = stream_resolve(given);
        return stream == nullptr ? cudaErrorInvalidResourceHandle : body(stream);
    });
}

cudaError_t submit(cudaStream_t given, Operation operation)
{
    cudaStream_t stream = stream_resolve(given);
    if (stream == nullptr)
        return cudaErrorInvalidResourceHandle;
    if (stream->capture)
        return capture_add(stream, std::move(operation));
    if (stream == &legacy)
        for (cudaStream_t other : streams)
            if (other->blocking && other->capture)
                return capture_break(*other->capture, cudaErrorStreamCaptureImplicit);
    stream->tail = serial_queue(std::move(operation), stream_needs(stream), stream);
    return cudaSuccess;
}

NodeRef serial_queue(Operation operation, NodeRefs needs, const void *stream)
{
    const void *key = operation.serial;
    if (key == nullptr)
        return work_queue(std::move(operation), std::move(needs), stream);
    needs.push_back(serial_last[key]);
    NodeRef node = work_queue(std::move(operation), std::move(needs), stream);
    serial_last[key] = node;
    return node;
}

void streams_reset()
{
    serial_last.clear();
    legacy.tail = nullptr;
    for (cudaStream_t stream : streams) {
        stream->tail = nullptr;
        stream->capture = nullptr;
    }
    for (cudaEvent_t event : events) {
        event->node = nullptr;
        event->captured = false;
    }
}

} // namespace softgpu

using namespace softgpu;

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority)
{
    return api("cudaStreamCreateWithPriority", [&] {
        *out = new CUstream_st{(flags & cudaStreamNonBlocking) == 0, priority, nullptr, nullptr};
        streams.insert(*out);
        return cudaSuccess;
    });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    return cudaStreamCreateWithPriority(out, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    return cudaStreamCreateWithPriority(out, cudaStreamDefault, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t given)
{
    return with_running_stream("cudaStreamDestroy", given, [](cudaStream_t stream) {
        if (stream == &legacy)
            return cudaErrorInvalidResourceHandle;
        streams.erase(stream); // what it has queued goes on
        delete stream;
        return cudaSuccess;
    });
}

cudaError_t cudaStreamSynchronize(cudaStream_t given)
{
    return with_running_stream("cudaStreamSynchronize", given, [](cudaStream_t stream) {
        work_finish(stream_needs(stream));
        return cudaSuccess;
    });
}

cudaError_t cudaStreamQuery(cudaStream_t given)
{
    return with_running_stream("cudaStreamQuery", given, [](cudaStream_t stream) {
        return work_poll(stream_needs(stream)) ? cudaSuccess : cudaErrorNotReady;
    });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t given, cudaEvent_t event, unsigned)
{
    return with_stream("cudaStreamWaitEvent", given, [&](cudaStream_t stream) {
        return events.count(event) != 0 ? event_wait(stream, event)
                                        : cudaErrorInvalidResourceHandle;
    });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t given, cudaHostFn_t function, void *data)
{
    return with_stream("cudaLaunchHostFunc", given, [&](cudaStream_t stream) {
        Operation call = operation("cudaLaunchHostFunc", [=] { function(data); });
        call.outside = true;
        return submit(stream, call);
    });
}

// ---- events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    return api("cudaEventCreateWithFlags", [&] {
        *out = new CUevent_st{(flags & cudaEventDisableTiming) == 0, nullptr, false, {}, {}};
        events.insert(*out);
        return cudaSuccess;
    });
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    return with_event("cudaEventDestroy", event, [&] {
        events.erase(event);
        delete event;
        return cudaSuccess;
    });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t given)
{
    return with_event("cudaEventRecord", event, [&] {
        cudaStream_t stream = stream_resolve(given);
        return stream == nullptr ? cudaErrorInvalidResourceHandle : event_record(event, stream);
    });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    return with_event("cudaEventSynchronize", event, [&] {
        if (event->captured)
            return cudaErrorCapturedEvent;
        work_finish({event->node});
        return cudaSuccess;
    });
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    return with_event("cudaEventQuery", event, [&] {
        if (event->captured)
            return cudaErrorCapturedEvent;
        return work_poll({event->node}) ? cudaSuccess : cudaErrorNotReady;
    });
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    return with_event("cudaEventElapsedTime", from, [&] {
        if (events.count(to) == 0 || !from->timed || !to->timed || !from->node || !to->node)
            return cudaErrorInvalidResourceHandle;
        if (!from->node->done || !to->node->done)
            return cudaErrorNotReady;
        *ms = static_cast<float>(to->node->done_ms - from->node->done_ms);
        return cudaSuccess;
    });
}
