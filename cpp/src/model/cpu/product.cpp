#include "product.h"

#include <ATen/Functions.h>
#include <ATen/native/CPUBlas.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>

// Products by oneDNN's block kernels (at::native::cpublas::brgemm; where the processor has no such
// kernel, that falls back to the BLAS torch was built with). A panel of weights, inputs * 64
// floats, is read from the second or third cache once for all rows at hand; a tile of output,
// 96 * 64 floats, is finished while it is in the first or second.

namespace dsm_ext::cpu {
void advise_large_pages(const at::Tensor& tensor) {
#ifdef __linux__
  constexpr uintptr_t page = uintptr_t{2} << 20;
  const auto begin = reinterpret_cast<uintptr_t>(tensor.data_ptr());
  const auto end = begin + tensor.nbytes();
  const auto first = (begin + page - 1) / page * page;
  if (first + page <= end) {
    madvise(reinterpret_cast<void*>(first), (end - first) / page * page, MADV_HUGEPAGE);
  }
#else
  (void)tensor;
#endif
}

Panels::Panels(const at::Tensor& weight_, const at::Tensor& bias_)
    : outputs(weight_.size(0)), inputs(weight_.size(1)) {
  weight = at::empty({count(), inputs, kTile}, weight_.options());
  advise_large_pages(weight);
  const int64_t whole = outputs / kTile, rest = outputs % kTile;
  weight.narrow(0, 0, whole)
      .copy_(weight_.narrow(0, 0, whole * kTile).view({whole, kTile, inputs}).transpose(1, 2));
  if (rest > 0) {
    auto last = weight.select(0, whole).zero_();
    last.narrow(1, 0, rest).copy_(weight_.narrow(0, whole * kTile, rest).t());
  }
  bias = at::zeros({count() * kTile}, weight_.options());
  if (bias_.defined()) {
    bias.narrow(0, 0, outputs).copy_(bias_);
  }
}

Panels Panels::gated(
    const at::Tensor& gate, const at::Tensor& gate_bias, const at::Tensor& value,
    const at::Tensor& value_bias) {
  constexpr int64_t half = kTile / 2;
  const int64_t padding = divide_up(gate.size(0), half) * half - gate.size(0);
  const auto chunks = [&](const at::Tensor& x) {  // [chunks, half, ...]
    auto shape = x.sizes().vec();
    shape[0] = padding;
    return at::cat({x, at::zeros(shape, x.options())}).unflatten(0, {-1, half});
  };
  const auto alternate = [&](const at::Tensor& a, const at::Tensor& b) {
    return a.defined() ? at::cat({chunks(a), chunks(b)}, 1).flatten(0, 1) : a;
  };
  return {alternate(gate, value), alternate(gate_bias, value_bias)};
}

int64_t Panels::count() const { return divide_up(outputs, kTile); }

void multiply_block(
    int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b, int64_t ldb,
    float* c, int64_t ldc, bool accumulate) {
  at::native::cpublas::brgemm(m, n, k, lda, ldb, ldc, accumulate, a, b, c, /*is_vnni=*/false);
}

void multiply(
    const Product& product, int64_t rows, const Panels& weight, Range panels, float* tile) {
  const int64_t k = weight.inputs;
  const int64_t row_step = even_part(rows, kTileRows);
  const int64_t k_step = even_part(k, weight.summed);
  const auto* weights = weight.weight.const_data_ptr<float>();
  const auto* biases = weight.bias.const_data_ptr<float>();
  const int64_t outputs = product.columns < 0 ? weight.outputs : product.columns;
  const int64_t width = product.finish.gated ? kTile / 2 : kTile;  // of a panel's output
  for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
    const int64_t column = panel * width;
    const int64_t columns = std::min(width, outputs - column);
    const int64_t made = product.finish.gated ? kTile : columns;
    for (int64_t row = 0; row < rows; row += row_step) {
      const int64_t m = std::min(row_step, rows - row);
      const auto* x = product.x + row * product.x_stride;
      for (int64_t i = 0; i < k; i += k_step) {
        multiply_block(
            m, made, std::min(k_step, k - i), x + i, product.x_stride,
            weights + (panel * k + i) * kTile, kTile, tile, kTile, i > 0);
      }
      auto finish = product.finish;
      if (finish.addend != nullptr) {
        finish.addend += row * finish.addend_stride + column;
      }
      finish_tile(
          tile, m, columns, biases + panel * kTile, finish,
          product.out + row * product.out_stride + column, product.out_stride);
    }
  }
}

}  // namespace dsm_ext::cpu
