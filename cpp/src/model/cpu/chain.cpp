#include "chain.h"

#include "tasks.h"

namespace dsm_ext::cpu {
namespace {

void by_rows(
    int64_t rows, int64_t threads, const Between& between, const Clock& clock,
    at::ArrayRef<RowStage> stages) {
  const int64_t pieces = threads * divide_up(rows, threads * kRowsAtOnce);
  const int64_t step = divide_up(rows, pieces);
  for_each_task(divide_up(rows, step), threads, [&](int64_t index, int64_t slot) {
    Piece piece{index * step, std::min(step, rows - index * step), {0, 0}, slot, nullptr, nullptr};
    const int64_t first = slot * kRowsAtOnce;
    piece.normed = between.normed + first * between.embed_dim;
    piece.hidden = between.hidden + first * between.hidden_width;
    for (const auto& stage : stages) {
      piece.panels = {0, stage.panels};
      clock.time(stage.stage, slot, [&] { stage.run(piece); });
    }
  });
}

// Into how many parts the rows are cut so that no thread waits long for the last one.
int64_t row_parts(int64_t rows, int64_t panels, int64_t threads) {
  constexpr int64_t kLeastRows = 24;
  for (int64_t parts = 1;; ++parts) {
    const int64_t tasks = parts * panels;
    if (10 * tasks >= 9 * divide_up(tasks, threads) * threads || rows < (parts + 1) * kLeastRows) {
      return parts;
    }
  }
}

void by_panels(
    int64_t rows, int64_t threads, const Between& between, const Clock& clock,
    at::ArrayRef<RowStage> stages) {
  for (const auto& stage : stages) {
    const int64_t panels = std::max<int64_t>(stage.panels, 1);
    const int64_t parts =
        stage.panels > 0 ? row_parts(rows, panels, threads) : std::min(rows, threads);
    const int64_t step = divide_up(rows, parts);
    for_each_task(parts * panels, threads, [&](int64_t index, int64_t slot) {
      const int64_t row = index % parts * step, panel = index / parts;
      if (row >= rows) {
        return;
      }
      Piece piece{row, std::min(step, rows - row), {panel, panel + 1}, slot, nullptr, nullptr};
      piece.normed = between.normed + row * between.embed_dim;
      piece.hidden = between.hidden + row * between.hidden_width;
      clock.time(stage.stage, slot, [&] { stage.run(piece); });
    });
  }
}

}  // namespace

void run_chain(
    int64_t rows, int64_t threads, const Between& between, const Clock& clock,
    at::ArrayRef<RowStage> stages) {
  if (rows == 0) {
    return;
  }
  (threads == 1 || rows > threads * kRowsAtOnce ? by_rows : by_panels)(
      rows, threads, between, clock, stages);
}

}  // namespace dsm_ext::cpu
