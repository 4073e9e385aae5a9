// Streams, events and graphs.

#include <utility>

#include "state.h"

using namespace stand_in;

namespace {

// A handle that tells when it is used after its end.
template <typename Handle>
cudaError_t create(std::set<const void*>& all, Handle* handle) {
  const auto lock = locked();
  *handle = reinterpret_cast<Handle>(new char);
  all.insert(*handle);
  return cudaSuccess;
}

cudaError_t check(const std::set<const void*>& all, const void* handle, const char* what) {
  const auto lock = locked();
  return handle == nullptr || all.count(handle) != 0
             ? cudaSuccess
             : fail(cudaErrorInvalidResourceHandle, std::string(what) + " of what has ended");
}

}  // namespace

extern "C" {

// Streams and events

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return create(state().streams, stream);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  return create(state().streams, stream);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const auto lock = locked();
  const auto status = check(state().streams, stream, "destruction");
  state().streams.erase(stream);
  return status;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = *greatest = 0;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return check(state().streams, stream, "query"); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return stand_in::captures(stream)
             ? fail(cudaErrorStreamCaptureUnsupported, "waiting for a stream that captures")
             : check(state().streams, stream, "waiting");
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t event, unsigned) {
  return check(state().events, event, "waiting");
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return create(state().events, event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const auto lock = locked();
  state().events.erase(event);
  state().times.erase(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  const auto lock = locked();
  state().times[event] = std::chrono::steady_clock::now();
  return check(state().events, event, "recording");
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return cudaEventRecord(event, stream);
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return check(state().events, event, "query"); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return check(state().events, event, "waiting");
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  const auto lock = locked();
  if (state().times.count(begin) == 0 || state().times.count(end) == 0) {
    return fail(cudaErrorInvalidResourceHandle, "the time between events that were not recorded");
  }
  const auto passed = state().times[end] - state().times[begin];
  *milliseconds = std::chrono::duration<float, std::milli>(passed).count();
  return cudaSuccess;
}

// Graphs

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, capture_mode);
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const auto lock = locked();
  if (stream == nullptr || stand_in::captures(stream)) {
    return fail(cudaErrorIllegalState, "capture on a stream that cannot");
  }
  state().captures[stream] = {new Graph, ++state().captured};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const auto lock = locked();
  if (!stand_in::captures(stream)) {
    return fail(cudaErrorIllegalState, "the end of a capture that has not begun");
  }
  *graph = reinterpret_cast<cudaGraph_t>(state().captures[stream].graph);
  state().captures.erase(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status =
      stand_in::captures(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(
    cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id,
    cudaGraph_t* graph, const cudaGraphNode_t** dependencies, const cudaGraphEdgeData** edges,
    size_t* count) {
  const auto lock = locked();
  cudaStreamIsCapturing(stream, status);
  if (const auto found = state().captures.find(stream); found != state().captures.end()) {
    if (id != nullptr) {
      *id = found->second.id;
    }
    if (graph != nullptr) {
      *graph = reinterpret_cast<cudaGraph_t>(found->second.graph);
    }
  }
  if (dependencies != nullptr) {
    *dependencies = nullptr;
  }
  if (edges != nullptr) {
    *edges = nullptr;
  }
  if (count != nullptr) {
    *count = 0;
  }
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(
    cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  const auto lock = locked();
  auto* copy = new Graph(*reinterpret_cast<Graph*>(graph));
  state().graphs.insert(copy);
  *executable = reinterpret_cast<cudaGraphExec_t>(copy);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const auto status = check(state().graphs, executable, "launch");
  if (status == cudaSuccess) {
    for (const auto& work : reinterpret_cast<Graph*>(executable)->work) {
      stand_in::put(stream, work);
    }
  }
  return status;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  *count = reinterpret_cast<Graph*>(graph)->work.size();
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Graph*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const auto lock = locked();
  state().graphs.erase(executable);
  delete reinterpret_cast<Graph*>(executable);
  return cudaSuccess;
}

}  // extern "C"
