#include <algorithm>

#include "cpu/forward.h"
#include "cpu/kernels/query_attention.h"
#include "cpu/tasks.h"

namespace dsm_ext::cpu {

// Copies the queries of the class tokens, because attention overwrites them. A model without a
// class token takes the mean of all queries, weighted by size.
void Forward::keep_class_queries(const Attention& attention) {
  const int64_t c = config_.embed_dim, n = attention.query_count;
  const int64_t count = config_.class_token ? 1 : n;
  const auto keep = [&](int64_t image) {
    const bool weighted = state_.merged && !config_.class_token;
    mean_of_rows(
        attention.queries.at(image * n), weighted ? state_.size + image * n : nullptr, count, c,
        ws_.class_query + image * c);
  };
  for_each_task(images_, count == 1 ? 1 : ws_.threads, [&](int64_t image, int64_t thread) {
    timed(timer_, Stage::match, thread, [&] { keep(image); });
  });
}

// Writes the attention of the class tokens to all tokens to the outputs, and which token holds each
// patch, and the sizes.
void Forward::keep_class_attention(const Attention& attention) {
  const int64_t n = attention.token_count, heads = attention.heads, d = attention.dim;
  float* out = outputs_.class_attention.mutable_data_ptr<float>() + part_.first * heads * n;
  for_each_task(images_ * heads, ws_.threads, [&](int64_t index, int64_t) {
    const int64_t image = index / heads, h = index % heads;
    query_attention(
        ws_.class_query + index * d, attention.keys_of(image, h), n, d,
        attention.bias + image * padded_tokens(n), out + index * n);
  });
  copy_source(outputs_.source);
  copy_size(outputs_.size);
}

// Writes the attention that the class token of one image pays to each token, its mean over the
// heads.
void Forward::write_importance(const Attention& attention, int64_t image, Scratch& own) const {
  const int64_t n = attention.token_count, heads = attention.heads, d = attention.dim;
  const float share = 1.f / static_cast<float>(heads);
  float* importance = ws_.importance + image * n;
  std::fill_n(importance, n, 0.f);
  for (int64_t h = 0; h < heads; ++h) {
    query_attention(
        ws_.class_query + (image * heads + h) * d, attention.keys_of(image, h), n, d,
        attention.bias + image * padded_tokens(n), own.attention);
    for (int64_t t = 0; t < n; ++t) {
      importance[t] += share * own.attention[t];
    }
  }
}

}  // namespace dsm_ext::cpu
