#include <ATen/Functions.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include "cpu/attention.h"
#include "cpu/chain.h"
#include "cpu/panels.h"
#include "cpu/tasks.h"

// Binds the matrix products and the attention of the fast path for tests and benchmarks. The
// functions take tensors on the CPU, float32 unless they say otherwise, and do not check their
// arguments.

namespace dsm_ext::cpu {
namespace {

namespace py = pybind11;
using namespace py::literals;

// A linear layer with a packed weight.
class PackedLinear {
 public:
  // weight: [N, K]. bias: [N], or none.
  PackedLinear(const at::Tensor& weight, const std::optional<at::Tensor>& bias)
      : panels_(gemm_float32(), weight, bias.value_or(at::Tensor())) {}

  // Gives x weight^T + bias [M, N] for x [M, K]. With `gelu`, applies the exact GELU to it.
  at::Tensor forward(const at::Tensor& x_, bool gelu) const {
    const auto x = x_.contiguous();
    const int64_t k = panels_.inputs, n = panels_.outputs, threads = thread_count();
    const auto& kernel = *panels_.kernel;
    auto out = at::empty({x.size(0), n}, x.options());
    const auto tiles = at::empty({threads, kernel.tile_rows * kernel.tile_columns}, x.options());
    const Rows in(const_cast<float*>(x.const_data_ptr<float>()), k);
    const Rows to(out.mutable_data_ptr<float>(), n);
    const auto product = [&](const Piece& piece) {
      multiply(
          {.x = in.at(piece.row),
           .out = to.at(piece.row),
           .finish = {gelu ? std::optional(Activation::gelu) : std::nullopt}},
          piece.rows, panels_, piece.panels,
          tiles.mutable_data_ptr<float>() + piece.thread * tiles.size(1));
    };
    run_chain(x.size(0), threads, {}, nullptr, {{std::nullopt, panels_.count(), product}});
    return out;
  }

 private:
  Panels panels_;
};

// Attention of queries, keys and values. The operands have the type of `qkv`, float32 or bfloat16.
// qkv: [B, N, 3, H, D]. size: [B, N], whose logarithms are added to the scores, or none.
// Only the first `queries` tokens of each image ask; -1: all do. Returns [B, queries, H * D].
at::Tensor attention(
    const at::Tensor& qkv_, const std::optional<at::Tensor>& size, int64_t queries) {
  const int64_t b = qkv_.size(0), n = qkv_.size(1), h = qkv_.size(3), d = qkv_.size(4), c = h * d;
  const int64_t m = queries < 0 ? n : queries, threads = thread_count();
  const bool wide = qkv_.scalar_type() == at::kFloat;
  const auto element = wide ? Element::float32 : Element::bfloat16;
  const auto& kernel = attention_kernel(element);
  const auto qkv = qkv_.contiguous();
  auto out = qkv.select(2, 0).narrow(1, 0, m).flatten(2).clone(at::MemoryFormat::Contiguous);
  const auto bias = at::empty({b, padded_tokens(n)}, qkv.options().dtype(at::kFloat));
  for (int64_t image = 0; image < b; ++image) {
    const auto sizes = size ? size->select(0, image).contiguous() : at::Tensor();
    fill_bias(
        bias.mutable_data_ptr<float>() + image * padded_tokens(n),
        size ? sizes.const_data_ptr<float>() : nullptr, n);
  }
  // One cache line more, because a tensor may begin in the middle of one.
  const auto memory = at::empty(
      {attention_memory(kernel, b, h, n, d, threads) + 64}, qkv.options().dtype(at::kByte));
  const auto address = reinterpret_cast<uintptr_t>(memory.mutable_data_ptr());
  const Rows in(static_cast<std::byte*>(qkv.data_ptr()), 3 * c, element);
  attend(
      kernel,
      {.queries = {static_cast<std::byte*>(out.mutable_data_ptr()), c, element},
       .query_count = m,
       .keys = in.at(0, c),
       .values = in.at(0, 2 * c),
       .key_rows = n,
       .token_count = n,
       .bias = bias.const_data_ptr<float>(),
       .images = b,
       .heads = h,
       .dim = d},
      threads, reinterpret_cast<std::byte*>((address + 63) / 64 * 64), nullptr, 0,
      [](int64_t, int64_t) {});
  return out;
}

}  // namespace

PYBIND11_MODULE(_cpu_parts, m) {
  py::class_<PackedLinear>(m, "PackedLinear")
      .def(
          py::init<const at::Tensor&, const std::optional<at::Tensor>&>(), "weight"_a,
          "bias"_a = py::none())
      .def("forward", &PackedLinear::forward, "x"_a, "gelu"_a = false);
  m.def("attention", &attention, "qkv"_a, "size"_a = py::none(), "queries"_a = -1);
}

}  // namespace dsm_ext::cpu
