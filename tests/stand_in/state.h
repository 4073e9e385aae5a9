#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "runtime.h"

// What the stand-in's functions have in common.

#undef cudaGetDeviceProperties
#undef cudaStreamGetCaptureInfo

namespace stand_in {

constexpr int kSharedBytes = 232448;  // to a block, on request, as on compute capability 9.0
constexpr size_t kSharedUnasked = 48 << 10;

struct Node {
  Work work;
  std::vector<size_t> after;  // nodes that it comes behind
  bool aside;                 // of a stream that joined the capture
};

struct Graph {
  std::vector<Node> nodes;
  size_t launches = 0;
};

/// A stream that captures: the one where it began, or one that has waited for such a one.
struct Capture {
  Graph* graph;
  unsigned long long id;
  bool origin;
  std::vector<size_t> after;  // what the next work on it comes behind
};

struct Event {
  std::chrono::steady_clock::time_point time;
  unsigned long long capture = 0;  // in which it was recorded
  std::vector<size_t> after;       // behind what
};

struct State {
  std::recursive_mutex mutex;  // guards all
  std::map<void*, size_t> memory;
  size_t allocated = 0;
  std::map<void*, Capture> captures;  // by stream
  unsigned long long captured = 0;
  std::set<const void*> streams, events, graphs;  // those that have not ended
  std::map<const void*, Event> recorded;          // events
  std::map<const void*, std::string> kernels;     // names, by the host's address
  std::map<const void*, int> shared;              // bytes that were asked for
  std::function<Work(const Launch&)> launcher;
};

State& state();

inline std::unique_lock<std::recursive_mutex> locked() { return std::unique_lock(state().mutex); }

inline thread_local cudaError_t last_error = cudaSuccess;
inline thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;

/// Says why on stderr, and keeps the error for `cudaGetLastError`.
cudaError_t fail(cudaError_t error, const std::string& why);

}  // namespace stand_in
