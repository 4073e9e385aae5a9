#include <algorithm>

#include "cpu/forward.h"

// Writes the outputs of a forward: logits, features, intermediate tokens, sizes and sources.

namespace dsm_ext::cpu {

void Forward::copy_size(at::Tensor& to) const {
  float* size = to.mutable_data_ptr<float>() + part_.first * state_.count;
  if (state_.merged) {
    std::copy_n(state_.size, images_ * state_.count, size);
  } else {
    std::fill_n(size, images_ * state_.count, 1.f);
  }
}

void Forward::copy_source(at::Tensor& to) const {
  const int64_t patches = config_.patches();
  std::copy_n(
      state_.source, images_ * patches, to.mutable_data_ptr<int32_t>() + part_.first * patches);
}

void Forward::copy_location(at::Tensor& to) const {
  const int64_t length = 2 * state_.count;
  for (int64_t image = 0; image < images_; ++image) {
    std::copy_n(
        locations_of(image), length, to.mutable_data_ptr<float>() + (part_.first + image) * length);
  }
}

void Forward::keep(int64_t place) {
  const int64_t c = config_.embed_dim, n = state_.count;
  auto& kept = outputs_.intermediates[place];
  float* tokens = kept.tokens.mutable_data_ptr<float>() + part_.first * n * c;
  const Norm none;
  const auto& norm = request_.norm ? weights_.norm : none;
  const auto copy = [&](const Piece& piece) {
    normalize(norm, state_.tokens + piece.row * c, c, piece.rows, {tokens + piece.row * c, c});
  };
  chain(images_ * n, {{Stage::head, 0, copy}});
  copy_source(kept.source);
  copy_size(kept.size);
}

void Forward::finish() {
  begin_part(config_.depth + 1);
  const int64_t c = config_.embed_dim;
  const int64_t last_rows = request_.last_rows(config_);
  const int64_t rows = last_rows == kAllRows ? state_.count : last_rows;
  if (request_.logits || request_.features) {
    float* normed = request_.features ? outputs_.features.mutable_data_ptr<float>() +
                                            part_.first * state_.count * c
                                      : next_.tokens;
    const auto norm = [&](const Piece& piece) {
      normalize(
          weights_.norm, state_.tokens + piece.row * c, c, piece.rows, {normed + piece.row * c, c});
    };
    chain(images_ * rows, {{Stage::head, 0, norm}});
    if (request_.logits) {
      head(
          normed, rows,
          outputs_.logits.mutable_data_ptr<float>() + part_.first * config_.outputs());
    }
  }
  if (request_.trace) {
    copy_source(outputs_.source);
    copy_size(outputs_.size);
    copy_location(outputs_.location);
  }
}

}  // namespace dsm_ext::cpu
