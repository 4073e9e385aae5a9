#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/native/CPUBlas.h>

#include "cpu/kernels/gemm_kernel.h"
#include "cpu/kernels/pack.h"

// Products of rows of uint8 and weights of int8 with exact sums in int32, by oneDNN's block
// kernels. The right side of a product keeps four inputs of a column side by side, as AMX and
// AVX512_VNNI take them. From each sum the finish takes the row's zero times the column's sum of
// weights. What remains times the row's step and the column's scale is the output.

namespace dsm_ext::cpu {
namespace {

// Each output channel gets the scale that makes its largest weight 127 or -127. A channel below
// 1e-30 counts as zeros. A channel that is not finite has the scale NaN.
PackedWeight pack(const at::Tensor& weight) {
  constexpr double kLeast = 1e-30;
  const auto largest = weight.abs().amax(1);
  auto scales = largest / 127;
  scales.masked_fill_(largest < kLeast, 0);
  scales.masked_fill_(largest.isfinite().logical_not(), std::numeric_limits<double>::quiet_NaN());
  const auto quantized =
      (weight / scales.unsqueeze(1)).nan_to_num_(0, 0, 0).round_().clamp_(-127, 127);
  return {
      pack_groups(quantized.to(at::kChar), Element::int8), scales, quantized.sum(1).to(at::kInt)};
}

void multiply(
    int64_t rows, int64_t columns, int64_t inputs, Rows a, const std::byte* b, int64_t b_stride,
    float* c, int64_t c_stride, bool accumulate) {
  at::native::cpublas::brgemm(
      rows, columns, padded(inputs, Element::int8), a.stride, b_stride, c_stride, accumulate,
      a.as<unsigned char>(), reinterpret_cast<const signed char*>(b), reinterpret_cast<int32_t*>(c),
      /*is_vnni=*/true);
}

}  // namespace

const GemmKernel& gemm_int8() {
  static constexpr GemmKernel kernel = {
      .element = Element::int8,
      .tile_rows = kTileRows,
      .tile_columns = kTileColumns,
      .pack = &pack,
      .multiply = &multiply};
  return kernel;
}

}  // namespace dsm_ext::cpu
