#include "merge.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "check.h"

namespace dsm_ext {

void check_merge(
    const at::Tensor& x, const at::Tensor& size, const at::Tensor& destination, int64_t tokens) {
  check_dim("merge", "x", x, "[B, N, C]");
  check_floating("merge", "x", x);
  check_no_grad("merge", "x", x);
  check_no_grad("merge", "size", size);
  check_shape("merge", "size", size, {x.size(0), x.size(1)});
  check_dtype("merge", "size", size, at::kFloat);
  check_same_device("merge", "size", size, x);
  check_shape("merge", "destination", destination, {x.size(0), x.size(1)});
  check_dtype("merge", "destination", destination, at::kInt);
  check_same_device("merge", "destination", destination, x);
  TORCH_CHECK_VALUE(
      tokens >= 0 && tokens <= x.size(1) && (tokens > 0 || x.size(1) == 0),
      "dsm_ext.merge: expected tokens to be in [1, ", x.size(1), "], got ", tokens);
}

std::tuple<at::Tensor, at::Tensor> merge(
    const at::Tensor& x, const at::Tensor& size, const at::Tensor& destination, int64_t tokens) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("dsm_ext::merge", "").typed<decltype(merge)>();
  return op.call(x, size, destination, tokens);
}

TORCH_LIBRARY_FRAGMENT(dsm_ext, m) {
  m.def("merge(Tensor x, Tensor size, Tensor destination, int tokens) -> (Tensor, Tensor)");
}

}  // namespace dsm_ext
