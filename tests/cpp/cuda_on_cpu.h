#pragma once

// Runs the text of CUDA kernels on the CPU, one block after another, so that their arithmetic and
// indices are tested on machines without a GPU. Under the thread sanitizer (`make sanitize`) a
// missing __syncthreads is reported as a data race. These tests cannot find races between blocks or
// a mistaken memory space, and they say nothing about speed.

#include <cmath>
#include <cstdint>
#include <cstring>
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
  // What the lanes of a warp give each other. There are two places, which take turns: the lanes
  // wait once, before they read, and none of them writes to the same place before all have read.
  struct Exchange {
    uint64_t values[kWarp] = {};    // the bytes of each lane's value
    uint32_t words[kWarp][6] = {};  // of a product
  };
  struct Warp {
    Barrier barrier{kWarp};
    Exchange exchanges[2];
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
  unsigned turn = 0;  // which of its warp's exchanges is next
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

/// Calls give(exchange, lane) in every lane of the warp. Gives what all lanes have written; it
/// stays until the lane exchanges something again.
template <typename Give>
const Block::Exchange& exchange_in_warp(const Give& give) {
  Thread& own = *thread;
  auto& warp = *own.shared->warps[own.thread.x / kWarp];
  Block::Exchange& exchange = warp.exchanges[own.turn];
  own.turn = 1 - own.turn;
  give(exchange, own.thread.x % kWarp);
  wait_for_others(warp.barrier);
  return exchange;
}

}  // namespace cuda_on_cpu

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define DSM_EXT_UNROLL
#define threadIdx cuda_on_cpu::thread->thread
#define blockIdx cuda_on_cpu::thread->block
#define blockDim cuda_on_cpu::thread->threads
#define DSM_EXT_DYNAMIC_SHARED(Type, name) \
  Type* name = static_cast<Type*>(cuda_on_cpu::thread->shared->shared_memory())

namespace dsm_ext::cuda {

using std::cos;
using std::isfinite;
using std::isnan;
using std::log;
using std::sin;
using std::sqrt;

inline void __syncthreads() { cuda_on_cpu::wait_for_others(cuda_on_cpu::thread->shared->inside); }

// Gives every lane's value to the warp. Gives the bytes of all lanes' values.
template <typename T>
const uint64_t* exchange(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  return cuda_on_cpu::exchange_in_warp([&](auto& all, unsigned lane) {
           std::memcpy(&all.values[lane], &value, sizeof value);
         })
      .values;
}

template <typename T>
T __shfl_xor_sync(unsigned, T value, int other) {
  const uint64_t* values = exchange(value);
  T theirs;
  std::memcpy(
      &theirs, &values[threadIdx.x % cuda_on_cpu::kWarp ^ static_cast<unsigned>(other)],
      sizeof theirs);
  return theirs;
}

inline unsigned __ballot_sync(unsigned, bool is) {
  const uint64_t* values = exchange(uint64_t{is});
  unsigned lanes = 0;
  for (unsigned lane = 0; lane < cuda_on_cpu::kWarp; ++lane) {
    lanes |= static_cast<unsigned>(values[lane]) << lane;
  }
  return lanes;
}

inline bool __any_sync(unsigned lanes, bool is) { return __ballot_sync(lanes, is) != 0; }

inline int __ffs(int bits) { return __builtin_ffs(bits); }

}  // namespace dsm_ext::cuda
