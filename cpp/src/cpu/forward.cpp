#include "cpu/forward.h"

#include <algorithm>
#include <numeric>

#include "cpu/kernels/store_rows.h"

// A block makes four passes over the rows:
// 1. norm1 and the QKV product;
// 2. attention of each head and, at the same time, the matching of each image, unless the metric
//    has tokens: then matching follows the third pass;
// 3. the projection with the residual;
// 4. merging, norm2 and the MLP.
// The output of attention overwrites its queries.

namespace dsm_ext::cpu {

Forward::Forward(
    const Weights& weights, const CompiledPlan& plan, const PlanData& data, const Request& request,
    Workspace& workspace, InterruptCheck& interrupt, StageTimer* timer, const Part& part,
    Outputs& outputs)
    : config_(plan.config()),
      weights_(weights),
      plan_(plan),
      data_(data),
      request_(request),
      ws_(workspace),
      interrupt_(interrupt),
      timer_(timer),
      part_(part),
      outputs_(outputs),
      images_(part.count),
      state_(workspace.state),
      next_(workspace.next) {
  state_.count = config_.tokens();
}

void Forward::block(int64_t i, int64_t rows) {
  interrupt_();
  begin_part(i + 1);
  const auto& block = weights_.blocks[i];
  const bool merges = rows == kAllRows && tokens_out(i) < state_.count;
  const auto attention = rows == kAllRows ? project_all(i) : project_rows(i, rows);
  const int64_t query_rows = images_ * attention.query_count;
  const bool protects = merges && rule().protect > 0;
  const bool by_tokens = merges && rule().metric == MergeMetric::keys_and_tokens;
  const bool by_keys = merges && !by_tokens;
  if (protects || request_.attention_block == i) {
    keep_class_queries(attention);
  }
  if (request_.attention_block == i) {
    keep_class_attention(attention);
  }
  attend(
      attention_kernel(weights_.elements.attention), attention, ws_.threads, ws_.attention, timer_,
      protects || by_keys ? images_ : 0, [&](int64_t image, int64_t thread) {
        timed(timer_, Stage::match, thread, [&] {
          auto& own = ws_.scratch[thread];
          if (protects) {
            write_importance(attention, image, own);
          }
          if (by_keys) {
            match(i, attention, image, own);
          }
        });
      });
  add_projection(block, attention.queries, query_rows);
  if (by_tokens) {
    match_images(i, attention);
  }
  add_mlp(block, merges ? images_ * tokens_out(i) : query_rows, merges);
}

// Projects queries, keys and values of all tokens.
Attention Forward::project_all(int64_t i) {
  const auto& layer = weights_.blocks[i].qkv;
  const int64_t n = state_.count;
  const auto qkv = attention_rows(ws_.qkv, layer.outputs);
  norm_and_qkv(i, state_.tokens, images_ * n, {0, layer.count()}, qkv, layer.outputs);
  return attention_of(i, qkv, n);
}

// Projects keys and values of all tokens, and queries of the first `rows` tokens of each image.
// Copies these first tokens next to each other into `next_.tokens`, which becomes `state_.tokens`.
Attention Forward::project_rows(int64_t i, int64_t rows) {
  const auto& layer = weights_.blocks[i].qkv;
  const int64_t c = config_.embed_dim, n = state_.count, width = layer.kernel->tile_columns;
  const auto qkv = attention_rows(ws_.qkv, layer.outputs), q = pooled_queries();
  norm_and_qkv(i, state_.tokens, images_ * n, {c / width, layer.count()}, qkv, layer.outputs);
  for (int64_t image = 0; image < images_; ++image) {
    std::copy_n(state_.tokens + image * n * c, rows * c, next_.tokens + image * rows * c);
  }
  std::swap(state_.tokens, next_.tokens);
  norm_and_qkv(i, state_.tokens, images_ * rows, {0, divide_up(c, width)}, q, c);
  pad_rows(q, images_ * rows, c);
  return attention_of(i, q, rows);
}

// Attention of these queries to the keys and values of all tokens in `ws_.qkv`.
Attention Forward::attention_of(int64_t i, Rows queries, int64_t query_count) const {
  const auto& block = weights_.blocks[i];
  const int64_t c = config_.embed_dim, n = state_.count;
  const auto qkv = attention_rows(ws_.qkv, block.qkv.outputs);
  return {
      .queries = queries,
      .query_count = query_count,
      .keys = qkv.at(0, c),
      .values = qkv.at(0, c + block.kv_heads * config_.head_dim()),
      .key_rows = n,
      .token_count = n,
      .bias = state_.bias,
      .images = images_,
      .heads = config_.num_heads,
      .dim = config_.head_dim(),
      .kv_heads = block.kv_heads};
}

// Computes norm1 of the tokens, then some panels of the QKV product. Where heads have norms, a task
// takes as many panels as hold whole heads, and normalizes these heads while they are in its cache.
// rows: all tokens of the images, or the first tokens of each, which are prefix tokens.
// panels: with norms, the first one computed may be an earlier one, with which a head begins.
// out: [rows, columns]; outputs of the product from `columns` on are not written.
void Forward::norm_and_qkv(
    int64_t i, const float* tokens, int64_t rows, Range panels, Rows out, int64_t columns) {
  const auto& block = weights_.blocks[i];
  const int64_t c = config_.embed_dim, d = config_.head_dim();
  const int64_t together = block.q_norm ? std::lcm(d, kTileColumns) / kTileColumns : 1;
  const int64_t begin = panels.begin / together;
  const auto norm1 = [&](const Piece& piece) {
    normalize(block.norm1, tokens + piece.row * c, c, piece.rows, piece.normed);
  };
  const bool turns = rotary() && rows == images_ * state_.count;
  const auto qkv = [&](const Piece& piece) {
    for (int64_t p = piece.panels.begin; p < piece.panels.end; ++p) {
      const int64_t first = (begin + p) * together;
      project_panels(
          i, piece, {first, std::min(first + together, panels.end)}, turns, out.at(piece.row),
          columns);
    }
  };
  chain(
      rows, {{Stage::norm1, 0, norm1}, {Stage::qkv, divide_up(panels.end, together) - begin, qkv}});
}

// Adds the projection of attention's output to the tokens.
void Forward::add_projection(const BlockWeights& block, Rows attended, int64_t rows) {
  const int64_t c = config_.embed_dim;
  const bool normed = block.attn_norm || attended.element != weights_.elements.layers;
  const auto norm = [&](const Piece& piece) {
    const auto x = attended.at(piece.row);
    if (block.attn_norm) {
      normalize_operands(x, piece.rows, 1, c, weights_of(block.attn_norm), piece.normed);
    } else {
      store_rows(x, piece.rows, c, piece.normed);
    }
    pad_rows(piece.normed, piece.rows, c);
  };
  const auto product = [&](const Piece& piece) {
    float* tokens = state_.tokens + piece.row * c;
    multiply(
        {.x = normed ? piece.normed : attended.at(piece.row),
         .out = {tokens, c},
         .finish = {.addend = tokens, .addend_stride = c}},
        piece.rows, block.proj, piece.panels, tile(piece));
  };
  const RowStage stages[] = {{Stage::proj, 0, norm}, {Stage::proj, block.proj.count(), product}};
  chain(rows, at::ArrayRef(stages).slice(normed ? 0 : 1));
}

void Forward::chain(
    int64_t rows, at::ArrayRef<RowStage> stages, int64_t hidden_width, Element hidden,
    Element operands) {
  auto buffers = ws_.buffers;
  buffers.hidden = {buffers.hidden.data, padded(hidden_width, hidden), hidden};
  auto& own = buffers.operands;
  own = operands == hidden ? buffers.hidden
                           : Rows(own.data, padded(hidden_width, operands), operands, own.scales);
  run_chain(rows, ws_.threads, buffers, timer_, stages);
}

// Normalizes rows of C values and pads them; without a norm, copies them.
// x: the rows begin `stride` values apart. out: may be `x`.
void Forward::normalize(
    const Norm& norm, const float* x, int64_t stride, int64_t rows, Rows out) const {
  const int64_t c = config_.embed_dim;
  const auto weights = weights_of(norm);
  for (int64_t row = 0; row < rows; ++row) {
    if (norm) {
      normalize_row(x + row * stride, c, weights, out.at(row));
    } else {
      store_rows({const_cast<float*>(x) + row * stride, c}, 1, c, out.at(row));
    }
  }
  pad_rows(out, rows, c);
}

NormWeights Forward::weights_of(const Norm& norm) const {
  if (!norm) {
    return {};
  }
  const bool rms = config_.norm_layer == NormKind::rms_norm;
  return {
      .weight = norm.weight.const_data_ptr<float>(),
      .bias = rms ? nullptr : norm.bias.const_data_ptr<float>(),
      .eps = static_cast<float>(config_.eps),
      .rms = rms};
}

void Forward::begin_part(int64_t part) {
  if (timer_ != nullptr) {
    timer_->begin_part(part);
  }
}

}  // namespace dsm_ext::cpu
