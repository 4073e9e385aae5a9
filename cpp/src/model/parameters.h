#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace dsm_ext {

/// A model's parameters by timm's names, in the order of its modules.
struct ModelParameters {
  using Named = std::vector<std::pair<std::string, at::Tensor>>;

  /// \param parameters  Of the shapes that the config gives them.
  explicit ModelParameters(Named parameters);

  /// Python code can give a parameter other values through `.data`, of any shape, dtype and device.
  /// \throws c10::ValueError for a shape that is not the config's and for several devices;
  ///         c10::TypeError for several dtypes.
  void check() const;

  /// Undefined where the model has no parameter of that name.
  at::Tensor find(const std::string& name) const;

  Named named;
  std::vector<std::vector<int64_t>> shapes;  // as the config has them
};

}  // namespace dsm_ext
