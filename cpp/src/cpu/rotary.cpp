#include <algorithm>

#include "cpu/forward.h"
#include "cpu/tasks.h"
#include "ops/cpu/member_rows.h"

// The product of queries, keys and values with what follows it, and the tokens' locations.

namespace dsm_ext::cpu {

// Computes some panels of the QKV product for a piece, and turns queries and keys: each tile as it
// is stored or, where heads have norms, after these.
// turns: whether the rows are all tokens of the images. Otherwise they are prefix tokens, which are
// not turned.
// out: the piece's rows of the product; its outputs from `columns` on are not written.
void Forward::project_panels(
    int64_t i, const Piece& piece, Range panels, bool turns, Rows out, int64_t columns) const {
  const auto& block = weights_.blocks[i];
  const int64_t step = even_part(piece.rows, block.qkv.kernel->tile_rows);
  const auto for_each_tile = [&](const auto& run) {
    for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
      for (int64_t row = 0; row < piece.rows; row += step) {
        run(panel, row, std::min(step, piece.rows - row));
      }
    }
  };
  const auto rotation = [&](int64_t panel, int64_t row, int64_t rows) {
    return rotation_of(i, piece.row + row, rows, panel, ws_.scratch[piece.thread]);
  };
  for_each_tile([&](int64_t panel, int64_t row, int64_t rows) {
    multiply(
        {.x = piece.normed.at(row),
         .out = out.at(row),
         .rotation = turns && !block.q_norm ? rotation(panel, row, rows) : Rotation{},
         .columns = columns},
        rows, block.qkv, {panel, panel + 1}, tile(piece));
  });
  if (block.q_norm) {
    normalize_heads(
        i, out, piece.rows,
        {panels.begin * kTileColumns, std::min(panels.end * kTileColumns, columns)});
  }
  if (block.q_norm && turns) {
    for_each_tile([&](int64_t panel, int64_t row, int64_t rows) {
      rotate_rows(out.at(row, panel * kTileColumns), rows, rotation(panel, row, rows).at(0, panel));
    });
  }
}

// Normalizes in place those heads of queries and keys that lie in some columns of the product.
void Forward::normalize_heads(int64_t i, Rows x, int64_t rows, Range columns) const {
  const auto& block = weights_.blocks[i];
  const int64_t d = config_.head_dim(), queries = config_.num_heads;
  const auto run = [&](const Norm& norm, int64_t begin, int64_t end) {
    if (begin < end) {
      const auto part = x.at(0, begin * d);
      normalize_operands(part, rows, end - begin, d, weights_of(norm), part);
    }
  };
  const int64_t begin = columns.begin / d, end = columns.end / d;
  run(block.q_norm, begin, std::min(end, queries));
  run(block.k_norm, std::max(begin, queries), std::min(end, queries + block.kv_heads));
}

// The rotation of some tokens' queries and keys in one panel. It may be in the scratch memory.
Rotation Forward::rotation_of(
    int64_t i, int64_t row, int64_t rows, int64_t panel, Scratch& own) const {
  const auto& block = weights_.blocks[i];
  const int64_t n = state_.count, d = config_.head_dim(), length = 2 * kPairs;
  const int64_t panels = weights_.frequencies.size(2) / kPairs;
  const bool mixed = config_.rope_type == RopeType::mixed;
  Rotation rotation{.columns = (config_.num_heads + block.kv_heads) * d, .width = pair_width(d)};
  if (!state_.merged) {
    rotation.table =
        data_.rotations.const_data_ptr<float>() + (mixed ? i : 0) * panels * n * length;
    rotation.token_stride = length;
    rotation.panel_stride = n * length;
    rotation.panels = panels;
    rotation.token = row % n;
    rotation.tokens = n;
  } else if (!mixed) {
    rotation.table = state_.rotation;
    rotation.token_stride = panels * length;
    rotation.panel_stride = length;
    rotation.panels = panels;
    rotation.token = row;
    rotation.tokens = images_ * n;
  } else {
    auto [first, second] = frequencies(i);
    first += panel % panels * kPairs;
    second += panel % panels * kPairs;
    for (int64_t t = 0; t < rows; ++t) {
      write_token_rotation(
          plan_, (row + t) % n, state_.location + 2 * (row + t), {first, second}, 1,
          own.rotation + t * length, length);
    }
    rotation.table = own.rotation;
    rotation.token_stride = length;
    rotation.tokens = rows;
  }
  return rotation;
}

// The frequencies of a block, for each axis [panels * kPairs].
std::array<const float*, 2> Forward::frequencies(int64_t i) const {
  const auto& all = weights_.frequencies;  // [2, 1 or depth, panels * kPairs]
  const auto* first = all.const_data_ptr<float>() + (all.size(1) == 1 ? 0 : i * all.size(2));
  return {first, first + all.stride(0)};
}

// Writes the locations of one image's merged tokens to `next_`, and their rotations if all blocks
// share them.
void Forward::merge_locations(
    int64_t image, const int32_t* begin, const int32_t* members, int64_t tokens) const {
  const int64_t n = state_.count;
  const float* size = state_.merged ? state_.size + image * n : nullptr;
  float* location = next_.location + 2 * image * tokens;
  for (int64_t t = 0; t < tokens; ++t) {
    merge_row(
        locations_of(image), size, members + begin[t], begin[t + 1] - begin[t], 2,
        location + 2 * t);
  }
  if (rotary() && config_.rope_type != RopeType::mixed) {
    const int64_t panels = weights_.frequencies.size(2) / kPairs, length = 2 * kPairs;
    float* rotation = next_.rotation + image * tokens * panels * length;
    for (int64_t t = 0; t < tokens; ++t) {
      write_token_rotation(
          plan_, t, location + 2 * t, frequencies(0), panels, rotation + t * panels * length,
          length);
    }
  }
}

}  // namespace dsm_ext::cpu
