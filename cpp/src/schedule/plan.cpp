#include "dsm_ext/plan.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdio>

#include "dsm_ext/schedule.h"
#include "ops/groups.h"

namespace dsm_ext {
namespace {

// Cuts a side of the grid into `ceil(length / window)` parts and gives their lengths. The lengths
// differ by at most 1, and the longer parts come first.
std::vector<int64_t> cut(int64_t length, int64_t window) {
  const int64_t parts = 1 + (length - 1) / window;
  std::vector<int64_t> lengths(parts, length / parts);
  std::fill_n(lengths.begin(), length % parts, length / parts + 1);
  return lengths;
}

// The windows of a grid.
struct Windows {
  std::vector<int64_t> tokens;  // tokens left in each window
  std::vector<int32_t> order;   // [gh * gw]: the patch at each place of the window-major order
  int64_t most = 0;             // `most_removed` before any merge
};

Windows cut_grid(std::array<int64_t, 2> grid, int64_t window) {
  Windows windows;
  int64_t top = 0;
  for (const int64_t height : cut(grid[0], window)) {
    int64_t left = 0;
    for (const int64_t width : cut(grid[1], window)) {
      windows.tokens.push_back(height * width);
      for (int64_t y = top; y < top + height; ++y) {
        for (int64_t x = left; x < left + width; ++x) {
          windows.order.push_back(static_cast<int32_t>(y * grid[1] + x));
        }
      }
      left += width;
    }
    top += height;
  }
  windows.most = most_removed(windows.tokens);
  return windows;
}

// Refuses a step that removes more than half of an image's patches. Either r is a mistake or the
// image is too small for the schedule.
void check_half(
    int64_t block, int64_t r, int64_t most, const char* of, std::array<int64_t, 2> picture) {
  TORCH_CHECK_VALUE(
      r <= most, "dsm_ext.Schedule: expected r of block ", block, " to be in [0, ", most,
      "], half of ", of, " in a picture of ", picture[0], " x ", picture[1], " pixels, got ", r);
}

// Plans one step and subtracts the removed tokens from `tokens` and `windows`.
PlannedStep plan_step(
    const Step& step, int64_t block, const Config& config, int64_t& tokens, Windows& windows) {
  PlannedStep planned{0, {}, false, tokens, 0};
  if (step.is_local()) {
    planned.regroup = windows.tokens.empty();
    if (planned.regroup) {
      windows = cut_grid(config.grid(), step.window);
    }
    if (step.window > 1) {  // a window of one patch has no pair to merge
      check_half(block, step.r, windows.most, "each window's patches", config.img_size);
    }
    planned.windows = windows.tokens;
    planned.r = std::min(step.r, most_removed(windows.tokens));
    const auto removed = removed_from_windows(planned.r, windows.tokens);
    for (size_t g = 0; g < removed.size(); ++g) {
      windows.tokens[g] -= removed[g];
    }
  } else {
    check_half(
        block, step.r, (config.tokens() - config.prefix()) / 2, "the patches", config.img_size);
    planned.r = std::min(step.r, (tokens - config.prefix()) / 2);
  }
  tokens -= planned.r;
  planned.tokens_out = tokens;
  return planned;
}

// The multiply-adds of a block: keys and values of `n` tokens, queries of `q` tokens, and the MLP
// of `m` tokens.
int64_t block_multiply_adds(const Config& config, int64_t index, int64_t n, int64_t q, int64_t m) {
  const int64_t c = config.embed_dim, kv = config.kv_heads(index) * config.head_dim();
  const int64_t layers = config.mlp_layer == MlpKind::mlp ? 2 : 3;
  return 2 * n * c * kv + q * c * c   // keys and values, queries
         + 2 * q * n * c + q * c * c  // attention, projection
         + layers * m * c * config.mlp_dim;
}

// The multiply-adds of the attention pool, which has one query and `n` keys, and of the classifier.
int64_t head_multiply_adds(const Config& config, int64_t n) {
  const int64_t c = config.embed_dim;
  const int64_t pool = config.global_pool != Pool::map
                           ? 0
                           : 2 * n * c * c + 2 * n * c + 2 * c * c + 2 * c * config.pool_mlp_dim();
  return pool + (config.distilled ? 2 : 1) * c * config.num_classes;
}

PlannedBlock finish_block(const Config& config, int64_t index, PlannedBlock block) {
  const bool last = index + 1 == config.depth;
  const int64_t n = block.tokens_in, rows = config.pooled_tokens();
  const bool parallel = config.block == BlockKind::parallel;  // it merges after the MLP
  block.multiply_adds = block_multiply_adds(config, index, n, n, parallel ? n : block.tokens_out);
  block.multiply_adds_logits =
      last && rows > 0 ? block_multiply_adds(config, index, n, rows, rows) : block.multiply_adds;
  return block;
}

std::string row(
    const char* label, const std::string& kind, int64_t in, int64_t out, double madds,
    double dense) {
  char line[128];
  std::snprintf(
      line, sizeof line, "%-6s %-13s %9lld %10lld %9.3f %8.1f %%\n", label, kind.c_str(),
      static_cast<long long>(in), static_cast<long long>(out), madds / 1e9, 100 * madds / dense);
  return line;
}

}  // namespace

Plan Schedule::plan(const Config& config) const {
  config.validate();
  TORCH_CHECK_VALUE(
      depth() == config.depth, "dsm_ext.Schedule: expected one entry for each of the model's ",
      config.depth, " blocks, got ", depth());
  Plan plan;
  plan.rule = rule_;
  Windows windows;
  int64_t tokens = config.tokens();
  plan.tokens_dense = tokens;
  plan.multiply_adds_embed = config.patches() * config.in_chans * config.patch_size[0] *
                             config.patch_size[1] * config.embed_dim;
  plan.multiply_adds_dense = plan.multiply_adds_dense_logits =
      plan.multiply_adds_embed + head_multiply_adds(config, tokens);
  for (int64_t i = 0; i < depth(); ++i) {
    PlannedBlock block{{}, tokens, 0, 0, 0};
    for (const auto& step : blocks_[i]) {
      auto planned = plan_step(step, i, config, tokens, windows);
      if (planned.r > 0) {  // a step that removes nothing is dropped
        block.steps.push_back(std::move(planned));
      }
    }
    block.tokens_out = tokens;
    plan.blocks.push_back(finish_block(config, i, std::move(block)));
    const auto dense = finish_block(config, i, {{}, config.tokens(), config.tokens(), 0, 0});
    plan.multiply_adds_dense += dense.multiply_adds;
    plan.multiply_adds_dense_logits += dense.multiply_adds_logits;
  }
  plan.multiply_adds_head = head_multiply_adds(config, tokens);
  if (windows.most > 0) {  // otherwise no step regroups
    plan.window_order = std::move(windows.order);
  }
  return plan;
}

std::string PlannedBlock::kind() const {
  std::string kind;
  for (const auto& step : steps) {
    kind += kind.empty() ? "" : "+";
    kind += step.windows.empty() ? "global" : "local";
  }
  return kind.empty() ? "dense" : kind;
}

int64_t Plan::tokens_out() const {
  return blocks.empty() ? tokens_dense : blocks.back().tokens_out;
}

int64_t Plan::multiply_adds() const {
  int64_t total = multiply_adds_embed + multiply_adds_head;
  for (const auto& block : blocks) {
    total += block.multiply_adds;
  }
  return total;
}

int64_t Plan::multiply_adds_logits() const {
  int64_t total = multiply_adds_embed + multiply_adds_head;
  for (const auto& block : blocks) {
    total += block.multiply_adds_logits;
  }
  return total;
}

std::string Plan::str() const {
  const auto dense = static_cast<double>(multiply_adds_dense);
  std::string text = "block  kind          tokens in tokens out     GMACs  of dense\n";
  text += row("embed", "", tokens_dense, tokens_dense, multiply_adds_embed, dense);
  for (size_t i = 0; i < blocks.size(); ++i) {
    const auto& block = blocks[i];
    text +=
        row(std::to_string(i).c_str(), block.kind(), block.tokens_in, block.tokens_out,
            block.multiply_adds, dense);
  }
  text += row("head", "", tokens_out(), 1, multiply_adds_head, dense);
  text += row("total", "", tokens_dense, tokens_out(), multiply_adds(), dense);
  char line[160];
  std::snprintf(
      line, sizeof line, "%.3f GMACs against %.3f dense: %.2f times fewer\n", multiply_adds() / 1e9,
      dense / 1e9, dense / multiply_adds());
  text += line;
  std::snprintf(
      line, sizeof line,
      "for logits alone, where the last block computes only its pooled rows: %.3f against %.3f: "
      "%.2f times fewer\n",
      multiply_adds_logits() / 1e9, multiply_adds_dense_logits / 1e9,
      static_cast<double>(multiply_adds_dense_logits) / multiply_adds_logits());
  return text + line;
}

}  // namespace dsm_ext
