#include "dsm_ext/load.h"

#include <ATen/Functions.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "json.h"
#include "model_file.h"

namespace dsm_ext {
namespace {

VisionTransformer make(const ModelFile& file, const std::optional<std::string>& schedule) {
  const auto& [config_path, weights_path, info, weights] = file;
  if (schedule) {
    return VisionTransformer(info.config, Schedule::parse(*schedule, info.config.depth));
  }
  try {
    return VisionTransformer(info.config, info.schedule);
  } catch (const c10::Error& e) {
    fail(config_path, e.what_without_backtrace());
  }
}

}  // namespace

VisionTransformer load(
    const std::string& path, const std::optional<std::string>& schedule,
    const LoadOptions& options) {
  const c10::InferenceMode ordinary(false);  // the weights outlive the caller's inference mode
  auto file = open_model(path);
  auto model = make(file, schedule);
  for (auto& [name, tensor] : file.weights) {
    if (tensor.is_floating_point()) {
      tensor = tensor.to(options.device, options.dtype.value_or(tensor.scalar_type()));
    }
  }
  try {
    model->load_parameters(file.weights, options.check_finite);
  } catch (const c10::Error& e) {
    fail(file.weights_path, e.what_without_backtrace());
  }
  return model;
}

}  // namespace dsm_ext
