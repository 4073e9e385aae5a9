#include "parts.h"

#include <ATen/Functions.h>

#include <limits>

#include "attention.h"
#include "chain.h"
#include "tasks.h"

namespace dsm_ext::cpu {

PackedLinear::PackedLinear(const at::Tensor& weight, const std::optional<at::Tensor>& bias)
    : panels_(weight, bias.value_or(at::Tensor())) {}

at::Tensor PackedLinear::forward(const at::Tensor& x_, bool gelu) const {
  const auto x = x_.contiguous();
  const int64_t k = panels_.inputs, n = panels_.outputs, threads = thread_count();
  auto out = at::empty({x.size(0), n}, x.options());
  const auto tiles = at::empty({threads, kTileRows * kTile}, x.options());
  const Between none{nullptr, nullptr, 0, 0};
  run_chain(
      x.size(0), threads, none, Clock(nullptr),
      {{std::nullopt, panels_.count(), [&](const Piece& piece) {
          multiply(
              {.x = x.const_data_ptr<float>() + piece.row * k,
               .x_stride = k,
               .out = out.mutable_data_ptr<float>() + piece.row * n,
               .out_stride = n,
               .finish = {gelu ? std::optional(Activation::gelu) : std::nullopt}},
              piece.rows, panels_, piece.panels,
              tiles.mutable_data_ptr<float>() + piece.slot * kTileRows * kTile);
        }}});
  return out;
}

at::Tensor attention(const at::Tensor& qkv, const std::optional<at::Tensor>& size) {
  const int64_t b = qkv.size(0), n = qkv.size(1), h = qkv.size(3), d = qkv.size(4), c = h * d;
  const auto rows = qkv.contiguous();
  const auto bias =
      at::full({b, padded_tokens(n)}, -std::numeric_limits<double>::infinity(), qkv.options());
  bias.narrow(1, 0, n).copy_(size ? size->log() : at::zeros({b, n}, qkv.options()));
  auto out = at::empty({b, n, c}, qkv.options());
  const int64_t threads = thread_count();
  const auto scratch = at::empty({threads, attention_scratch(n, d)}, qkv.options());
  for_each_task(b * h, threads, [&](int64_t index, int64_t slot) {
    const int64_t image = index / h, head = index % h;
    const float* row = rows.const_data_ptr<float>() + image * n * 3 * c + head * d;
    attend(
        {.q = row,
         .q_stride = 3 * c,
         .queries = n,
         .k = row + c,
         .v = row + 2 * c,
         .kv_stride = 3 * c,
         .tokens = n,
         .dim = d,
         .bias = bias.const_data_ptr<float>() + image * padded_tokens(n),
         .out = out.mutable_data_ptr<float>() + image * n * c + head * d,
         .out_stride = c},
        scratch.mutable_data_ptr<float>() + slot * scratch.size(1));
  });
  return out;
}

}  // namespace dsm_ext::cpu
