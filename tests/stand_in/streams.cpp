// CUDA's functions for streams, events and graphs.

#include <algorithm>
#include <utility>

#include "state.h"

using namespace stand_in;

namespace {

// Makes a handle and remembers it, so that `check` can report a use after its end.
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
             : fail(
                   cudaErrorInvalidResourceHandle,
                   std::string(what) + " of a handle that was destroyed");
}

// The given nodes, and all nodes that must run before them.
std::set<size_t> up_to(const Graph& graph, std::vector<size_t> nodes) {
  std::set<size_t> all;
  while (!nodes.empty()) {
    const auto node = nodes.back();
    nodes.pop_back();
    if (all.insert(node).second) {
      const auto& after = graph.nodes[node].after;
      nodes.insert(nodes.end(), after.begin(), after.end());
    }
  }
  return all;
}

// An order in which a GPU might run the nodes: side streams' nodes as early as possible, or as
// late.
std::vector<size_t> order_of(const Graph& graph, bool side_first) {
  std::vector<size_t> order;
  std::vector<bool> done(graph.nodes.size());
  const auto next = [&](bool any) {
    for (size_t node = 0; node < done.size(); ++node) {
      const auto& [work, after, side] = graph.nodes[node];
      const bool ready =
          std::all_of(after.begin(), after.end(), [&](size_t before) { return done[before]; });
      if (!done[node] && ready && (any || side == side_first)) {
        return node;
      }
    }
    return done.size();
  };
  while (order.size() < done.size()) {
    const auto preferred = next(false);
    order.push_back(preferred < done.size() ? preferred : next(true));
    done[order.back()] = true;
  }
  return order;
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
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const auto lock = locked();
  auto& captures = state().captures;
  const auto& recorded = state().recorded[event];
  const auto own = captures.find(stream);
  const auto other = std::find_if(captures.begin(), captures.end(), [&](const auto& entry) {
    return entry.second.id == recorded.capture;
  });
  const bool ended = recorded.capture != 0 && other == captures.end();
  if (ended || (own != captures.end() && own->second.id != recorded.capture)) {
    return fail(cudaErrorStreamCaptureIsolation, "waiting for what is not of the same capture");
  }
  if (own != captures.end()) {
    auto& after = own->second.after;
    after.insert(after.end(), recorded.after.begin(), recorded.after.end());
  } else if (recorded.capture != 0) {
    captures[stream] = {other->second.graph, recorded.capture, false, recorded.after};
  }
  return check(state().events, event, "waiting");
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return create(state().events, event);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const auto lock = locked();
  state().events.erase(event);
  state().recorded.erase(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const auto lock = locked();
  const auto found = state().captures.find(stream);
  auto& recorded = state().recorded[event] = {std::chrono::steady_clock::now(), 0, {}};
  if (found != state().captures.end()) {
    recorded.capture = found->second.id;
    recorded.after = found->second.after;
  }
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
  const auto& all = state().recorded;
  if (all.count(begin) == 0 || all.count(end) == 0) {
    return fail(cudaErrorInvalidResourceHandle, "the time between events that were not recorded");
  }
  const auto passed = all.at(end).time - all.at(begin).time;
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
  state().captures[stream] = {new Graph, ++state().captured, true, {}};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const auto lock = locked();
  if (!stand_in::captures(stream)) {
    return fail(cudaErrorIllegalState, "the end of a capture that has not begun");
  }
  auto& captures = state().captures;
  const auto ended = captures[stream];
  *graph = reinterpret_cast<cudaGraph_t>(ended.graph);
  const auto joined = up_to(*ended.graph, ended.after);
  bool all_joined = true;
  for (auto entry = captures.begin(); entry != captures.end();) {
    const auto& capture = entry->second;
    if (capture.id != ended.id) {
      ++entry;
      continue;
    }
    all_joined &= std::all_of(capture.after.begin(), capture.after.end(), [&](size_t node) {
      return joined.count(node) != 0;
    });
    entry = captures.erase(entry);
  }
  return all_joined ? cudaSuccess
                    : fail(cudaErrorStreamCaptureUnjoined, "a stream was not waited for again");
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
    auto& graph = *reinterpret_cast<Graph*>(executable);
    for (const auto node : order_of(graph, graph.launches++ % 2 == 0)) {
      stand_in::put(stream, graph.nodes[node].work);
    }
  }
  return status;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  *count = reinterpret_cast<Graph*>(graph)->nodes.size();
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
