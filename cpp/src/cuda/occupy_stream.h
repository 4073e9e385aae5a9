#pragma once

#include <c10/core/Device.h>

namespace dsm_ext::cuda {

/// Keeps the current stream of a GPU occupied for about ten milliseconds. The host can put work on
/// the stream in this time, and the work then runs without waiting for the host.
void occupy_stream(const at::Device& device);

}  // namespace dsm_ext::cuda
