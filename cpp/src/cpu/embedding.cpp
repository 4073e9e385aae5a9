#include <algorithm>

#include "cpu/forward.h"

namespace dsm_ext::cpu {

// Copies each patch to a row, then multiplies the rows. The product adds the position embedding as
// its addend. In models with `embed_norm`, a second pass normalizes the product and adds the
// positions after that.
void Forward::embed() {
  const int64_t c = config_.embed_dim, p = config_.prefix(), n = config_.tokens();
  const auto [height, width] = config_.img_size;
  const auto [ph, pw] = config_.patch_size;
  const int64_t gw = config_.grid()[1], patches = n - p, channels = config_.in_chans;
  const int64_t length = channels * ph * pw;
  const auto& embed_norm = weights_.embed_norm;
  const float* positions =
      data_.positions.defined() ? data_.positions.const_data_ptr<float>() : nullptr;
  const float* addend = embed_norm ? nullptr : positions;
  const auto* prefix = weights_.prefix.const_data_ptr<float>();
  begin_part(0);

  const auto unfold = [&](const Piece& piece) {
    for (int64_t row = piece.row; row < piece.row + piece.rows; ++row) {
      const int64_t image = row / patches, patch = row % patches;
      const float* corner = part_.images + image * channels * height * width +
                            patch / gw * ph * width + patch % gw * pw;
      auto out = piece.hidden.at(row - piece.row);
      for (int64_t channel = 0; channel < channels; ++channel) {
        for (int64_t y = 0; y < ph; ++y, out = out.at(0, pw)) {
          store_row(corner + (channel * height + y) * width, pw, out);
        }
      }
      pad_rows(piece.hidden.at(row - piece.row), 1, length);
      if (patch == 0) {
        std::copy_n(prefix, p * c, state_.tokens + image * n * c);
      }
    }
  };
  const auto project = [&](const Piece& piece) {
    for (int64_t row = piece.row; row < piece.row + piece.rows;) {
      const int64_t image = row / patches, patch = row % patches;
      const int64_t rows = std::min(patches - patch, piece.row + piece.rows - row);
      multiply(
          {.x = piece.hidden.at(row - piece.row),
           .out = {state_.tokens + (image * n + p + patch) * c, c},
           .finish =
               {.addend = addend == nullptr ? nullptr : addend + patch * c, .addend_stride = c}},
          rows, weights_.patch_embed, piece.panels, tile(piece));
      row += rows;
    }
  };
  const auto normalize_patches = [&](const Piece& piece) {
    for (int64_t row = piece.row; row < piece.row + piece.rows; ++row) {
      const int64_t image = row / patches, patch = row % patches;
      float* x = state_.tokens + (image * n + p + patch) * c;
      normalize_row(x, c, weights_of(embed_norm), {x, c});
      for (int64_t k = 0; k < c && positions != nullptr; ++k) {
        x[k] += positions[patch * c + k];
      }
    }
  };
  const auto normalize_tokens = [&](const Piece& piece) {
    float* x = state_.tokens + piece.row * c;
    normalize(weights_.norm_pre, x, c, piece.rows, {x, c});
  };
  chain(
      images_ * patches,
      {{Stage::embed, 0, unfold}, {Stage::embed, weights_.patch_embed.count(), project}}, length,
      weights_.elements.patch_embed, weights_.elements.patch_embed);
  if (embed_norm) {
    chain(images_ * patches, {{Stage::embed, 0, normalize_patches}});
  }
  if (weights_.norm_pre) {
    chain(images_ * n, {{Stage::embed, 0, normalize_tokens}});
  }

  for (int64_t image = 0; image < images_; ++image) {
    fill_bias(state_.bias + image * padded_tokens(n), nullptr, n);
  }
  if (request_.traces()) {
    for (int64_t i = 0; i < images_ * patches; ++i) {
      state_.source[i] = static_cast<int32_t>(p + i % patches);
    }
  }
}

}  // namespace dsm_ext::cpu
