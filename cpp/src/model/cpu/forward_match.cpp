#include <algorithm>
#include <cmath>
#include <limits>

#include "../../ops/cpu/member_rows.h"
#include "attention.h"
#include "forward.h"

namespace dsm_ext::cpu {

// All merge steps of a block for one image, composed into one map, and its sizes afterwards.
void Forward::match(int64_t i, int64_t image, Scratch& own) const {
  const int64_t c = config_.embed_dim, d = config_.head_dim(), n = tokens_;
  const auto& steps = layout_.plan().blocks[i].steps;
  int32_t* place = ws_.place + image * n;
  const float* size = sized_ ? ws_.size + image * n : nullptr;
  mean_of_heads(ws_.qkv + (image * n * 3 + 1) * c, 3 * c, n, config_.num_heads, d, own.metric);
  for (size_t s = 0; s < steps.size(); ++s) {
    int32_t* step_place = s == 0 ? place : own.place;
    for (int64_t t = 0; t < config_.prefix(); ++t) {
      step_place[t] = static_cast<int32_t>(t);
    }
    for (const auto& group : layout_.match_groups(i)[s]) {
      own.matcher(own.metric, d, group, MergeScore::similarity, step_place);
    }
    if (s > 0) {
      for (int64_t t = 0; t < n; ++t) {
        place[t] = step_place[place[t]];
      }
    }
    if (s + 1 < steps.size()) {
      const int64_t in = steps[s].tokens_in, out = steps[s].tokens_out;
      list_members(step_place, in, out, own.begin, own.sources);
      for (int64_t m = 0; m < out; ++m) {
        own.new_size[m] = merge_row(
            own.metric, size, own.sources + own.begin[m], own.begin[m + 1] - own.begin[m], d,
            own.new_metric + m * d);
      }
      std::swap(own.metric, own.new_metric);
      std::swap(own.size, own.new_size);
      size = own.size;
    }
  }

  const int64_t m = next_tokens(i);
  int32_t* begin = ws_.begin + image * (n + 1);
  int32_t* sources = ws_.sources + image * n;
  list_members(place, n, m, begin, sources);
  float* new_size = ws_.new_size + image * m;
  for (int64_t row = 0; row < m; ++row) {
    float sum = 0;
    for (int32_t k = begin[row]; k < begin[row + 1]; ++k) {
      sum += sized_ ? ws_.size[image * n + sources[k]] : 1.f;
    }
    new_size[row] = sum;
  }
  fill_bias(
      ws_.new_bias + image * padded_tokens(m),
      layout_.schedule().proportional() ? new_size : nullptr, m);
  if (traces_) {
    const int64_t patches = config_.patches();
    int32_t* patch = ws_.holder + image * patches;
    for (int64_t q = 0; q < patches; ++q) {
      patch[q] = place[patch[q]];
    }
  }
}

void Forward::fill_bias(float* bias, const float* size, int64_t tokens) const {
  for (int64_t t = 0; t < tokens; ++t) {
    bias[t] = size == nullptr ? 0.f : std::log(size[t]);
  }
  std::fill_n(
      bias + tokens, padded_tokens(tokens) - tokens, -std::numeric_limits<float>::infinity());
}

}  // namespace dsm_ext::cpu
