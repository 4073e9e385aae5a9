#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

#include "dsm_ext/vision_transformer.h"
#include "schedule/compiled_plan.h"

namespace dsm_ext {

/// Stands in place of a number of rows: a block computes all rows of its output.
constexpr int64_t kAllRows = 0;

/// What the caller wants from a forward.
struct Request {
  bool logits = false;
  bool features = false;
  bool trace = false;                // gives `source` and `size`
  std::vector<int64_t> blocks = {};  // gives the `intermediates` of these blocks; ascending
  bool norm = false;                 // applies the last norm to the intermediates
  // Gives the `class_attention` of this block, and `source` and `size` of the tokens that enter it.
  int64_t attention_block = -1;

  /// Whether the executor must keep `source` up to date from block to block.
  bool traces() const { return trace || !blocks.empty() || attention_block >= 0; }

  /// How many blocks the executor computes.
  int64_t depth(const Config& config) const {
    return logits || features || trace
               ? config.depth
               : std::max(attention_block + 1, blocks.empty() ? 0 : blocks.back() + 1);
  }

  /// How many rows of the last block's output the executor computes for each image.
  int64_t last_rows(const Config& config) const {
    return features || trace || !logits ? kAllRows : config.pooled_tokens();
  }

  bool operator==(const Request&) const = default;
};

/// Allocates the outputs that a request asks for, uninitialised.
/// \param images   The number of images.
/// \param options  The dtype and device of the images.
Outputs allocate_outputs(
    const Request& request, const CompiledPlan& plan, int64_t images,
    const at::TensorOptions& options);

/// Calls the parts of a forward in order: `embed()`, then `block(index, rows)` for each block, then
/// `finish()`. After a block whose output the request wants, it calls `keep(place in the
/// intermediates)`. Every executor uses this order.
///
/// `rows` is kAllRows, except for a last block of which the request needs only the first rows. That
/// block leaves out its merge steps. The result is the same, because these rows are prefix tokens,
/// which merge steps do not change.
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
