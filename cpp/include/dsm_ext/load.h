#pragma once

#include <optional>
#include <string>

#include "dsm_ext/error.h"
#include "dsm_ext/export.h"
#include "dsm_ext/vision_transformer.h"

namespace dsm_ext {

/// How `load` makes a model.
struct LoadOptions {
  std::optional<at::ScalarType> dtype;  ///< float32, bfloat16 or float16; none keeps the file's.
  at::Device device = at::kCPU;
  bool check_finite = false;  ///< Read every weight at once and refuse NaN and infinity.
};

/// A model from a folder that `dsm-ext export` wrote: model.safetensors beside config.json.
///
/// The weights are mapped into memory, and read when they are first used. Where neither dtype nor
/// device change, nothing is copied but into the fast path's packed weights.
///
/// \param folder    Where the two files are.
/// \param schedule  As `Schedule::parse` takes it; none: the one that was exported.
/// \throws dsm_ext::Error naming the file and the fault, as `read_safetensors`; where config.json
/// is
///         no JSON, has no section "dsm_ext", or a field in it is unknown or out of range; where
///         the weights are not the config's.
/// \throws c10::ValueError for a schedule that cannot be parsed or does not fit the model.
DSM_EXT_API VisionTransformer load(
    const std::string& folder, const std::optional<std::string>& schedule = std::nullopt,
    const LoadOptions& options = {});

}  // namespace dsm_ext
