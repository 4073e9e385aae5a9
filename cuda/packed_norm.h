#pragma once

#include <ATen/core/Tensor.h>

#include "fused.h"
#include "row_shape.h"
#include "rows.cuh"

namespace dsm_ext::cuda {

/// The tensor itself, or a copy that is contiguous and aligned for packs of channels. A view may
/// start anywhere in its storage, so its address alone tells.
inline at::Tensor packed(const at::Tensor& x) {
  const auto contiguous = x.contiguous();
  const auto address = reinterpret_cast<uintptr_t>(contiguous.const_data_ptr());
  return address % (kPacked * contiguous.element_size()) == 0 ? contiguous : contiguous.clone();
}

/// A norm's parameters as a kernel takes them. Keep this alive until the launch: `arguments` points
/// into its tensors.
template <typename T>
struct PackedNorm {
  /// \param norm  May be null; then `arguments` is empty.
  explicit PackedNorm(const NormParameters* norm) {
    if (norm == nullptr) {
      return;
    }
    weight = packed(norm->weight);
    arguments = {
        .weight = weight.template const_data_ptr<T>(),
        .bias = nullptr,
        .eps = static_cast<float>(norm->eps),
        .rms = norm->rms};
    if (norm->bias.defined()) {
      bias = packed(norm->bias);
      arguments.bias = bias.template const_data_ptr<T>();
    }
  }

  at::Tensor weight, bias;
  NormArguments<T> arguments{};
};

}  // namespace dsm_ext::cuda
