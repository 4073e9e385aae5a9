#pragma once

#include <ATen/core/Tensor.h>

#include "fused.h"
#include "rows.cuh"

namespace dsm_ext::cuda {

constexpr int kPacked = 4;  // channels that a lane moves at once, where they divide the row

/// Contiguous, its rows where packs may begin: a view may start anywhere in its storage.
inline at::Tensor packed(const at::Tensor& x) {
  const auto contiguous = x.contiguous();
  const auto address = reinterpret_cast<uintptr_t>(contiguous.const_data_ptr());
  return address % (kPacked * contiguous.element_size()) == 0 ? contiguous : contiguous.clone();
}

/// A norm's parameters as a kernel takes them, which must not outlive this.
template <typename T>
struct PackedNorm {
  /// \param norm  Or null: then `of` is empty.
  explicit PackedNorm(const NormParameters* norm) {
    if (norm == nullptr) {
      return;
    }
    weight = packed(norm->weight);
    of = {
        .weight = weight.template const_data_ptr<T>(),
        .bias = nullptr,
        .eps = static_cast<float>(norm->eps),
        .rms = norm->rms};
    if (norm->bias.defined()) {
      bias = packed(norm->bias);
      of.bias = bias.template const_data_ptr<T>();
    }
  }

  at::Tensor weight, bias;
  NormOf<T> of{};
};

}  // namespace dsm_ext::cuda
