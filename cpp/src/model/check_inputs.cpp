#include "model/check_inputs.h"

#include <ATen/TracerMode.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <c10/util/Exception.h>

namespace dsm_ext {
namespace {

using c10::DispatchKey;
using c10::impl::TorchDispatchModeKey;

// Whether torch records or replaces the operators that are called now.
bool is_traced() {
  if (at::tracer::impl::is_dispatch_enabled() ||
      c10::impl::tls_is_dispatch_key_included(DispatchKey::PreDispatch)) {
    return true;
  }
  if (!c10::impl::TorchDispatchModeTLS::any_modes_set()) {
    return false;
  }
  for (const auto key :
       {TorchDispatchModeKey::FAKE, TorchDispatchModeKey::PROXY,
        TorchDispatchModeKey::FUNCTIONAL}) {
    if (c10::impl::TorchDispatchModeTLS::get_mode(key)) {
      return true;
    }
  }
  return false;
}

// Checks the device and dtype of a tensor that a forward starts from.
void check_kind(const at::Tensor& tensor, const char* name, const at::Tensor& weight) {
  TORCH_CHECK_VALUE(
      !weight.is_meta(),
      "dsm_ext.VisionTransformer: the model has no weights yet; load them first");
  TORCH_CHECK_VALUE(
      tensor.device() == weight.device(), "dsm_ext.VisionTransformer: expected ", name, " on ",
      weight.device(), " like the weights, got ", tensor.device());
  TORCH_CHECK_TYPE(
      tensor.scalar_type() == weight.scalar_type(), "dsm_ext.VisionTransformer: expected ", name,
      " of ", weight.scalar_type(), " like the weights, got ", tensor.scalar_type());
}

}  // namespace

bool is_plain(const at::Tensor& tensor) {
  constexpr c10::DispatchKeySet wrapped(
      {DispatchKey::Python, DispatchKey::FuncTorchBatched, DispatchKey::FuncTorchGradWrapper,
       DispatchKey::BatchedNestedTensor, DispatchKey::Batched, DispatchKey::Functionalize});
  return !tensor.key_set().has_any(wrapped) && !is_traced();
}

void check_plain(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      is_plain(tensor),
      "dsm_ext.VisionTransformer: the model is one compiled call that torch can neither trace, "
      "export nor transform; trace or export dsm_ext.reference.forward with ops=dsm_ext in its "
      "place");
  TORCH_CHECK_TYPE(
      tensor.layout() == at::kStrided && !tensor.is_nested(),
      "dsm_ext.VisionTransformer: expected ", name, " to be a dense tensor, got one of layout ",
      tensor.layout(), tensor.is_nested() ? " and nested" : "");
  TORCH_CHECK_NOT_IMPLEMENTED(
      !(at::GradMode::is_enabled() && tensor.requires_grad()) &&
          !tensor._fw_grad(/*level=*/0).defined(),
      "dsm_ext.VisionTransformer: ", name,
      " require grad, and the model is for inference only; pass ", name, ".detach()");
}

void check_images(const at::Tensor& images, const Config& config, const at::Tensor& weight) {
  check_plain(images, "images");
  const auto& [height, width] = config.img_size;
  const auto& [ph, pw] = config.patch_size;
  TORCH_CHECK_VALUE(
      images.dim() == 4, "dsm_ext.VisionTransformer: expected images to be [B, ", config.in_chans,
      ", ", height, ", ", width, "], got ", images.sizes());
  TORCH_CHECK_VALUE(
      images.size(1) == config.in_chans, "dsm_ext.VisionTransformer: expected images of ",
      config.in_chans, " channels, got ", images.size(1));
  if (config.dynamic_img_size) {
    TORCH_CHECK_VALUE(
        images.size(2) > 0 && images.size(2) % ph == 0 && images.size(3) > 0 &&
            images.size(3) % pw == 0,
        "dsm_ext.VisionTransformer: expected images whose height and width are multiples of ", ph,
        " and ", pw, " pixels, got ", images.size(2), " x ", images.size(3));
  } else {
    TORCH_CHECK_VALUE(
        images.size(2) == height && images.size(3) == width,
        "dsm_ext.VisionTransformer: expected images of ", height, " x ", width, " pixels, got ",
        images.size(2), " x ", images.size(3));
  }
  check_kind(images, "images", weight);
}

void check_features(const at::Tensor& features, const Config& config, const at::Tensor& weight) {
  check_plain(features, "features");
  TORCH_CHECK_VALUE(
      features.dim() == 3 && features.size(2) == config.embed_dim,
      "dsm_ext.VisionTransformer: expected features to be [B, M, ", config.embed_dim, "], got ",
      features.sizes());
  check_kind(features, "features", weight);
}

}  // namespace dsm_ext
