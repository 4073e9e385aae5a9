#pragma once

#include <ATen/core/Tensor.h>

#include "dsm_ext/config.h"

namespace dsm_ext {

/// Memory for the patches of some images, uninitialised: [B, gh * gw, in_chans * ph * pw].
at::Tensor empty_patches(const Config& config, int64_t images, const at::TensorOptions& options);

/// Cuts images [B, in_chans, height, width] into patches, each as the embedding's weights lie. Last
/// pixels that fill no patch are left out.
void copy_patches(const at::Tensor& images, const Config& config, const at::Tensor& patches);

/// The same into memory of its own.
at::Tensor cut_into_patches(const at::Tensor& images, const Config& config);

}  // namespace dsm_ext
