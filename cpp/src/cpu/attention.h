#pragma once

#include "cpu/kernels/attention_head.h"
#include "cpu/workspace.h"

namespace dsm_ext::cpu {

/// Attention of a block, of the last block for some rows, or of the attention pool: where its
/// queries, keys and values lie, and how much there is of them. The output takes the place of the
/// queries.
struct Attention {
  Rows queries;         // [images * query_count, heads * dim]
  int64_t query_count;  // queries of each image
  Rows keys, values;    // [images * key_rows, heads * dim]
  int64_t key_rows;     // rows between the first keys of two images
  int64_t token_count;  // keys of each image
  const float* bias;    // [images, padded_tokens(token_count)], see `fill_bias`
  int64_t images, heads, dim;
  int64_t summed = kSummedInAttention;
  Stage stage = Stage::attention;

  /// Some queries of one head.
  AttentionHead head(int64_t image, int64_t h, int64_t first_query, int64_t queries) const;
};

/// Computes attention by the workspace's threads, beside other tasks, which begin first.
/// \param other_count  Of the other tasks.
/// \param other        Runs one of them, given its index and the number of its thread.
void attend(
    const GemmKernel& kernel, const Attention& attention, Workspace& workspace, StageTimer* timer,
    int64_t other_count, c10::function_ref<void(int64_t index, int64_t thread)> other);

/// What attention adds to its scores, for one image: the logarithms of the sizes, or zeros where
/// `size` is null, and minus infinity in the columns behind the tokens.
/// \param bias  [padded_tokens(tokens)], written.
/// \param size  [tokens].
void fill_bias(float* bias, const float* size, int64_t tokens);

}  // namespace dsm_ext::cpu
