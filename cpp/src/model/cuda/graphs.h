#pragma once

#include <c10/core/Stream.h>
#include <c10/util/FunctionRef.h>

#include <memory>
#include <optional>
#include <vector>

#include "../layout.h"
#include "../pass.h"

namespace dsm_ext::cuda {

/// A model's forwards as CUDA graphs: a call that is like an earlier one is recorded, and replayed
/// from then on. Calls may come from several threads and on several streams; on the device replays
/// follow each other, so that recordings share the memory of what they only pass on. Their patches
/// and results are their own; weights and window orders are the model's.
class Graphs {
 public:
  /// The forward of patches, without synchronisation. Called while it is recorded, too, and then
  /// told a stream for what may go on beside the rest.
  using Run = c10::function_ref<Passed(const at::Tensor& patches, std::optional<c10::Stream> side)>;

  Graphs();
  ~Graphs();

  /// Whether calls may be recorded: on a GPU, and not while the caller records one of their own.
  static bool takes(const at::Device& device);

  /// \param images   [B, in_chans, height, width] on the weights' device.
  /// \param key  What recordings hold for: where that has changed, none does.
  Passed forward(
      const at::Tensor& images, const std::shared_ptr<const Layout>& layout, const Wanted& wanted,
      const std::vector<int64_t>& key, Run run);

  /// Forgets all recordings. Replays that have begun end as they would have.
  void clear();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dsm_ext::cuda
