#pragma once

#include <ATen/core/Tensor.h>

#include "cpu/kernels/rows.h"

namespace dsm_ext::cpu {

/// Packs a weight into panels of kTileColumns outputs whose inputs are in groups, the order that
/// the processor's instructions for products of small types take.
/// \param weight   [outputs, inputs], of the element's type; any strides.
/// \return         [panels, groups, kTileColumns, group], padded with zeros.
at::Tensor pack_groups(const at::Tensor& weight, Element element);

}  // namespace dsm_ext::cpu
