#include "cuda/occupy_stream.h"

#include <ATen/cuda/Sleep.h>
#include <c10/cuda/CUDAGuard.h>

namespace dsm_ext::cuda {

void occupy_stream(const at::Device& device) {
  constexpr int64_t kCycles = 20'000'000;  // 10 ms at 2 GHz
  const c10::cuda::CUDAGuard guard(device);
  at::cuda::sleep(kCycles);
}

}  // namespace dsm_ext::cuda
