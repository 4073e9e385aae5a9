#include "cpu/executor.h"

#include <algorithm>

#include "cpu/forward.h"
#include "cpu/tasks.h"

namespace dsm_ext::cpu {
namespace {

// The number of rows that go through the model together, for all threads. More rows mean that the
// threads read each weight less often. Fewer rows mean that the activations fit into the
// third-level cache.
constexpr int64_t kRows = 1024;
constexpr int64_t kRowsPerThread = 256;

// Gives the outputs that have the dtype of the model their dtype.
void convert(Outputs& outputs, at::ScalarType dtype) {
  for (auto* tensor : {&outputs.logits, &outputs.features}) {
    if (tensor->defined()) {
      *tensor = tensor->to(dtype);
    }
  }
  for (auto& intermediate : outputs.intermediates) {
    intermediate.tokens = intermediate.tokens.to(dtype);
  }
}

}  // namespace

bool Executor::takes(const Config& config, const ModelParameters& parameters) {
  return config.block != BlockKind::parallel &&
         std::all_of(parameters.named.begin(), parameters.named.end(), [](const auto& parameter) {
           const auto& tensor = parameter.second;
           return tensor.is_cpu() && !tensor.is_inference();
         });
}

Executor::Executor(const Config& config, const ModelParameters& parameters, Precision precision)
    : config_(config),
      dtype_(parameters.named.front().second.scalar_type()),
      weights_(config, parameters, elements_of(precision)) {
  for (const auto& [name, tensor] : parameters.named) {
    states_.push_back(
        {tensor.storage(), tensor.const_data_ptr(), tensor.sizes().vec(), tensor.strides().vec(),
         tensor._version()});
  }
}

bool Executor::packed_from(const ModelParameters& parameters) const {
  return std::equal(
      parameters.named.begin(), parameters.named.end(), states_.begin(), states_.end(),
      [this](const auto& parameter, const ParameterState& state) {
        const auto& tensor = parameter.second;
        return tensor.const_data_ptr() == state.data && tensor._version() == state.version &&
               tensor.sizes() == state.sizes && tensor.strides() == state.strides &&
               tensor.scalar_type() == dtype_;
      });
}

std::shared_ptr<const PlanData> Executor::data_of(
    const std::shared_ptr<const CompiledPlan>& plan) const {
  const std::lock_guard lock(mutex_);
  if (const auto* found = derived_.find([&](const auto& other) { return other.plan == plan; })) {
    return found->data;
  }
  return derived_.put({plan, std::make_shared<const PlanData>(*plan, weights_, config_)}).data;
}

Outputs Executor::run(
    const at::Tensor& images_, const Request& request,
    const std::shared_ptr<const CompiledPlan>& plan, StageTimer* timer) const {
  const auto images = images_.to(at::kFloat).resolve_neg().contiguous();
  const auto& config = plan->config();
  const int64_t batch = images.size(0), threads = thread_count();
  const int64_t most =
      std::max<int64_t>(1, std::max(kRows, kRowsPerThread * threads) / config.tokens());
  const int64_t runs = divide_up(batch, most);
  const int64_t step = divide_up(batch, runs);
  const auto data = data_of(plan);
  auto workspace = workspaces_.take(config, weights_.elements, step, threads);
  auto outputs = allocate_outputs(request, *plan, batch, images.options());
  if (timer != nullptr) {
    timer->set_threads(threads);
  }
  InterruptCheck interrupt;  // when it throws, the workspace is freed, not given back
  const int64_t pixels = images.numel() / batch;
  for (int64_t first = 0; first < batch; first += step) {
    const Part part{
        .images = images.const_data_ptr<float>() + first * pixels,
        .first = first,
        .count = std::min(step, batch - first)};
    Forward forward(weights_, *plan, *data, request, *workspace, interrupt, timer, part, outputs);
    run_in_order(request, config, forward);
  }
  workspaces_.give_back(std::move(workspace));
  convert(outputs, images_.scalar_type());
  return outputs;
}

}  // namespace dsm_ext::cpu
