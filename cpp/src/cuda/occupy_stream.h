#pragma once

#include <c10/core/Device.h>

namespace dsm_ext::cuda {

/// Keeps the current stream of a GPU occupied for about ten milliseconds. Work that the host puts
/// on the stream meanwhile then runs without gaps, however slowly the host launches it.
void occupy_stream(const at::Device& device);

}  // namespace dsm_ext::cuda
