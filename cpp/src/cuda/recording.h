#pragma once

#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/Event.h>
#include <c10/util/FunctionRef.h>

#include <memory>
#include <optional>

#include "cuda/stream_pair.h"
#include "model/request.h"

namespace dsm_ext::cuda {

using MemoryPool = decltype(at::cuda::graph_pool_handle());

/// What all recordings of a model share.
struct SharedByRecordings {
  explicit SharedByRecordings(at::Device device) : streams(device) {}

  StreamPair streams;
  MemoryPool pool = at::cuda::graph_pool_handle();
  c10::Event done{at::kCUDA};  // recorded after each replay of any recording
};

/// A CUDA graph of one forward, with its patches and outputs.
struct Recording {
  explicit Recording(std::shared_ptr<SharedByRecordings> shared);
  /// Does not wait for the last replay. The recording's memory is used again only after that
  /// replay.
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  std::shared_ptr<SharedByRecordings> shared;
  std::optional<at::cuda::CUDAGraph> graph{std::in_place};
  at::Tensor patches;  // in the graph's memory, like `outputs`
  Outputs outputs;
};

/// Runs the forward that is recorded, with matching on the side stream.
using RecordedForward =
    c10::function_ref<Outputs(const at::Tensor& patches, const c10::Stream& side_stream)>;

/// Captures a forward. When the capture fails, it warns and returns null.
/// \param images   The number of images.
/// \param options  The dtype and device of the images.
std::unique_ptr<Recording> record(
    std::shared_ptr<SharedByRecordings> shared, const Config& config, int64_t images,
    const at::TensorOptions& options, RecordedForward forward);

}  // namespace dsm_ext::cuda
