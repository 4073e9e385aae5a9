#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>

#include "../dispatch.h"
#include "../unmerge.h"
#include "rows_per_task.h"

// Copies one row of x to each output row. Bytes moved: 2*Q*C.

namespace dsm_ext {
namespace {

at::Tensor unmerge_kernel(const at::Tensor& x_, const at::Tensor& source_) {
  check_unmerge(x_, source_);
  const int64_t images = x_.size(0), tokens = x_.size(1), channels = x_.size(2);
  const int64_t rows = source_.size(1);
  const auto x = x_.contiguous();
  const auto source = source_.contiguous();
  auto result = at::empty({images, rows, channels}, x.options());
  const auto* from = source.const_data_ptr<int32_t>();

  DSM_EXT_DISPATCH(x.scalar_type(), "unmerge", [&] {
    const auto* in = x.const_data_ptr<scalar_t>();
    auto* out = result.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, images * rows, rows_per_task(channels), [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        TORCH_CHECK_VALUE(
            from[row] >= 0 && from[row] < tokens, "dsm_ext.unmerge: expected source to be in [0, ",
            tokens, "), got ", from[row], " at ", row % rows, " of image ", row / rows);
        std::copy_n(
            in + (row / rows * tokens + from[row]) * channels, channels, out + row * channels);
      }
    });
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CPU, m) { m.impl("unmerge", &unmerge_kernel); }

}  // namespace dsm_ext
