#include "cpu/kernels/attention_head.h"

#include <algorithm>
#include <cmath>

#include "cpu/kernels/ranges.h"
#include "cpu/kernels/softmax.h"

// Attention of a few hundred tokens on the CPU. A task is some queries of one head. Its keys are
// transposed and its values copied side by side once; in float32 that is 50 KB each at 197 tokens
// of 64 channels, which stays in the second cache. Scores are made for kQueries queries at a time,
// 53 KB, with all tokens in a row, so that the softmax is exact and needs no second pass. The
// division by sqrt(dim) is applied to the scores, where it costs nothing because the bias is added
// in the same loop. Dividing the packed weights instead would round them once more.

namespace dsm_ext::cpu {
namespace {

constexpr int64_t kQueries = 64;

// With at most kFewTokens tokens, other libraries sum a score in many short parts, which rounds
// less. The kernel then sums in kPartsOfFewTokens parts, which rounds least.
constexpr int64_t kFewTokens = 16;
constexpr int64_t kPartsOfFewTokens = 5;

// The scratch memory of one head.
struct Scratch {
  Scratch(const GemmKernel& kernel, int64_t tokens, int64_t dim, std::byte* memory) {
    const int64_t padded = padded_tokens(tokens), size = size_of(kernel.element);
    const bool float32 = kernel.element == Element::float32;
    const auto part = [&](int64_t bytes) {
      auto* begin = memory == nullptr ? nullptr : memory + used;
      used += (bytes + 63) / 64 * 64;
      return begin;
    };
    const auto floats = [&](int64_t count) {
      return reinterpret_cast<float*>(part(count * static_cast<int64_t>(sizeof(float))));
    };
    keys = part(dim * padded * size);
    values = part(tokens * dim * size);
    scores = floats(kQueries * padded);
    scale = floats(kQueries);
    // In float32 the weights replace the scores, and the sums are made in the output.
    weights = float32 ? Rows(scores, padded)
                      : Rows(part(kQueries * padded * size), padded, kernel.element);
    sums = float32 ? nullptr : floats(kQueries * dim);
  }

  int64_t used = 0;  // bytes
  std::byte *keys, *values;
  float *scores, *scale;  // [kQueries, padded], [kQueries]
  Rows weights;           // [kQueries, padded]: exponentials of the scores
  float* sums;            // [kQueries, dim], or null
};

}  // namespace

int64_t attention_scratch(const GemmKernel& kernel, int64_t tokens, int64_t dim) {
  return Scratch(kernel, tokens, dim, nullptr).used;
}

void attend(const GemmKernel& kernel, const AttentionHead& head, std::byte* memory) {
  const int64_t n = head.tokens, d = head.dim, padded = padded_tokens(n);
  const int64_t size = size_of(kernel.element);
  const Scratch scratch(kernel, n, d, memory);
  const auto factor = static_cast<float>(1 / std::sqrt(static_cast<double>(d)));
  const int64_t channels =
      even_part(d, n <= kFewTokens ? divide_up(d, kPartsOfFewTokens) : head.summed);
  const int64_t tokens = even_part(n, head.summed);
  kernel.pack_keys(head.k, n, d, padded, scratch.keys);
  kernel.pack_values(head.v, n, d, scratch.values);
  for (int64_t first = 0; first < head.queries; first += kQueries) {
    const int64_t m = std::min(kQueries, head.queries - first);
    for (int64_t i = 0; i < d; i += channels) {
      kernel.multiply(
          m, padded, std::min(channels, d - i), head.q.at(first, i),
          scratch.keys + i * padded * size, padded, scratch.scores, padded, i > 0);
    }
    exponentials(scratch.scores, m, padded, factor, head.bias, scratch.weights, scratch.scale);
    const Rows out = head.out.at(first);
    float* sums = scratch.sums == nullptr ? out.as<float>() : scratch.sums;
    const int64_t stride = scratch.sums == nullptr ? out.stride : d;
    for (int64_t i = 0; i < n; i += tokens) {
      kernel.multiply(
          m, d, std::min(tokens, n - i), scratch.weights.at(0, i), scratch.values + i * d * size, d,
          sums, stride, i > 0);
    }
    scale_rows(sums, stride, m, d, scratch.scale, out);
  }
}

}  // namespace dsm_ext::cpu
