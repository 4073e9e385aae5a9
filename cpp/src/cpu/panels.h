#pragma once

#include "cpu/kernels/gemm_kernel.h"
#include "cpu/kernels/ranges.h"

namespace dsm_ext::cpu {

/// Products of a layer are sums over its inputs. The kernel adds at most so many products one after
/// the other, and then adds the parts. A smaller number rounds less and visits each tile more
/// often: 384, which other libraries use, would cost 1 to 3 % of a forward.
constexpr int64_t kSummed = 768;

/// The number of kSummed for layers that see one or two rows of an image. Other libraries sum few
/// products of such layers in a row, and visiting a small tile often costs little.
constexpr int64_t kSummedOfFewRows = 24;

/// A linear layer whose weight is packed in panels of the kernel's tile columns.
struct Panels {
  Panels() = default;
  /// \param weight  [outputs, inputs], float32, any strides.
  /// \param bias    [outputs] float32, or undefined: zeros.
  Panels(const GemmKernel& kernel, const at::Tensor& weight, const at::Tensor& bias);

  /// A gated layer. In each panel half of the outputs are gates, the other half their values.
  static Panels gated(
      const GemmKernel& kernel, const at::Tensor& gate, const at::Tensor& gate_bias,
      const at::Tensor& value, const at::Tensor& value_bias);

  int64_t count() const { return divide_up(outputs, kernel->tile_columns); }  // of panels

  const GemmKernel* kernel = nullptr;
  int64_t outputs = 0, inputs = 0;
  int64_t summed = kSummed;  // products that are added one after the other
  at::Tensor weight;         // as the kernel packs it
  at::Tensor bias;           // [count * tile_columns] float32
};

/// Some rows of a layer's product: out = finish(x weight^T + bias).
struct Product {
  Rows x;
  Rows out;
  Finish finish = {};
  int64_t columns = -1;  // outputs beyond are not written; -1: all are. Gated: must be given
};

/// Multiplies `rows` rows by some panels.
/// \param tile  Scratch memory of the kernel's tile_rows * tile_columns floats.
void multiply(
    const Product& product, int64_t rows, const Panels& weight, Range panels, float* tile);

}  // namespace dsm_ext::cpu
