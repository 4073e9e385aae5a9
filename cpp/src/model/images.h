#pragma once

#include <ATen/core/Tensor.h>

#include "dsm_ext/config.h"

namespace dsm_ext {

/// Whether torch's operators run now as they stand, and a tensor has values in memory of its own.
/// False while torch records or transforms a program (`jit.trace`, `make_fx`, `export`, `vmap`,
/// `functionalize`, fake tensors): the model reads memory and would put nothing into that program.
bool is_plain(const at::Tensor& tensor);

/// \throws c10::NotImplementedError where a tensor is not plain, or is to be differentiated;
///         c10::TypeError where it is sparse or nested.
void check_plain(const at::Tensor& tensor, const char* name);

/// \throws what `VisionTransformer` documents of images that it does not take.
/// \param weight  A weight of the model: images must lie where it is and be of its dtype.
void check_images(const at::Tensor& images, const Config& config, const at::Tensor& weight);

/// The same of tokens behind the last norm, [B, M, embed_dim].
void check_features(const at::Tensor& features, const Config& config, const at::Tensor& weight);

}  // namespace dsm_ext
