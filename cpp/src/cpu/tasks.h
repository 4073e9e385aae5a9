#pragma once

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <atomic>

namespace dsm_ext::cpu {

/// How many threads a forward may use if it is called now.
inline int64_t thread_count() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

/// Calls `task(index, slot)` for each index below `count` on up to `threads` of torch's threads.
/// When a thread has finished a task, it takes the next index. `slot` is the number of the thread,
/// so tasks that run at the same time have different slots. At the end each thread releases what
/// products in small types need of the processor (AMX tiles), because other code runs next on it.
template <typename Task>
void for_each_task(int64_t count, int64_t threads, const Task& task) {
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min(threads, count), 1, [&](int64_t slot, int64_t) {
    for (int64_t index = next++; index < count; index = next++) {
      task(index, slot);
    }
    at::native::cpublas::brgemm_release();
  });
}

}  // namespace dsm_ext::cpu
