#pragma once

#include <memory>
#include <optional>

#include "aten/block.h"
#include "aten/embedding.h"
#include "aten/head.h"
#include "aten/rope.h"
#include "model/executor.h"

namespace dsm_ext::aten {

/// Runs forwards by calling operators of ATen and of this library: the ATen path. It can run every
/// model, dtype and device.
class Executor final : public dsm_ext::Executor {
 public:
  /// Creates the model's parameters on the meta device and registers them in `model` under timm's
  /// names.
  Executor(torch::nn::Module& model, const Config& config);

  Outputs run(
      const at::Tensor& images, const Request& request,
      const std::shared_ptr<const CompiledPlan>& plan, StageTimer* timer) const override;

  /// Runs a forward from patches. It does not wait for the device, so that it can be captured.
  /// \param patches      [B, gh * gw, in_chans * ph * pw], as `cut_into_patches` gives them.
  /// \param side_stream  Runs matching in parallel with attention. None: matching runs on the
  ///                     current stream.
  Outputs run_patches(
      const at::Tensor& patches, const Request& request, const CompiledPlan& plan,
      std::optional<c10::Stream> side_stream, StageTimer* timer = nullptr) const;

  Embedding& embedding() { return embedding_; }
  const Embedding& embedding() const { return embedding_; }
  const Head& head() const { return *head_; }

 private:
  class Forward;

  Config config_;
  Embedding embedding_;
  std::vector<std::shared_ptr<Block>> blocks_;
  std::shared_ptr<Rope> rope_;  // null if the model has no rotary embedding
  std::shared_ptr<Norm> norm_;
  std::optional<Head> head_;
};

}  // namespace dsm_ext::aten
