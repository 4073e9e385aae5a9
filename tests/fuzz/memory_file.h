#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

// A file in memory that can be opened by a path.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(memfd_create("fuzz", 0)) {
    if (descriptor_ < 0) {
      std::abort();
    }
  }

  void write(const uint8_t* bytes, size_t count) const {
    if (ftruncate(descriptor_, 0) != 0 ||
        pwrite(descriptor_, bytes, count, 0) != static_cast<ssize_t>(count)) {
      std::abort();
    }
  }

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};
