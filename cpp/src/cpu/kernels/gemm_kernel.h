#pragma once

#include <ATen/core/Tensor.h>

#include "cpu/kernels/tile.h"

namespace dsm_ext::cpu {

/// The matrix products of one precision: how operands lie in memory, and the functions that pack,
/// multiply and store them. Every product of the fast path is made by one such kernel, which is
/// chosen once for a model.
struct GemmKernel {
  Element element;                  // the type of the operands
  int64_t tile_rows, tile_columns;  // of the largest tile

  /// Packs a layer's weight for `multiply`: [outputs, inputs] float32, any strides, becomes panels
  /// of `tile_columns` outputs, [panels, inputs, tile_columns]. The last panel is padded with
  /// zeros.
  at::Tensor (*pack)(const at::Tensor& weight);

  /// Packs the keys [tokens, dim] of one head, transposed, for the product with queries. Columns
  /// between `tokens` and `columns` become zeros.
  /// \param out  [dim, columns].
  void (*pack_keys)(Rows keys, int64_t tokens, int64_t dim, int64_t columns, std::byte* out);

  /// Packs the values [tokens, dim] of one head for the product with attention's weights.
  /// \param out  [tokens, dim].
  void (*pack_values)(Rows values, int64_t tokens, int64_t dim, std::byte* out);

  /// c [rows, columns] = a [rows, inputs] b [inputs, columns], added to c where `accumulate`.
  /// \param b         Packed, `b_stride` columns wide.
  /// \param c_stride  Between rows of c, in floats.
  void (*multiply)(
      int64_t rows, int64_t columns, int64_t inputs, Rows a, const std::byte* b, int64_t b_stride,
      float* c, int64_t c_stride, bool accumulate);

  /// Stores a tile of a layer's product; see `finish_tile`.
  void (*finish)(
      const float* tile, int64_t rows, int64_t columns, const float* bias, const Finish& finish,
      Rows out);
};

/// Products of float32 by float32, summed in float32.
const GemmKernel& gemm_float32();

}  // namespace dsm_ext::cpu
