#pragma once

#include <ATen/core/ATen_fwd.h>
#include <c10/util/FunctionRef.h>

#include <chrono>
#include <optional>

#include "dsm_ext/profile.h"
#include "product.h"

namespace dsm_ext::cpu {

/// Seconds by stage, for each thread; nothing is measured where there is no profile.
class Clock {
 public:
  explicit Clock(std::vector<std::array<double, kStages>>* slots) : slots_(slots) {}

  template <typename Work>
  void time(std::optional<Stage> stage, int64_t slot, const Work& work) const {
    if (slots_ == nullptr || !stage) {
      work();
      return;
    }
    const auto begin = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    (*slots_)[slot][static_cast<size_t>(*stage)] += spent.count();
  }

 private:
  std::vector<std::array<double, kStages>>* slots_;
};

/// Rows that pass through a chain between its stages.
struct Between {
  float* normed;  // [threads * kRowsAtOnce, embed_dim]
  float* hidden;  // [threads * kRowsAtOnce, hidden_width]
  int64_t embed_dim, hidden_width;
};

/// Rows that a thread takes through a chain at once. The more, the less often it reads the weights;
/// their hidden layer may spill from the second cache. `Between` has room for that many a thread.
constexpr int64_t kRowsAtOnce = 192;

/// A thread's share of a stage.
struct Piece {
  int64_t row, rows;
  Range panels;
  int64_t slot;
  float *normed, *hidden;  // at the piece's first row
};

/// Something done to rows, each by itself: a product (`panels` > 0) or a loop over whole rows.
struct RowStage {
  std::optional<Stage> stage;  // none: `run` measures itself
  int64_t panels;
  c10::function_ref<void(const Piece&)> run;
};

/// Runs stages one after the other over all rows. Where there are rows enough for every thread,
/// each takes some through the whole chain, and what passes between stages stays in its cache.
/// Otherwise all threads share each stage by its panels, and every weight is read once.
void run_chain(
    int64_t rows, int64_t threads, const Between& between, const Clock& clock,
    at::ArrayRef<RowStage> stages);

}  // namespace dsm_ext::cpu
