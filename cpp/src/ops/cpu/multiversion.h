#pragma once

// DSM_EXT_MULTIVERSION compiles a function for several instruction sets, and the loader picks one
// when the program starts. The packages are built for baseline x86-64, whose vectors have only four
// floats. Sanitizers turn it off, because the loader picks before their runtime has started.
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

/// The instruction set that the loader picks on this processor: "AVX-512", "AVX2" or "baseline".
const char* instruction_set();

}  // namespace dsm_ext
