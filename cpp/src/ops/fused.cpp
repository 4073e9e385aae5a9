#include "fused.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <cmath>

#include "dsm_ext/ops.h"
#include "metric.h"

namespace dsm_ext {
namespace {

using MaybeTensor = std::optional<at::Tensor>;

MaybeTensor maybe(const at::Tensor& tensor) {
  return tensor.defined() ? MaybeTensor(tensor) : std::nullopt;
}

template <typename Function>
auto find(const char* name, Function* /*of*/) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Function>();
}

// The definitions of the operators, for every device that has no kernel of its own.

at::Tensor composed_norm(
    const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias, double eps, bool rms) {
  return rms ? at::rms_norm(x, weight.sizes(), weight, eps)
             : at::layer_norm(x, weight.sizes(), weight, bias, eps);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> composed_merge_norm(
    const at::Tensor& x, const MaybeTensor& size, const at::Tensor& destination, int64_t tokens,
    const at::Tensor& weight, const MaybeTensor& bias, double eps, bool rms) {
  const auto ones = [&] { return at::ones({x.size(0), x.size(1)}, x.options().dtype(at::kFloat)); };
  const auto [merged, sizes] = merge(x, size ? *size : ones(), destination, tokens);
  return {
      merged, composed_norm(merged, weight, bias, eps, rms), sizes,
      log_sizes(sizes, x.scalar_type())};
}

at::Tensor composed_match_keys(
    const at::Tensor& keys, const MaybeTensor& tokens, int64_t r, int64_t prefix,
    at::IntArrayRef windows, const MaybeTensor& order, const MaybeTensor& penalty) {
  return match(merge_metric(keys, tokens), r, prefix, windows, order, penalty);
}

at::Tensor composed_query_attention(
    const at::Tensor& q, const at::Tensor& k, const MaybeTensor& bias) {
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(3)));
  auto scores = at::matmul(q.to(at::kFloat).mul(scale), k.to(at::kFloat).transpose(2, 3));
  if (bias) {
    scores.add_(*bias);
  }
  return at::softmax(scores, 3).squeeze(2);
}

at::Tensor composed_linear(
    const at::Tensor& input, const at::Tensor& weight, const MaybeTensor& bias,
    const MaybeTensor& addend, std::optional<std::string_view> gelu) {
  auto out = at::linear(input, weight, bias);
  return gelu ? at::gelu_(out, *gelu) : addend ? out.add_(*addend) : out;
}

// Whether rows begin at multiples of 16 bytes, as torch's efficient attention needs it.
bool has_aligned_rows(const at::Tensor& x) {
  const auto fits = [&](int64_t elements) { return elements * x.element_size() % 16 == 0; };
  return x.stride(3) == 1 && fits(x.stride(0)) && fits(x.stride(1)) && fits(x.stride(2)) &&
         reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
}

// The tensor itself, or a copy whose rows are aligned if their length allows it.
at::Tensor with_aligned_rows(const at::Tensor& x) {
  return has_aligned_rows(x) ? x : x.clone(at::MemoryFormat::Contiguous);
}

}  // namespace

at::Tensor composed_attend(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const MaybeTensor& bias) {
  at::Tensor attended;  // [B, H, rows, D]
  if (bias) {
    const auto mask = bias->expand({q.size(0), q.size(1), q.size(2), k.size(2)});
    // Copy rows that are not aligned: torch's attention with a mask gave wrong results for them.
    const bool copies = q.is_cuda() && q.size(3) % 8 == 0;
    const auto own_q = copies ? with_aligned_rows(q) : q;
    const auto own_k = copies ? with_aligned_rows(k) : k;
    const auto own_v = copies ? with_aligned_rows(v) : v;
    // Given a mask, torch may choose cuDNN, which makes a new plan for each number of tokens. The
    // efficient kernel makes none.
    attended = copies && has_aligned_rows(*bias)
                   ? std::get<0>(at::_scaled_dot_product_efficient_attention(
                         own_q, own_k, own_v, mask, /*compute_log_sumexp=*/false))
                   : at::scaled_dot_product_attention(own_q, own_k, own_v, mask);
  } else {
    attended = at::scaled_dot_product_attention(q, k, v);
  }
  return attended.transpose(1, 2).flatten(2);
}

at::Tensor attend(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const MaybeTensor& bias) {
  static const auto op = find("dsm_ext::_attend", &composed_attend);
  return op.call(q, k, v, bias);
}

at::Tensor normalize(const at::Tensor& x, const NormParameters& norm) {
  static const auto op = find("dsm_ext::_norm", &composed_norm);
  return op.call(x, norm.weight, maybe(norm.bias), norm.eps, norm.rms);
}

FusedMerge merge_and_normalize(
    const at::Tensor& x, const at::Tensor& size, const at::Tensor& destination, int64_t tokens,
    const NormParameters& norm) {
  static const auto op = find("dsm_ext::_merge_norm", &composed_merge_norm);
  auto [merged, normed, sizes, log_size] = op.call(
      x, maybe(size), destination, tokens, norm.weight, maybe(norm.bias), norm.eps, norm.rms);
  return {merged, normed, sizes, log_size};
}

at::Tensor match_keys(
    const at::Tensor& keys, const MaybeTensor& tokens, int64_t r, int64_t prefix,
    at::IntArrayRef windows, const MaybeTensor& order, const MaybeTensor& penalty) {
  static const auto op = find("dsm_ext::_match_keys", &composed_match_keys);
  return op.call(keys, tokens, r, prefix, windows, order, penalty);
}

at::Tensor query_attention(const at::Tensor& q, const at::Tensor& k, const MaybeTensor& bias) {
  static const auto op = find("dsm_ext::_query_attention", &composed_query_attention);
  return op.call(q, k, bias);
}

at::Tensor linear(
    const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
    const at::Tensor& addend) {
  static const auto op = find("dsm_ext::_linear", &composed_linear);
  return op.call(input, weight, maybe(bias), maybe(addend), std::nullopt);
}

at::Tensor linear_gelu(
    const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias, bool tanh) {
  static const auto op = find("dsm_ext::_linear", &composed_linear);
  return op.call(input, weight, maybe(bias), std::nullopt, tanh ? "tanh" : "none");
}

at::Tensor log_sizes(const at::Tensor& size, at::ScalarType dtype) {
  const int64_t tokens = size.size(1);
  auto rows = at::zeros({size.size(0), padded_bias(tokens)}, size.options().dtype(dtype));
  rows.narrow(1, 0, tokens).copy_(size.log());
  return rows;
}

TORCH_LIBRARY_FRAGMENT(dsm_ext, m) {
  m.def("_norm(Tensor x, Tensor weight, Tensor? bias, float eps, bool rms) -> Tensor");
  m.def(
      "_merge_norm(Tensor x, Tensor? size, Tensor destination, int tokens, Tensor weight, "
      "Tensor? bias, float eps, bool rms) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "_match_keys(Tensor keys, Tensor? tokens, int r, int prefix, int[] windows, Tensor? order, "
      "Tensor? penalty) -> Tensor");
  m.def("_query_attention(Tensor q, Tensor k, Tensor? bias) -> Tensor");
  m.def("_linear(Tensor input, Tensor weight, Tensor? bias, Tensor? addend, str? gelu) -> Tensor");
  m.def("_attend(Tensor q, Tensor k, Tensor v, Tensor? bias) -> Tensor");
}

TORCH_LIBRARY_IMPL(dsm_ext, CompositeExplicitAutograd, m) {
  m.impl("_norm", &composed_norm);
  m.impl("_merge_norm", &composed_merge_norm);
  m.impl("_match_keys", &composed_match_keys);
  m.impl("_query_attention", &composed_query_attention);
  m.impl("_linear", &composed_linear);
  m.impl("_attend", &composed_attend);
}

}  // namespace dsm_ext
