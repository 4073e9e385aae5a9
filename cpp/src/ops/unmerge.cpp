#include "unmerge.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "check.h"

namespace dsm_ext {

void check_unmerge(const at::Tensor& x, const at::Tensor& source) {
  check_dim("unmerge", "x", x, "[B, M, C]");
  check_floating("unmerge", "x", x);
  check_no_grad("unmerge", "x", x);
  TORCH_CHECK_VALUE(
      source.dim() == 2 && source.size(0) == x.size(0), "dsm_ext.unmerge: expected source to be [",
      x.size(0), ", Q], got ", source.sizes());
  check_dtype("unmerge", "source", source, at::kInt);
  check_same_device("unmerge", "source", source, x);
}

at::Tensor unmerge(const at::Tensor& x, const at::Tensor& source) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("dsm_ext::unmerge", "")
                             .typed<decltype(unmerge)>();
  return op.call(x, source);
}

TORCH_LIBRARY_FRAGMENT(dsm_ext, m) { m.def("unmerge(Tensor x, Tensor source) -> Tensor"); }

}  // namespace dsm_ext
