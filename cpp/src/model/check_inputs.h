#pragma once

#include <ATen/core/Tensor.h>

#include "dsm_ext/config.h"

namespace dsm_ext {

/// Whether a tensor has values in memory and torch computes operators now. False while torch
/// records or transforms a program (`jit.trace`, `make_fx`, `export`, `vmap`, `functionalize`, fake
/// tensors). The model reads the tensor's memory directly, so such a program would not contain
/// the model's work.
bool is_plain(const at::Tensor& tensor);

/// \param name  The tensor's name in error messages.
/// \throws c10::NotImplementedError when the tensor is not plain, or when it requires grad;
///         c10::TypeError when it is sparse or nested.
void check_plain(const at::Tensor& tensor, const char* name);

/// Checks the images of a call.
/// \param weight  Any weight of the model: images must have its device and dtype.
/// \throws the errors that `VisionTransformer` documents.
void check_images(const at::Tensor& images, const Config& config, const at::Tensor& weight);

/// Checks tokens [B, M, embed_dim] after the last norm, in the same way as images.
void check_features(const at::Tensor& features, const Config& config, const at::Tensor& weight);

}  // namespace dsm_ext
