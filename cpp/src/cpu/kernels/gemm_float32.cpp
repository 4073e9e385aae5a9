#include <ATen/Functions.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>

#include "cpu/kernels/gemm_kernel.h"
#include "cpu/kernels/large_pages.h"
#include "cpu/kernels/transpose.h"

// Computes products with oneDNN's block kernels (at::native::cpublas::brgemm). On a processor
// without such a kernel, that function uses the BLAS library that torch was built with. A panel of
// weights (inputs * 64 floats) stays in the second- or third-level cache while it multiplies all
// rows. A tile of output (96 * 64 floats) is finished while it is in the first- or second-level
// cache.

namespace dsm_ext::cpu {
namespace {

PackedWeight pack(const at::Tensor& weight) {
  const int64_t outputs = weight.size(0), inputs = weight.size(1);
  const int64_t whole = outputs / kTileColumns, rest = outputs % kTileColumns;
  auto panels = at::empty({whole + (rest > 0 ? 1 : 0), inputs, kTileColumns}, weight.options());
  advise_large_pages(panels);
  panels.narrow(0, 0, whole)
      .copy_(weight.narrow(0, 0, whole * kTileColumns)
                 .view({whole, kTileColumns, inputs})
                 .transpose(1, 2));
  if (rest > 0) {
    auto last = panels.select(0, whole).zero_();
    last.narrow(1, 0, rest).copy_(weight.narrow(0, whole * kTileColumns, rest).t());
  }
  return {panels, {}, {}};
}

void pack_keys(Rows keys, int64_t tokens, int64_t dim, int64_t columns, std::byte* out) {
  auto* packed = reinterpret_cast<float*>(out);
  transpose(keys.data, tokens, dim, keys.stride * size_of(keys.element), out, columns);
  for (int64_t c = 0; c < dim; ++c) {
    std::fill_n(packed + c * columns + tokens, columns - tokens, 0.f);
  }
}

void pack_values(Rows values, int64_t tokens, int64_t dim, std::byte* out) {
  for (int64_t row = 0; row < tokens; ++row) {
    std::copy_n(values.at(row).as<float>(), dim, reinterpret_cast<float*>(out) + row * dim);
  }
}

}  // namespace

void multiply_float32(
    int64_t rows, int64_t columns, int64_t inputs, Rows a, const std::byte* b, int64_t b_stride,
    float* c, int64_t c_stride, bool accumulate) {
  at::native::cpublas::brgemm(
      rows, columns, inputs, a.stride, b_stride, c_stride, accumulate, a.as<float>(),
      reinterpret_cast<const float*>(b), c, /*is_vnni=*/false);
}

const GemmKernel& gemm_float32() {
  static constexpr GemmKernel kernel = {
      .element = Element::float32,
      .tile_rows = kTileRows,
      .tile_columns = kTileColumns,
      .pack = &pack,
      .multiply = &multiply_float32};
  return kernel;
}

const AttentionKernel& attention_float32() {
  static constexpr AttentionKernel kernel = {
      .element = Element::float32,
      .pack_keys = &pack_keys,
      .pack_values = &pack_values,
      .multiply = &multiply_float32};
  return kernel;
}

}  // namespace dsm_ext::cpu
