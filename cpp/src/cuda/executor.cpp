#include "cuda/executor.h"

#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/ScopeExit.h>

#include <atomic>
#include <cstdlib>
#include <mutex>

#include "aten/patches.h"
#include "cuda/recording.h"
#include "cuda/recordings.h"

namespace dsm_ext::cuda {
namespace {

at::Tensor copy(const at::Tensor& tensor) { return tensor.defined() ? tensor.clone() : tensor; }

Outputs copy(const Outputs& outputs) {
  Outputs copied{
      .logits = copy(outputs.logits),
      .pooled = {},
      .features = copy(outputs.features),
      .size = copy(outputs.size),
      .source = copy(outputs.source),
      .intermediates = {},
      .location = copy(outputs.location),
      .class_attention = copy(outputs.class_attention)};
  for (const auto& block : outputs.intermediates) {
    copied.intermediates.push_back({copy(block.tokens), copy(block.source), copy(block.size)});
  }
  return copied;
}

// Whether a call may be recorded now. The caller must not be capturing a graph of their own, and
// torch must use its caching allocator: other allocators cannot allocate during a capture, or their
// memory moves between replays.
bool can_record(const at::Device& device) {
  const c10::cuda::CUDAGuard guard(device);
  static const bool uncached = std::getenv("PYTORCH_NO_CUDA_MEMORY_CACHING") != nullptr;
  return !uncached && c10::cuda::CUDACachingAllocator::name() == "native" &&
         c10::cuda::currentStreamCaptureStatusMayInitCtx() == c10::cuda::CaptureStatus::None;
}

// Whether matching should run beside attention. A block of threads matches one image, so a few
// images leave most multiprocessors to attention. With more images, matching takes from attention
// what it saves: on an H200, DeiT-S with 256 images is 5 % faster without it.
bool matches_beside_attention(const at::Tensor& images) {
  int multiprocessors = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(
      &multiprocessors, cudaDevAttrMultiProcessorCount, images.device().index()));
  return images.size(0) <= multiprocessors / 4;
}

// What all recordings depend on: the addresses, dtypes and strides of the weights, and the setting
// of TF32. Recordings stay right when only the values of the weights change.
std::vector<int64_t> recordings_key(const ModelParameters& parameters) {
  std::vector<int64_t> key;
  key.reserve(4 * parameters.named.size() + 2);
  key.push_back(parameters.named.front().second.device().index());
  key.push_back(
      static_cast<int64_t>(
          at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL)));
  for (const auto& [name, tensor] : parameters.named) {
    key.push_back(reinterpret_cast<intptr_t>(tensor.const_data_ptr()));
    key.push_back(static_cast<int64_t>(tensor.scalar_type()));
    key.insert(key.end(), tensor.strides().begin(), tensor.strides().end());
  }
  return key;
}

}  // namespace

struct Executor::State {
  std::shared_ptr<const aten::Executor> aten_executor;
  std::atomic<bool> records;
  std::mutex mutex{};  // guards the members below; held while a replay is put on its stream
  std::shared_ptr<const ModelParameters> parameters{};
  std::shared_ptr<SharedByRecordings> shared{};
  Recordings<Recording> recordings{};
};

Executor::Executor(std::shared_ptr<const aten::Executor> aten, bool records)
    : state_(new State{.aten_executor = std::move(aten), .records = records}) {}

Executor::~Executor() = default;

Outputs Executor::run(
    const at::Tensor& images, const Request& request,
    const std::shared_ptr<const CompiledPlan>& plan, StageTimer* timer) const {
  using Advice = Recordings<Recording>::Advice;
  const auto& aten_executor = *state_->aten_executor;
  const auto run_now = [&] { return aten_executor.run(images, request, plan, timer); };
  if (timer != nullptr || !state_->records || !can_record(images.device())) {
    return run_now();
  }
  const c10::cuda::CUDAGuard guard(images.device());
  const auto& config = plan->config();
  const c10::Stream stream = c10::cuda::getCurrentCUDAStream();
  plan->used_on(stream);
  std::unique_lock lock(state_->mutex);
  const auto key = recordings_key(*state_->parameters);
  const auto found = state_->recordings.find({plan, images.size(0), request}, key);
  if (found.advice == Advice::run) {
    lock.unlock();
    return run_now();
  }
  if (found.advice == Advice::record) {
    // This call initialises libraries for the thread and the device, which a capture must not do.
    auto outputs = run_now();
    if (!state_->recordings.any()) {
      // Make new streams and a new pool: the weights may be on another device now, and torch does
      // not let graphs use a pool again after all its graphs have been destroyed.
      state_->shared = std::make_shared<SharedByRecordings>(images.device());
    }
    state_->recordings.keep(record(
        state_->shared, config, images.size(0), images.options(),
        [&](const at::Tensor& patches, const c10::Stream& side_stream) {
          return aten_executor.run_patches(
              patches, request, *plan,
              matches_beside_attention(images) ? std::optional(side_stream) : std::nullopt);
        }));
    return outputs;
  }
  auto& recording = *found.recording;
  auto& done = recording.shared->done;
  done.block(stream);
  const auto end = c10::make_scope_exit([&] {  // runs also when copying the outputs throws
    try {
      done.record(stream);
    } catch (const c10::Error&) {  // the device has failed, and another error already reports it
    }
  });
  aten::copy_patches(images, config, recording.patches);
  recording.graph->replay();
  return copy(recording.outputs);
}

bool Executor::records() const { return state_->records; }

void Executor::set_records(bool on) {
  state_->records = on;
  forget_recordings();
}

void Executor::set_parameters(std::shared_ptr<const ModelParameters> parameters) {
  const std::lock_guard lock(state_->mutex);
  state_->parameters = std::move(parameters);
  state_->recordings.clear();
}

void Executor::forget_recordings() {
  const std::lock_guard lock(state_->mutex);
  state_->recordings.clear();
}

}  // namespace dsm_ext::cuda
