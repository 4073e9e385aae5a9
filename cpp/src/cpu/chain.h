#pragma once

#include <ATen/core/ATen_fwd.h>
#include <c10/util/ArrayRef.h>
#include <c10/util/FunctionRef.h>

#include <optional>

#include "cpu/kernels/ranges.h"
#include "cpu/kernels/rows.h"
#include "model/stage_timer.h"

namespace dsm_ext::cpu {

/// The most rows that one thread takes through a chain at once. With more rows a thread reads the
/// weights less often, but the rows' hidden layer may no longer fit into the second cache.
constexpr int64_t kRowsAtOnce = 192;

/// Memory for rows between the stages of a chain: kRowsAtOnce rows for each thread.
struct ChainBuffers {
  Rows normed;  // rows of embed_dim values
  Rows hidden;  // rows of as many values as the chain says
};

/// The share of a stage that one thread computes.
struct Piece {
  int64_t row, rows;
  Range panels;
  int64_t thread;
  Rows normed, hidden;  // at the piece's first row
};

/// A stage of a chain. It treats each row by itself, and either multiplies rows by panels of a
/// layer (`panels` > 0) or loops over whole rows (`panels` = 0).
struct RowStage {
  std::optional<Stage> stage;  // none: `run` measures its own time
  int64_t panels;
  c10::function_ref<void(const Piece&)> run;
};

/// Runs stages over all rows, one stage after the other. With enough rows for every thread, each
/// thread takes some rows through the whole chain, so that the rows between two stages stay in its
/// cache. With fewer rows, the threads share each stage by its panels, so that every weight is read
/// once.
/// \param timer  Null where nothing is measured.
void run_chain(
    int64_t rows, int64_t threads, const ChainBuffers& buffers, StageTimer* timer,
    at::ArrayRef<RowStage> stages);

}  // namespace dsm_ext::cpu
