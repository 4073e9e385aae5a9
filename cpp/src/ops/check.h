#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>

#include <initializer_list>

namespace dsm_ext {

inline void check_shape(
    const char* op, const char* name, const at::Tensor& tensor, at::IntArrayRef expected) {
  TORCH_CHECK_VALUE(
      tensor.sizes() == expected, "dsm_ext.", op, ": expected ", name, " to be ", expected,
      ", got ", tensor.sizes());
}

inline void check_dim(
    const char* op, const char* name, const at::Tensor& tensor, const char* shape) {
  TORCH_CHECK_VALUE(
      tensor.dim() == 3, "dsm_ext.", op, ": expected ", name, " to be ", shape, ", got ",
      tensor.sizes());
}

inline void check_floating(const char* op, const char* name, const at::Tensor& tensor) {
  const auto dtype = tensor.scalar_type();
  TORCH_CHECK_TYPE(
      dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16, "dsm_ext.", op,
      ": expected ", name, " to be float32, float16 or bfloat16, got ", dtype);
}

inline void check_dtype(
    const char* op, const char* name, const at::Tensor& tensor, at::ScalarType expected) {
  TORCH_CHECK_TYPE(
      tensor.scalar_type() == expected, "dsm_ext.", op, ": expected ", name, " to be ", expected,
      ", got ", tensor.scalar_type());
}

inline void check_same_device(
    const char* op, const char* name, const at::Tensor& tensor, const at::Tensor& first) {
  TORCH_CHECK_VALUE(
      tensor.device() == first.device(), "dsm_ext.", op, ": expected ", name, " on ",
      first.device(), " like the first argument, got ", tensor.device());
}

inline void check_no_grad(const char* op, const char* name, const at::Tensor& tensor) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      !(at::GradMode::is_enabled() && tensor.requires_grad()), "dsm_ext.", op, ": ", name,
      " requires grad, and dsm_ext is for inference only; pass ", name,
      ".detach() or call it under torch.no_grad()");
}

}  // namespace dsm_ext
