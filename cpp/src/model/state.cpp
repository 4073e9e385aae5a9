#include "model/state.h"

#include <array>
#include <cstdlib>
#include <string_view>

namespace dsm_ext {
namespace {

// The value of an environment variable, `first` or `second`; `first` when it is not set.
std::string environment(const char* name, const char* first, const char* second) {
  const char* value = std::getenv(name);
  if (value == nullptr) {
    return first;
  }
  TORCH_CHECK_VALUE(
      std::string_view(value) == first || std::string_view(value) == second,
      "dsm_ext: expected the environment variable ", name, " to be ", first, " or ", second,
      ", got ", value);
  return value;
}

CpuPath default_cpu_path() {
  constexpr const char* kName = "DSM_EXT_CPU";
  const char* value = std::getenv(kName);
  if (value != nullptr && std::string_view(value) == "reference") {  // the older name of "aten"
    return CpuPath::aten;
  }
  return environment(kName, "fast", "aten") == "fast" ? CpuPath::fast : CpuPath::aten;
}

}  // namespace

VisionTransformerImpl::State::State(
    torch::nn::Module& model, const Config& config_, Schedule schedule_)
    : config(config_),
      aten_executor(std::make_shared<aten::Executor>(model, config)),
      cuda_executor(
          std::make_shared<cuda::Executor>(
              aten_executor, environment("DSM_EXT_CUDA_GRAPHS", "1", "0") == "1")),
      schedule(std::move(schedule_)),
      plan(schedule.plan(config)),
      cpu_path(default_cpu_path()) {}

std::shared_ptr<const CompiledPlan> VisionTransformerImpl::State::compiled_plan(
    const at::Tensor& images) {
  const std::array<int64_t, 2> size = {images.size(2), images.size(3)};
  const auto device = images.device();
  const std::lock_guard lock(mutex);
  if (const auto* found = plans.find([&](const auto& compiled) {
        return compiled->config().img_size == size && compiled->device() == device;
      })) {
    return *found;
  }
  auto sized = config;
  sized.img_size = size;
  return plans.put(std::make_shared<CompiledPlan>(sized, schedule, device));
}

std::shared_ptr<const Executor> VisionTransformerImpl::State::executor(const at::Device& device) {
  const std::lock_guard lock(mutex);
  if (auto fast = locked_fast_executor()) {
    return fast;
  }
  if (precision) {
    check_precision(*precision);
  }
  if (device.is_cuda()) {
    return cuda_executor;
  }
  return aten_executor;
}

std::shared_ptr<const cpu::Executor> VisionTransformerImpl::State::locked_fast_executor() {
  if (frozen) {
    TORCH_CHECK(
        any_weight().is_cpu() && any_weight().scalar_type() == fast_executor->weights_dtype(),
        "dsm_ext.VisionTransformer: the model is frozen: it stays on the CPU, in ",
        fast_executor->weights_dtype());
    return fast_executor;
  }
  if (fast_executor != nullptr && fast_executor->packed_from(*parameters)) {
    return fast_executor;
  }
  parameters->check();
  fast_executor.reset();
  if (cpu_path == CpuPath::fast && cpu::Executor::takes(config, *parameters)) {
    const auto own = locked_precision();
    check_precision(own);
    fast_executor = std::make_shared<cpu::Executor>(config, *parameters, own);
  }
  return fast_executor;
}

Precision VisionTransformerImpl::State::locked_precision() const {
  if (precision) {
    return *precision;
  }
  return any_weight().scalar_type() == at::kBFloat16 && has_precision(Precision::bfloat16)
             ? Precision::bfloat16
             : Precision::float32;
}

void VisionTransformerImpl::State::check_precision(Precision wanted) const {
  const auto dtype = any_weight().scalar_type();
  TORCH_CHECK_NOT_IMPLEMENTED(
      has_precision(wanted), "dsm_ext.VisionTransformer: the precision ", to_string(wanted),
      " needs a processor with ", wanted == Precision::int8 ? "AVX512_VNNI" : "AVX512_BF16",
      " or AMX, and torch.backends.mkldnn.enabled; here the fastest precision is ",
      to_string(fastest_precision()));
  if ((wanted == Precision::float32 && dtype == at::kFloat) ||
      (wanted == Precision::bfloat16 && dtype == at::kBFloat16)) {
    return;  // ATen's operators have this precision, too
  }
  const auto device = any_weight().device();
  const char* missing = "";
  if (!device.is_cpu() && !device.is_meta()) {
    missing = "the model is on a GPU, where the weights' dtype is the precision";
  } else if (config.block == BlockKind::parallel) {
    missing = "the model has parallel blocks, which run by ATen's operators";
  } else if (cpu_path != CpuPath::fast) {
    missing = "the model's cpu_path is aten";
  } else if (!cpu::Executor::takes(config, *parameters) && !device.is_meta()) {
    missing = "the model's weights were made in inference mode";
  }
  TORCH_CHECK_NOT_IMPLEMENTED(
      *missing == '\0', "dsm_ext.VisionTransformer: the precision ", to_string(wanted),
      " needs the CPU's fast path, but ", missing, "; its weights are ", dtype);
}

void VisionTransformerImpl::State::check_not_frozen() const {
  TORCH_CHECK(!frozen, "dsm_ext.VisionTransformer: the model is frozen: it has freed its weights");
}

}  // namespace dsm_ext
