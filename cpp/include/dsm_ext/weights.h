#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "dsm_ext/error.h"
#include "dsm_ext/export.h"

namespace dsm_ext {

/// Tensors with their names, as `VisionTransformer::load_parameters` takes them.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// Reads the tensors of a safetensors file: on the CPU, in the order of their names.
///
/// Torch's threads copy the tensors out of the file. The file may be overwritten, truncated or
/// deleted after this function returns.
///
/// \throws dsm_ext::Error that names the file and the fault: a file that does not exist, is a
///         directory or may not be read; a header that is longer than the file, is not JSON, is
///         nested too deep or has a name twice; a dtype that torch does not have; a shape whose
///         size overflows; a tensor whose bytes do not fit its shape and dtype, lie outside the
///         file or overlap another tensor's; bytes that belong to no tensor; a file that changes
///         while it is read.
/// \source The format: github.com/huggingface/safetensors.
DSM_EXT_API NamedTensors read_safetensors(const std::string& path);

}  // namespace dsm_ext
