#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "dsm_ext/vision_transformer.h"
#include "schedule/compiled_plan.h"

namespace dsm_ext {

/// In place of a number of rows: all tokens of a block's output.
constexpr int64_t kAllRows = 0;

/// What a forward is asked for.
struct Request {
  bool logits = false;
  bool features = false;
  bool trace = false;                // `source` and `size` of the outputs
  std::vector<int64_t> blocks = {};  // ascending: the `intermediates` of the outputs
  bool norm = false;                 // whether the last norm is applied to the intermediates

  /// Whether `source` is followed through the blocks.
  bool traces() const { return trace || !blocks.empty(); }

  /// How many blocks are computed.
  int64_t depth(const Config& config) const {
    return logits || features || trace ? config.depth : blocks.empty() ? 0 : blocks.back() + 1;
  }

  /// How many rows of the last block's output are computed for each image.
  int64_t last_rows(const Config& config) const {
    return features || trace || !logits ? kAllRows : config.pooled_tokens();
  }

  bool operator==(const Request&) const = default;
};

/// Uninitialised memory for all that a request asks for.
/// \param options  Of the images.
Outputs allocate_outputs(
    const Request& request, const CompiledPlan& plan, int64_t images,
    const at::TensorOptions& options);

/// Calls the parts of a forward in their order, which is the same for every executor:
/// `embed()`, then for each block `block(index, rows)` and, where the tokens that leave it are
/// asked for, `keep(place in the intermediates)`, then `finish()`. `rows` is kAllRows, or for the
/// last block the number of its first rows that are needed; merge steps of that block are then left
/// out, because these rows are prefix tokens, which no merge step of their own block changes.
template <typename Forward>
void run_in_order(const Request& request, const Config& config, Forward& forward) {
  forward.embed();
  auto next = request.blocks.begin();
  for (int64_t i = 0; i < request.depth(config); ++i) {
    forward.block(i, i + 1 == config.depth ? request.last_rows(config) : kAllRows);
    if (next != request.blocks.end() && *next == i) {
      forward.keep(next - request.blocks.begin());
      ++next;
    }
  }
  forward.finish();
}

}  // namespace dsm_ext
