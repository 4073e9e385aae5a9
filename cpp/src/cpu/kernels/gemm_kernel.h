#pragma once

#include <ATen/core/Tensor.h>

#include "cpu/kernels/tile.h"

namespace dsm_ext::cpu {

/// The matrix products of one precision: the layout of operands in memory, and the functions that
/// pack and multiply them and store the result. A model uses one such kernel for all products of
/// the fast path.
struct GemmKernel {
  Element element;                  // the type of the operands
  int64_t tile_rows, tile_columns;  // the size of the largest tile

  /// Packs a layer's weight into panels of `tile_columns` outputs for `multiply`. The last panel is
  /// padded with zeros.
  /// \param weight  [outputs, inputs] float32, any strides.
  /// \return        [panels, inputs, tile_columns].
  at::Tensor (*pack)(const at::Tensor& weight);

  /// Packs the keys [tokens, dim] of one head, transposed, for the product with queries. Columns
  /// between `tokens` and `columns` become zeros.
  /// \param out  [dim, columns].
  void (*pack_keys)(Rows keys, int64_t tokens, int64_t dim, int64_t columns, std::byte* out);

  /// Packs the values [tokens, dim] of one head for the product with attention's weights.
  /// \param out  [tokens, dim].
  void (*pack_values)(Rows values, int64_t tokens, int64_t dim, std::byte* out);

  /// c = a b, or c += a b if `accumulate`.
  /// \param a         [rows, inputs].
  /// \param b         [inputs, columns], packed; rows begin `b_stride` elements apart.
  /// \param c         [rows, columns]; rows begin `c_stride` floats apart.
  void (*multiply)(
      int64_t rows, int64_t columns, int64_t inputs, Rows a, const std::byte* b, int64_t b_stride,
      float* c, int64_t c_stride, bool accumulate);

  /// Finishes a tile of a layer's product and stores it; see `finish_tile`.
  void (*finish)(
      const float* tile, int64_t rows, int64_t columns, const float* bias, const Finish& finish,
      Rows out);
};

/// The kernel that multiplies float32 by float32 and sums in float32.
const GemmKernel& gemm_float32();

}  // namespace dsm_ext::cpu
