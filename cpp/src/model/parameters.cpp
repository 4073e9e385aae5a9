#include "model/parameters.h"

#include <c10/util/Exception.h>

namespace dsm_ext {

ModelParameters::ModelParameters(Named parameters) : named(std::move(parameters)) {
  for (const auto& [name, tensor] : named) {
    shapes.push_back(tensor.sizes().vec());
  }
}

void ModelParameters::check() const {
  const auto& first = named.front().second;
  for (size_t i = 0; i < named.size(); ++i) {
    const auto& [name, tensor] = named[i];
    TORCH_CHECK_VALUE(
        tensor.sizes() == shapes[i], "dsm_ext.VisionTransformer: the weights do not fit ",
        "the model: misshapen ", name, " ", tensor.sizes(), " (expected ",
        at::IntArrayRef(shapes[i]), ")");
    check_alike(name, tensor, first);
  }
}

void check_alike(const std::string& name, const at::Tensor& weight, const at::Tensor& first) {
  TORCH_CHECK_TYPE(
      weight.scalar_type() == first.scalar_type(),
      "dsm_ext.VisionTransformer: expected weights of one dtype, got ", first.scalar_type(),
      " and, for ", name, ", ", weight.scalar_type());
  TORCH_CHECK_VALUE(
      weight.device() == first.device(),
      "dsm_ext.VisionTransformer: expected weights on one device, got ", first.device(),
      " and, for ", name, ", ", weight.device());
}

at::Tensor ModelParameters::find(const std::string& name) const {
  for (const auto& [key, tensor] : named) {
    if (key == name) {
      return tensor;
    }
  }
  return {};
}

}  // namespace dsm_ext
