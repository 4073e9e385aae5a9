// CUDA's functions that launch kernels, and cuBLASLt's functions that need a device.

#include <cxxabi.h>

#include <cstdlib>

#include "state.h"

using namespace stand_in;

namespace {

struct Configuration {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
};
thread_local std::vector<Configuration> configurations;

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
  put(stream, std::move(work));
  return cudaSuccess;
}

}  // namespace

extern "C" {

// Launches: nvcc's generated code calls these functions.

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

// cuBLASLt's functions that need a device. Its descriptors need none and stay the library's own.

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
