// CUDA's functions for devices and memory.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

#include "state.h"

namespace stand_in {

State& state() {
  static auto& all = *new State();  // never destroyed: other libraries end later and call in
  return all;
}

cudaError_t fail(cudaError_t error, const std::string& why) {
  std::fprintf(stderr, "stand-in: %s\n", why.c_str());
  return last_error = error;
}

bool captures(void* stream) {
  const auto lock = locked();
  return state().captures.count(stream) != 0;
}

void put(void* stream, Work work) {
  {
    const auto lock = locked();
    const auto found = state().captures.find(stream);
    if (found != state().captures.end()) {
      auto& [graph, id, origin, after] = found->second;
      graph->nodes.push_back({work, after, /*side=*/!origin});
      after = {graph->nodes.size() - 1};
    }
  }
  work();  // also during a capture, so that later host reads find valid values
}

void set_launcher(std::function<Work(const Launch&)> launcher) {
  state().launcher = std::move(launcher);
}

Products& products() {
  static Products all;
  return all;
}

}  // namespace stand_in

namespace {

constexpr size_t kMemory = size_t{4} << 30;  // of all devices together
constexpr int kDevices = 2;

thread_local int current_device = 0;

// The major compute capability, for cudaDeviceGetAttribute only. torch reads the properties
// instead.
int compute_capability() {
  const char* given = std::getenv("DSM_EXT_STAND_IN_CAPABILITY");
  return given == nullptr ? 9 : std::atoi(given);
}

}  // namespace

using namespace stand_in;

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
  std::memset(*pointer, 0x7f, std::min<size_t>(bytes, 64 << 20));  // memory does not begin as zeros
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

}  // extern "C"
