#pragma once

#include "cpu/kernels/gemm_kernel.h"
#include "cpu/kernels/ranges.h"

namespace dsm_ext::cpu {

/// An output of a layer is a sum over the layer's inputs. The float32 kernel sums at most this many
/// terms one after the other, and then adds these partial sums. Kernels of smaller types sum all
/// terms at once, because the rounding of their operands makes larger errors. A smaller number
/// makes smaller rounding errors, but reads and writes each tile more often: 384, which other
/// libraries use, would make a forward 1 to 3 % slower.
constexpr int64_t kSummed = 768;

/// Replaces kSummed in layers that compute only one or two rows of each image. Other libraries also
/// use short partial sums in such layers, and short sums cost little time when a tile is small.
constexpr int64_t kSummedOfFewRows = 24;

/// A linear layer whose weight is packed in panels, each of the kernel's `tile_columns` outputs.
struct Panels {
  Panels() = default;
  /// \param weight  [outputs, inputs], float32, any strides.
  /// \param bias    [outputs] float32, or undefined: all zeros.
  Panels(const GemmKernel& kernel, const at::Tensor& weight, const at::Tensor& bias);

  /// Packs a gated layer. The first half of each panel holds gates, the second half the values that
  /// belong to them.
  static Panels gated(
      const GemmKernel& kernel, const at::Tensor& gate, const at::Tensor& gate_bias,
      const at::Tensor& value, const at::Tensor& value_bias);

  /// Uses kSummedOfFewRows if the operands are float32.
  void sum_few_rows();

  int64_t count() const { return divide_up(outputs, kernel->tile_columns); }  // number of panels

  const GemmKernel* kernel = nullptr;
  int64_t outputs = 0, inputs = 0;
  int64_t summed = 0;   // most terms of a partial sum
  PackedWeight weight;  // its scales and sums: [count * tile_columns]
  at::Tensor bias;      // [count * tile_columns] float32

 private:
  at::Tensor in_panels(const at::Tensor& x) const;
};

/// The operands of a layer's product: out = finish(x weight^T + bias).
struct Product {
  Rows x;
  Rows out;
  Finish finish = {};
  Rotation rotation = {};  // turns the first outputs, in place of `finish`
  int64_t columns = -1;    // outputs to write, or -1 for all; a gated layer must set it
};

/// Computes the outputs of some panels for `rows` rows.
/// \param tile  Scratch memory of the kernel's tile_rows * tile_columns floats.
void multiply(
    const Product& product, int64_t rows, const Panels& weight, Range panels, float* tile);

}  // namespace dsm_ext::cpu
