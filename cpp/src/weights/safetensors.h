#pragma once

#include <map>
#include <string>

#include "dsm_ext/weights.h"

namespace dsm_ext {

/// What a safetensors file holds.
struct SafetensorsFile {
  NamedTensors tensors;                         ///< As `read_safetensors` gives them.
  std::map<std::string, std::string> metadata;  ///< The file's "__metadata__", or empty.
};

/// Reads the tensors and the metadata of a safetensors file. Throws as `read_safetensors` does.
/// \param values  Whether to read the values of the tensors. When false, the tensors are on the
/// meta
///                device, with shapes and dtypes only.
SafetensorsFile open_safetensors(const std::string& path, bool values);

}  // namespace dsm_ext
