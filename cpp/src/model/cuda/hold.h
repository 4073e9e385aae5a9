#pragma once

#include <c10/core/Device.h>

namespace dsm_ext::cuda {

/// Keeps the current stream of a GPU busy for about ten milliseconds. What is put on it meanwhile
/// begins when all of it is there, one piece right behind the other, however slow the host is.
void hold(const at::Device& device);

}  // namespace dsm_ext::cuda
