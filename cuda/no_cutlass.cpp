#include "gelu_product.h"

namespace dsm_ext::cuda {

bool gelu_product(
    const at::Tensor& /*input*/, const at::Tensor& /*weight*/, const at::Tensor& /*bias*/,
    at::Tensor& /*out*/) {
  return false;
}

}  // namespace dsm_ext::cuda
