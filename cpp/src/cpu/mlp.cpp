#include "cpu/forward.h"
#include "cpu/kernels/store_rows.h"
#include "ops/cpu/member_rows.h"

namespace dsm_ext::cpu {

// Merges tokens if `merges`, then computes norm2 and the MLP of `rows` rows. Writes merged tokens
// to `next_`, which then becomes `state_`.
void Forward::add_mlp(const BlockWeights& block, int64_t rows, bool merges) {
  const int64_t c = config_.embed_dim, n = state_.count, m = rows / images_;
  const int64_t hidden = block.fc2.inputs;
  const auto layers = weights_.elements.layers, made = weights_.elements.hidden;
  float* tokens = merges ? next_.tokens : state_.tokens;
  const auto norm2 = weights_of(block.norm2);
  const auto merge_and_normalize = [&](const Piece& piece) {
    for (int64_t row = piece.row; row < piece.row + piece.rows; ++row) {
      const int64_t image = row / m;
      const int32_t* begin = ws_.member_begin + image * (n + 1) + row % m;
      timed(timer_, Stage::merge, piece.thread, [&] {
        merge_row(
            state_.tokens + image * n * c, state_.merged ? state_.size + image * n : nullptr,
            ws_.members + image * n + begin[0], begin[1] - begin[0], c, tokens + row * c);
      });
      timed(timer_, Stage::norm2, piece.thread, [&] {
        const auto out = piece.normed.at(row - piece.row);
        normalize_row(tokens + row * c, c, norm2, out);
        pad_rows(out, 1, c);
      });
    }
  };
  const auto normalize_only = [&](const Piece& piece) {
    timed(timer_, Stage::norm2, piece.thread, [&] {
      normalize(block.norm2, tokens + piece.row * c, c, piece.rows, piece.normed);
    });
  };
  const auto fc1 = [&](const Piece& piece) {
    multiply(
        {.x = piece.normed,
         .out = piece.hidden,
         .finish = {.activation = config_.act_layer, .gated = block.gated},
         .columns = padded(hidden, made)},
        piece.rows, block.fc1, piece.panels, tile(piece));
  };
  const auto normalize_hidden = [&](const Piece& piece) {
    normalize_operands(
        piece.hidden, piece.rows, 1, hidden, weights_of(block.mlp_norm), piece.operands);
  };
  const auto quantize_hidden = [&](const Piece& piece) {
    store_rows(piece.hidden, piece.rows, hidden, piece.operands);
  };
  const auto fc2 = [&](const Piece& piece) {
    float* out = tokens + piece.row * c;
    multiply(
        {.x = piece.operands, .out = {out, c}, .finish = {.addend = out, .addend_stride = c}},
        piece.rows, block.fc2, piece.panels, tile(piece));
  };
  const auto run = [&](at::ArrayRef<RowStage> stages) {
    chain(rows, stages, hidden, made, layers);
  };
  const RowStage first{
      std::nullopt, 0,
      merges ? c10::function_ref<void(const Piece&)>(merge_and_normalize) : normalize_only};
  const RowStage fc1_stage{Stage::fc1, block.fc1.count(), fc1};
  const RowStage fc2_stage{Stage::fc2, block.fc2.count(), fc2};
  if (block.mlp_norm) {
    run({first, fc1_stage, {Stage::fc2, 0, normalize_hidden}, fc2_stage});
  } else if (layers != made) {
    run({first, fc1_stage, {Stage::fc2, 0, quantize_hidden}, fc2_stage});
  } else {
    run({first, fc1_stage, fc2_stage});
  }
  if (merges) {
    next_.count = m;
    next_.merged = true;
    std::swap(state_, next_);
  }
}

}  // namespace dsm_ext::cpu
