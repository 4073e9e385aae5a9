#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

#include <optional>

#include "interrupt.h"
#include "stopwatch.h"

namespace dsm_ext {

/// The tokens between two blocks, what became of the patches, and what goes along.
struct Sequence {
  at::Tensor tokens;    // [B, N, C]
  at::Tensor size;      // [B, N] float32; undefined while every token stands for one patch
  at::Tensor log_size;  // its logarithms, padded: `log_sizes`; undefined likewise
  at::Tensor source;    // [B, gh * gw] int32; undefined when nobody traces
  Stopwatch* watch = nullptr;
  InterruptCheck* interrupt = nullptr;             // null on a GPU, where calls do not wait
  std::optional<c10::Stream> side = std::nullopt;  // where matching may go on beside attention

  at::Tensor sizes() const;  // [B, N] float32, ones where there is no `size`

  /// What the sizes add to attention's scores: [B, 1, 1, N] in the tokens' dtype, or none.
  std::optional<at::Tensor> bias(bool proportional) const;

  /// What was done since the last mark was this stage, for who measures; and a turn at asking
  /// whether the call is to end.
  void mark(Stage stage) const;

  /// Another block, or what comes behind them.
  void begin_part() const;
};

}  // namespace dsm_ext
