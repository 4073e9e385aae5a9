#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "runtime.h"

// The state that the stand-in's functions share.

#undef cudaGetDeviceProperties
#undef cudaStreamGetCaptureInfo

namespace stand_in {

// Shared memory of a block as on compute capability 9.0: with cudaFuncSetAttribute, and without.
constexpr int kSharedBytes = 232448;
constexpr size_t kSharedUnasked = 48 << 10;

struct Node {
  Work work;
  std::vector<size_t> after;  // nodes that must run before it
  bool side;                  // from a side stream, which joined the capture later
};

struct Graph {
  std::vector<Node> nodes;
  size_t launches = 0;
};

/// A stream that captures: either the stream where the capture began, or a side stream, which
/// waited for an event of the capture.
struct Capture {
  Graph* graph;
  unsigned long long id;
  bool origin;                // whether the capture began on this stream
  std::vector<size_t> after;  // nodes that must run before the next work on the stream
};

struct Event {
  std::chrono::steady_clock::time_point time;
  unsigned long long capture = 0;  // the capture that it was recorded in, or 0
  std::vector<size_t> after;       // nodes that must run before it
};

struct State {
  std::recursive_mutex mutex;  // guards all members
  std::map<void*, size_t> memory;
  size_t allocated = 0;
  std::map<void*, Capture> captures;  // by stream
  unsigned long long captured = 0;
  std::set<const void*> streams, events, graphs;  // handles that were not destroyed
  std::map<const void*, Event> recorded;          // events
  std::map<const void*, std::string> kernels;     // names, by the host function's address
  std::map<const void*, int> shared;              // bytes that cudaFuncSetAttribute allowed
  std::function<Work(const Launch&)> launcher;
};

State& state();

inline std::unique_lock<std::recursive_mutex> locked() { return std::unique_lock(state().mutex); }

inline thread_local cudaError_t last_error = cudaSuccess;
inline thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;

/// Prints the reason on stderr, and keeps the error for `cudaGetLastError`.
cudaError_t fail(cudaError_t error, const std::string& why);

}  // namespace stand_in
