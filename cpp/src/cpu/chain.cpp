#include "cpu/chain.h"

#include <algorithm>

#include "cpu/tasks.h"

namespace dsm_ext::cpu {
namespace {

void run(const RowStage& stage, const Piece& piece, StageTimer* timer) {
  if (stage.stage) {
    timed(timer, *stage.stage, piece.thread, [&] { stage.run(piece); });
  } else {
    stage.run(piece);
  }
}

void run_by_rows(
    int64_t rows, int64_t threads, const ChainBuffers& buffers, StageTimer* timer,
    at::ArrayRef<RowStage> stages) {
  const int64_t pieces = threads * divide_up(rows, threads * buffers.rows_at_once);
  const int64_t step = divide_up(rows, pieces);
  for_each_task(divide_up(rows, step), threads, [&](int64_t index, int64_t thread) {
    const int64_t row = index * step, first = thread * buffers.rows_at_once;
    Piece piece{
        .row = row,
        .rows = std::min(step, rows - row),
        .panels = {0, 0},
        .thread = thread,
        .normed = buffers.normed.at(first),
        .hidden = buffers.hidden.at(first),
        .operands = buffers.operands.at(first)};
    for (const auto& stage : stages) {
      piece.panels = {0, stage.panels};
      run(stage, piece, timer);
    }
  });
}

// The number of parts to cut the rows into, so that no thread waits long for the last task.
int64_t row_parts(int64_t rows, int64_t panels, int64_t threads) {
  constexpr int64_t kLeastRows = 24;
  for (int64_t parts = 1;; ++parts) {
    const int64_t tasks = parts * panels;
    if (10 * tasks >= 9 * divide_up(tasks, threads) * threads || rows < (parts + 1) * kLeastRows) {
      return parts;
    }
  }
}

void run_by_panels(
    int64_t rows, int64_t threads, const ChainBuffers& buffers, StageTimer* timer,
    at::ArrayRef<RowStage> stages) {
  for (const auto& stage : stages) {
    const int64_t panels = std::max<int64_t>(stage.panels, 1);
    const int64_t parts =
        stage.panels > 0 ? row_parts(rows, panels, threads) : std::min(rows, threads);
    const int64_t step = divide_up(rows, parts);
    for_each_task(parts * panels, threads, [&](int64_t index, int64_t thread) {
      const int64_t row = index % parts * step, panel = index / parts;
      if (row < rows) {
        const Piece piece{
            .row = row,
            .rows = std::min(step, rows - row),
            .panels = {panel, panel + 1},
            .thread = thread,
            .normed = buffers.normed.at(row),
            .hidden = buffers.hidden.at(row),
            .operands = buffers.operands.at(row)};
        run(stage, piece, timer);
      }
    });
  }
}

}  // namespace

void run_chain(
    int64_t rows, int64_t threads, const ChainBuffers& buffers, StageTimer* timer,
    at::ArrayRef<RowStage> stages) {
  if (rows > 0) {
    const bool by_rows = threads == 1 || rows > threads * buffers.rows_at_once;
    (by_rows ? run_by_rows : run_by_panels)(rows, threads, buffers, timer, stages);
  }
}

}  // namespace dsm_ext::cpu
