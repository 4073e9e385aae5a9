#pragma once

#include <cstddef>
#include <functional>
#include <string>

// A stand-in for CUDA's runtime. On it the tests that need a GPU run on a machine without one.
// Device memory is the CPU's memory. Work put on a stream is done at once. When the stream
// captures, the work is also kept, and it is done again when the graph is launched. LD_PRELOAD
// loads the stand-in before the real runtime, so its functions replace the runtime's.
//
// The stand-in tests the host's side: launches, products, graphs, the order of streams, allocations
// and errors. It runs the kernels' text as well. It cannot test what happens in parallel on a GPU,
// and it says nothing about speed.

namespace stand_in {

struct Launch {
  std::string kernel;  // demangled
  unsigned blocks, threads;
  size_t shared_bytes;
  void** arguments;
};

using Work = std::function<void()>;

/// Does the work now, and also keeps it for the graph when the stream captures.
void put(void* stream, Work work);

/// Whether the stream captures.
bool captures(void* stream);

/// Sets the function that turns a launch into work. It gives an empty function for an unknown
/// kernel.
void set_launcher(std::function<Work(const Launch&)> launcher);

/// Functions that take the place of two of cuBLASLt's, with the same prototypes. products.cpp sets
/// them, because only it includes cuBLASLt's header.
struct Products {
  void *algorithm = nullptr, *multiply = nullptr;
};
Products& products();

}  // namespace stand_in
