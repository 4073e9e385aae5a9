#include "cpu/kernels/attention_head.h"

#include <algorithm>
#include <cmath>

#include "cpu/kernels/ranges.h"
#include "cpu/kernels/softmax.h"

// Attention of a few hundred tokens on the CPU. One call computes some queries of one head. It
// packs the keys (transposed) and the values (row after row) once. In float32, for 197 tokens of 64
// channels, keys and values take 50 KB each, which fits into the second-level cache. Scores are
// computed for kQueries queries at a time, 53 KB. A row of scores covers all tokens, so that the
// softmax is exact and never rescales earlier results. The scores, not the weights, are divided by
// sqrt(dim): this costs no time, because the same loop adds the bias, and it does not round the
// weights once more.

namespace dsm_ext::cpu {
namespace {

constexpr int64_t kQueries = 64;

// With at most kFewTokens tokens, a score is the sum of kPartsOfFewTokens partial sums over the
// channels. Other libraries use many short partial sums there, which makes their rounding errors
// small. This number of parts has the smallest rounding errors here.
constexpr int64_t kFewTokens = 16;
constexpr int64_t kPartsOfFewTokens = 5;

// Scratch memory for one call.
struct Scratch {
  Scratch(const AttentionKernel& kernel, int64_t tokens, int64_t dim, std::byte* memory) {
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
    keys = part(cpu::padded(dim, kernel.element) * padded * size);
    values = part(cpu::padded(tokens, kernel.element) * dim * size);
    scores = floats(kQueries * padded);
    scale = floats(kQueries);
    // In float32, the weights overwrite the scores, and the sums go directly into the output.
    weights = float32 ? Rows(scores, padded)
                      : Rows(part(kQueries * padded * size), padded, kernel.element);
    sums = float32 ? nullptr : floats(kQueries * dim);
  }

  int64_t used = 0;  // in bytes
  std::byte *keys, *values;
  float *scores, *scale;  // [kQueries, padded], [kQueries]
  Rows weights;           // [kQueries, padded]: exponentials of the scores
  float* sums;            // [kQueries, dim], or null
};

}  // namespace

int64_t attention_scratch(const AttentionKernel& kernel, int64_t tokens, int64_t dim) {
  return Scratch(kernel, tokens, dim, nullptr).used;
}

void attend(const AttentionKernel& kernel, const AttentionHead& head, std::byte* memory) {
  const int64_t n = head.tokens, d = head.dim, padded = padded_tokens(n);
  const int64_t size = size_of(kernel.element);
  const Scratch scratch(kernel, n, d, memory);
  const auto factor = static_cast<float>(1 / std::sqrt(static_cast<double>(d)));
  const int64_t channels = cpu::padded(
      even_part(d, n <= kFewTokens ? divide_up(d, kPartsOfFewTokens) : head.summed),
      kernel.element);
  const int64_t tokens = cpu::padded(even_part(n, head.summed), kernel.element);
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
