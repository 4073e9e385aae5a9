#include <algorithm>

#include "forward.h"

namespace dsm_ext::cpu {

// Patches are copied side by side, a row each, and multiplied; the addend is their position. Where
// a norm stands between, position and all come in a second pass.
void Forward::embed(const float* images) {
  const int64_t c = config_.embed_dim, p = config_.prefix(), n = config_.tokens();
  const auto [height, width] = config_.img_size;
  const auto [ph, pw] = config_.patch_size;
  const int64_t gw = config_.grid()[1], patches = n - p, channels = config_.in_chans;
  const int64_t length = channels * ph * pw;
  const float* positions = weights_.embed_norm ? nullptr : positions_;
  const auto* prefix = weights_.prefix.const_data_ptr<float>();

  const auto unfold = [&](const Piece& piece) {
    float* out = piece.hidden;
    for (int64_t row = piece.row; row < piece.row + piece.rows; ++row) {
      const int64_t image = row / patches, patch = row % patches;
      const float* corner =
          images + image * channels * height * width + patch / gw * ph * width + patch % gw * pw;
      for (int64_t channel = 0; channel < channels; ++channel) {
        for (int64_t y = 0; y < ph; ++y, out += pw) {
          std::copy_n(corner + (channel * height + y) * width, pw, out);
        }
      }
      if (patch == 0) {
        std::copy_n(prefix, p * c, ws_.x + image * n * c);
      }
    }
  };
  const auto project = [&](const Piece& piece) {
    for (int64_t row = piece.row; row < piece.row + piece.rows;) {
      const int64_t image = row / patches, patch = row % patches;
      const int64_t rows = std::min(patches - patch, piece.row + piece.rows - row);
      multiply(
          {.x = piece.hidden + (row - piece.row) * length,
           .x_stride = length,
           .out = ws_.x + (image * n + p + patch) * c,
           .out_stride = c,
           .finish =
               {.addend = positions == nullptr ? nullptr : positions + patch * c,
                .addend_stride = c}},
          rows, weights_.patch_embed, piece.panels, ws_.scratch[piece.slot].tile);
      row += rows;
    }
  };
  chain(
      images_ * patches,
      {{Stage::embed, 0, unfold}, {Stage::embed, weights_.patch_embed.count(), project}}, length);
  if (weights_.embed_norm) {
    chain(images_ * patches, {{Stage::embed, 0, [&](const Piece& piece) {
                                 for (int64_t i = piece.row; i < piece.row + piece.rows; ++i) {
                                   const int64_t image = i / patches, patch = i % patches;
                                   float* x = ws_.x + (image * n + p + patch) * c;
                                   normalize_row(weights_.embed_norm, x, c, x);
                                   for (int64_t k = 0; k < c && positions_ != nullptr; ++k) {
                                     x[k] += positions_[patch * c + k];
                                   }
                                 }
                               }}});
  }
  if (weights_.norm_pre) {
    chain(images_ * n, {{Stage::embed, 0, [&](const Piece& piece) {
                           float* x = ws_.x + piece.row * c;
                           normalize(weights_.norm_pre, x, c, piece.rows, x);
                         }}});
  }
}

}  // namespace dsm_ext::cpu
