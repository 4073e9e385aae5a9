#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "model/check_inputs.h"
#include "model/state.h"

namespace dsm_ext {
namespace {

constexpr size_t kNamed = 8;  // an error names at most this many faults of a kind, counts the rest

void append(std::string& message, const char* what, const std::vector<std::string>& names) {
  if (names.empty()) {
    return;
  }
  message += std::string(message.empty() ? "" : "; ") + what + " ";
  for (size_t i = 0; i < std::min(names.size(), kNamed); ++i) {
    message += (i ? ", " : "") + names[i];
  }
  if (names.size() > kNamed) {
    message += " and " + std::to_string(names.size() - kNamed) + " more";
  }
}

std::string shapes(const std::string& name, const at::Tensor& given, const at::Tensor& expected) {
  std::ostringstream text;
  text << name << " " << given.sizes() << " (expected " << expected.sizes() << ")";
  return text.str();
}

void check_one_kind(const std::string& name, const at::Tensor& weight, const at::Tensor& first) {
  TORCH_CHECK_VALUE(
      !weight.is_meta(), "dsm_ext.VisionTransformer: expected weights with values, got ", name,
      " on the meta device");
  TORCH_CHECK_NOT_IMPLEMENTED(
      is_plain(weight) && weight.layout() == at::kStrided,
      "dsm_ext.VisionTransformer: expected weights to be dense tensors with values of their own, "
      "not tensors of torch's tracing or transforms and not tensor subclasses; got ",
      name);
  const auto dtype = weight.scalar_type();
  TORCH_CHECK_TYPE(
      dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf,
      "dsm_ext.VisionTransformer: expected weights to be float32, bfloat16 or float16, got ", name,
      " of ", dtype);
  check_alike(name, weight, first);
}

}  // namespace

void VisionTransformerImpl::load_parameters(
    const std::vector<std::pair<std::string, at::Tensor>>& weights, bool check_finite) {
  const c10::InferenceMode ordinary(false);
  const at::NoGradGuard no_grad;
  {
    const std::lock_guard lock(state_->mutex);
    state_->check_not_frozen();
  }
  const auto parameters = named_parameters();
  std::map<std::string, at::Tensor> given(weights.begin(), weights.end());
  std::vector<std::string> missing, unexpected, misshapen, non_finite;
  for (const auto& parameter : parameters) {
    const auto it = given.find(parameter.key());
    if (it == given.end()) {
      missing.push_back(parameter.key());
    } else if (it->second.sizes() != parameter.value().sizes()) {
      misshapen.push_back(shapes(it->first, it->second, parameter.value()));
    }
  }
  for (const auto& [name, weight] : given) {
    if (!parameters.contains(name)) {
      unexpected.push_back(name);
    } else if (
        check_finite && !weight.is_meta() && is_plain(weight) &&
        !at::isfinite(weight).all().item<bool>()) {
      non_finite.push_back(name);
    }
  }
  std::string faults;
  append(faults, "missing", missing);
  append(faults, "unexpected", unexpected);
  append(faults, "misshapen", misshapen);
  append(faults, "NaN or infinity in", non_finite);
  TORCH_CHECK_VALUE(
      faults.empty(), "dsm_ext.VisionTransformer: the weights do not fit the model: ", faults);
  for (const auto& [name, weight] : given) {
    check_one_kind(name, weight, given.begin()->second);
  }
  // The model shares the tensors themselves with the caller, not only their storage: when the model
  // or the caller later moves or converts a tensor in place, both see it.
  for (const auto& module : named_modules()) {
    if (auto* owner = module.value()->as<aten::Parameters>()) {
      owner->adopt(module.key() + ".", given);
    }
  }
  for (auto& [name, tensor] : state_->aten_executor->embedding().own_tokens()) {
    *tensor = parameters_[name] = given.at(name);
  }
  take_parameters();
}

}  // namespace dsm_ext
