#pragma once

#include <c10/core/Event.h>

#include <optional>
#include <vector>

#include "layers.h"
#include "layout.h"
#include "stopwatch.h"

namespace dsm_ext {

/// The tokens between two blocks, what became of the patches, and what goes along.
struct Sequence {
  at::Tensor tokens;    // [B, N, C]
  at::Tensor size;      // [B, N] float32; undefined while every token stands for one patch
  at::Tensor log_size;  // its logarithms, padded: `log_sizes`; undefined likewise
  at::Tensor source;    // [B, gh * gw] int32; undefined when nobody traces
  Stopwatch* watch = nullptr;
  std::optional<c10::Stream> side = std::nullopt;  // where matching may go on beside attention

  at::Tensor sizes() const;  // [B, N] float32, ones where there is no `size`

  /// What the sizes add to attention's scores: [B, 1, 1, N] in the tokens' dtype, or none.
  std::optional<at::Tensor> bias(bool proportional) const;

  /// What was done since the last mark was this stage, for who measures.
  void mark(Stage stage) const;

  /// Another block, or what comes behind them.
  void begin_part() const;
};

/// How a block merges. While the event is there, that is being found out on another stream; the
/// keys must live, and nothing may be done with the maps, until `merge_steps` has been called.
struct Matched {
  std::vector<at::Tensor> destinations;  // a map [B, N] int32 for each step
  std::optional<c10::Event> done;
};

/// Matches the tokens for all of a block's steps, on the sequence's side stream where it has one.
/// \param keys  [B, H, N, D]; the metric is their mean over the heads.
Matched match_steps(
    const Sequence& sequence, const at::Tensor& keys, const PlannedBlock& plan,
    const Layout& layout);

/// Carries the steps out.
/// \param norm  Of the tokens that are left, or null.
/// \return      What it gives [B, M, C]; undefined without one.
at::Tensor merge_steps(
    Sequence& sequence, const Matched& matched, const PlannedBlock& plan, const Layout& layout,
    const Norm* norm);

}  // namespace dsm_ext
