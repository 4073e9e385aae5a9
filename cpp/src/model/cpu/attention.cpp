#include "attention.h"

#include <algorithm>

#include "product.h"
#include "rows.h"

// Attention of a few hundred tokens on the CPU. A task is some queries of one head: its keys are
// transposed and its values copied side by side once, 50 KB each at 197 tokens of 64 channels, and
// stay in the second cache; scores are made for kQueries queries at a time, 53 KB, with all tokens
// in a row, so that the softmax is exact and needs no second look at what came before.

namespace dsm_ext::cpu {
namespace {

constexpr int64_t kQueries = 64;

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
  transpose(head.k, n, d, head.kv_stride, keys, padded);
  for (int64_t c = 0; c < d; ++c) {
    std::fill_n(keys + c * padded + n, padded - n, 0.f);
  }
  for (int64_t row = 0; row < n; ++row) {
    std::copy_n(head.v + row * head.kv_stride, d, values + row * d);
  }
  for (int64_t first = 0; first < head.queries; first += kQueries) {
    const int64_t m = std::min(kQueries, head.queries - first);
    multiply_block(
        m, padded, d, head.q + first * head.q_stride, head.q_stride, keys, padded, scores, padded);
    exponentials(scores, m, padded, head.bias, scale);
    float* out = head.out + first * head.out_stride;
    multiply_block(m, d, n, scores, padded, values, d, out, head.out_stride);
    scale_rows(out, m, d, head.out_stride, scale);
  }
}

}  // namespace dsm_ext::cpu
