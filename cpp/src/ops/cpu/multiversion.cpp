#include "multiversion.h"

namespace dsm_ext {

const char* instruction_set() {
#ifdef DSM_EXT_MULTIVERSIONED
  // Each feature of x86-64-v4 and x86-64-v3 comes with the last of them, on every processor made.
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) {
    return "AVX-512";
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return "AVX2";
  }
#endif
  return "baseline";
}

}  // namespace dsm_ext
