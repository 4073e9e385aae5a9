#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>
#include <cuda_runtime_api.h>

#include <utility>

namespace dsm_ext::cuda {

/// Two streams of a device for the recordings of one model: the forward runs on the main stream,
/// and matching on the side stream. Recordings need streams of their own, because libraries keep
/// state for each stream, for instance workspaces, and recordings must not share this state with
/// other work. When a `StreamPair` ends, another model may get its streams. Streams are never
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
