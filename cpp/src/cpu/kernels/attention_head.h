#pragma once

#include "cpu/kernels/gemm_kernel.h"

namespace dsm_ext::cpu {

/// In attention, a score or a value of the output is a sum over channels or tokens. The kernel adds
/// at most so many products one after the other, and then adds the parts, because the terms may be
/// large.
constexpr int64_t kSummedInAttention = 384;

/// One head of attention: out = softmax(q k^T / sqrt(dim) + bias) v.
struct AttentionHead {
  Rows q;  // [queries, dim]
  int64_t queries = 0;
  Rows k, v;  // [tokens, dim]
  int64_t tokens = 0, dim = 0;
  const float* bias = nullptr;  // [padded_tokens(tokens)]: log sizes, then minus infinity
  Rows out;                     // [queries, dim]; may be `q`
  int64_t summed = kSummedInAttention;
};

/// Columns of a row of scores: a whole number of vectors.
inline int64_t padded_tokens(int64_t tokens) { return (tokens + 15) / 16 * 16; }

/// Bytes of scratch memory that `attend` needs.
int64_t attention_scratch(const GemmKernel& kernel, int64_t tokens, int64_t dim);

/// \param scratch  Begins at a cache line.
void attend(const GemmKernel& kernel, const AttentionHead& head, std::byte* scratch);

}  // namespace dsm_ext::cpu
