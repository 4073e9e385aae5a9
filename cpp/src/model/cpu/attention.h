#pragma once

#include <cstdint>

#include "product.h"

namespace dsm_ext::cpu {

/// Attention of one head: out = softmax(q k^T / sqrt(dim) + bias) v.
struct Head {
  const float* q = nullptr;  // [queries, dim], rows `q_stride` apart
  int64_t q_stride = 0, queries = 0;
  const float *k = nullptr, *v = nullptr;  // [tokens, dim], rows `kv_stride` apart
  int64_t kv_stride = 0, tokens = 0, dim = 0;
  const float* bias = nullptr;  // [padded_tokens(tokens)]: log sizes, then minus infinity
  float* out = nullptr;         // [queries, dim], rows `out_stride` apart; may be `q` itself
  int64_t out_stride = 0;
  // How many products of a score, or of a value of the output, are summed in a row.
  int64_t summed = kSummedInAttention;
};

/// Columns of a row of scores: a whole number of vectors.
inline int64_t padded_tokens(int64_t tokens) { return (tokens + 15) / 16 * 16; }

/// Floats of scratch that `attend` needs.
int64_t attention_scratch(int64_t tokens, int64_t dim);

void attend(const Head& head, float* scratch);

}  // namespace dsm_ext::cpu
