#pragma once

// Compiles a function for several instruction sets; the loader picks one when the program starts.
// The packages are built for baseline x86-64, where loops would otherwise be four floats wide.
// Where a sanitizer is on, its runtime is not yet up when the loader asks.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define DSM_EXT_MULTIVERSIONED
#if __GNUC__ >= 12
#define DSM_EXT_MULTIVERSION \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DSM_EXT_MULTIVERSION __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define DSM_EXT_MULTIVERSION
#endif

namespace dsm_ext {

/// Which of them the loader picks here, by the name that people know it by.
const char* instruction_set();

}  // namespace dsm_ext
