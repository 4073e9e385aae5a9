#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

namespace dsm_ext {

/// A model's parameters with timm's names, in the order of its modules.
struct ModelParameters {
  using Named = std::vector<std::pair<std::string, at::Tensor>>;

  /// \param parameters  They have the shapes that follow from the config.
  explicit ModelParameters(Named parameters);

  /// Checks shapes, dtypes and devices again, because Python code can change them all through
  /// `.data`.
  /// \throws c10::ValueError for a changed shape and for several devices; c10::TypeError for
  ///         several dtypes.
  void check() const;

  /// \return The parameter, or an undefined tensor when the model has none with this name.
  at::Tensor find(const std::string& name) const;

  Named named;
  std::vector<std::vector<int64_t>> shapes;  // as they follow from the config
};

/// \throws c10::TypeError when two weights have different dtypes; c10::ValueError when they are on
///         different devices.
/// \param name  Of `weight`.
void check_alike(const std::string& name, const at::Tensor& weight, const at::Tensor& first);

}  // namespace dsm_ext
