#pragma once

#include <c10/util/FunctionRef.h>

#include "cpu/kernels/attention_head.h"
#include "model/stage_timer.h"

namespace dsm_ext::cpu {

/// The operands of attention in a block or in the attention pool. In the last block there may be
/// fewer queries than keys. The output overwrites the queries.
struct Attention {
  Rows queries;         // [images * query_count, heads * dim]
  int64_t query_count;  // queries of each image
  Rows keys, values;    // [images * key_rows, heads * dim]
  int64_t key_rows;     // rows from one image's first key to the next image's first key
  int64_t token_count;  // keys of each image, at most key_rows
  const float* bias;    // [images, padded_tokens(token_count)], see `fill_bias`
  int64_t images, heads, dim;
  int64_t kv_heads = heads;  // of keys and values; neighbouring heads of queries share one
  int64_t summed = kSummedInAttention;
  Stage stage = Stage::attention;

  /// The keys that a head of queries meets in one image.
  Rows keys_of(int64_t image, int64_t h) const {
    return keys.at(image * key_rows, h * kv_heads / heads * dim);
  }

  /// One head's attention for `queries` queries of one image, from `first_query` on.
  AttentionHead head(int64_t image, int64_t h, int64_t first_query, int64_t queries) const;
};

/// Bytes of memory that `attend` needs for up to `images` images with up to `tokens` tokens each.
int64_t attention_memory(
    const AttentionKernel& kernel, int64_t images, int64_t heads, int64_t tokens, int64_t dim,
    int64_t threads);

/// Computes attention, and at the same time runs other tasks. The other tasks begin first.
/// \param memory       `attention_memory` bytes, which begin at a cache line.
/// \param timer        Null when nothing is measured.
/// \param other_count  The number of other tasks.
/// \param other        Runs the other task `index`; `thread` is the number of the calling thread.
void attend(
    const AttentionKernel& kernel, const Attention& attention, int64_t threads, std::byte* memory,
    StageTimer* timer, int64_t other_count,
    c10::function_ref<void(int64_t index, int64_t thread)> other);

/// Writes the bias that attention adds to the scores of one image: the logarithms of the sizes,
/// then minus infinity in the padding.
/// \param bias  [padded_tokens(tokens)], written.
/// \param size  [tokens], or null: all sizes are 1.
void fill_bias(float* bias, const float* size, int64_t tokens);

}  // namespace dsm_ext::cpu
