#pragma once

#include <c10/core/Stream.h>

#include <memory>
#include <vector>

#include "aten/attention.h"
#include "aten/run_context.h"
#include "aten/token_state.h"

namespace dsm_ext::aten {

/// Until `join`, lets work on a side stream run in parallel with later work on the current stream.
class SideStream {
 public:
  /// Makes the side stream wait for the work that the current stream has so far.
  explicit SideStream(const c10::Stream& side);
  /// Joins, also after an error, because CUDA can end a capture only after all its streams have
  /// joined.
  ~SideStream();
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  /// Makes later work on the main stream wait for the work of the side stream. The main stream is
  /// the one that was current at construction.
  void join();

 private:
  c10::Stream main_, side_;
  bool joined_ = false;
};

/// How the tokens of a block merge. When `side_stream` is set, matching may still run there. In
/// that case keep the keys alive until `merge_steps` has been called, and do not read the
/// destinations before that.
struct Matched {
  std::vector<at::Tensor> destinations;     // for each step [B, N] int32
  std::unique_ptr<SideStream> side_stream;  // null if matching ran on the current stream
};

/// Whether matching needs no tokens after attention's residual, so that it can run beside
/// attention.
bool matches_before_attention(const RunContext& run);

/// Matches the tokens for all merge steps of a block, on the run's side stream if it has one.
/// \param state  The tokens before attention if `matches_before_attention`, else those after
///               attention's residual.
/// \param heads  Of all tokens.
Matched match_steps(
    const TokenState& state, const Heads& heads, at::ArrayRef<PlannedStep> steps,
    const RunContext& run);

/// Merges the tokens of a block by its steps.
void merge_steps(
    TokenState& state, const Matched& matched, at::ArrayRef<PlannedStep> steps,
    const RunContext& run);

/// Merges the tokens of a block by its steps, and normalizes the result. The last merge and the
/// norm are one operator, which is one kernel on a GPU.
/// \return  The norm of the tokens that remain, [B, M, C].
at::Tensor merge_steps_and_normalize(
    TokenState& state, const Matched& matched, at::ArrayRef<PlannedStep> steps, const Norm& norm,
    const RunContext& run);

}  // namespace dsm_ext::aten
