#pragma once

// The threads of a block as fibers: all run on one thread of the CPU, and each runs until it waits
// at a barrier. Under sanitizers they are real threads instead, because a switch of stacks confuses
// sanitizers, and because the thread sanitizer then sees every race.

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)

#include <barrier>
#include <thread>
#include <vector>

namespace cuda_on_cpu {

using Barrier = std::barrier<>;

inline void wait(Barrier& barrier) { barrier.arrive_and_wait(); }

/// Calls body(0) to body(count - 1). They may wait for each other at barriers.
template <typename Body>
void run_together(unsigned count, const Body& body) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < count; ++i) {
    threads.emplace_back([&body, i] { body(i); });
  }
  for (auto& thread : threads) {
    thread.join();
  }
}

}  // namespace cuda_on_cpu

#else

#include <setjmp.h>
#include <ucontext.h>

#include <functional>
#include <memory>
#include <vector>

namespace cuda_on_cpu {

class Fibers {
 public:
  Fibers(unsigned count, const std::function<void(unsigned)>& body)
      : body_(body), fibers_(count), left_(count) {
    now() = this;
    for (unsigned i = 0; i < count; ++i) {
      auto& fiber = fibers_[i];
      fiber.stack = std::make_unique_for_overwrite<char[]>(kStack);  // zeros would take long
      getcontext(&fiber.context);
      fiber.context.uc_stack = {.ss_sp = fiber.stack.get(), .ss_flags = 0, .ss_size = kStack};
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, &Fibers::enter, 0);
    }
    fibers_[0].begun = true;
    swapcontext(&caller_, &fibers_[0].context);
    now() = nullptr;
  }

  static Fibers*& now() {
    static thread_local Fibers* fibers = nullptr;
    return fibers;
  }

  void yield() {
    const unsigned from = current_;
    if (next() != from && _setjmp(fibers_[from].place) == 0) {
      go_on();
    }
  }

 private:
  static constexpr size_t kStack = 64 << 10;

  struct Fiber {
    ucontext_t context;  // where it begins
    jmp_buf place;       // where it last yielded; a jump there needs no system call
    std::unique_ptr<char[]> stack;
    bool begun = false, done = false;
  };

  static void enter() {
    auto& all = *now();
    const unsigned own = all.current_;
    all.body_(own);
    all.fibers_[own].done = true;
    if (--all.left_ == 0) {
      setcontext(&all.caller_);
    }
    all.next();
    all.go_on();
  }

  void go_on() {  // runs the current fiber
    auto& fiber = fibers_[current_];
    if (fiber.begun) {
      _longjmp(fiber.place, 1);
    }
    fiber.begun = true;
    setcontext(&fiber.context);
  }

  unsigned next() {  // makes the next unfinished fiber the current one
    do {
      current_ = (current_ + 1) % static_cast<unsigned>(fibers_.size());
    } while (fibers_[current_].done);
    return current_;
  }

  const std::function<void(unsigned)>& body_;
  std::vector<Fiber> fibers_;
  unsigned left_, current_ = 0;
  ucontext_t caller_;
};

class Barrier {
 public:
  explicit Barrier(unsigned count) : count_(count) {}

  void arrive_and_wait() {
    if (++arrived_ == count_) {
      arrived_ = 0;
      ++passed_;
      return;
    }
    for (const unsigned before = passed_; passed_ == before;) {
      Fibers::now()->yield();
    }
  }

 private:
  unsigned count_, arrived_ = 0, passed_ = 0;
};

inline void wait(Barrier& barrier) { barrier.arrive_and_wait(); }

/// Calls body(0) to body(count - 1). They may wait for each other at barriers.
inline void run_together(unsigned count, const std::function<void(unsigned)>& body) {
  Fibers(count, body);
}

}  // namespace cuda_on_cpu

#endif
