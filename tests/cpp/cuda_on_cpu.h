#pragma once

// Runs the text of CUDA kernels on the CPU, one block after another, so that their arithmetic and
// indices are tested on machines without a GPU. Under the thread sanitizer (`make sanitize`) a
// missing __syncthreads is reported as a data race. These tests cannot find races between blocks or
// a mistaken memory space, and they say nothing about speed.

#include <atomic>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "fibers.h"

namespace cuda_on_cpu {

struct Index {
  unsigned x = 0;
};

constexpr unsigned kWarp = 32;

// The state that the threads of a block share. Shared memory begins as NaN.
struct Block {
  struct Warp {
    Barrier barrier{kWarp};
    double values[kWarp] = {};
    uint32_t words[kWarp][6] = {};
  };

  explicit Block(unsigned threads, size_t shared_bytes)
      : inside(threads),
        end(threads),
        shared(shared_bytes / sizeof(double) + 2, std::numeric_limits<double>::quiet_NaN()) {
    for (unsigned i = 0; i < threads / kWarp; ++i) {
      warps.push_back(std::make_unique<Warp>());
    }
  }

  // Dynamic shared memory, aligned to 16 bytes for packs of values.
  void* shared_memory() {
    const auto address = reinterpret_cast<uintptr_t>(shared.data());
    return reinterpret_cast<void*>((address + 15) / 16 * 16);
  }

  Barrier inside, end;  // of __syncthreads, and between one block and the next
  std::vector<double> shared;
  std::vector<std::unique_ptr<Warp>> warps;
};

struct Thread {
  Index thread, block, threads;
  Block* shared;
};

inline thread_local Thread* thread = nullptr;

/// Calls `kernel` once for each thread of each block.
/// \param threads  Threads of a block, a multiple of 32.
template <typename Kernel>
void launch(int64_t blocks, unsigned threads, size_t shared_bytes, const Kernel& kernel) {
  Block state(threads, shared_bytes);
  run_together(threads, [&](unsigned t) {
    Thread own{{t}, {}, {threads}, &state};
    for (int64_t b = 0; b < blocks; ++b) {
      own.block = {static_cast<unsigned>(b)};
      thread = &own;
      kernel();
      wait(state.end);
    }
  });
}

/// Waits at a barrier. Other fibers run meanwhile on the same thread, so `thread` is set again.
inline void wait_for_others(Barrier& barrier) {
  auto* own = thread;
  wait(barrier);
  thread = own;
}

}  // namespace cuda_on_cpu

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define threadIdx cuda_on_cpu::thread->thread
#define blockIdx cuda_on_cpu::thread->block
#define blockDim cuda_on_cpu::thread->threads
#define DSM_EXT_DYNAMIC_SHARED(Type, name) \
  Type* name = static_cast<Type*>(cuda_on_cpu::thread->shared->shared_memory())

namespace dsm_ext::cuda {

using std::isfinite;
using std::log;
using std::sqrt;

inline void __syncthreads() { cuda_on_cpu::wait_for_others(cuda_on_cpu::thread->shared->inside); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int other) {
  const unsigned lane = threadIdx.x % cuda_on_cpu::kWarp;
  auto& warp = *cuda_on_cpu::thread->shared->warps[threadIdx.x / cuda_on_cpu::kWarp];
  warp.values[lane] = value;
  cuda_on_cpu::wait_for_others(warp.barrier);
  const T theirs = static_cast<T>(warp.values[lane ^ static_cast<unsigned>(other)]);
  cuda_on_cpu::wait_for_others(warp.barrier);
  return theirs;
}

inline bool __any_sync(unsigned, bool value) {
  bool any = false;
  auto& warp = *cuda_on_cpu::thread->shared->warps[threadIdx.x / cuda_on_cpu::kWarp];
  warp.values[threadIdx.x % cuda_on_cpu::kWarp] = value;
  cuda_on_cpu::wait_for_others(warp.barrier);
  for (const double other : warp.values) {
    any = any || other != 0;
  }
  cuda_on_cpu::wait_for_others(warp.barrier);
  return any;
}

inline void atomicMax(unsigned long long* at, unsigned long long value) {
  std::atomic_ref<unsigned long long> all(*at);
  auto now = all.load();
  while (now < value && !all.compare_exchange_weak(now, value)) {
  }
}

}  // namespace dsm_ext::cuda
