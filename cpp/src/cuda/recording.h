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

/// What the recordings of a model share.
struct SharedByRecordings {
  explicit SharedByRecordings(at::Device device) : streams(device) {}

  StreamPair streams;
  MemoryPool pool = at::cuda::graph_pool_handle();
  c10::Event done{at::kCUDA};  // recorded after each replay of any recording
};

/// A forward that was captured as a CUDA graph, with its patches and outputs.
struct Recording {
  explicit Recording(std::shared_ptr<SharedByRecordings> shared);
  /// Frees the memory after the last replay has ended, without waiting for it.
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  std::shared_ptr<SharedByRecordings> shared;
  std::optional<at::cuda::CUDAGraph> graph{std::in_place};
  at::Tensor patches;  // in the graph's own memory, like the outputs
  Outputs outputs;
};

/// The forward that is recorded: of these patches, with matching on this side stream.
using RecordedForward =
    c10::function_ref<Outputs(const at::Tensor& patches, const c10::Stream& side_stream)>;

/// Captures a forward. Warns and returns null where that fails.
/// \param options  Of the images.
std::unique_ptr<Recording> record(
    std::shared_ptr<SharedByRecordings> shared, const Config& config, int64_t images,
    const at::TensorOptions& options, RecordedForward forward);

}  // namespace dsm_ext::cuda
