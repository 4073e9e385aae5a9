#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>
#include <cuda_runtime_api.h>

#include <utility>

namespace dsm_ext::cuda {

/// Two streams of a device for the recordings of one model: one for the forward, one for matching
/// beside it. Libraries keep state for each stream, for instance workspaces, which recordings must
/// not share with other work. A pair goes to another model when its owner ends. Streams are never
/// destroyed, because the allocator remembers on which stream memory was allocated.
class StreamPair {
 public:
  explicit StreamPair(at::Device device);
  ~StreamPair();
  StreamPair(const StreamPair&) = delete;
  StreamPair& operator=(const StreamPair&) = delete;

  c10::Stream main() const;
  c10::Stream side() const;

 private:
  c10::DeviceIndex device_;
  std::pair<cudaStream_t, cudaStream_t> streams_;
};

}  // namespace dsm_ext::cuda
