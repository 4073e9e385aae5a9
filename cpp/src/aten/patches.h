#pragma once

#include <ATen/core/Tensor.h>

#include "dsm_ext/config.h"

namespace dsm_ext::aten {

/// Uninitialised memory for the patches of some images: [B, gh * gw, in_chans * ph * pw].
at::Tensor empty_patches(const Config& config, int64_t images, const at::TensorOptions& options);

/// Cuts images [B, in_chans, height, width] into patches. The values of a patch are in the order of
/// the embedding's weights. The last rows and columns of pixels are left out where they fill no
/// patch.
void copy_patches(const at::Tensor& images, const Config& config, const at::Tensor& patches);

/// Cuts images into patches, in new memory.
at::Tensor cut_into_patches(const at::Tensor& images, const Config& config);

}  // namespace dsm_ext::aten
