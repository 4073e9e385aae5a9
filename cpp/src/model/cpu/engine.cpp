#include "engine.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <chrono>

#include "../positions.h"
#include "tasks.h"

namespace dsm_ext::cpu {
namespace {

// Rows that go through the model together: enough for every thread to read each weight seldom, few
// enough for their activations to stay in the third cache.
constexpr int64_t kRows = 1024;
constexpr int64_t kRowsPerThread = 256;

at::Tensor find(const Named& parameters, const std::string& name) {
  for (const auto& [key, tensor] : parameters) {
    if (key == name) {
      return tensor;
    }
  }
  return {};
}

}  // namespace

bool Engine::takes(const Config& config, const Named& parameters) {
  return config.block == BlockKind::sequential &&
         std::all_of(parameters.begin(), parameters.end(), [](const auto& parameter) {
           const auto& tensor = parameter.second;
           return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && !tensor.is_inference();
         });
}

Engine::Engine(const Config& config, const Named& parameters)
    : config_(config),
      weights_(config, [&](const std::string& name) { return find(parameters, name); }) {
  for (const auto& [name, tensor] : parameters) {
    states_.push_back(
        {tensor.storage(), tensor.const_data_ptr(), tensor.sizes().vec(), tensor.strides().vec(),
         tensor._version()});
  }
}

bool Engine::packed_from(const Named& parameters) const {
  return std::equal(
      parameters.begin(), parameters.end(), states_.begin(), states_.end(),
      [](const auto& parameter, const State& state) {
        const auto& tensor = parameter.second;
        return tensor.const_data_ptr() == state.data && tensor._version() == state.version &&
               tensor.sizes() == state.sizes && tensor.strides() == state.strides &&
               tensor.scalar_type() == at::kFloat;
      });
}

at::Tensor Engine::positions(const Config& config) const {
  const auto grid = config.grid();
  if (!weights_.positions.defined() || grid == config_.grid()) {
    return weights_.positions;
  }
  const std::lock_guard lock(mutex_);
  for (const auto& [other, positions] : positions_) {
    if (other == grid) {
      return positions;
    }
  }
  constexpr size_t kKept = 16;
  if (positions_.size() == kKept) {
    positions_.erase(positions_.begin());
  }
  auto own = config_;
  own.no_embed_class = true;  // these are the patches' alone
  const auto resampled = resample_positions(weights_.positions.unsqueeze(0), own, grid);
  return positions_.emplace_back(grid, resampled.squeeze(0).contiguous()).second;
}

Passed Engine::forward(
    const at::Tensor& images_, const Layout& layout, const Wanted& wanted, Profile* profile) const {
  const auto begin = std::chrono::steady_clock::now();
  const auto images = images_.resolve_neg().contiguous();
  const int64_t batch = images.size(0), threads = thread_count();
  const int64_t most =
      std::max<int64_t>(1, std::max(kRows, kRowsPerThread * threads) / layout.config().tokens());
  const int64_t runs = divide_up(batch, most);
  const int64_t step = divide_up(batch, runs);
  auto workspace = workspaces_.take(layout.config(), step, threads);
  const int64_t pixels = images.numel() / batch;
  const auto positions = this->positions(layout.config());
  auto passed = allocate(wanted, layout, batch, images.options());
  InterruptCheck interrupt;  // where it throws, the workspace is freed, not given back
  Forward forward(weights_, positions, layout, wanted, *workspace, interrupt, profile);
  for (int64_t first = 0; first < batch; first += step) {
    forward.run(
        images.const_data_ptr<float>() + first * pixels, passed, first,
        std::min(step, batch - first));
  }
  workspaces_.give_back(std::move(workspace));
  if (profile != nullptr) {
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    profile->wall = spent.count();
  }
  return passed;
}

}  // namespace dsm_ext::cpu
