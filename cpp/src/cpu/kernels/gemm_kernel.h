#pragma once

#include <ATen/core/Tensor.h>

#include "cpu/kernels/tile.h"

namespace dsm_ext::cpu {

/// A layer's weight as its kernel packs it.
struct PackedWeight {
  at::Tensor values;  // [panels, padded inputs, tile_columns]
  // Of int8 weights, for each output:
  at::Tensor scales;  // [outputs] float32
  at::Tensor sums;    // [outputs] int32: the sums of the packed weights
};

/// The products of layers in one precision: the layout of operands in memory, and the functions
/// that pack and multiply them.
struct GemmKernel {
  Element element;                  // the type of the operands
  int64_t tile_rows, tile_columns;  // the size of the largest tile

  /// Packs a layer's weight into panels of `tile_columns` outputs for `multiply`. The last panel is
  /// padded with zeros, and so are the inputs, up to a whole group.
  /// \param weight  [outputs, inputs] float32, any strides.
  PackedWeight (*pack)(const at::Tensor& weight);

  /// c = a b, or c += a b if `accumulate`. See `multiply_float32` for the operands. int8 operands
  /// give int32 sums in the memory of `c`.
  void (*multiply)(
      int64_t rows, int64_t columns, int64_t inputs, Rows a, const std::byte* b, int64_t b_stride,
      float* c, int64_t c_stride, bool accumulate);
};

/// The products of attention in one precision.
struct AttentionKernel {
  Element element;  // the type of the operands

  /// Packs the keys [tokens, dim] of one head, transposed, for the product with queries. Columns
  /// between `tokens` and `columns` become zeros, and so do the rows behind `dim` of its last
  /// group.
  /// \param out  [padded dim, columns].
  void (*pack_keys)(Rows keys, int64_t tokens, int64_t dim, int64_t columns, std::byte* out);

  /// Packs the values [tokens, dim] of one head for the product with attention's weights. The rows
  /// behind `tokens` of its last group become zeros.
  /// \param out  [padded tokens, dim].
  void (*pack_values)(Rows values, int64_t tokens, int64_t dim, std::byte* out);

  /// c = a b, or c += a b if `accumulate`. See `multiply_float32` for the operands.
  void (*multiply)(
      int64_t rows, int64_t columns, int64_t inputs, Rows a, const std::byte* b, int64_t b_stride,
      float* c, int64_t c_stride, bool accumulate);
};

/// c = a b, or c += a b if `accumulate`. `multiply_bfloat16` sums in float32, too; it takes
/// `inputs` as padded to a whole group: there, b must be zero, and a must be finite.
/// \param a         [rows, inputs].
/// \param b         [inputs, columns], packed; rows begin `b_stride` elements apart.
/// \param c         [rows, columns]; rows begin `c_stride` floats apart.
void multiply_float32(
    int64_t rows, int64_t columns, int64_t inputs, Rows a, const std::byte* b, int64_t b_stride,
    float* c, int64_t c_stride, bool accumulate);
void multiply_bfloat16(
    int64_t rows, int64_t columns, int64_t inputs, Rows a, const std::byte* b, int64_t b_stride,
    float* c, int64_t c_stride, bool accumulate);

const GemmKernel& gemm_float32();
const GemmKernel& gemm_bfloat16();
const GemmKernel& gemm_int8();
const AttentionKernel& attention_float32();
const AttentionKernel& attention_bfloat16();

inline const GemmKernel& gemm_kernel(Element element) {
  switch (element) {
    case Element::float32:
      break;
    case Element::bfloat16:
      return gemm_bfloat16();
    case Element::int8:
      return gemm_int8();
  }
  return gemm_float32();
}

inline const AttentionKernel& attention_kernel(Element element) {
  return element == Element::bfloat16 ? attention_bfloat16() : attention_float32();
}

}  // namespace dsm_ext::cpu
