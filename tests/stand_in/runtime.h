#pragma once

#include <cstddef>
#include <functional>
#include <string>

// A stand-in for CUDA's runtime, on a machine without a GPU, so that the tests that need one run
// there: memory is the processor's, work is done when it is put on a stream, and what is put on one
// that captures is kept besides, to be done again when the graph is launched. Loaded in front of
// the real runtime (LD_PRELOAD), it takes its functions' place.
//
// What this shows: that launches, products, graphs, streams' order, allocations and errors are what
// they should be on the host's side, with the kernels' text behind them. What it cannot: anything
// that happens at once on a GPU, and speed.

namespace stand_in {

struct Launch {
  std::string kernel;  // demangled
  unsigned blocks, threads;
  size_t shared_bytes;
  void** arguments;
};

using Work = std::function<void()>;

/// Does some work now, and keeps it where the stream captures.
void put(void* stream, Work work);

/// Whether it captures.
bool captures(void* stream);

/// Who makes work of a launch; empty where nobody knows the kernel.
void set_launcher(std::function<Work(const Launch&)> launcher);

/// What cuBLASLt's functions do: its own prototypes, given by those who know them.
struct Products {
  void *algorithm = nullptr, *multiply = nullptr;
};
Products& products();

}  // namespace stand_in
