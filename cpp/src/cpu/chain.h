#pragma once

#include <ATen/core/ATen_fwd.h>
#include <c10/util/ArrayRef.h>
#include <c10/util/FunctionRef.h>

#include <optional>

#include "cpu/kernels/ranges.h"
#include "cpu/kernels/rows.h"
#include "model/stage_timer.h"

namespace dsm_ext::cpu {

/// The most rows that one thread takes through a chain at once. With more rows, a thread would read
/// the weights less often, but the rows' hidden layer might not fit into the second-level cache.
constexpr int64_t kRowsAtOnce = 192;

/// Memory for rows between the stages of a chain: `rows_at_once` rows for each thread.
struct ChainBuffers {
  int64_t rows_at_once = kRowsAtOnce;
  Rows normed;    // [threads * rows_at_once, embed_dim] operands
  Rows hidden;    // [threads * rows_at_once, width]; each chain sets the width
  Rows operands;  // `hidden` as operands: the same memory, if they have its type
};

/// The share of a stage that one thread computes.
struct Piece {
  int64_t row, rows;
  Range panels;
  int64_t thread;
  Rows normed, hidden, operands;  // at the piece's first row
};

/// A stage of a chain. It computes each row independently of the others. It either multiplies rows
/// by panels of a layer (`panels` > 0) or loops over whole rows (`panels` = 0).
struct RowStage {
  std::optional<Stage> stage;  // counts the time of `run`; none: `run` does so itself
  int64_t panels;
  c10::function_ref<void(const Piece&)> run;
};

/// Runs stages over all rows, one stage after the other. When there are enough rows for every
/// thread, each thread takes some rows through the whole chain, so that the rows stay in the
/// thread's cache from stage to stage. When there are fewer rows, the threads share the panels of
/// each stage, so that each weight is read once.
/// \param timer  Null when nothing is measured.
void run_chain(
    int64_t rows, int64_t threads, const ChainBuffers& buffers, StageTimer* timer,
    at::ArrayRef<RowStage> stages);

}  // namespace dsm_ext::cpu
