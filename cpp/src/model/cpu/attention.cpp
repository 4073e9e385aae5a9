#include "attention.h"

#include <algorithm>
#include <cmath>

#include "rows.h"

// Attention of a few hundred tokens on the CPU. A task is some queries of one head: its keys are
// transposed and its values copied side by side once, 50 KB each at 197 tokens of 64 channels, and
// stay in the second cache; scores are made for kQueries queries at a time, 53 KB, with all tokens
// in a row, so that the softmax is exact and needs no second look at what came before. The scores,
// not the queries, are divided by sqrt(dim): that costs nothing where the bias is added, and
// weights that were divided when they were packed would be rounded once more.

namespace dsm_ext::cpu {
namespace {

constexpr int64_t kQueries = 64;

// Of so few tokens other libraries make scores by sums of few products. So many parts round least.
constexpr int64_t kFewTokens = 16;
constexpr int64_t kPartsOfFewTokens = 5;

}  // namespace

int64_t attention_scratch(int64_t tokens, int64_t dim) {
  const int64_t padded = padded_tokens(tokens);
  return padded * dim + tokens * dim + kQueries * padded + kQueries + 3 * 16;
}

void attend(const Head& head, float* scratch) {
  const int64_t n = head.tokens, d = head.dim, padded = padded_tokens(n);
  float* keys = scratch;                            // [dim, padded]
  float* values = keys + padded * d;                // [tokens, dim]
  float* scores = values + (n * d + 15) / 16 * 16;  // [kQueries, padded]
  float* scale = scores + kQueries * padded;        // [kQueries]
  const auto factor = static_cast<float>(1 / std::sqrt(static_cast<double>(d)));
  const int64_t channels =
      even_part(d, n <= kFewTokens ? divide_up(d, kPartsOfFewTokens) : head.summed);
  const int64_t tokens = even_part(n, head.summed);
  transpose(head.k, n, d, head.kv_stride, keys, padded);
  for (int64_t c = 0; c < d; ++c) {
    std::fill_n(keys + c * padded + n, padded - n, 0.f);
  }
  for (int64_t row = 0; row < n; ++row) {
    std::copy_n(head.v + row * head.kv_stride, d, values + row * d);
  }
  for (int64_t first = 0; first < head.queries; first += kQueries) {
    const int64_t m = std::min(kQueries, head.queries - first);
    const float* q = head.q + first * head.q_stride;
    for (int64_t i = 0; i < d; i += channels) {
      multiply_block(
          m, padded, std::min(channels, d - i), q + i, head.q_stride, keys + i * padded, padded,
          scores, padded, i > 0);
    }
    exponentials(scores, m, padded, factor, head.bias, scale);
    float* out = head.out + first * head.out_stride;
    for (int64_t i = 0; i < n; i += tokens) {
      multiply_block(
          m, d, std::min(tokens, n - i), scores + i, padded, values + i * d, d, out,
          head.out_stride, i > 0);
    }
    scale_rows(out, m, d, head.out_stride, scale);
  }
}

}  // namespace dsm_ext::cpu
