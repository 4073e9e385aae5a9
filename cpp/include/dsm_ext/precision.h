#pragma once

#include <string>

#include "dsm_ext/export.h"

namespace dsm_ext {

/// The type of the operands of a model's matrix products on the CPU's fast path. In each precision,
/// norms, softmax, activations, merging and the tokens between two blocks are float32.
enum class Precision {
  float32,
  bfloat16,  ///< Weights and activations are rounded to bfloat16; sums are float32.
  /// The weights of the blocks are rounded to 8 bits with one scale for each output channel, their
  /// activations to 8 bits with one scale and one zero for each token; sums are exact. Attention
  /// multiplies bfloat16, or float32 on a processor without bfloat16.
  int8,
};

/// "float32", "bfloat16" or "int8".
DSM_EXT_API const char* to_string(Precision precision);

/// The precision that a name stands for. "auto" stands for `fastest_precision`.
/// \throws c10::ValueError for another name.
DSM_EXT_API Precision parse_precision(const std::string& name);

/// Whether this processor has the instructions of a precision, and torch uses them. bfloat16 needs
/// AVX512_BF16 or AMX; int8 needs AVX512_VNNI or AMX. Torch uses them through oneDNN, which
/// `torch.backends.mkldnn` switches off.
DSM_EXT_API bool has_precision(Precision precision);

/// The fastest precision that this processor has.
DSM_EXT_API Precision fastest_precision();

}  // namespace dsm_ext
