#include "rotate.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "check.h"

namespace dsm_ext {
namespace {

// Turns x [B, heads, n, D] in place. cos, sin: [B or 1, heads or 1, n, D / 2].
void turn(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool halves) {
  const int64_t pairs = cos.size(3);
  const auto split = halves ? x.unflatten(3, {2, pairs}) : x.unflatten(3, {pairs, 2});
  const int64_t axis = halves ? 3 : 4;
  const auto a = split.select(axis, 0), b = split.select(axis, 1);
  const auto turned_a = a * cos - b * sin, turned_b = b * cos + a * sin;
  a.copy_(turned_a);
  b.copy_(turned_b);
}

// The definition of the operator, for every device that has no kernel of its own.
void composed_rotate(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& location,
    const at::Tensor& frequencies, at::ArrayRef<double> axes, int64_t first, int64_t prefix,
    bool halves) {
  check_rotate(q, k, location, frequencies, axes, first, prefix);
  const int64_t patches = k.size(2) - prefix;
  const auto coordinate = [&](int64_t axis) {  // [B or 1, 1, patches, 1]
    const auto part = location.narrow(1, prefix, patches).select(2, axis == 0 ? first : 1 - first);
    return part.mul(axes[axis]).add(axes[2 + axis]).unsqueeze(1).unsqueeze(3);
  };
  const auto by_head = frequencies.to(at::kFloat).unsqueeze(2);  // [2, H or 1, 1, D / 2]
  const auto angles = coordinate(0) * by_head[0] + coordinate(1) * by_head[1];
  const auto cos = angles.cos(), sin = angles.sin();
  turn(k.narrow(2, prefix, patches), cos, sin, halves);
  if (const int64_t rows = q.size(2) - prefix; rows > 0) {
    turn(q.narrow(2, prefix, rows), cos.narrow(2, 0, rows), sin.narrow(2, 0, rows), halves);
  }
}

}  // namespace

void check_rotate(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& location,
    const at::Tensor& frequencies, at::ArrayRef<double> axes, int64_t first, int64_t prefix) {
  constexpr const char* kOp = "_rotate_";
  TORCH_CHECK_VALUE(
      q.dim() == 4 && k.dim() == 4 && q.size(0) == k.size(0) && q.size(3) == k.size(3) &&
          q.size(2) <= k.size(2),
      "dsm_ext._rotate_: expected q to be [B, H, rows, D] and k to be [B, heads, N, D], got ",
      q.sizes(), " and ", k.sizes());
  check_dtype(kOp, "location", location, at::kFloat);
  const int64_t images = location.dim() == 3 && location.size(0) == 1 ? 1 : k.size(0);
  check_shape(kOp, "location", location, {images, k.size(2), 2});
  TORCH_CHECK_VALUE(
      frequencies.dim() == 3 && frequencies.size(0) == 2 && 2 * frequencies.size(2) == k.size(3) &&
          (frequencies.size(1) == 1 ||
           (frequencies.size(1) == k.size(1) && frequencies.size(1) == q.size(1))),
      "dsm_ext._rotate_: expected frequencies to be [2, H or 1, D / 2] for heads of ", k.size(3),
      " channels, got ", frequencies.sizes());
  TORCH_CHECK_VALUE(
      axes.size() == 4 && (first == 0 || first == 1),
      "dsm_ext._rotate_: expected two scales, then two shifts, and 0 or 1 as the first axis");
  TORCH_CHECK_VALUE(
      prefix >= 0 && prefix <= k.size(2), "dsm_ext._rotate_: expected prefix to be in [0, ",
      k.size(2), "], got ", prefix);
  check_same_device(kOp, "k", k, q);
  check_same_device(kOp, "location", location, q);
  check_same_device(kOp, "frequencies", frequencies, q);
}

void rotate(const at::Tensor& q, const at::Tensor& k, const Rotation& rotation, int64_t prefix) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("dsm_ext::_rotate_", "")
                             .typed<decltype(composed_rotate)>();
  const auto& [first, scale, shift] = rotation.axes;
  op.call(
      q, k, rotation.location, rotation.frequencies, {scale[0], scale[1], shift[0], shift[1]},
      first, prefix, rotation.halves);
}

TORCH_LIBRARY_FRAGMENT(dsm_ext, m) {
  m.def(
      "_rotate_(Tensor(a!) q, Tensor(b!) k, Tensor location, Tensor frequencies, float[] axes, "
      "int first, int prefix, bool halves) -> ()");
}

TORCH_LIBRARY_IMPL(dsm_ext, CompositeExplicitAutograd, m) { m.impl("_rotate_", &composed_rotate); }

}  // namespace dsm_ext
