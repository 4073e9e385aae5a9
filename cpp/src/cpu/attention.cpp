#include "cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/kernels/ranges.h"
#include "cpu/tasks.h"

namespace dsm_ext::cpu {

AttentionHead Attention::head(int64_t image, int64_t h, int64_t first_query, int64_t count) const {
  const auto q = queries.at(image * query_count + first_query, h * dim);
  return {
      .q = q,
      .queries = count,
      .k = keys_of(image, h),
      .v = values.at(image * key_rows, h * kv_heads / heads * dim),
      .tokens = token_count,
      .dim = dim,
      .bias = bias + image * padded_tokens(token_count),
      .out = q,
      .summed = summed};
}

int64_t attention_memory(
    const AttentionKernel& kernel, int64_t images, int64_t heads, int64_t tokens, int64_t dim,
    int64_t threads) {
  const int64_t few = threads * packed_head_bytes(kernel, std::min(tokens, kWholeTokens), dim);
  const int64_t many =
      tokens > kWholeTokens ? images * heads * packed_head_bytes(kernel, tokens, dim) : 0;
  return threads * attention_scratch(kernel, tokens, dim) + std::max(few, many);
}

void attend(
    const AttentionKernel& kernel, const Attention& attention, int64_t threads, std::byte* memory,
    StageTimer* timer, int64_t other_count,
    c10::function_ref<void(int64_t index, int64_t thread)> other) {
  const int64_t heads = attention.images * attention.heads, n = attention.query_count;
  const int64_t tokens = attention.token_count, dim = attention.dim;
  const int64_t scratch_bytes = attention_scratch(kernel, tokens, dim);
  const int64_t packed_bytes = packed_head_bytes(kernel, tokens, dim);
  std::byte* packed = memory + threads * scratch_bytes;
  const auto head = [&](int64_t index, int64_t first, int64_t count) {
    return attention.head(index / attention.heads, index % attention.heads, first, count);
  };

  // With few tokens, each task packs the keys of its head for itself, so that they stay in its
  // cache. When there are too few heads to keep all threads busy, the queries of each head are cut
  // into parts. With many tokens, the keys of all heads are packed first, and a task takes as many
  // queries as go through the blocks of keys together.
  const bool whole = tokens <= kWholeTokens;
  constexpr int64_t kLeastQueries = 32;
  int64_t parts = whole ? 1 : divide_up(n, kQueriesAtOnce);
  while (whole && heads * parts % threads != 0 && heads * parts < 8 * threads &&
         n / (parts + 1) >= kLeastQueries) {
    ++parts;
  }
  const int64_t step = whole ? divide_up(n, parts) : kQueriesAtOnce;
  if (!whole) {
    const int64_t blocks = head(0, 0, 0).blocks();
    for_each_task(heads * blocks, threads, [&](int64_t index, int64_t thread) {
      timed(timer, attention.stage, thread, [&] {
        const int64_t h = index / blocks;
        pack_block(kernel, head(h, 0, 0), index % blocks, packed + h * packed_bytes);
      });
    });
  }
  for_each_task(other_count + heads * parts, threads, [&](int64_t index, int64_t thread) {
    if (index < other_count) {
      other(index, thread);
      return;
    }
    index -= other_count;
    const int64_t first = index % parts * step, h = index / parts;
    if (first < n) {
      const auto operands = head(h, first, std::min(step, n - first));
      auto* own = packed + (whole ? thread : h) * packed_bytes;
      timed(timer, attention.stage, thread, [&] {
        if (whole) {
          pack_block(kernel, operands, 0, own);
        }
        attend(kernel, operands, own, memory + thread * scratch_bytes);
      });
    }
  });
}

void fill_bias(float* bias, const float* size, int64_t tokens) {
  for (int64_t t = 0; t < tokens; ++t) {
    bias[t] = size == nullptr ? 0.f : std::log(size[t]);
  }
  std::fill_n(
      bias + tokens, padded_tokens(tokens) - tokens, -std::numeric_limits<float>::infinity());
}

}  // namespace dsm_ext::cpu
