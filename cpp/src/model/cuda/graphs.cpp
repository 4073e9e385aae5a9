#include "graphs.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <mutex>
#include <optional>

#include "../patches.h"
#include "../recordings.h"

namespace dsm_ext::cuda {
namespace {

using Pool = decltype(at::cuda::graph_pool_handle());

struct Recording {
  at::cuda::CUDAGraph graph;
  // In the graph's own memory:
  at::Tensor patches;
  Passed passed;
};

// A stream that is nobody else's: what libraries keep for a stream is not shared with other work.
class OwnStream {
 public:
  explicit OwnStream(at::Device device) : device_(device) {
    const c10::cuda::CUDAGuard guard(device);
    C10_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }
  ~OwnStream() { C10_CUDA_CHECK_WARN(cudaStreamDestroy(stream_)); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;

  at::Device device() const { return device_; }
  c10::cuda::CUDAStream get() const {
    return c10::cuda::getStreamFromExternal(stream_, device_.index());
  }

 private:
  at::Device device_;
  cudaStream_t stream_ = nullptr;
};

at::Tensor copy(const at::Tensor& tensor) { return tensor.defined() ? tensor.clone() : tensor; }

Passed copy(const Passed& passed) {
  Passed copied{
      copy(passed.logits), copy(passed.features), copy(passed.source), copy(passed.size), {}};
  for (const auto& block : passed.blocks) {
    copied.blocks.push_back({copy(block.tokens), copy(block.source), copy(block.size)});
  }
  return copied;
}

// Null where it cannot be done; then calls like this one go on without.
std::unique_ptr<Recording> record(
    const OwnStream& stream, Pool pool, const Config& config, int64_t images,
    const at::TensorOptions& options, Graphs::Run run) {
  const c10::cuda::CUDAStreamGuard guard(stream.get());
  const c10::InferenceMode ordinary(false);  // the tensors are written to by later calls
  const at::NoGradGuard no_grad;
  auto recording = std::make_unique<Recording>();
  try {
    // Other threads go on allocating; what this one allocates comes from the pool.
    recording->graph.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
    recording->patches = empty_patches(config, images, options);
    recording->passed = run(recording->patches);
    recording->graph.capture_end();
    return recording;
  } catch (const c10::Error& error) {
    try {
      recording->graph.capture_end();
    } catch (const c10::Error&) {  // the first error is the one that tells
    }
    static_cast<void>(cudaGetLastError());
    TORCH_WARN(
        "dsm_ext.VisionTransformer: batches of ", images,
        " images cannot be recorded as a CUDA graph, and run without: ",
        error.what_without_backtrace());
    return nullptr;
  }
}

}  // namespace

struct Graphs::State {
  std::mutex mutex;  // guards all; held while a call is put on its stream
  std::optional<OwnStream> stream;
  std::optional<c10::Event> done;  // with the last replay
  Pool pool{};
  Recordings<Recording> recordings;  // destroyed first
};

Graphs::Graphs() : state_(std::make_unique<State>()) {}

Graphs::~Graphs() = default;

bool Graphs::takes(const at::Device& device) {
  if (!device.is_cuda()) {
    return false;
  }
  const c10::cuda::CUDAGuard guard(device);
  return c10::cuda::currentStreamCaptureStatusMayInitCtx() == c10::cuda::CaptureStatus::None;
}

Passed Graphs::forward(
    const at::Tensor& images, const std::shared_ptr<const Layout>& layout, const Wanted& wanted,
    const std::vector<int64_t>& weights, Run run) {
  using Advice = Recordings<Recording>::Advice;
  const c10::cuda::CUDAGuard guard(images.device());
  const auto& config = layout->config();
  const auto run_now = [&] {
    const auto patches = empty_patches(config, images.size(0), images.options());
    copy_patches(images, config, patches);
    return run(patches);
  };
  std::unique_lock lock(state_->mutex);
  const auto found = state_->recordings.find({layout, images.size(0), wanted}, weights);
  if (found.advice == Advice::run) {
    lock.unlock();
    return run_now();
  }
  if (found.advice == Advice::record) {
    auto passed = run_now();  // this sets up what this thread and device need and a graph may not
    if (!state_->recordings.any()) {
      if (!state_->stream || state_->stream->device() != images.device()) {
        state_->stream.emplace(images.device());
        state_->done.emplace(at::kCUDA);
      }
      state_->pool = at::cuda::graph_pool_handle();  // one whose graphs are gone cannot be used
    }
    state_->recordings.keep(
        record(*state_->stream, state_->pool, config, images.size(0), images.options(), run));
    return passed;
  }
  const c10::Stream stream = c10::cuda::getCurrentCUDAStream();
  state_->done->block(stream);
  copy_patches(images, config, found.recording->patches);
  found.recording->graph.replay();
  auto passed = copy(found.recording->passed);
  state_->done->record(stream);
  return passed;
}

void Graphs::clear() {
  const std::lock_guard lock(state_->mutex);
  state_->recordings.clear();
}

}  // namespace dsm_ext::cuda
