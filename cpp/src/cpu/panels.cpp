#include "cpu/panels.h"

#include <ATen/Functions.h>

#include <algorithm>

namespace dsm_ext::cpu {

Panels::Panels(const GemmKernel& kernel_, const at::Tensor& weight_, const at::Tensor& bias_)
    : kernel(&kernel_),
      outputs(weight_.size(0)),
      inputs(weight_.size(1)),
      summed(kernel->element == Element::float32 ? kSummed : inputs),
      weight(kernel->pack(weight_)),
      bias(in_panels(bias_.defined() ? bias_ : at::zeros({outputs}, at::kFloat))) {
  if (weight.scales.defined()) {
    weight.scales = in_panels(weight.scales);
    weight.sums = in_panels(weight.sums);
  }
}

// x: [outputs]. Returns it with zeros up to the end of the last panel.
at::Tensor Panels::in_panels(const at::Tensor& x) const {
  return at::constant_pad_nd(x, {0, count() * kernel->tile_columns - outputs});
}

Panels Panels::gated(
    const GemmKernel& kernel, const at::Tensor& gate, const at::Tensor& gate_bias,
    const at::Tensor& value, const at::Tensor& value_bias) {
  const int64_t half = kernel.tile_columns / 2;
  const int64_t padding = divide_up(gate.size(0), half) * half - gate.size(0);
  const auto chunks = [&](const at::Tensor& x) {  // [chunks, half, ...]
    auto shape = x.sizes().vec();
    shape[0] = padding;
    return at::cat({x, at::zeros(shape, x.options())}).unflatten(0, {-1, half});
  };
  const auto alternate = [&](const at::Tensor& a, const at::Tensor& b) {
    return a.defined() ? at::cat({chunks(a), chunks(b)}, 1).flatten(0, 1) : a;
  };
  return {kernel, alternate(gate, value), alternate(gate_bias, value_bias)};
}

void Panels::sum_few_rows() {
  if (kernel->element == Element::float32) {
    summed = kSummedOfFewRows;
  }
}

void multiply(
    const Product& product, int64_t rows, const Panels& weight, Range panels, float* tile) {
  const auto& kernel = *weight.kernel;
  const int64_t k = padded(weight.inputs, kernel.element), tile_columns = kernel.tile_columns;
  const int64_t row_step = even_part(rows, kernel.tile_rows);
  const int64_t k_step = padded(even_part(k, weight.summed), kernel.element);
  const auto* weights = static_cast<const std::byte*>(weight.weight.values.const_data_ptr());
  const auto* biases = weight.bias.const_data_ptr<float>();
  const bool quantized = weight.weight.scales.defined();
  const auto* scales = quantized ? weight.weight.scales.const_data_ptr<float>() : nullptr;
  const auto* sums = quantized ? weight.weight.sums.const_data_ptr<int32_t>() : nullptr;
  const int64_t outputs = product.columns < 0 ? weight.outputs : product.columns;
  const int64_t width = product.finish.gated ? tile_columns / 2 : tile_columns;  // of the output
  for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
    const int64_t column = panel * width;
    const int64_t columns = std::min(width, outputs - column);
    const int64_t made = product.finish.gated ? tile_columns : columns;
    for (int64_t row = 0; row < rows; row += row_step) {
      const int64_t m = std::min(row_step, rows - row);
      for (int64_t i = 0; i < k; i += k_step) {
        kernel.multiply(
            m, made, std::min(k_step, k - i), product.x.at(row, i),
            weights + (panel * k + i) * tile_columns * size_of(kernel.element), tile_columns, tile,
            tile_columns, i > 0);
      }
      auto finish = product.finish;
      if (finish.addend != nullptr) {
        finish.addend += row * finish.addend_stride + column;
      }
      const Tile made_tile{
          .sums = tile,
          .bias = biases + panel * tile_columns,
          .row_scales = product.x.at(row).scales,
          .column_scales = quantized ? scales + panel * tile_columns : nullptr,
          .column_sums = quantized ? sums + panel * tile_columns : nullptr};
      const auto rotation = product.rotation.at(row, panel);
      if (rotation.columns > 0) {
        rotate_tile(made_tile, m, columns, rotation, product.out.at(row, column));
      } else {
        finish_tile(made_tile, m, columns, finish, product.out.at(row, column));
      }
    }
  }
}

}  // namespace dsm_ext::cpu
