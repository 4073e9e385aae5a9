#include "cpu/forward.h"

#include <utility>

#include "cpu/kernels/key_metric.h"
#include "ops/cpu/member_rows.h"

namespace dsm_ext::cpu {

// Matches the tokens of one image for all merge steps of a block. Composes the steps into one map
// from tokens to merged tokens, and lists the members of each merged token. Writes the sizes and
// the bias of the merged tokens to `next_`.
void Forward::match(int64_t i, int64_t image, Scratch& own) const {
  const int64_t c = config_.embed_dim, d = config_.head_dim(), n = state_.count;
  const auto& steps = plan_.plan().blocks[i].steps;
  int32_t* destination = ws_.destination + image * n;
  const float* image_size = state_.merged ? state_.size + image * n : nullptr;
  const float* size = image_size;  // the sizes of the metric's rows
  key_metric(attention_rows(ws_.qkv, 3 * c).at(image * n, c), n, config_.num_heads, d, own.metric);
  for (size_t s = 0; s < steps.size(); ++s) {
    int32_t* step_destination = s == 0 ? destination : own.destination;
    for (int64_t t = 0; t < config_.prefix(); ++t) {
      step_destination[t] = static_cast<int32_t>(t);
    }
    for (const auto& group : data_.groups[i][s]) {
      own.matcher(own.metric, d, group, plan_.plan().rule.score, step_destination);
    }
    if (s > 0) {
      for (int64_t t = 0; t < n; ++t) {
        destination[t] = step_destination[destination[t]];
      }
    }
    if (s + 1 < steps.size()) {  // the next step compares merged tokens by the mean of their metric
      const int64_t in = steps[s].tokens_in, out = steps[s].tokens_out;
      list_members(step_destination, in, out, own.member_begin, own.members);
      for (int64_t m = 0; m < out; ++m) {
        const int32_t* begin = own.member_begin + m;
        own.new_size[m] = merge_row(
            own.metric, size, own.members + begin[0], begin[1] - begin[0], d,
            own.new_metric + m * d);
      }
      std::swap(own.metric, own.new_metric);
      std::swap(own.size, own.new_size);
      size = own.size;
    }
  }

  const int64_t m = tokens_out(i);
  int32_t* begin = ws_.member_begin + image * (n + 1);
  int32_t* members = ws_.members + image * n;
  list_members(destination, n, m, begin, members);
  float* new_size = next_.size + image * m;
  for (int64_t row = 0; row < m; ++row) {
    float sum = 0;
    for (int32_t k = begin[row]; k < begin[row + 1]; ++k) {
      sum += image_size == nullptr ? 1.f : image_size[members[k]];
    }
    new_size[row] = sum;
  }
  fill_bias(next_.bias + image * padded_tokens(m), plan_.proportional() ? new_size : nullptr, m);
  if (request_.traces()) {
    const int64_t patches = config_.patches();
    int32_t* source = state_.source + image * patches;
    for (int64_t patch = 0; patch < patches; ++patch) {
      source[patch] = destination[source[patch]];
    }
  }
}

}  // namespace dsm_ext::cpu
