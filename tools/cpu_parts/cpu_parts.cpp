#include <ATen/Functions.h>
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include <limits>

#include "cpu/chain.h"
#include "cpu/kernels/attention_head.h"
#include "cpu/panels.h"
#include "cpu/tasks.h"

// Binds the matrix products and the attention of the fast path for tests and benchmarks. The
// functions take float32 tensors on the CPU and do not check their arguments.

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

// Attention of queries, keys and values.
// qkv: [B, N, 3, H, D]. size: [B, N], whose logarithms are added to the scores, or none.
// Returns [B, N, H * D].
at::Tensor attention(const at::Tensor& qkv_, const std::optional<at::Tensor>& size) {
  const int64_t b = qkv_.size(0), n = qkv_.size(1), h = qkv_.size(3), d = qkv_.size(4), c = h * d;
  const auto qkv = qkv_.contiguous();
  const auto bias =
      at::full({b, padded_tokens(n)}, -std::numeric_limits<double>::infinity(), qkv.options());
  bias.narrow(1, 0, n).copy_(size ? size->log() : at::zeros({b, n}, qkv.options()));
  auto out = at::empty({b, n, c}, qkv.options());
  const int64_t threads = thread_count();
  const auto& kernel = attention_float32();
  const auto scratch =
      at::empty({threads, attention_scratch(kernel, n, d)}, qkv.options().dtype(at::kByte));
  const Rows in(const_cast<float*>(qkv.const_data_ptr<float>()), 3 * c);
  const Rows to(out.mutable_data_ptr<float>(), c);
  for_each_task(b * h, threads, [&](int64_t index, int64_t thread) {
    const int64_t image = index / h, head = index % h;
    attend(
        kernel,
        {.q = in.at(image * n, head * d),
         .queries = n,
         .k = in.at(image * n, c + head * d),
         .v = in.at(image * n, 2 * c + head * d),
         .tokens = n,
         .dim = d,
         .bias = bias.const_data_ptr<float>() + image * padded_tokens(n),
         .out = to.at(image * n, head * d)},
        reinterpret_cast<std::byte*>(scratch.mutable_data_ptr<uint8_t>()) +
            thread * scratch.size(1));
  });
  return out;
}

}  // namespace

PYBIND11_MODULE(_cpu_parts, m) {
  py::class_<PackedLinear>(m, "PackedLinear")
      .def(
          py::init<const at::Tensor&, const std::optional<at::Tensor>&>(), "weight"_a,
          "bias"_a = py::none())
      .def("forward", &PackedLinear::forward, "x"_a, "gelu"_a = false);
  m.def("attention", &attention, "qkv"_a, "size"_a = py::none());
}

}  // namespace dsm_ext::cpu
