#include "forward.h"

#include <algorithm>

#include "../../ops/cpu/gather.h"
#include "attention.h"
#include "tasks.h"

// The forward of some images, with every buffer planned before. A block is four passes over the
// rows: norm1 and the QKV product; attention by head, with matching by image beside it; the
// projection with the residual; then merging, norm2 and the MLP. Attention's output takes the place
// of its queries, and what passes between the stages of a chain stays with its thread.

namespace dsm_ext::cpu {

Forward::Forward(
    const Config& config, const Weights& weights, const Layout& layout, Workspace& workspace,
    Profile* profile)
    : config_(config),
      weights_(weights),
      layout_(layout),
      ws_(workspace),
      profile_(profile),
      seconds_(profile == nullptr ? 0 : workspace.threads),
      clock_(profile == nullptr ? nullptr : &seconds_) {
  if (profile != nullptr) {
    profile->threads = workspace.threads;
    profile->seconds.resize(config.depth + 2);
  }
}

void Forward::run(const float* images, const Outputs& outputs, int64_t first, int64_t count) {
  const int64_t c = config_.embed_dim, p = config_.prefix(), patches = config_.tokens() - p;
  images_ = count;
  tokens_ = config_.tokens();
  sized_ = false;
  part_ = 0;
  embed(images);
  end_part();
  for (int64_t i = 0; i < count; ++i) {
    fill_bias(ws_.bias + i * padded_tokens(tokens_), nullptr, tokens_);
  }
  int32_t* source = nullptr;
  if (outputs.source.defined()) {
    source = outputs.source.mutable_data_ptr<int32_t>() + first * patches;
    for (int64_t i = 0; i < count * patches; ++i) {
      source[i] = static_cast<int32_t>(p + i % patches);
    }
  }
  const bool whole = outputs.features.defined();
  for (int64_t i = 0; i < config_.depth; ++i) {
    if (whole || i + 1 < config_.depth) {
      block(i, source);
    } else {
      last_block(i);
    }
    end_part();
  }
  if (whole) {
    float* features = outputs.features.mutable_data_ptr<float>() + first * tokens_ * c;
    chain(count * tokens_, {{Stage::head, 0, [&](const Piece& piece) {
                               normalize(
                                   weights_.norm, ws_.x + piece.row * c, piece.rows,
                                   features + piece.row * c);
                             }}});
    if (outputs.size.defined()) {
      float* size = outputs.size.mutable_data_ptr<float>() + first * tokens_;
      if (sized_) {
        std::copy_n(ws_.size, count * tokens_, size);
      } else {
        std::fill_n(size, count * tokens_, 1.f);
      }
    }
    head(features, tokens_ * c, outputs, first);
  } else {
    chain(count * p, {{Stage::head, 0, [&](const Piece& piece) {
                         normalize(
                             weights_.norm, ws_.x + piece.row * c, piece.rows,
                             ws_.other + piece.row * c);
                       }}});
    head(ws_.other, p * c, outputs, first);
  }
  end_part();
}

void Forward::block(int64_t i, int32_t* source) {
  const auto& block = weights_.blocks[i];
  const int64_t c = config_.embed_dim, rows = images_ * tokens_, width = 3 * c;
  const bool merges = next_tokens(i) < tokens_;
  norm_and_qkv(block, ws_.x, rows, {0, block.qkv.count()}, {.out = ws_.qkv, .out_stride = width});
  attend_and_match(i, source);
  project(block, ws_.qkv, width, rows);
  mlp(block, images_ * next_tokens(i), merges);
  if (merges) {
    tokens_ = next_tokens(i);
    sized_ = true;
    std::swap(ws_.size, ws_.new_size);
    std::swap(ws_.bias, ws_.new_bias);
  }
}

// The last block for the prefix rows alone: keys and values of all tokens, everything else of those
// rows. They go side by side into the other buffer, which becomes x.
void Forward::last_block(int64_t i) {
  const auto& block = weights_.blocks[i];
  const int64_t c = config_.embed_dim, d = config_.head_dim(), heads = config_.num_heads;
  const int64_t p = config_.prefix(), n = tokens_;
  norm_and_qkv(
      block, ws_.x, images_ * n, {c / kTile, block.qkv.count()},
      {.out = ws_.qkv, .out_stride = 3 * c});
  for (int64_t image = 0; image < images_; ++image) {
    std::copy_n(ws_.x + image * n * c, p * c, ws_.other + image * p * c);
  }
  std::swap(ws_.x, ws_.other);
  norm_and_qkv(
      block, ws_.x, images_ * p, {0, divide_up(c, kTile)},
      {.out = ws_.prefix_q, .out_stride = c, .columns = c});
  for_each_task(images_ * heads, ws_.threads, [&](int64_t index, int64_t slot) {
    const int64_t image = index / heads, head = index % heads;
    attend(image, head, ws_.prefix_q + image * p * c + head * d, c, p, slot);
  });
  project(block, ws_.prefix_q, c, images_ * p);
  mlp(block, images_ * p, /*merged=*/false);
}

/// \param to  Where the panels' outputs go; its x is filled in here.
void Forward::norm_and_qkv(
    const BlockWeights& block, const float* x, int64_t rows, Range panels, const Product& to) {
  const int64_t c = config_.embed_dim;
  chain(
      rows, {{Stage::norm1, 0,
              [&](const Piece& piece) {
                normalize(block.norm1, x + piece.row * c, piece.rows, piece.normed);
              }},
             {Stage::qkv, panels.end - panels.begin, [&](const Piece& piece) {
                auto product = to;
                product.x = piece.normed;
                product.x_stride = c;
                product.out += piece.row * to.out_stride;
                multiply(
                    product, piece.rows, block.qkv,
                    {panels.begin + piece.panels.begin, panels.begin + piece.panels.end},
                    ws_.scratch[piece.slot].tile);
              }}});
}

// Tasks: first the matching of each image, where the block merges; then some queries of each head.
void Forward::attend_and_match(int64_t i, int32_t* source) {
  const int64_t c = config_.embed_dim, d = config_.head_dim(), heads = config_.num_heads;
  const int64_t width = 3 * c, n = tokens_;
  const int64_t matchings = next_tokens(i) < n ? images_ : 0;
  const int64_t patches = config_.tokens() - config_.prefix();
  // Parts of a head's queries, so that few heads keep all threads at work; each reads all keys.
  constexpr int64_t kLeastQueries = 32;
  int64_t parts = 1;
  while (images_ * heads * parts % ws_.threads != 0 && images_ * heads * parts < 8 * ws_.threads &&
         n / (parts + 1) >= kLeastQueries) {
    ++parts;
  }
  const int64_t step = divide_up(n, parts);
  for_each_task(matchings + images_ * heads * parts, ws_.threads, [&](int64_t index, int64_t slot) {
    if (index < matchings) {
      clock_.time(Stage::match, slot, [&] {
        match(i, index, ws_.scratch[slot], source == nullptr ? nullptr : source + index * patches);
      });
      return;
    }
    index -= matchings;
    const int64_t first = index % parts * step, head = index / parts % heads;
    const int64_t image = index / parts / heads;
    if (first < n) {
      float* q = ws_.qkv + (image * n + first) * width + head * d;
      attend(image, head, q, width, std::min(step, n - first), slot);
    }
  });
}

/// Attention of some queries of a head, in their place.
/// \param q  [queries, D], rows `stride` apart.
void Forward::attend(
    int64_t image, int64_t head, float* q, int64_t stride, int64_t queries, int64_t slot) {
  const int64_t c = config_.embed_dim, d = config_.head_dim(), n = tokens_;
  const float* row = ws_.qkv + image * n * 3 * c + head * d;
  clock_.time(Stage::attention, slot, [&] {
    cpu::attend(
        {.q = q,
         .q_stride = stride,
         .queries = queries,
         .k = row + c,
         .v = row + 2 * c,
         .kv_stride = 3 * c,
         .tokens = n,
         .dim = d,
         .bias = ws_.bias + image * padded_tokens(n),
         .out = q,
         .out_stride = stride},
        ws_.scratch[slot].attention);
  });
}

/// The projection of attention's output, added to x.
void Forward::project(
    const BlockWeights& block, const float* attended, int64_t stride, int64_t rows) {
  const int64_t c = config_.embed_dim;
  chain(rows, {{Stage::proj, block.proj.count(), [&](const Piece& piece) {
                  float* x = ws_.x + piece.row * c;
                  multiply(
                      {.x = attended + piece.row * stride,
                       .x_stride = stride,
                       .out = x,
                       .out_stride = c,
                       .addend = x,
                       .addend_stride = c},
                      piece.rows, block.proj, piece.panels, ws_.scratch[piece.slot].tile);
                }}});
}

// Merging, norm2 and the MLP of `rows` rows. Merged rows go into the other buffer, which becomes x.
void Forward::mlp(const BlockWeights& block, int64_t rows, bool merged) {
  const int64_t c = config_.embed_dim, n = tokens_, m = rows / images_;
  const int64_t hidden = config_.mlp_dim;
  float* x = merged ? ws_.other : ws_.x;
  const auto merge_and_normalize = [&](const Piece& piece) {
    for (int64_t row = piece.row; row < piece.row + piece.rows; ++row) {
      const int64_t image = row / m;
      const int32_t* begin = ws_.begin + image * (n + 1) + row % m;
      clock_.time(Stage::merge, piece.slot, [&] {
        merge_row(
            ws_.x + image * n * c, sized_ ? ws_.size + image * n : nullptr,
            ws_.sources + image * n + begin[0], begin[1] - begin[0], c, x + row * c);
      });
      clock_.time(Stage::norm2, piece.slot, [&] {
        normalize(block.norm2, x + row * c, 1, piece.normed + (row - piece.row) * c);
      });
    }
  };
  const auto normalize_only = [&](const Piece& piece) {
    clock_.time(Stage::norm2, piece.slot, [&] {
      normalize(block.norm2, x + piece.row * c, piece.rows, piece.normed);
    });
  };
  chain(
      rows,
      {{std::nullopt, 0,
        merged ? c10::function_ref<void(const Piece&)>(merge_and_normalize) : normalize_only},
       {Stage::fc1, block.fc1.count(),
        [&](const Piece& piece) {
          multiply(
              {.x = piece.normed,
               .x_stride = c,
               .out = piece.hidden,
               .out_stride = hidden,
               .activation = Activation::gelu},
              piece.rows, block.fc1, piece.panels, ws_.scratch[piece.slot].tile);
        }},
       {Stage::fc2, block.fc2.count(),
        [&](const Piece& piece) {
          multiply(
              {.x = piece.hidden,
               .x_stride = hidden,
               .out = x + piece.row * c,
               .out_stride = c,
               .addend = x + piece.row * c,
               .addend_stride = c},
              piece.rows, block.fc2, piece.panels, ws_.scratch[piece.slot].tile);
        }}},
      hidden);
  if (merged) {
    std::swap(ws_.x, ws_.other);
  }
}

/// \param tokens  Normalised, those of an image's prefix side by side, images `stride` apart.
void Forward::head(const float* tokens, int64_t stride, const Outputs& outputs, int64_t first) {
  if (!outputs.logits.defined()) {
    return;
  }
  const int64_t classes = config_.num_classes;
  float* logits = outputs.logits.mutable_data_ptr<float>() + first * classes;
  chain(images_, {{Stage::head, weights_.head.count(), [&](const Piece& piece) {
                     multiply(
                         {.x = tokens + piece.row * stride,
                          .x_stride = stride,
                          .out = logits + piece.row * classes,
                          .out_stride = classes},
                         piece.rows, weights_.head, piece.panels, ws_.scratch[piece.slot].tile);
                   }}});
}

void Forward::chain(int64_t rows, std::initializer_list<RowStage> stages, int64_t hidden_width) {
  auto between = ws_.between;
  between.hidden_width = hidden_width;
  run_chain(rows, ws_.threads, between, clock_, stages);
}

void Forward::normalize(const Norm& norm, const float* x, int64_t rows, float* out) const {
  const int64_t c = config_.embed_dim;
  const auto* weight = norm.weight.const_data_ptr<float>();
  const auto* bias = norm.bias.const_data_ptr<float>();
  for (int64_t row = 0; row < rows; ++row) {
    layer_norm(x + row * c, c, weight, bias, static_cast<float>(config_.eps), out + row * c);
  }
}

// Adds what the threads measured to the profile, and begins its next part.
void Forward::end_part() {
  if (profile_ != nullptr) {
    for (auto& thread : seconds_) {
      for (size_t s = 0; s < thread.size(); ++s) {
        profile_->seconds[part_][s] += thread[s];
      }
      thread.fill(0);
    }
    ++part_;
  }
}

}  // namespace dsm_ext::cpu
