#pragma once

#include <ATen/core/Tensor.h>

#include "rows.h"

namespace dsm_ext::cpu {

/// Inputs of a layer that are summed one after the other; the sums of such parts are added. The
/// fewer, the less is rounded away, and the more often a tile is gone through: 384, which other
/// libraries sum, would cost 1 to 3 % of a forward.
constexpr int64_t kSummed = 768;

/// The same in attention, whose scores and sums over tokens may be large.
constexpr int64_t kSummedInAttention = 384;

/// The same for layers that see a row or two of an image: there other libraries sum few, and each
/// part's cost counts for little.
constexpr int64_t kSummedOfFewRows = 24;

/// A linear layer's weight, packed once: column panels of kTile outputs, in each of which the
/// weights of one input lie side by side. The last panel is padded with zeros.
struct Panels {
  Panels() = default;
  /// \param weight  [outputs, inputs], float32, any strides.
  /// \param bias    [outputs] float32, or undefined: zeros.
  Panels(const at::Tensor& weight, const at::Tensor& bias);

  /// Of a gated layer: half of each panel's outputs are gates, the other half what they gate.
  static Panels gated(
      const at::Tensor& gate, const at::Tensor& gate_bias, const at::Tensor& value,
      const at::Tensor& value_bias);

  int64_t count() const;  // of panels

  int64_t outputs = 0, inputs = 0;
  int64_t summed = kSummed;  // inputs that are summed one after the other
  at::Tensor weight;         // [count, inputs, kTile]
  at::Tensor bias;           // [count * kTile]
};

/// Consecutive things, by index.
struct Range {
  int64_t begin, end;
};

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// The length of parts of at most `most`, all but the last of one length.
inline int64_t even_part(int64_t length, int64_t most) {
  return divide_up(length, divide_up(length, most));
}

/// Rows of a product with what follows: `finish` of x weight^T + bias.
struct Product {
  const float* x = nullptr;
  int64_t x_stride = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
  Finish finish = {};
  int64_t columns = -1;  // outputs beyond are not written; -1: all are. Gated: must be given
};

/// The largest number of rows that a tile holds.
constexpr int64_t kTileRows = 96;

/// Multiplies `rows` rows by some panels.
/// \param tile  Scratch [kTileRows, kTile].
void multiply(
    const Product& product, int64_t rows, const Panels& weight, Range panels, float* tile);

/// The matrix product of one block: c [m, n] (+)= a [m, k] b [k, n], rows `lda`, `ldb` and `ldc`
/// apart. From the library that torch brings.
void multiply_block(
    int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
    float* c, int64_t ldc, bool accumulate = false);

/// Asks the system for large pages under a tensor that will be read from end to end.
void advise_large_pages(const at::Tensor& tensor);

}  // namespace dsm_ext::cpu
