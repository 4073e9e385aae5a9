#include "cpu/forward.h"

#include <algorithm>
#include <utility>

#include "cpu/kernels/key_metric.h"
#include "cpu/tasks.h"
#include "ops/cpu/member_rows.h"

namespace dsm_ext::cpu {

// Writes the metric `keys_and_tokens` of a token, after attention's residual: the mean of the keys
// over the heads and the token. Both parts have equal lengths, and the row has unit length.
bool Forward::write_unit_row(const Attention& attention, int64_t row, float* unit) const {
  constexpr double kPart = 0.70710678118654752;  // sqrt(1 / 2)
  const int64_t c = config_.embed_dim, d = config_.head_dim();
  key_metric(attention.keys.at(row), 1, attention.kv_heads, d, unit);
  return scaled_row(unit, d, kPart, unit) &&
         scaled_row(state_.tokens + row * c, c, kPart, unit + d);
}

// Matches the tokens of all images by the metric of `write_unit_row`. With several images, each
// thread matches one at a time; a single image has all threads.
void Forward::match_images(int64_t i, const Attention& attention) {
  for_each_task(images_, ws_.threads, [&](int64_t image, int64_t thread) {
    timed(timer_, Stage::match, thread, [&] { match(i, attention, image, ws_.scratch[thread]); });
  });
}

// Matches the tokens of one image for all merge steps of a block. Composes the steps into one map
// from tokens to merged tokens, and lists the members of each merged token. Writes the sizes and
// the bias of the merged tokens to `next_`.
void Forward::match(int64_t i, const Attention& attention, int64_t image, Scratch& own) const {
  const int64_t c = config_.embed_dim, d = config_.head_dim(), n = state_.count;
  const bool by_tokens = rule().metric == MergeMetric::keys_and_tokens;
  const int64_t width = by_tokens ? d + c : d;
  const auto& steps = plan_.plan().blocks[i].steps;
  int32_t* destination = ws_.destination + image * n;
  const float* image_size = state_.merged ? state_.size + image * n : nullptr;
  // What the next step compares, and the sizes and the importance of these rows:
  const float* metric = by_tokens ? nullptr : own.metric;  // null: `write_unit_row` makes the rows
  const float* size = image_size;
  const float* importance = rule().protect > 0 ? ws_.importance + image * n : nullptr;
  if (!by_tokens) {
    key_metric(attention.keys.at(image * n), n, attention.kv_heads, d, own.metric);
  }
  for (size_t s = 0; s < steps.size(); ++s) {
    int32_t* step_destination = s == 0 ? destination : own.destination;
    for (int64_t t = 0; t < config_.prefix(); ++t) {
      step_destination[t] = static_cast<int32_t>(t);
    }
    if (importance != nullptr) {
      const auto factor =
          static_cast<float>(rule().protect * static_cast<double>(steps[s].tokens_in));
      for (int64_t t = 0; t < steps[s].tokens_in; ++t) {
        own.penalty[t] = factor * importance[t];
      }
    }
    const auto unit_row = [&](int64_t token, float* unit) {
      return metric == nullptr ? write_unit_row(attention, image * n + token, unit)
                               : scaled_row(metric + token * width, width, 1, unit);
    };
    for (const auto& group : data_.groups[i][s]) {
      own.matcher(
          unit_row, width, group, importance == nullptr ? nullptr : own.penalty, step_destination);
    }
    if (s > 0) {
      for (int64_t t = 0; t < n; ++t) {
        destination[t] = step_destination[destination[t]];
      }
    }
    if (s + 1 < steps.size()) {
      // The next step compares merged tokens by the mean of their metric. A merged token has the
      // attention of all its parts.
      const int64_t in = steps[s].tokens_in, out = steps[s].tokens_out;
      if (metric == nullptr) {
        for (int64_t t = 0; t < in; ++t) {
          if (!write_unit_row(attention, image * n + t, own.metric + t * width)) {
            std::fill_n(own.metric + t * width, width, 0.f);
          }
        }
        metric = own.metric;
      }
      list_members(step_destination, in, out, own.member_begin, own.members);
      for (int64_t m = 0; m < out; ++m) {
        const int32_t* begin = own.member_begin + m;
        own.new_size[m] = merge_row(
            metric, size, own.members + begin[0], begin[1] - begin[0], width,
            own.new_metric + m * width);
      }
      if (importance != nullptr) {
        std::fill_n(own.importance, out, 0.f);
        for (int64_t t = 0; t < in; ++t) {
          own.importance[step_destination[t]] += importance[t];
        }
        importance = own.importance;
      }
      std::swap(own.metric, own.new_metric);
      std::swap(own.size, own.new_size);
      metric = own.metric;
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
  if (locates()) {
    merge_locations(image, begin, members, m);
  }
  if (request_.traces()) {
    const int64_t patches = config_.patches();
    int32_t* source = state_.source + image * patches;
    for (int64_t patch = 0; patch < patches; ++patch) {
      source[patch] = destination[source[patch]];
    }
  }
}

}  // namespace dsm_ext::cpu
