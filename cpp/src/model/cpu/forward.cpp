#include "forward.h"

#include <algorithm>

#include "../../ops/cpu/member_rows.h"
#include "attention.h"
#include "tasks.h"

// The forward of some images, with every buffer planned before. A block is four passes over the
// rows: norm1 and the QKV product; attention by head, with matching by image beside it; the
// projection with the residual; then merging, norm2 and the MLP. Attention's output takes the place
// of its queries, and what passes between the stages of a chain stays with its thread.

namespace dsm_ext::cpu {

Forward::Forward(
    const Weights& weights, const at::Tensor& positions, const Layout& layout, const Wanted& wanted,
    Workspace& workspace, InterruptCheck& interrupt, Profile* profile)
    : config_(layout.config()),
      weights_(weights),
      positions_(positions.defined() ? positions.const_data_ptr<float>() : nullptr),
      layout_(layout),
      wanted_(wanted),
      ws_(workspace),
      interrupt_(interrupt),
      profile_(profile),
      seconds_(profile == nullptr ? 0 : workspace.threads),
      clock_(profile == nullptr ? nullptr : &seconds_),
      traces_(wanted.trace || !wanted.blocks.empty()) {
  if (profile != nullptr) {
    profile->threads = workspace.threads;
    profile->seconds.resize(config_.depth + 2);
  }
}

void Forward::run(const float* images, Passed& passed, int64_t first, int64_t count) {
  images_ = count;
  tokens_ = config_.tokens();
  sized_ = false;
  part_ = 0;
  embed(images);
  end_part();
  for (int64_t i = 0; i < count; ++i) {
    fill_bias(ws_.bias + i * padded_tokens(tokens_), nullptr, tokens_);
  }
  if (traces_) {
    const int64_t patches = config_.patches(), p = config_.prefix();
    for (int64_t i = 0; i < count * patches; ++i) {
      ws_.holder[i] = static_cast<int32_t>(p + i % patches);
    }
  }
  const bool whole = wanted_.whole(config_);
  auto kept = passed.blocks.begin();
  for (int64_t i = 0; i < wanted_.depth(config_); ++i) {
    interrupt_();
    if (whole || i + 1 < config_.depth) {
      block(i);
    } else {
      last_block(i);
    }
    if (kept != passed.blocks.end() && wanted_.blocks[kept - passed.blocks.begin()] == i) {
      keep(*kept++, first);
    }
    end_part();
  }
  finish(passed, first);
  end_part();
}

void Forward::block(int64_t i) {
  const auto& block = weights_.blocks[i];
  const int64_t c = config_.embed_dim, rows = images_ * tokens_, width = 3 * c;
  const bool merges = next_tokens(i) < tokens_;
  norm_and_qkv(block, ws_.x, rows, {0, block.qkv.count()}, {.out = ws_.qkv, .out_stride = width});
  attend_and_match(i);
  project(block, ws_.qkv, width, rows);
  mlp(block, images_ * next_tokens(i), merges);
  if (merges) {
    tokens_ = next_tokens(i);
    sized_ = true;
    std::swap(ws_.size, ws_.new_size);
    std::swap(ws_.bias, ws_.new_bias);
  }
}

// The last block for the pooled rows alone: keys and values of all tokens, everything else of those
// rows. They go side by side into the other buffer, which becomes x.
void Forward::last_block(int64_t i) {
  const auto& block = weights_.blocks[i];
  const int64_t c = config_.embed_dim, d = config_.head_dim(), heads = config_.num_heads;
  const int64_t p = config_.pooled_tokens(), n = tokens_;
  norm_and_qkv(
      block, ws_.x, images_ * n, {c / kTile, block.qkv.count()},
      {.out = ws_.qkv, .out_stride = 3 * c});
  for (int64_t image = 0; image < images_; ++image) {
    std::copy_n(ws_.x + image * n * c, p * c, ws_.other + image * p * c);
  }
  std::swap(ws_.x, ws_.other);
  norm_and_qkv(
      block, ws_.x, images_ * p, {0, divide_up(c, kTile)},
      {.out = ws_.pooled_q, .out_stride = c, .columns = c});
  normalize_heads(block.q_norm, ws_.pooled_q, c, images_ * p);
  normalize_heads(block.k_norm, ws_.qkv + c, 3 * c, images_ * n);
  for_each_task(images_ * heads, ws_.threads, [&](int64_t index, int64_t slot) {
    const int64_t image = index / heads, h = index % heads;
    auto head = keys_of(image, h);
    head.q = head.out = ws_.pooled_q + image * p * c + h * d;
    head.q_stride = head.out_stride = c;
    head.queries = p;
    attend(head, slot);
  });
  project(block, ws_.pooled_q, c, images_ * p);
  mlp(block, images_ * p, /*merged=*/false);
}

/// \param to  Where the panels' outputs go; its x is filled in here.
void Forward::norm_and_qkv(
    const BlockWeights& block, const float* x, int64_t rows, Range panels, const Product& to) {
  const int64_t c = config_.embed_dim;
  chain(
      rows, {{Stage::norm1, 0,
              [&](const Piece& piece) {
                normalize(block.norm1, x + piece.row * c, c, piece.rows, piece.normed);
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

/// Each head of each row by itself, in place, where there is such a norm.
void Forward::normalize_heads(const Norm& norm, float* x, int64_t stride, int64_t rows) {
  if (!norm) {
    return;
  }
  const int64_t d = config_.head_dim();
  chain(rows, {{Stage::attention, 0, [&](const Piece& piece) {
                  for (int64_t row = piece.row; row < piece.row + piece.rows; ++row) {
                    for (int64_t h = 0; h < config_.num_heads; ++h) {
                      float* head = x + row * stride + h * d;
                      normalize_row(norm, head, d, head);
                    }
                  }
                }}});
}

// Tasks: first the matching of each image, where the block merges; then some queries of each head.
void Forward::attend_and_match(int64_t i) {
  const int64_t c = config_.embed_dim, d = config_.head_dim(), heads = config_.num_heads;
  const int64_t width = 3 * c, n = tokens_;
  const int64_t matchings = next_tokens(i) < n ? images_ : 0;
  const auto& block = weights_.blocks[i];
  normalize_heads(block.q_norm, ws_.qkv, width, images_ * n);
  normalize_heads(block.k_norm, ws_.qkv + c, width, images_ * n);
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
      clock_.time(Stage::match, slot, [&] { match(i, index, ws_.scratch[slot]); });
      return;
    }
    index -= matchings;
    const int64_t first = index % parts * step, h = index / parts % heads;
    const int64_t image = index / parts / heads;
    if (first < n) {
      auto head = keys_of(image, h);
      head.q = head.out = ws_.qkv + (image * n + first) * width + h * d;
      head.q_stride = head.out_stride = width;
      head.queries = std::min(step, n - first);
      attend(head, slot);
    }
  });
}

/// A head with its keys and values, and without queries.
Head Forward::keys_of(int64_t image, int64_t head) const {
  const int64_t c = config_.embed_dim, d = config_.head_dim(), n = tokens_;
  const float* row = ws_.qkv + image * n * 3 * c + head * d;
  return {
      .k = row + c,
      .v = row + 2 * c,
      .kv_stride = 3 * c,
      .tokens = n,
      .dim = d,
      .bias = ws_.bias + image * padded_tokens(n)};
}

void Forward::attend(const Head& head, int64_t slot) {
  clock_.time(Stage::attention, slot, [&] { cpu::attend(head, ws_.scratch[slot].attention); });
}

/// The projection of attention's output, added to x.
void Forward::project(
    const BlockWeights& block, const float* attended, int64_t stride, int64_t rows) {
  const int64_t c = config_.embed_dim;
  const bool normed = static_cast<bool>(block.attn_norm);
  const auto normalize_them = [&](const Piece& piece) {
    normalize(block.attn_norm, attended + piece.row * stride, stride, piece.rows, piece.normed);
  };
  const auto product = [&](const Piece& piece) {
    float* x = ws_.x + piece.row * c;
    multiply(
        {.x = normed ? piece.normed : attended + piece.row * stride,
         .x_stride = normed ? c : stride,
         .out = x,
         .out_stride = c,
         .finish = {.addend = x, .addend_stride = c}},
        piece.rows, block.proj, piece.panels, ws_.scratch[piece.slot].tile);
  };
  const RowStage stages[] = {
      {Stage::proj, 0, normalize_them}, {Stage::proj, block.proj.count(), product}};
  chain(rows, at::ArrayRef(stages).slice(normed ? 0 : 1));
}

// Merging, norm2 and the MLP of `rows` rows. Merged rows go into the other buffer, which becomes x.
void Forward::mlp(const BlockWeights& block, int64_t rows, bool merged) {
  const int64_t c = config_.embed_dim, n = tokens_, m = rows / images_;
  const int64_t hidden = block.fc2.inputs;
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
        normalize_row(block.norm2, x + row * c, c, piece.normed + (row - piece.row) * c);
      });
    }
  };
  const auto normalize_only = [&](const Piece& piece) {
    clock_.time(Stage::norm2, piece.slot, [&] {
      normalize(block.norm2, x + piece.row * c, c, piece.rows, piece.normed);
    });
  };
  const auto fc1 = [&](const Piece& piece) {
    multiply(
        {.x = piece.normed,
         .x_stride = c,
         .out = piece.hidden,
         .out_stride = hidden,
         .finish = {.activation = config_.act_layer, .gated = block.gated},
         .columns = hidden},
        piece.rows, block.fc1, piece.panels, ws_.scratch[piece.slot].tile);
  };
  const auto normalize_hidden = [&](const Piece& piece) {
    for (int64_t row = 0; row < piece.rows; ++row) {
      float* h = piece.hidden + row * hidden;
      normalize_row(block.mlp_norm, h, hidden, h);
    }
  };
  const auto fc2 = [&](const Piece& piece) {
    float* out = x + piece.row * c;
    multiply(
        {.x = piece.hidden,
         .x_stride = hidden,
         .out = out,
         .out_stride = c,
         .finish = {.addend = out, .addend_stride = c}},
        piece.rows, block.fc2, piece.panels, ws_.scratch[piece.slot].tile);
  };
  const RowStage first{
      std::nullopt, 0,
      merged ? c10::function_ref<void(const Piece&)>(merge_and_normalize) : normalize_only};
  const RowStage fc1_stage{Stage::fc1, block.fc1.count(), fc1};
  const RowStage fc2_stage{Stage::fc2, block.fc2.count(), fc2};
  if (block.mlp_norm) {
    chain(rows, {first, fc1_stage, {Stage::fc2, 0, normalize_hidden}, fc2_stage}, hidden);
  } else {
    chain(rows, {first, fc1_stage, fc2_stage}, hidden);
  }
  if (merged) {
    std::swap(ws_.x, ws_.other);
  }
}

void Forward::chain(int64_t rows, at::ArrayRef<RowStage> stages, int64_t hidden_width) {
  auto between = ws_.between;
  between.hidden_width = hidden_width;
  run_chain(rows, ws_.threads, between, clock_, stages);
}

/// \param x    Rows of C, `stride` apart.
/// \param out  [rows, C]; may be `x` where that is contiguous. A copy where there is no norm.
void Forward::normalize(
    const Norm& norm, const float* x, int64_t stride, int64_t rows, float* out) const {
  const int64_t c = config_.embed_dim;
  for (int64_t row = 0; row < rows; ++row) {
    if (norm) {
      normalize_row(norm, x + row * stride, c, out + row * c);
    } else {
      std::copy_n(x + row * stride, c, out + row * c);
    }
  }
}

void Forward::normalize_row(const Norm& norm, const float* x, int64_t channels, float* out) const {
  const auto* weight = norm.weight.const_data_ptr<float>();
  const auto eps = static_cast<float>(config_.eps);
  if (config_.norm_layer == NormKind::layer_norm) {
    layer_norm(x, channels, weight, norm.bias.const_data_ptr<float>(), eps, out);
  } else {
    rms_norm(x, channels, weight, eps, out);
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
