#pragma once

// Runs the text of CUDA kernels on the CPU, so that their arithmetic and indices are tested on
// machines without a GPU: one std::thread for each thread of a block, one block after another.
// Under the thread sanitizer (`make sanitize`) a missing __syncthreads shows as a data race. What
// none of it shows: races between blocks, memory spaces, speed.

#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace cuda_on_cpu {

struct Index {
  unsigned x = 0;
};

constexpr unsigned kWarp = 32;

// What the threads of a block share.
struct Block {
  struct Warp {
    std::barrier<> barrier{kWarp};
    double values[kWarp] = {};
  };

  explicit Block(unsigned threads, size_t shared_bytes)
      : inside(threads), behind(threads), shared(shared_bytes / sizeof(double) + 1) {
    for (unsigned i = 0; i < threads / kWarp; ++i) {
      warps.push_back(std::make_unique<Warp>());
    }
  }

  std::barrier<> inside, behind;  // __syncthreads, and the end of a block
  std::vector<double> shared;     // dynamic shared memory
  std::vector<std::unique_ptr<Warp>> warps;
};

inline Block* block = nullptr;
inline thread_local Index thread_index, block_index;
inline Index block_dim;

/// Calls `kernel` as a launch of so many blocks and threads would. Threads are a multiple of 32.
template <typename Kernel>
void launch(int64_t blocks, unsigned threads, size_t shared_bytes, const Kernel& kernel) {
  Block state(threads, shared_bytes);
  block = &state;
  block_dim = {threads};
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t) {
    all.emplace_back([&, t] {
      thread_index = {t};
      for (int64_t b = 0; b < blocks; ++b) {
        block_index = {static_cast<unsigned>(b)};
        kernel();
        state.behind.arrive_and_wait();
      }
    });
  }
  for (auto& thread : all) {
    thread.join();
  }
  block = nullptr;
}

}  // namespace cuda_on_cpu

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define threadIdx cuda_on_cpu::thread_index
#define blockIdx cuda_on_cpu::block_index
#define blockDim cuda_on_cpu::block_dim
#define DSM_EXT_DYNAMIC_SHARED(Type, name) \
  Type* name = reinterpret_cast<Type*>(cuda_on_cpu::block->shared.data())

namespace dsm_ext::cuda {

using std::isfinite;
using std::log;
using std::sqrt;

inline void __syncthreads() { cuda_on_cpu::block->inside.arrive_and_wait(); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int other) {
  const unsigned lane = threadIdx.x % cuda_on_cpu::kWarp;
  auto& warp = *cuda_on_cpu::block->warps[threadIdx.x / cuda_on_cpu::kWarp];
  warp.values[lane] = value;
  warp.barrier.arrive_and_wait();
  const T theirs = static_cast<T>(warp.values[lane ^ static_cast<unsigned>(other)]);
  warp.barrier.arrive_and_wait();
  return theirs;
}

inline void atomicMax(unsigned long long* at, unsigned long long value) {
  std::atomic_ref<unsigned long long> all(*at);
  auto now = all.load();
  while (now < value && !all.compare_exchange_weak(now, value)) {
  }
}

}  // namespace dsm_ext::cuda
