#pragma once

#include <cstdint>

namespace dsm_ext::cpu {

/// Attention of one head: out = softmax(q k^T + bias) v.
struct Head {
  const float* q;  // [queries, dim], already scaled; rows `q_stride` apart
  int64_t q_stride, queries;
  const float *k, *v;  // [tokens, dim], rows `kv_stride` apart
  int64_t kv_stride, tokens, dim;
  const float* bias;  // [padded_tokens(tokens)]: log sizes, then minus infinity
  float* out;         // [queries, dim], rows `out_stride` apart; may be `q` itself
  int64_t out_stride;
};

/// Columns of a row of scores: a whole number of vectors.
inline int64_t padded_tokens(int64_t tokens) { return (tokens + 15) / 16 * 16; }

/// Floats of scratch that `attend` needs.
int64_t attention_scratch(int64_t tokens, int64_t dim);

void attend(const Head& head, float* scratch);

}  // namespace dsm_ext::cpu
