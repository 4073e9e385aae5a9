#include "cuda/recording.h"

#include <ATen/Functions.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <torch/headeronly/version.h>

#include <mutex>

#include "aten/patches.h"

namespace dsm_ext::cuda {
namespace {

// A thread holds this mutex while it captures or destroys a recording. Torch's list of graphs has
// no lock of its own, and a thread that waits for a stream under capture would end that capture.
std::mutex& capturing() {
  static auto& mutex = *new std::mutex();
  return mutex;
}

#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 14
// When a capture begins, these versions of torch allocate two numbers, and end the process if there
// is no memory for them. This function allocates and frees two numbers, so that the caller gets an
// error instead.
void check_memory_for_capture(const at::TensorOptions& options) {
  const auto number = options.dtype(at::kLong);
  const auto seed = at::empty({1}, number), offset = at::empty({1}, number);
}

// When the end of a capture fails, these versions of torch leave the memory pool open and the
// random number generator in the state of a capture. This function closes the pool. Then it makes a
// small capture that succeeds, which resets the generator. That capture allocates no memory, which
// may be missing: if it failed too, the allocator would keep a pointer to a graph that is gone.
void clean_up_after_failed_capture(MemoryPool pool, const at::TensorOptions& options) {
  const auto index = options.device().index();
  auto* host = at::getHostAllocator(at::kCUDA);
  try {  // the first call throws if torch has closed the pool itself
    c10::cuda::CUDACachingAllocator::endAllocateToPool(index, pool);
    host->end_allocate_to_pool(pool);
    c10::cuda::CUDACachingAllocator::releasePool(index, pool);
    host->release_pool(pool);
  } catch (const std::exception&) {
  }
  try {
    check_memory_for_capture(options);
    auto number = at::empty({1}, options);
    at::cuda::CUDAGraph any;
    any.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    number.zero_();
    any.capture_end();
  } catch (const std::exception&) {
  }
}
#else
void check_memory_for_capture(const at::TensorOptions&) {}
void clean_up_after_failed_capture(MemoryPool, const at::TensorOptions&) {}
#endif

}  // namespace

Recording::Recording(std::shared_ptr<SharedByRecordings> shared_) : shared(std::move(shared_)) {}

Recording::~Recording() {
  const std::lock_guard lock(capturing());
  try {
    // The recording's memory belongs to these streams. They wait for the last replay, so that later
    // work, which may get this memory, runs after that replay.
    shared->done.block(shared->streams.main());
    shared->done.block(shared->streams.side());
  } catch (const c10::Error& error) {
    TORCH_WARN("dsm_ext.VisionTransformer: ", error.what_without_backtrace());
  }
  outputs = {};
  patches.reset();
  graph.reset();
}

std::unique_ptr<Recording> record(
    std::shared_ptr<SharedByRecordings> shared, const Config& config, int64_t images,
    const at::TensorOptions& options, RecordedForward forward) {
  auto recording = std::make_unique<Recording>(std::move(shared));
  const std::lock_guard lock(capturing());
  const auto& [streams, pool, done] = *recording->shared;
  const c10::StreamGuard guard(streams.main());
  const c10::InferenceMode ordinary(false);  // later calls must be able to write to the tensors
  const at::NoGradGuard no_grad;
  auto& graph = *recording->graph;
  bool captures = false;
  try {
    check_memory_for_capture(options);
    // In the thread-local mode other threads may still allocate memory as usual. This thread's
    // memory comes from the pool.
    graph.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
    captures = true;
    recording->patches = aten::empty_patches(config, images, options);
    recording->outputs = forward(recording->patches, streams.side());
    captures = false;
    graph.capture_end();
    return recording;
  } catch (const std::exception& error) {
    const auto* of_torch = dynamic_cast<const c10::Error*>(&error);
    TORCH_WARN(
        "dsm_ext.VisionTransformer: a forward of ", images,
        " images could not be recorded as a CUDA graph, and runs without one: ",
        of_torch != nullptr ? of_torch->what_without_backtrace() : error.what());
  }
  try {
    if (captures) {
      captures = false;
      graph.capture_end();
    } else {
      clean_up_after_failed_capture(pool, options);
    }
  } catch (const std::exception&) {  // the warning has reported the first error
    clean_up_after_failed_capture(pool, options);
  }
  static_cast<void>(cudaGetLastError());
  return nullptr;
}

}  // namespace dsm_ext::cuda
