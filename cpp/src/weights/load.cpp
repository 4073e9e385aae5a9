#include "dsm_ext/load.h"

#include <ATen/Functions.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "json.h"
#include "model_file.h"

namespace dsm_ext {
namespace {

void check(const LoadOptions& options) {
  const auto dtype = options.dtype.value_or(at::kFloat);
  TORCH_CHECK_TYPE(
      dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf,
      "dsm_ext.load: expected dtype to be float32, bfloat16 or float16, got ", dtype);
  TORCH_CHECK_VALUE(
      !options.device.is_meta(), "dsm_ext.load: expected a device with memory, got ",
      options.device);
}

VisionTransformer make(const ModelFile& file, const std::optional<std::string>& schedule) {
  const auto& config = file.info.config;
  if (schedule) {
    return VisionTransformer(config, Schedule::parse(*schedule, config));
  }
  if (!file.own_schedule) {
    return VisionTransformer(config, file.info.schedule);
  }
  try {
    return VisionTransformer(config, file.info.schedule);
  } catch (const c10::Error& e) {
    fail(file.config_path, e.what_without_backtrace());
  }
}

}  // namespace

VisionTransformer load(
    const std::string& path, const std::optional<std::string>& schedule,
    const LoadOptions& options) {
  return load_with_info(path, schedule, options).model;
}

LoadedModel load_with_info(
    const std::string& path, const std::optional<std::string>& schedule,
    const LoadOptions& options) {
  check(options);
  const c10::InferenceMode ordinary(false);  // the weights stay after the caller's inference mode
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
  if (const auto precision = options.precision ? options.precision : file.info.precision) {
    model->set_precision(*precision);
  }
  return {model, std::move(file.info)};
}

}  // namespace dsm_ext
