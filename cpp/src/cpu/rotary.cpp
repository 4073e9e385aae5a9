#include "cpu/forward.h"
#include "cpu/kernels/rotate.h"
#include "ops/cpu/member_rows.h"

// What the fast path does to queries and keys after their product, and with the tokens' locations.

namespace dsm_ext::cpu {

// Normalizes and turns in place those heads of queries and keys that lie in some columns of `x`.
// x: the piece's rows of queries, keys and values. whole_images: whether the rows of `x` are all
// tokens of the images; otherwise they are prefix tokens, which are not turned.
void Forward::finish_heads(
    int64_t i, Rows x, const Piece& piece, Range columns, bool whole_images) const {
  const auto& block = weights_.blocks[i];
  const int64_t d = config_.head_dim(), h = config_.num_heads;
  const Range all{columns.begin / d, columns.end / d};
  const auto finish = [&](const Norm& norm, Range heads, int64_t first_head) {
    if (heads.begin >= heads.end) {
      return;
    }
    const auto part = x.at(0, heads.begin * d);
    if (norm) {
      normalize_operands(part, piece.rows, heads.end - heads.begin, d, weights_of(norm), part);
    }
    if (rotary() && whole_images) {
      for (int64_t row = 0; row < piece.rows; ++row) {
        rotate_heads(
            i, part.at(row), piece.row + row, {heads.begin - first_head, heads.end - first_head},
            ws_.scratch[piece.thread]);
      }
    }
  };
  finish(block.q_norm, {all.begin, std::min(all.end, h)}, 0);
  finish(block.k_norm, {std::max(all.begin, h), std::min(all.end, h + block.kv_heads)}, h);
}

// Turns some heads of one row in place. x: the row's first of these heads.
void Forward::rotate_heads(int64_t i, Rows x, int64_t row, Range heads, Scratch& own) const {
  const int64_t d = config_.head_dim(), pairs = d / 2, count = heads.end - heads.begin;
  const int64_t n = state_.count, token = row % n;
  if (token < config_.prefix()) {
    return;
  }
  const bool mixed = config_.rope_type == RopeType::mixed;
  if (!state_.merged) {
    const auto* planned = data_.rotations.const_data_ptr<float>();
    const int64_t first = mixed ? i * config_.num_heads + heads.begin : 0;
    rotate_row(x, count, pairs, planned + (first * n + token) * d, mixed ? n * d : 0);
  } else if (!mixed) {
    rotate_row(x, count, pairs, state_.rotation + row * d, 0);
  } else {
    const auto at = coordinates(plan_.axes(), state_.location + 2 * row);
    for (int64_t h = 0; h < count; ++h) {
      write_rotation(at, frequencies(i, heads.begin + h), pairs, own.rotation + h * d);
    }
    rotate_row(x, count, pairs, own.rotation, d);
  }
}

// The frequencies of a block's head, for each axis [D / 2].
std::array<const float*, 2> Forward::frequencies(int64_t i, int64_t h) const {
  const auto& all = weights_.frequencies;
  const auto* first = all.const_data_ptr<float>();
  if (config_.rope_type == RopeType::mixed) {
    first += (i * config_.num_heads + h) * all.size(3);
  }
  return {first, first + all.stride(0)};
}

// Writes the locations of one image's merged tokens to `next_`, and their rotations if all blocks
// and heads share them.
void Forward::merge_locations(
    int64_t image, const int32_t* begin, const int32_t* members, int64_t tokens) const {
  const int64_t n = state_.count, d = config_.head_dim();
  const bool rotates = rotary() && config_.rope_type != RopeType::mixed;
  const float* size = state_.merged ? state_.size + image * n : nullptr;
  float* location = next_.location + 2 * image * tokens;
  float* rotation = rotates ? next_.rotation + image * tokens * d : nullptr;
  for (int64_t t = 0; t < tokens; ++t) {
    merge_row(
        locations_of(image), size, members + begin[t], begin[t + 1] - begin[t], 2,
        location + 2 * t);
    if (rotates && t >= config_.prefix()) {
      write_rotation(
          coordinates(plan_.axes(), location + 2 * t), frequencies(0, 0), d / 2, rotation + t * d);
    }
  }
}

}  // namespace dsm_ext::cpu
