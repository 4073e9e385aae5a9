#include "graphs.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/ScopeExit.h>
#include <torch/headeronly/version.h>

#include <map>
#include <memory>
#include <mutex>

#include "../patches.h"
#include "../recordings.h"

namespace dsm_ext::cuda {
namespace {

using Pool = decltype(at::cuda::graph_pool_handle());

// The streams of a device's on which nothing but recording happens, one for the forward and one
// beside it: what libraries keep for a stream is not shared with other work. They stay: the
// allocator remembers where memory came from.
enum class Lane { main, side };

c10::cuda::CUDAStream recording_stream(at::Device device, Lane lane) {
  static std::mutex mutex;
  static auto& streams = *new std::map<std::pair<c10::DeviceIndex, Lane>, cudaStream_t>();
  const std::lock_guard lock(mutex);
  auto& stream = streams[{device.index(), lane}];
  if (stream == nullptr) {
    C10_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  }
  return c10::cuda::getStreamFromExternal(stream, device.index());
}

struct Recording {
  Recording(at::Device device, std::shared_ptr<c10::Event> last_replay)
      : stream(recording_stream(device, Lane::main)),
        side(recording_stream(device, Lane::side)),
        done(std::move(last_replay)) {}
  ~Recording() {
    try {
      // The memory was allocated on this stream, and is let go of behind the last replay.
      done->block(stream);
    } catch (const c10::Error& error) {
      TORCH_WARN("dsm_ext.VisionTransformer: ", error.what_without_backtrace());
    }
  }

  c10::Stream stream, side;
  std::shared_ptr<c10::Event> done;  // with the last replay of any of the model's
  at::cuda::CUDAGraph graph;
  // In the graph's own memory:
  at::Tensor patches;
  Passed passed;
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

// Ends a capture that went wrong, whatever else goes wrong with it.
void abandon(
    at::cuda::CUDAGraph& graph, [[maybe_unused]] Pool pool, [[maybe_unused]] at::Device device) {
  try {
    graph.capture_end();
  } catch (const std::exception&) {  // the first error is the one that tells
#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 14
    try {  // there the allocator would go on serving the pool
      c10::cuda::CUDACachingAllocator::endAllocateToPool(device.index(), pool);
    } catch (const std::exception&) {
    }
#endif
  }
  static_cast<void>(cudaGetLastError());
}

// Null where it cannot be done now.
std::unique_ptr<Recording> record(
    std::unique_ptr<Recording> recording, Pool pool, const Config& config, int64_t images,
    const at::TensorOptions& options, Graphs::Run run) {
  static std::mutex mutex;  // torch keeps a list of captures without a lock
  const std::lock_guard lock(mutex);
  const c10::cuda::CUDAStreamGuard guard(c10::cuda::CUDAStream(recording->stream));
  const c10::InferenceMode ordinary(false);  // the tensors are written to by later calls
  const at::NoGradGuard no_grad;
  bool captures = false;
  try {
    // Other threads go on allocating; what this one allocates comes from the pool.
    recording->graph.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
    captures = true;
    recording->patches = empty_patches(config, images, options);
    recording->passed = run(recording->patches, recording->side);
    captures = false;
    recording->graph.capture_end();
    return recording;
  } catch (const std::exception& error) {
    if (captures) {
      abandon(recording->graph, pool, options.device());
    }
    const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
    TORCH_WARN(
        "dsm_ext.VisionTransformer: a forward of ", images,
        " images could not be recorded as a CUDA graph, and runs without: ",
        of_torch != nullptr ? of_torch->what_without_backtrace() : error.what());
    return nullptr;
  }
}

}  // namespace

struct Graphs::State {
  std::mutex mutex;  // guards all; held while a call is put on its stream
  Pool pool{};
  std::shared_ptr<c10::Event> done;  // with the last replay of any
  Recordings<Recording> recordings;
};

Graphs::Graphs() : state_(std::make_unique<State>()) {}

Graphs::~Graphs() = default;

bool Graphs::takes(const at::Device& device) {
  if (!device.is_cuda()) {
    return false;
  }
  const c10::cuda::CUDAGuard guard(device);
  // Memory of other allocators lies elsewhere from replay to replay.
  return c10::cuda::CUDACachingAllocator::name() == "native" &&
         c10::cuda::currentStreamCaptureStatusMayInitCtx() == c10::cuda::CaptureStatus::None;
}

Passed Graphs::forward(
    const at::Tensor& images, const std::shared_ptr<const Layout>& layout, const Wanted& wanted,
    const std::vector<int64_t>& weights, Run run) {
  using Advice = Recordings<Recording>::Advice;
  const c10::cuda::CUDAGuard guard(images.device());
  const auto& config = layout->config();
  const auto run_now = [&] { return run(cut_into_patches(images, config), std::nullopt); };
  std::unique_lock lock(state_->mutex);
  const auto found = state_->recordings.find({layout, images.size(0), wanted}, weights);
  if (found.advice == Advice::run) {
    lock.unlock();
    return run_now();
  }
  if (found.advice == Advice::record) {
    auto passed = run_now();  // this sets up what this thread and device need and a graph may not
    if (!state_->recordings.any()) {
      state_->done = std::make_shared<c10::Event>(at::kCUDA);  // it may be another device now
      state_->pool = at::cuda::graph_pool_handle();  // one whose graphs are gone cannot be used
    }
    state_->recordings.keep(record(
        std::make_unique<Recording>(images.device(), state_->done), state_->pool, config,
        images.size(0), images.options(), run));
    return passed;
  }
  auto& recording = *found.recording;
  const c10::Stream stream = c10::cuda::getCurrentCUDAStream();
  state_->done->block(stream);
  const auto end = c10::make_scope_exit([&] {  // also where there is no memory for the results
    try {
      state_->done->record(stream);
    } catch (const c10::Error&) {  // the device is lost: what led here says why
    }
  });
  copy_patches(images, config, recording.patches);
  recording.graph.replay();
  return copy(recording.passed);
}

void Graphs::clear() {
  const std::lock_guard lock(state_->mutex);
  state_->recordings.clear();
}

}  // namespace dsm_ext::cuda
