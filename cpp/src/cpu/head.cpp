#include <algorithm>

#include "cpu/forward.h"
#include "cpu/kernels/store_rows.h"
#include "cpu/tasks.h"
#include "ops/cpu/member_rows.h"

// Makes logits from the tokens after the last norm: pooling, `fc_norm` and the classifier.

namespace dsm_ext::cpu {

// tokens: [images, rows, C], after the last norm.
void Forward::head(const float* tokens, int64_t rows, float* logits) {
  const int64_t c = config_.embed_dim, classes = config_.num_classes;
  const float* pooled = tokens;  // the class token; after it the distillation token, if any
  int64_t stride = rows * c;
  if (config_.global_pool == Pool::avg) {
    average(tokens);
    pooled = ws_.pooled;
    stride = c;
  } else if (config_.global_pool == Pool::map) {
    attention_pool(tokens);
    pooled = state_.tokens;
    stride = c;
  }
  if (weights_.fc_norm) {
    normalize(weights_.fc_norm, pooled, stride, images_, {ws_.pooled, c});
    pooled = ws_.pooled;
    stride = c;
  }
  if (classes > 0) {
    const auto element = weights_.elements.head;
    const Rows x(ws_.pooled_q, padded(weights_.head.inputs, element), element);
    for (int64_t image = 0; image < images_; ++image) {
      store_row(pooled + image * stride, weights_.head.inputs, x.at(image));
    }
    pad_rows(x, images_, weights_.head.inputs);
    const auto product = [&](const Piece& piece) {
      multiply(
          {.x = x.at(piece.row), .out = {logits + piece.row * classes, classes}}, piece.rows,
          weights_.head, piece.panels, tile(piece));
    };
    chain(images_, {{Stage::head, weights_.head.count(), product}});
    return;
  }
  for (int64_t image = 0; image < images_; ++image) {
    const float* row = pooled + image * stride;
    float* out = logits + image * c;
    for (int64_t i = 0; i < c; ++i) {
      out[i] = config_.distilled ? (row[i] + row[c + i]) / 2 : row[i];
    }
  }
}

// Writes the mean of the pooled tokens of each image, weighted by size, to `ws_.pooled`.
void Forward::average(const float* tokens) {
  const int64_t c = config_.embed_dim, n = state_.count, begin = config_.first_pooled();
  for_each_task(images_, ws_.threads, [&](int64_t image, int64_t thread) {
    timed(timer_, Stage::head, thread, [&] {
      const int64_t first = image * n + begin;
      mean_row(
          tokens + first * c, state_.merged ? state_.size + first : nullptr, n - begin, c,
          ws_.pooled + image * c);
    });
  });
}

// Computes the attention pool as a block with one query for each image. The block adds its output
// to zeros, because the pool has no residual there. The result becomes `state_.tokens` [images, C].
void Forward::attention_pool(const float* tokens) {
  const auto& block = weights_.pool.block;
  const int64_t c = config_.embed_dim, n = state_.count, begin = config_.first_pooled();
  const int64_t count = n - begin, padded = padded_tokens(count);
  const auto kv = attention_rows(ws_.qkv, 2 * c), q = pooled_queries();
  const auto load = [&](const Piece& piece) {
    store_rows({const_cast<float*>(tokens) + piece.row * c, c}, piece.rows, c, piece.normed);
    pad_rows(piece.normed, piece.rows, c);
  };
  const auto keys_and_values = [&](const Piece& piece) {
    multiply(
        {.x = piece.normed, .out = kv.at(piece.row)}, piece.rows, block.qkv, piece.panels,
        tile(piece));
  };
  chain(images_ * n, {{Stage::head, 0, load}, {Stage::head, block.qkv.count(), keys_and_values}});
  const bool biased = state_.merged && plan_.proportional();
  for (int64_t image = 0; image < images_; ++image) {
    fill_bias(
        next_.bias + image * padded, biased ? state_.size + image * n + begin : nullptr, count);
    store_row(weights_.pool.q.const_data_ptr<float>(), c, q.at(image));
  }
  pad_rows(q, images_, c);
  const Attention attention{
      .queries = q,
      .query_count = 1,
      .keys = kv.at(begin),
      .values = kv.at(begin, c),
      .key_rows = n,
      .token_count = count,
      .bias = next_.bias,
      .images = images_,
      .heads = config_.pool_heads(),
      .dim = c / config_.pool_heads(),
      .summed = kSummedOfFewRows,
      .stage = Stage::head};
  attend(
      attention_kernel(weights_.elements.attention), attention, ws_.threads, ws_.attention, timer_,
      0, [](int64_t, int64_t) {});
  std::fill_n(state_.tokens, images_ * c, 0.f);
  add_projection(block, q, images_);
  add_mlp(block, images_, /*merges=*/false);
}

}  // namespace dsm_ext::cpu
