#include "cuda/stream_pair.h"

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

#include <map>
#include <mutex>

namespace dsm_ext::cuda {
namespace {

using Streams = std::pair<cudaStream_t, cudaStream_t>;

// The pairs of each device that no model uses now.
struct FreePairs {
  std::mutex mutex;
  std::multimap<c10::DeviceIndex, Streams> pairs;
};

FreePairs& free_pairs() {
  static auto& all = *new FreePairs();  // never destroyed: models may outlive static objects
  return all;
}

Streams take(c10::DeviceIndex device) {
  const std::lock_guard lock(free_pairs().mutex);
  auto& pairs = free_pairs().pairs;
  Streams streams{};
  if (const auto found = pairs.find(device); found != pairs.end()) {
    streams = found->second;
    pairs.erase(found);
  } else {
    C10_CUDA_CHECK(cudaStreamCreateWithFlags(&streams.first, cudaStreamNonBlocking));
    C10_CUDA_CHECK(cudaStreamCreateWithFlags(&streams.second, cudaStreamNonBlocking));
  }
  return streams;
}

}  // namespace

StreamPair::StreamPair(at::Device device) : device_(device.index()), streams_(take(device_)) {}

StreamPair::~StreamPair() {
  const std::lock_guard lock(free_pairs().mutex);
  free_pairs().pairs.emplace(device_, streams_);
}

c10::Stream StreamPair::main() const {
  return c10::cuda::getStreamFromExternal(streams_.first, device_);
}

c10::Stream StreamPair::side() const {
  return c10::cuda::getStreamFromExternal(streams_.second, device_);
}

}  // namespace dsm_ext::cuda
