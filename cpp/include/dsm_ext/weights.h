#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "dsm_ext/error.h"
#include "dsm_ext/export.h"

namespace dsm_ext {

/// Tensors by name, as `VisionTransformer::load_parameters` takes them.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// The tensors of a safetensors file, on the CPU, in the order of their names.
///
/// The tensors are copied out of the file, by torch's threads: it may be written over, cut short or
/// deleted afterwards.
///
/// \throws dsm_ext::Error naming the file and the fault: no such file, a directory, no permission;
///         a header that is longer than the file, no JSON, nested too deep, or has a name twice; a
///         dtype that torch lacks; sizes that overflow, are not the shape's times the dtype's, lie
///         outside the file, overlap, or leave holes; a file that changes while it is read.
/// \source The format: github.com/huggingface/safetensors.
DSM_EXT_API NamedTensors read_safetensors(const std::string& path);

}  // namespace dsm_ext
