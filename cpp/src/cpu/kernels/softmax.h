#pragma once

#include "cpu/kernels/functions.h"
#include "cpu/kernels/rows.h"

namespace dsm_ext::cpu {

/// The softmax of rows whose columns come block after block. Before the first block, `largest` is
/// minus infinity and `sum` is 0.
struct RunningSoftmax {
  float* largest = nullptr;  // [rows]: the largest score of the blocks so far
  float* sum = nullptr;      // [rows]: the sum of exp(score - largest) of the blocks so far
  float* rescale =
      nullptr;  // [rows], written: what the results of earlier blocks are multiplied by

  /// Counts a block of columns to a row.
  /// \param new_largest  The largest score so far, with this block.
  /// \param block_sum    The sum of exp(score - new_largest) of this block.
  void add(int64_t row, float new_largest, float block_sum) const {
    rescale[row] = new_largest > largest[row] ? exp_negative(largest[row] - new_largest) : 1.f;
    sum[row] = sum[row] * rescale[row] + block_sum;
    largest[row] = new_largest;
  }

  RunningSoftmax at(int64_t row) const { return {largest + row, sum + row, rescale + row}; }
};

/// out = exp(s - the largest s of the row so far), with s = score * factor + bias. When s is minus
/// infinity, out is 0, even if a whole row is minus infinity. When s is plus infinity or NaN, the
/// row's sum becomes NaN.
///
/// The error of an exponential is 1 unit in the last place. With AVX-512, bfloat16 weights are
/// rounded from an exponential with a relative error of at most 6e-6; the rounding's own error is
/// up to 4e-3. Below exp(-86), they may be 0.
/// \param scores  [rows, columns], contiguous.
/// \param bias    [columns]; minus infinity excludes a column.
/// \param out     [rows, columns]; may be `scores`.
void exponentials(
    const float* scores, int64_t rows, int64_t columns, float factor, const float* bias, Rows out,
    const RunningSoftmax& softmax);

/// The same by the code that every processor runs. `exponentials` uses it unless the processor has
/// AVX-512 and the weights are bfloat16.
void exponentials_any(
    const float* scores, int64_t rows, int64_t columns, float factor, const float* bias, Rows out,
    const RunningSoftmax& softmax);

/// Multiplies row i of x by scale[i].
/// \param x  [rows, columns], contiguous.
void rescale_rows(float* x, int64_t rows, int64_t columns, const float* scale);

/// Divides row i of x by sum[i]; when sum[i] is 0, the row becomes 0.
/// \param x  [rows, columns], contiguous.
void divide_rows(const float* x, int64_t rows, int64_t columns, const float* sum, Rows out);

}  // namespace dsm_ext::cpu
