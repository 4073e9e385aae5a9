#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <cmath>
#include <limits>

#include "fused.h"
#include "launch.cuh"

#include "attention_kernel.cuh"

namespace dsm_ext {
namespace {

using Kernel = void (*)(cuda::AttentionArguments);

/// A kernel for heads of some width.
struct Choice {
  Kernel kernel = nullptr;
  int64_t (*shared_bytes)(int64_t tokens) = nullptr;
  int64_t tile = 0, threads = 0;  // queries of a warp at one time; threads of a block
};

template <bool kBfloat16, int kDim>
Choice choice() {
  using Compiled = cuda::Compiled<kDim>;
  return {
      &cuda::attention_kernel_impl<kBfloat16, kDim>, &cuda::attention_shared_bytes<kDim>,
      16 * Compiled::kTiles, Compiled::kThreads};
}

template <bool kBfloat16>
Choice choice_for(int64_t dim) {
  switch (dim) {
    case 32:
      return choice<kBfloat16, 32>();
    case 64:
      return choice<kBfloat16, 64>();
    case 72:
    case 80:
      return choice<kBfloat16, 80>();
    case 88:
    case 96:
      return choice<kBfloat16, 96>();
    case 128:
      return choice<kBfloat16, 128>();
    default:
      return {};
  }
}

/// Whether the kernel can read a tensor's rows in parts of 16 bytes.
bool readable(const at::Tensor& heads) {
  return heads.stride(3) == 1 && heads.stride(0) % 8 == 0 && heads.stride(1) % 8 == 0 &&
         heads.stride(2) % 8 == 0 && reinterpret_cast<uintptr_t>(heads.const_data_ptr()) % 16 == 0;
}

cuda::HeadStrides strides_of(const at::Tensor& heads) {
  return {heads.stride(0), heads.stride(1), heads.stride(2)};
}

const uint16_t* data_of(const at::Tensor& heads) {
  return static_cast<const uint16_t*>(heads.const_data_ptr());
}

/// The kernel for these tensors, or none.
Choice choose(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& bias) {
  const auto dtype = q.scalar_type();
  const bool half = dtype == at::kHalf || dtype == at::kBFloat16;
  if (!half || k.scalar_type() != dtype || v.scalar_type() != dtype || q.numel() == 0 ||
      k.numel() == 0 || !readable(q) || !readable(k) || !readable(v) || bias.stride(3) != 1 ||
      (bias.scalar_type() != dtype && bias.scalar_type() != at::kFloat) ||
      cuda::attribute(cudaDevAttrComputeCapabilityMajor) < 8) {
    return {};
  }
  const auto found =
      dtype == at::kHalf ? choice_for<false>(q.size(3)) : choice_for<true>(q.size(3));
  const bool fits =
      found.kernel != nullptr &&
      found.shared_bytes(k.size(2)) <= cuda::attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  return fits ? found : Choice{};
}

at::Tensor attend_kernel(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const std::optional<at::Tensor>& bias) {
  const c10::cuda::CUDAGuard guard(q.device());
  const auto [kernel, shared_bytes, tile, threads] = bias ? choose(q, k, v, *bias) : Choice{};
  if (kernel == nullptr) {
    return composed_attend(q, k, v, bias);
  }
  const int64_t images = q.size(0), heads = q.size(1), rows = q.size(2), dim = q.size(3);
  const int64_t tokens = k.size(2), tiles = (rows + tile - 1) / tile;
  const int64_t splits = cuda::attention_splits(
      tiles, threads / 32, tokens, images * heads, cuda::attribute(cudaDevAttrMultiProcessorCount));
  const int64_t blocks = images * heads * splits;
  if (blocks > std::numeric_limits<int32_t>::max()) {
    return composed_attend(q, k, v, bias);
  }
  auto out = at::empty({images, rows, heads * dim}, q.options());
  const int64_t shared = shared_bytes(tokens);
  cuda::allow_shared("attend", kernel, shared);
  kernel<<<
      static_cast<unsigned>(blocks), static_cast<unsigned>(threads), shared,
      c10::cuda::getCurrentCUDAStream()>>>(
      {.q = data_of(q),
       .k = data_of(k),
       .v = data_of(v),
       .q_strides = strides_of(q),
       .k_strides = strides_of(k),
       .v_strides = strides_of(v),
       .bias = bias->const_data_ptr(),
       .bias_stride = bias->stride(0),
       .bias_float32 = bias->scalar_type() == at::kFloat,
       .scale = 1 / std::sqrt(static_cast<float>(dim)),
       .heads = static_cast<int32_t>(heads),
       .rows = static_cast<int32_t>(rows),
       .tokens = static_cast<int32_t>(tokens),
       .dim = static_cast<int32_t>(dim),
       .splits = static_cast<int32_t>(splits),
       .out = static_cast<uint16_t*>(out.mutable_data_ptr())});
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CUDA, m) { m.impl("_attend", &attend_kernel); }

}  // namespace dsm_ext
