#include <ATen/native/CPUBlas.h>

#include <algorithm>

#include "cpu/kernels/gemm_kernel.h"
#include "cpu/kernels/pack.h"
#include "cpu/kernels/transpose.h"

// Products of bfloat16 operands with sums in float32, by oneDNN's block kernels. The right side of
// a product keeps two inputs of a column side by side, as AMX and AVX512_BF16 take them.

namespace dsm_ext::cpu {
namespace {

PackedWeight pack(const at::Tensor& weight) {
  return {pack_groups(weight.to(at::kBFloat16), Element::bfloat16), {}, {}};
}

// Two channels of a key are one word of four bytes, so that packing is a transposition of words.
void pack_keys(Rows keys, int64_t tokens, int64_t dim, int64_t columns, std::byte* out) {
  auto* packed = reinterpret_cast<BFloat16*>(out);
  transpose(keys.data, tokens, dim / 2, keys.stride * size_of(keys.element), out, columns);
  if (dim % 2 != 0) {
    auto* last = packed + dim / 2 * 2 * columns;
    for (int64_t row = 0; row < tokens; ++row) {
      last[2 * row] = keys.at(row, dim - 1).as<BFloat16>()[0];
      last[2 * row + 1] = BFloat16{};
    }
  }
  for (int64_t c = 0; c < dim; c += 2) {
    std::fill_n(packed + c * columns + 2 * tokens, 2 * (columns - tokens), BFloat16{});
  }
}

void pack_values(Rows values, int64_t tokens, int64_t dim, std::byte* out) {
  auto* packed = reinterpret_cast<BFloat16*>(out);
  for (int64_t row = 0; row < tokens; row += 2) {
    const auto* even = values.at(row).as<BFloat16>();
    const auto* odd = row + 1 < tokens ? values.at(row + 1).as<BFloat16>() : nullptr;
    for (int64_t c = 0; c < dim; ++c) {
      packed[row * dim + 2 * c] = even[c];
      packed[row * dim + 2 * c + 1] = odd == nullptr ? BFloat16{} : odd[c];
    }
  }
}

}  // namespace

void multiply_bfloat16(
    int64_t rows, int64_t columns, int64_t inputs, Rows a, const std::byte* b, int64_t b_stride,
    float* c, int64_t c_stride, bool accumulate) {
  at::native::cpublas::brgemm(
      rows, columns, padded(inputs, Element::bfloat16), a.stride, b_stride, c_stride, accumulate,
      a.as<at::BFloat16>(), reinterpret_cast<const at::BFloat16*>(b), c, /*is_vnni=*/true);
}

const GemmKernel& gemm_bfloat16() {
  static constexpr GemmKernel kernel = {
      .element = Element::bfloat16,
      .tile_rows = kTileRows,
      .tile_columns = kTileColumns,
      .pack = &pack,
      .multiply = &multiply_bfloat16};
  return kernel;
}

const AttentionKernel& attention_bfloat16() {
  static constexpr AttentionKernel kernel = {
      .element = Element::bfloat16,
      .pack_keys = &pack_keys,
      .pack_values = &pack_values,
      .multiply = &multiply_bfloat16};
  return kernel;
}

}  // namespace dsm_ext::cpu
