// The text of the CUDA kernel of rotary embeddings, run on the CPU, against the operator.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>

#include "cuda_on_cpu.h"
#include "ops/rotate.h"
#include "rotate_kernel.cuh"

namespace cuda = dsm_ext::cuda;

namespace {

template <typename T>
cuda::TurnedHeads<T> heads_of(const at::Tensor& x) {
  return {
      x.mutable_data_ptr<T>(),
      x.stride(0),
      x.stride(1),
      x.stride(2),
      static_cast<int32_t>(x.size(1)),
      static_cast<int32_t>(x.size(2))};
}

void rotate_by_operator(
    const at::Tensor& q, const at::Tensor& k, const dsm_ext::Rotation& rotation, int64_t prefix) {
  const auto op = c10::Dispatcher::singleton()
                      .findSchemaOrThrow("dsm_ext::_rotate_", "")
                      .typed<void(
                          const at::Tensor&, const at::Tensor&, const at::Tensor&,
                          const at::Tensor&, at::ArrayRef<double>, int64_t, int64_t, bool)>();
  const auto& [first, scale, shift] = rotation.axes;
  op.call(
      q, k, rotation.location, rotation.frequencies, {scale[0], scale[1], shift[0], shift[1]},
      first, prefix, rotation.halves);
}

template <typename T, typename F>
void rotate_by_kernel(
    const at::Tensor& q, const at::Tensor& k, const dsm_ext::Rotation& rotation, int64_t prefix) {
  const auto& [location, frequencies, axes, halves] = rotation;
  const int64_t pairs = k.size(3) / 2;
  const cuda::RotationArguments how{
      .location = location.const_data_ptr<float>(),
      .location_stride = location.size(0) == 1 ? 0 : location.stride(0),
      .frequency_stride = frequencies.stride(0),
      .head_stride = frequencies.size(1) == 1 ? 0 : pairs,
      .scale = {static_cast<float>(axes.scale[0]), static_cast<float>(axes.scale[1])},
      .shift = {static_cast<float>(axes.shift[0]), static_cast<float>(axes.shift[1])},
      .first = static_cast<int32_t>(axes.first),
      .prefix = static_cast<int32_t>(prefix),
      .pairs = static_cast<int32_t>(pairs),
      .halves = halves};
  const int64_t threads = k.size(0) * cuda::kHeadGroups * (k.size(2) - prefix) * pairs;
  cuda_on_cpu::launch((threads + 63) / 64, 64, 0, [&] {
    cuda::rotate_kernel_impl<T, F>(
        heads_of<T>(q), heads_of<T>(k), frequencies.const_data_ptr<F>(), how, threads);
  });
}

// Queries and keys as views of a fused product [B, N, (H + 2 heads) * D].
struct Operands {
  Operands(int64_t images, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t dim)
      : product(at::randn({images, tokens, (heads + 2 * kv_heads) * dim})),
        heads(heads),
        kv_heads(kv_heads),
        dim(dim) {}

  at::Tensor q(int64_t rows) const { return part(0, heads).narrow(2, 0, rows); }
  at::Tensor k() const { return part(heads, kv_heads); }
  at::Tensor part(int64_t first, int64_t count) const {
    return product.narrow(2, first * dim, count * dim).unflatten(2, {count, dim}).transpose(1, 2);
  }

  at::Tensor product;
  int64_t heads, kv_heads, dim;
};

TEST(RotateKernel, EqualsTheOperator) {
  at::manual_seed(0);
  const int64_t images = 2, tokens = 23, prefix = 3;
  for (const int64_t heads : {1, 3, 6}) {
    for (const int64_t dim : {16, 36, 64}) {
      for (const bool halves : {false, true}) {
        for (const bool shared : {false, true}) {
          const bool grouped = heads == 6 && shared;
          const Operands own(images, tokens, heads, grouped ? 2 : heads, dim);
          auto expected = own;
          expected.product = own.product.clone();
          const dsm_ext::Rotation rotation{
              .location = at::rand({shared ? 1 : images, tokens, 2}) * 20,
              .frequencies = at::randn({2, shared ? 1 : heads, dim / 2}),
              .axes = {.first = halves ? 1 : 0, .scale = {0.5, 2}, .shift = {-0.5, 1}},
              .halves = halves};
          const int64_t rows = dim == 36 ? 11 : tokens;
          rotate_by_kernel<float, float>(own.q(rows), own.k(), rotation, prefix);
          rotate_by_operator(expected.q(rows), expected.k(), rotation, prefix);
          EXPECT_TRUE(at::allclose(own.product, expected.product, 1e-5, 1e-5));
        }
      }
    }
  }
}

// In half precision the result is rounded once, and learned frequencies have the model's dtype.
TEST(RotateKernel, RoundsOnce) {
  at::manual_seed(0);
  Operands own(2, 19, 2, 2, 32);
  own.product = own.product.to(at::kBFloat16);
  auto exact = own;
  exact.product = own.product.to(at::kFloat);
  dsm_ext::Rotation rotation{
      .location = at::rand({2, 19, 2}) * 14,
      .frequencies = at::randn({2, 2, 16}).to(at::kBFloat16),
      .axes = {},
      .halves = true};
  rotate_by_kernel<at::BFloat16, at::BFloat16>(own.q(19), own.k(), rotation, 1);
  rotation.frequencies = rotation.frequencies.to(at::kFloat);
  rotate_by_operator(exact.q(19), exact.k(), rotation, 1);
  const auto rounded = exact.product.to(at::kBFloat16);
  const auto equal = own.product.eq(rounded).to(at::kFloat).mean().item<double>();
  EXPECT_GT(equal, 0.99);  // cosines that differ in the last bit may change the rounding
  EXPECT_TRUE(at::allclose(own.product.to(at::kFloat), exact.product, 1e-2, 1e-2));
}

}  // namespace
