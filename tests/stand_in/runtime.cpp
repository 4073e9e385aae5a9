#include "runtime.h"

#include <cuda_runtime_api.h>
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#undef cudaGetDeviceProperties
#undef cudaStreamGetCaptureInfo

namespace {

using stand_in::Work;

constexpr size_t kMemory = size_t{4} << 30;  // of all devices together
constexpr int kDevices = 2;
constexpr int kSharedBytes = 232448;  // to a block, on request, as on compute capability 9.0
constexpr size_t kSharedUnasked = 48 << 10;

struct Graph {
  std::vector<Work> work;
};

struct Capture {
  Graph* graph;
  unsigned long long id;
};

struct State {
  std::recursive_mutex mutex;
  std::map<void*, size_t> memory;
  size_t allocated = 0;
  std::map<void*, Capture> captures;  // by stream
  unsigned long long captured = 0;
  std::set<const void*> streams, events, graphs;
  std::map<const void*, std::string> kernels;  // names, by the host's address
  std::map<const void*, int> shared;           // bytes that were asked for
  std::function<Work(const stand_in::Launch&)> launcher;
};

State& state() {
  static auto& all = *new State();  // other libraries end later
  return all;
}

// Its major part, as attributes have it; torch itself looks at the properties.
int compute_capability() {
  const char* given = std::getenv("DSM_EXT_STAND_IN_CAPABILITY");
  return given == nullptr ? 9 : std::atoi(given);
}

std::unique_lock<std::recursive_mutex> locked() { return std::unique_lock(state().mutex); }

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;

cudaError_t fail(cudaError_t error, const std::string& why) {
  std::fprintf(stderr, "stand-in: %s\n", why.c_str());
  return last_error = error;
}

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

cudaError_t launch(
    const void* function, dim3 grid, dim3 block, void** arguments, size_t shared, void* stream) {
  auto& all = state();
  std::string name = "an unknown kernel";
  int allowed = 0;
  {
    const auto lock = locked();
    if (const auto found = all.kernels.find(function); found != all.kernels.end()) {
      name = found->second;
    }
    allowed = all.shared[function];
  }
  int status = 0;
  if (char* readable = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status)) {
    name = readable;
    std::free(readable);
  }
  if (grid.x * grid.y * grid.z == 0 || block.x * block.y * block.z == 0 ||
      block.x * block.y * block.z > 1024) {
    return fail(cudaErrorInvalidConfiguration, "a launch of no or too many threads: " + name);
  }
  if (shared > kSharedUnasked && shared > static_cast<size_t>(allowed)) {
    return fail(cudaErrorInvalidValue, "more shared memory than was asked for: " + name);
  }
  auto work = all.launcher ? all.launcher({name, grid.x, block.x, shared, arguments}) : Work();
  if (!work) {
    return fail(cudaErrorNotSupported, "no stand-in for " + name.substr(0, 300));
  }
  stand_in::put(stream, std::move(work));
  return cudaSuccess;
}

}  // namespace

namespace stand_in {

bool captures(void* stream) {
  const auto lock = locked();
  return state().captures.count(stream) != 0;
}

void put(void* stream, Work work) {
  {
    const auto lock = locked();
    const auto found = state().captures.find(stream);
    if (found != state().captures.end()) {
      found->second.graph->work.push_back(work);
    }
  }
  work();  // while it captures, too, for what is read then to be sound
}

void set_launcher(std::function<Work(const Launch&)> launcher) {
  state().launcher = std::move(launcher);
}

Products& products() {
  static Products all;
  return all;
}

}  // namespace stand_in

extern "C" {

// Devices

cudaError_t cudaGetDeviceCount(int* count) {
  *count = kDevices;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= kDevices) {
    return fail(cudaErrorInvalidDevice, "no such device");
  }
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::strcpy(properties->name, "a stand-in, no GPU");
  properties->major = 9;
  properties->multiProcessorCount = 4;
  properties->totalGlobalMem = kMemory;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->sharedMemPerBlock = kSharedUnasked;
  properties->sharedMemPerBlockOptin = kSharedBytes;
  properties->l2CacheSize = 50 << 20;
  properties->maxGridSize[0] = 2147483647;
  properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = compute_capability();
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = kSharedBytes;
      break;
    default:
      *value = 0;
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }

// Memory

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  const auto lock = locked();
  if (!state().captures.empty() && capture_mode != cudaStreamCaptureModeRelaxed) {
    return fail(cudaErrorStreamCaptureUnsupported, "cudaMalloc while a stream captures");
  }
  if (state().allocated + bytes > kMemory) {
    return last_error = cudaErrorMemoryAllocation;
  }
  *pointer = std::aligned_alloc(512, (bytes + 511) / 512 * 512);
  std::memset(*pointer, 0x7f, std::min<size_t>(bytes, 64 << 20));  // nobody may count on zeros
  state().memory[*pointer] = bytes;
  state().allocated += bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  const auto lock = locked();
  if (const auto found = state().memory.find(pointer); found != state().memory.end()) {
    state().allocated -= found->second;
    state().memory.erase(found);
    std::free(pointer);
  }
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  const auto lock = locked();
  *total = kMemory;
  *available = kMemory - state().allocated;
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  *pointer = std::malloc(bytes);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(
    void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  stand_in::put(stream, [=] { std::memmove(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  stand_in::put(stream, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const auto lock = locked();
  *attributes = {};
  const auto behind = state().memory.upper_bound(const_cast<void*>(pointer));
  if (behind != state().memory.begin()) {
    const auto& [begin, bytes] = *std::prev(behind);
    if (pointer < static_cast<char*>(begin) + bytes) {
      attributes->type = cudaMemoryTypeDevice;
    }
  }
  return cudaSuccess;
}

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
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  return check(state().events, event, "recording");
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  return cudaEventRecord(event, stream);
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return check(state().events, event, "query"); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return check(state().events, event, "waiting");
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

// Launches: what the compiler's own code calls

void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 0; }
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
void __cudaRegisterFunction(
    void**, const char* function, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
    int*) {
  const auto lock = locked();
  state().kernels[function] = name;
}

struct Configuration {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
};
thread_local std::vector<Configuration> configurations;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  configurations.push_back({grid, block, shared, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  const auto& last = configurations.back();
  *grid = last.grid;
  *block = last.block;
  *shared = last.shared;
  *static_cast<cudaStream_t*>(stream) = last.stream;
  configurations.pop_back();
  return cudaSuccess;
}
cudaError_t cudaLaunchKernel(
    const void* function, dim3 grid, dim3 block, void** arguments, size_t shared,
    cudaStream_t stream) {
  return launch(function, grid, block, arguments, shared, stream);
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(
    cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
    cudaStream_t stream) {
  return launch(kernel, grid, block, arguments, shared, stream);
}
cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  const auto lock = locked();
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (value > kSharedBytes) {
      return fail(cudaErrorInvalidValue, "more shared memory than there is");
    }
    state().shared[function] = value;
  }
  return cudaSuccess;
}

// cuBLASLt's functions that need a device; its descriptors are its own.

using Pointer = void*;

int cublasLtCreate(Pointer* handle) {
  static char library;
  *handle = &library;
  return 0;
}
int cublasLtMatmulAlgoGetHeuristic(
    Pointer handle, Pointer operation, Pointer a, Pointer b, Pointer c, Pointer d,
    Pointer preference, int most, Pointer results, int* count) {
  using Function =
      int(Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, int, Pointer, int*);
  return reinterpret_cast<Function*>(stand_in::products().algorithm)(
      handle, operation, a, b, c, d, preference, most, results, count);
}
int cublasLtMatmul(
    Pointer handle, Pointer operation, Pointer alpha, Pointer a, Pointer a_layout, Pointer b,
    Pointer b_layout, Pointer beta, Pointer c, Pointer c_layout, Pointer d, Pointer d_layout,
    Pointer algorithm, Pointer workspace, size_t bytes, Pointer stream) {
  using Function =
      int(Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, Pointer, Pointer,
          Pointer, Pointer, Pointer, Pointer, size_t, Pointer);
  return reinterpret_cast<Function*>(stand_in::products().multiply)(
      handle, operation, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout, algorithm,
      workspace, bytes, stream);
}

}  // extern "C"
