// Replaces the other files of this folder in a library that is built without CUDA.

#include <c10/util/Exception.h>

#include <atomic>

#include "cuda/executor.h"
#include "cuda/occupy_stream.h"

namespace dsm_ext::cuda {

struct Executor::State {
  std::atomic<bool> records;
};

Executor::Executor(std::shared_ptr<const aten::Executor>, bool records)
    : state_(new State{records}) {}

Executor::~Executor() = default;

Outputs Executor::run(
    const at::Tensor&, const Request&, const std::shared_ptr<const CompiledPlan>&,
    StageTimer*) const {
  TORCH_INTERNAL_ASSERT(false);
}

bool Executor::records() const { return state_->records; }

void Executor::set_records(bool on) { state_->records = on; }

void Executor::set_parameters(std::shared_ptr<const ModelParameters>) {}

void Executor::forget_recordings() {}

void occupy_stream(const at::Device&) { TORCH_INTERNAL_ASSERT(false); }

}  // namespace dsm_ext::cuda
