#include "graphs.h"

#include <ATen/Functions.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/core/grad_mode.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/ScopeExit.h>
#include <torch/headeronly/version.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "../patches.h"
#include "../recordings.h"

namespace dsm_ext::cuda {
namespace {

using Pool = decltype(at::cuda::graph_pool_handle());

// Held while something is recorded, and while a recording ends: torch kept its list of graphs
// without a lock, and one that waits for a stream that captures spoils the capture.
std::mutex& capturing() {
  static auto& mutex = *new std::mutex();
  return mutex;
}

// Two streams of a device's on which nothing but a model's recording happens, one for the forward
// and one beside it: what libraries keep for a stream, such as workspaces, is not shared with other
// work. They are handed on to other models but never end: the allocator remembers where memory came
// from.
class Lanes {
 public:
  explicit Lanes(at::Device device) : device_(device.index()), pair_(take(device_)) {}
  ~Lanes() {
    const std::lock_guard lock(free().mutex);
    free().pairs.emplace(device_, pair_);
  }
  Lanes(const Lanes&) = delete;
  Lanes& operator=(const Lanes&) = delete;

  c10::Stream main() const { return c10::cuda::getStreamFromExternal(pair_.first, device_); }
  c10::Stream side() const { return c10::cuda::getStreamFromExternal(pair_.second, device_); }

 private:
  using Pair = std::pair<cudaStream_t, cudaStream_t>;
  struct Free {
    std::mutex mutex;
    std::multimap<c10::DeviceIndex, Pair> pairs;
  };

  static Free& free() {
    static auto& all = *new Free();
    return all;
  }

  static Pair take(c10::DeviceIndex device) {
    const std::lock_guard lock(free().mutex);
    auto& pairs = free().pairs;
    Pair pair{};
    if (const auto found = pairs.find(device); found != pairs.end()) {
      pair = found->second;
      pairs.erase(found);
    } else {
      C10_CUDA_CHECK(cudaStreamCreateWithFlags(&pair.first, cudaStreamNonBlocking));
      C10_CUDA_CHECK(cudaStreamCreateWithFlags(&pair.second, cudaStreamNonBlocking));
    }
    return pair;
  }

  c10::DeviceIndex device_;
  Pair pair_;
};

// What the recordings of a model have in common; another while there is none.
struct Shared {
  explicit Shared(at::Device device) : lanes(device) {}

  Lanes lanes;
  Pool pool = at::cuda::graph_pool_handle();  // one whose graphs are gone cannot be used again
  c10::Event done{at::kCUDA};                 // with the last replay of any
};

struct Recording {
  explicit Recording(std::shared_ptr<Shared> in_common) : shared(std::move(in_common)) {}
  ~Recording() {
    const std::lock_guard lock(capturing());
    try {
      // The memory was allocated on these streams, and is let go of behind the last replay.
      shared->done.block(shared->lanes.main());
      shared->done.block(shared->lanes.side());
    } catch (const c10::Error& error) {
      TORCH_WARN("dsm_ext.VisionTransformer: ", error.what_without_backtrace());
    }
    passed = {};
    patches.reset();
    graph.reset();
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  std::shared_ptr<Shared> shared;
  std::optional<at::cuda::CUDAGraph> graph{std::in_place};
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

#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 14
// Sees that there is memory for two numbers that a graph there allocates before it captures: where
// there is none, its end ends the process.
void prepare(const at::TensorOptions& options) {
  const auto number = options.dtype(at::kLong);
  const auto seed = at::empty({1}, number), offset = at::empty({1}, number);
}

// Does what a graph there leaves undone whose capture could not be ended.
void mend(Pool pool, const at::TensorOptions& options) {
  const auto index = options.device().index();
  auto* host = at::getHostAllocator(at::kCUDA);
  try {  // where the first has been done it throws, and then all have
    c10::cuda::CUDACachingAllocator::endAllocateToPool(index, pool);
    host->end_allocate_to_pool(pool);
    c10::cuda::CUDACachingAllocator::releasePool(index, pool);
    host->release_pool(pool);
  } catch (const std::exception&) {
  }
  try {  // the generator of random numbers leaves the capture with the next that ends well
    prepare(options);
    at::cuda::CUDAGraph any;
    any.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    at::zeros({1}, options);
    any.capture_end();
  } catch (const std::exception&) {
  }
}
#else
void prepare(const at::TensorOptions&) {}
void mend(Pool, const at::TensorOptions&) {}
#endif

// Null where it cannot be done now.
std::unique_ptr<Recording> record(
    std::unique_ptr<Recording> recording, const Config& config, int64_t images,
    const at::TensorOptions& options, Graphs::Run run) {
  const std::lock_guard lock(capturing());
  const auto& [lanes, pool, done] = *recording->shared;
  const c10::StreamGuard guard(lanes.main());
  const c10::InferenceMode ordinary(false);  // the tensors are written to by later calls
  const at::NoGradGuard no_grad;
  auto& graph = *recording->graph;
  bool captures = false;
  try {
    prepare(options);
    // Other threads go on allocating; what this one allocates comes from the pool.
    graph.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
    captures = true;
    recording->patches = empty_patches(config, images, options);
    recording->passed = run(recording->patches, lanes.side());
    captures = false;
    graph.capture_end();
    return recording;
  } catch (const std::exception& error) {
    const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
    TORCH_WARN(
        "dsm_ext.VisionTransformer: a forward of ", images,
        " images could not be recorded as a CUDA graph, and runs without: ",
        of_torch != nullptr ? of_torch->what_without_backtrace() : error.what());
  }
  try {
    if (captures) {
      captures = false;
      graph.capture_end();
    } else {
      mend(pool, options);
    }
  } catch (const std::exception&) {  // the first error is the one that tells
    mend(pool, options);
  }
  static_cast<void>(cudaGetLastError());
  return nullptr;
}

}  // namespace

struct Graphs::State {
  std::mutex mutex;  // guards all; held while a call is put on its stream
  std::shared_ptr<Shared> shared;
  Recordings<Recording> recordings;
};

Graphs::Graphs() : state_(std::make_unique<State>()) {}

Graphs::~Graphs() = default;

bool Graphs::takes(const at::Device& device) {
  if (!device.is_cuda()) {
    return false;
  }
  const c10::cuda::CUDAGuard guard(device);
  // Memory of other allocators lies elsewhere from replay to replay, or cannot be had meanwhile.
  static const bool uncached = std::getenv("PYTORCH_NO_CUDA_MEMORY_CACHING") != nullptr;
  return !uncached && c10::cuda::CUDACachingAllocator::name() == "native" &&
         c10::cuda::currentStreamCaptureStatusMayInitCtx() == c10::cuda::CaptureStatus::None;
}

Passed Graphs::forward(
    const at::Tensor& images, const std::shared_ptr<const Layout>& layout, const Wanted& wanted,
    const std::vector<int64_t>& key, Run run) {
  using Advice = Recordings<Recording>::Advice;
  const c10::cuda::CUDAGuard guard(images.device());
  const auto& config = layout->config();
  const auto run_now = [&] { return run(cut_into_patches(images, config), std::nullopt); };
  std::unique_lock lock(state_->mutex);
  const auto found = state_->recordings.find({layout, images.size(0), wanted}, key);
  if (found.advice == Advice::run) {
    lock.unlock();
    return run_now();
  }
  if (found.advice == Advice::record) {
    auto passed = run_now();  // this sets up what this thread and device need and a graph may not
    if (!state_->recordings.any()) {
      state_->shared = std::make_shared<Shared>(images.device());  // it may be another device now
    }
    state_->recordings.keep(record(
        std::make_unique<Recording>(state_->shared), config, images.size(0), images.options(),
        run));
    return passed;
  }
  auto& recording = *found.recording;
  const c10::Stream stream = c10::cuda::getCurrentCUDAStream();
  auto& done = recording.shared->done;
  done.block(stream);
  const auto end = c10::make_scope_exit([&] {  // also where there is no memory for the results
    try {
      done.record(stream);
    } catch (const c10::Error&) {  // the device is lost: what led here says why
    }
  });
  copy_patches(images, config, recording.patches);
  recording.graph->replay();
  return copy(recording.passed);
}

void Graphs::clear() {
  const std::lock_guard lock(state_->mutex);
  state_->recordings.clear();
}

}  // namespace dsm_ext::cuda
