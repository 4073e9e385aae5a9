#include "multiversion.h"

namespace dsm_ext {

const char* instruction_set() {
#ifdef DSM_EXT_MULTIVERSIONED
  // A processor that has the features asked for here has all of x86-64-v4, or of x86-64-v3.
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
