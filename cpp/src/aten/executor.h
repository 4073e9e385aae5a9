#pragma once

#include "aten/block.h"
#include "aten/embedding.h"
#include "aten/head.h"
#include "model/executor.h"

namespace dsm_ext::aten {

/// Runs a forward by ATen's operators and this library's, for every model, dtype and device.
class Executor final : public dsm_ext::Executor {
 public:
  /// Makes the model's parameters, on the meta device, and registers them in `model` under timm's
  /// names.
  Executor(torch::nn::Module& model, const Config& config);

  Outputs run(
      const at::Tensor& images, const Request& request,
      const std::shared_ptr<const CompiledPlan>& plan, StageTimer* timer) const override;

  /// Runs a forward of patches, without waiting for the device.
  /// \param patches      [B, gh * gw, in_chans * ph * pw], as `cut_into_patches` gives them.
  /// \param side_stream  Where matching runs beside attention; none: on the current stream.
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
  std::shared_ptr<Norm> norm_;
  std::optional<Head> head_;
};

}  // namespace dsm_ext::aten
