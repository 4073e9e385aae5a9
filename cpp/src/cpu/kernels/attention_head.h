#pragma once

#include "cpu/kernels/gemm_kernel.h"

namespace dsm_ext::cpu {

/// In attention, a score is a sum over channels, and an output is a sum over tokens. The kernel
/// sums at most this many terms one after the other, and then adds these partial sums. Terms may be
/// large here, so short partial sums keep rounding errors small.
constexpr int64_t kSummedInAttention = 384;

/// With at most this many tokens, a row of scores covers all keys, so that the softmax never
/// rescales earlier results. With more tokens, scores, keys and values would not fit into the
/// second-level cache. Then queries meet the keys block by block, kBlockTokens at a time, and the
/// softmax keeps a running maximum and a running sum (flash attention, Dao et al. 2022, section 3).
constexpr int64_t kWholeTokens = 1536;
constexpr int64_t kBlockTokens = 384;

/// How many queries go through the blocks together: a block of keys and values stays in the
/// second-level cache while it meets these queries.
constexpr int64_t kQueriesAtOnce = 256;

/// The length of a row of scores: a whole number of vectors, at least `tokens`.
inline int64_t padded_tokens(int64_t tokens) { return (tokens + 15) / 16 * 16; }

/// How many keys are in a block.
inline int64_t block_tokens(int64_t tokens) {
  return tokens <= kWholeTokens ? padded_tokens(tokens) : kBlockTokens;
}

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

  int64_t blocks() const { return (tokens + block_tokens(tokens) - 1) / block_tokens(tokens); }
};

/// Bytes of a head's packed keys and values: a whole number of cache lines.
int64_t packed_head_bytes(const AttentionKernel& kernel, int64_t tokens, int64_t dim);

/// Packs one block of the head's keys and values.
/// \param packed  The memory of the whole packed head; it begins at a cache line.
void pack_block(
    const AttentionKernel& kernel, const AttentionHead& head, int64_t block, std::byte* packed);

/// Bytes of scratch memory that `attend` needs for up to `tokens` tokens: a whole number of cache
/// lines.
int64_t attention_scratch(const AttentionKernel& kernel, int64_t tokens, int64_t dim);

/// Computes one head of attention.
/// \param packed   The head's packed keys and values.
/// \param scratch  `attention_scratch` bytes, which begin at a cache line.
void attend(
    const AttentionKernel& kernel, const AttentionHead& head, const std::byte* packed,
    std::byte* scratch);

}  // namespace dsm_ext::cpu
