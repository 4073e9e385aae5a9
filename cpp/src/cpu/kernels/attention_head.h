#pragma once

#include "cpu/kernels/gemm_kernel.h"

namespace dsm_ext::cpu {

/// In attention, a score is a sum over channels, and an output is a sum over tokens. The kernel
/// sums at most this many terms one after the other, and then adds these partial sums. Terms may be
/// large here, so short partial sums keep rounding errors small.
constexpr int64_t kSummedInAttention = 384;

/// The operands of one head of attention: out = softmax(q k^T / sqrt(dim) + bias) v.
struct AttentionHead {
  Rows q;  // [queries, dim]
  int64_t queries = 0;
  Rows k, v;  // [tokens, dim]
  int64_t tokens = 0, dim = 0;
  // [padded_tokens(tokens)]: log sizes, then minus infinity in the padding.
  const float* bias = nullptr;
  Rows out;  // [queries, dim]; may be `q`
  int64_t summed = kSummedInAttention;
};

/// The length of a row of scores: a whole number of vectors, at least `tokens`.
inline int64_t padded_tokens(int64_t tokens) { return (tokens + 15) / 16 * 16; }

/// Bytes of scratch memory that `attend` needs.
int64_t attention_scratch(const AttentionKernel& kernel, int64_t tokens, int64_t dim);

/// Computes one head of attention.
/// \param scratch  `attention_scratch` bytes, which begin at a cache line.
void attend(const AttentionKernel& kernel, const AttentionHead& head, std::byte* scratch);

}  // namespace dsm_ext::cpu
