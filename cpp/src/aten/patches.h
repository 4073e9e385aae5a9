#pragma once

#include <ATen/core/Tensor.h>

#include "dsm_ext/config.h"

namespace dsm_ext::aten {

/// Allocates the patches of some images, uninitialised: [B, gh * gw, in_chans * ph * pw].
at::Tensor empty_patches(const Config& config, int64_t images, const at::TensorOptions& options);

/// Cuts images [B, in_chans, height, width] into patches and writes them to `patches`. The values
/// of a patch have the order of the embedding's weights. Rows and columns of pixels at the end that
/// fill no whole patch are left out.
void copy_patches(const at::Tensor& images, const Config& config, const at::Tensor& patches);

/// Cuts images into patches, in new memory.
at::Tensor cut_into_patches(const at::Tensor& images, const Config& config);

}  // namespace dsm_ext::aten
