#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/native/CPUBlas.h>

#include "cpu/kernels/gemm_kernel.h"
#include "cpu/kernels/pack.h"

// Products of int8 operands with exact sums in int32, by oneDNN's block kernels. The right side of
// a product keeps four inputs of a column side by side, as AMX and AVX512_VNNI take them. An output
// is its sum, times the scale of its row, times the scale of its column.

namespace dsm_ext::cpu {
namespace {

constexpr int64_t kTileRows = 96;

// Each output channel gets the scale that makes its largest weight 127 or -127. A channel of zeros
// has the scale 0. A channel that is not finite has the scale NaN.
PackedWeight pack(const at::Tensor& weight) {
  auto scale = weight.abs().amax(1) / 127;
  scale.masked_fill_(scale.isfinite().logical_not(), std::numeric_limits<double>::quiet_NaN());
  const auto quantized =
      (weight / scale.unsqueeze(1)).nan_to_num(0, 127, -127).round_().clamp_(-127, 127);
  return {pack_groups(quantized.to(at::kChar), Element::int8), scale};
}

void multiply(
    int64_t rows, int64_t columns, int64_t inputs, Rows a, const std::byte* b, int64_t b_stride,
    float* c, int64_t c_stride, bool accumulate) {
  at::native::cpublas::brgemm(
      rows, columns, padded(inputs, Element::int8), a.stride, b_stride, c_stride, accumulate,
      a.as<signed char>(), reinterpret_cast<const signed char*>(b), reinterpret_cast<int32_t*>(c),
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
