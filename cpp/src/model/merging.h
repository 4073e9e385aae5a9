#pragma once

#include <c10/core/Stream.h>

#include <memory>
#include <vector>

#include "layers.h"
#include "layout.h"
#include "sequence.h"

namespace dsm_ext {

/// Work on a side stream beside what follows on the current one, until the two are joined.
class Beside {
 public:
  /// The side stream waits for what the current stream has been given.
  explicit Beside(const c10::Stream& side);
  /// Joins, also where something failed: a capture ends well only where all streams have.
  ~Beside();
  Beside(const Beside&) = delete;
  Beside& operator=(const Beside&) = delete;

  /// What follows on the stream that was current comes behind what the side stream has been given.
  void join();

 private:
  c10::Stream main_, side_;
  bool joined_ = false;
};

/// How a block merges. Where that is found out beside what follows, the keys must live until
/// `merge_steps` has been called, and nothing else may be done with the maps.
struct Matched {
  std::vector<at::Tensor> destinations;  // a map [B, N] int32 for each step
  std::unique_ptr<Beside> beside;        // null where it is not
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
