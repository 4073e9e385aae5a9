#include <algorithm>

#include "../../ops/cpu/member_rows.h"
#include "forward.h"
#include "tasks.h"

// What follows the blocks: what was asked for of their tokens, the pooling and the classifier.

namespace dsm_ext::cpu {

void Forward::copy_size(at::Tensor& to, int64_t first) const {
  float* size = to.mutable_data_ptr<float>() + first * tokens_;
  if (sized_) {
    std::copy_n(ws_.size, images_ * tokens_, size);
  } else {
    std::fill_n(size, images_ * tokens_, 1.f);
  }
}

void Forward::copy_source(at::Tensor& to, int64_t first) const {
  const int64_t patches = config_.patches();
  std::copy_n(ws_.holder, images_ * patches, to.mutable_data_ptr<int32_t>() + first * patches);
}

void Forward::keep(Intermediate& kept, int64_t first) {
  const int64_t c = config_.embed_dim;
  float* tokens = kept.tokens.mutable_data_ptr<float>() + first * tokens_ * c;
  const Norm none;
  chain(images_ * tokens_, {{Stage::head, 0, [&](const Piece& piece) {
                               normalize(
                                   wanted_.norm ? weights_.norm : none, ws_.x + piece.row * c, c,
                                   piece.rows, tokens + piece.row * c);
                             }}});
  copy_source(kept.source, first);
  copy_size(kept.size, first);
}

void Forward::finish(Passed& passed, int64_t first) {
  const int64_t c = config_.embed_dim;
  const int64_t rows = wanted_.whole(config_) ? tokens_ : config_.pooled_tokens();
  if (wanted_.logits || wanted_.features) {
    float* normed = wanted_.features
                        ? passed.features.mutable_data_ptr<float>() + first * tokens_ * c
                        : ws_.other;
    chain(images_ * rows, {{Stage::head, 0, [&](const Piece& piece) {
                              normalize(
                                  weights_.norm, ws_.x + piece.row * c, c, piece.rows,
                                  normed + piece.row * c);
                            }}});
    if (wanted_.logits) {
      head(normed, rows, passed.logits.mutable_data_ptr<float>() + first * config_.outputs());
    }
  }
  if (wanted_.trace) {
    copy_source(passed.source, first);
    copy_size(passed.size, first);
  }
}

/// \param tokens  [images, rows, C], normalised.
void Forward::head(const float* tokens, int64_t rows, float* logits) {
  const int64_t c = config_.embed_dim, classes = config_.num_classes;
  const float* pooled = tokens;  // the class token, and behind it the distillation token
  int64_t stride = rows * c;
  if (config_.global_pool == Pool::avg) {
    average(tokens);
    pooled = ws_.pooled;
    stride = c;
  } else if (config_.global_pool == Pool::map) {
    attention_pool(tokens);
    pooled = ws_.x;
    stride = c;
  }
  if (weights_.fc_norm) {
    normalize(weights_.fc_norm, pooled, stride, images_, ws_.pooled);
    pooled = ws_.pooled;
    stride = c;
  }
  if (classes > 0) {
    chain(images_, {{Stage::head, weights_.head.count(), [&](const Piece& piece) {
                       multiply(
                           {.x = pooled + piece.row * stride,
                            .x_stride = stride,
                            .out = logits + piece.row * classes,
                            .out_stride = classes},
                           piece.rows, weights_.head, piece.panels, ws_.scratch[piece.slot].tile);
                     }}});
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

// Means of the pooled tokens, each weighted by how many patches it stands for.
void Forward::average(const float* tokens) {
  const int64_t c = config_.embed_dim, n = tokens_;
  const int64_t begin = config_.pool_include_prefix ? 0 : config_.prefix();
  for_each_task(images_, ws_.threads, [&](int64_t image, int64_t slot) {
    clock_.time(Stage::head, slot, [&] {
      const int64_t first = image * n + begin;
      mean_row(
          tokens + first * c, sized_ ? ws_.size + first : nullptr, n - begin, c,
          ws_.pooled + image * c);
    });
  });
}

// The pool is a block with one query an image, none of whose rows it is added to. Its output
// becomes x [images, C].
void Forward::attention_pool(const float* tokens) {
  const auto& block = weights_.pool.block;
  const int64_t c = config_.embed_dim, d = config_.head_dim(), heads = config_.num_heads;
  const int64_t n = tokens_, begin = config_.pool_include_prefix ? 0 : config_.prefix();
  const int64_t count = n - begin, padded = padded_tokens(count);
  const auto keys_and_values = [&](const Piece& piece) {
    multiply(
        {.x = tokens + piece.row * c,
         .x_stride = c,
         .out = ws_.qkv + piece.row * 2 * c,
         .out_stride = 2 * c},
        piece.rows, block.qkv, piece.panels, ws_.scratch[piece.slot].tile);
  };
  chain(images_ * n, {{Stage::head, block.qkv.count(), keys_and_values}});
  const bool biased = sized_ && layout_.schedule().proportional();
  for (int64_t image = 0; image < images_; ++image) {
    fill_bias(
        ws_.new_bias + image * padded, biased ? ws_.size + image * n + begin : nullptr, count);
    std::copy_n(weights_.pool.q.const_data_ptr<float>(), c, ws_.pooled_q + image * c);
  }
  for_each_task(images_ * heads, ws_.threads, [&](int64_t index, int64_t slot) {
    const int64_t image = index / heads, h = index % heads;
    float* q = ws_.pooled_q + image * c + h * d;
    const float* k = ws_.qkv + (image * n + begin) * 2 * c + h * d;
    clock_.time(Stage::head, slot, [&] {
      cpu::attend(
          {.q = q,
           .q_stride = c,
           .queries = 1,
           .k = k,
           .v = k + c,
           .kv_stride = 2 * c,
           .tokens = count,
           .dim = d,
           .bias = ws_.new_bias + image * padded,
           .out = q,
           .out_stride = c,
           .summed = kSummedOfFewRows},
          ws_.scratch[slot].attention);
    });
  });
  std::fill_n(ws_.x, images_ * c, 0.f);
  project(block, ws_.pooled_q, c, images_);
  mlp(block, images_, /*merged=*/false);
}

}  // namespace dsm_ext::cpu
