#pragma once

#include <c10/core/Stream.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "dsm_ext/config.h"
#include "dsm_ext/export.h"
#include "dsm_ext/profile.h"
#include "dsm_ext/schedule.h"

namespace dsm_ext {

class AttentionPool;
class Block;
namespace cpu {
class Engine;
}
namespace cuda {
class Graphs;
}
class Layout;
class Linear;
class Norm;
struct Passed;
struct Sequence;
class Stopwatch;
struct Wanted;

/// What `VisionTransformer::trace` returns.
struct DSM_EXT_API Trace {
  at::Tensor logits;  ///< What `forward` gives.
  /// [B, gh * gw] int32: the index of the token that holds each patch at the end.
  at::Tensor source;
  at::Tensor size;  ///< [B, M] float32: how many patches each token stands for.
};

/// What `VisionTransformer::forward_with_features` returns.
struct DSM_EXT_API Outputs {
  at::Tensor logits;    ///< What `forward` gives.
  at::Tensor pooled;    ///< [B, embed_dim]: what the head takes.
  at::Tensor features;  ///< What `forward_features` gives, [B, M, embed_dim].
  at::Tensor size;      ///< [B, M] float32: how many patches each token stands for.
};

/// The tokens behind a block.
struct DSM_EXT_API Intermediate {
  at::Tensor tokens;  ///< [B, M, embed_dim], prefix first, in the model's dtype.
  at::Tensor source;  ///< [B, gh * gw] int32: the index of the token that holds each patch.
  at::Tensor size;    ///< [B, M] float32: how many patches each token stands for.
};

/// How a float32 model runs on the CPU.
enum class CpuPath {
  fast,       ///< Packed weights, fused loops, planned buffers.
  reference,  ///< ATen's operators, as for other dtypes and devices.
};

/// A Vision Transformer with delayed spatial merging: images in, logits out, in one call.
///
/// Parameters and submodules bear timm's names. The model runs where its weights are, in their
/// dtype: float32, bfloat16 or float16. It is for inference: nothing is recorded for a backward
/// pass. What takes images may run in several threads at once; loading, moving and `set_schedule`
/// may not run beside loading or moving.
///
/// On the CPU in float32 the weights are packed by the first call, and again by the first one after
/// they have changed. Changes that torch does not count are not seen: those through `data_ptr`, in
/// Python through `.data` or `numpy()`, and by fused optimizers; load the weights again after them.
/// Weights made in inference mode are not counted either and take the reference path.
///
/// On a GPU what the second call like an earlier one does is recorded as a CUDA graph: the same
/// number and size of images, the same request, the same weights in the same place. Later ones
/// replay it, on any stream, one behind the other. Up to 16 recordings are kept; together they hold
/// a forward's activations, each its patches and results besides. CUDA forbids other threads to
/// wait for the whole device (`torch.cuda.synchronize()`) while one records: where they do, turn it
/// off. Calls wait for nothing on the GPU, but the first of a schedule or image size; their work is
/// ordered behind the current stream's. While the caller captures a graph of their own, the model
/// is part of that: it must have been called so before, and keep its schedule for as long as that
/// graph is replayed.
///
/// `images` are [B, in_chans, height, width], contiguous or not; B may be 0. Height and width are
/// the config's, or with `dynamic_img_size` any multiples of the patch size; then M, gh and gw are
/// those of the image size at hand.
/// \throws c10::ValueError           for another rank, number of channels, image size or device.
/// \throws c10::TypeError            for another dtype than the weights', and sparse or nested
/// images.
/// \throws c10::NotImplementedError  for images that require grad, and while torch traces, exports
/// or
///                                   transforms a program (jit::trace, vmap, functionalize, ...).
/// \source The model: arXiv 2010.11929, and arXiv 2012.12877 where distilled. The merging: DSM,
///         arXiv 2303.02331.
class DSM_EXT_API VisionTransformerImpl : public torch::nn::Module {
 public:
  /// The parameters have shapes alone, on the meta device, until `load_parameters`; until then no
  /// images are taken.
  /// \throws c10::ValueError for a config out of range or a schedule that does not fit it.
  VisionTransformerImpl(Config config, Schedule schedule);
  ~VisionTransformerImpl() override;

  /// \return [B, num_classes], or where that is 0 what the pooling gives: [B, embed_dim], or with
  ///         `Pool::none` all tokens [B, M, embed_dim]. Where the class token is pooled, the last
  ///         block is computed for its row alone.
  at::Tensor forward(const at::Tensor& images) const;

  /// \param dense  Whether each patch is given back the value of the token that holds it.
  /// \return [B, M, embed_dim]: all tokens that remain, prefix first, after the last norm; dense
  ///         [B, P + gh * gw, embed_dim], patches in the image's order.
  at::Tensor forward_features(const at::Tensor& images, bool dense = false) const;

  /// Pooling and head of what `forward_features` gives: together they are `forward`.
  /// \param features    [B, M, embed_dim], behind the last norm.
  /// \param size        [B, M] float32: how many patches each token stands for, as `trace` gives
  /// it.
  ///                    Pooling by `avg` or `map` takes it into account; it may be left out where
  ///                    nothing is merged, or each patch has its value again (`dense`).
  /// \param pre_logits  Whether to stop in front of the head: [B, embed_dim].
  /// \throws c10::ValueError for other shapes or devices, or where sizes are needed;
  ///         c10::TypeError for other dtypes; c10::Error where the model is frozen and the head's
  ///         or the attention pool's weights are needed.
  at::Tensor forward_head(
      const at::Tensor& features, const std::optional<at::Tensor>& size = std::nullopt,
      bool pre_logits = false) const;

  /// Logits, what the head takes, and the tokens behind the last norm, of one pass. Here the last
  /// block runs whole, with its merge steps.
  Outputs forward_with_features(const at::Tensor& images) const;

  /// The tokens behind each of some blocks.
  /// \param blocks  Indices in [0, depth), ascending. Later blocks are not computed.
  /// \param norm    Whether the last norm is applied to the tokens.
  /// \throws c10::ValueError for other indices.
  std::vector<Intermediate> forward_intermediates(
      const at::Tensor& images, const std::vector<int64_t>& blocks, bool norm = false) const;

  /// Logits, and where each patch went. Here the last block runs whole, with its merge steps.
  Trace trace(const at::Tensor& images) const;

  /// Where the time of one forward goes, by block and stage. The pass is that of `forward`; on a
  /// GPU it is not replayed, but its operators run one right behind the other.
  /// \throws c10::ValueError where B is 0.
  Profile profile(const at::Tensor& images) const;

  /// Takes the tensors as the model's own, by timm's names: nothing is copied.
  /// \param check_finite Whether to read every weight and refuse NaN and infinity.
  /// \throws c10::ValueError naming every missing, unexpected, misshapen or non-finite weight, and
  ///         where the weights are not all on one device; c10::TypeError where they are not all of
  ///         one supported dtype. Then the weights are as they were.
  void load_parameters(
      const std::vector<std::pair<std::string, at::Tensor>>& weights, bool check_finite = true);

  const Config& config() const { return config_; }
  Schedule schedule() const;
  Plan plan() const;

  /// Calls that have begun finish with the schedule they began with.
  /// \throws c10::ValueError where the schedule does not fit the model; it then keeps its own.
  void set_schedule(const Schedule& schedule);

  /// Fast, unless the environment variable DSM_EXT_CPU was "reference" when the model was made.
  CpuPath cpu_path() const;
  /// The next call packs the weights again, whether or not the path is another.
  /// \throws c10::Error where the model is frozen.
  void set_cpu_path(CpuPath path);

  /// Whether forwards on a GPU are recorded and replayed: yes, unless the environment variable
  /// DSM_EXT_CUDA_GRAPHS was 0 when the model was made.
  bool cuda_graphs() const;
  /// Forgets what was recorded, either way: do that after a change of torch's settings, such as
  /// which attention it may choose, that a recording keeps as they were. (TF32's is seen.)
  void set_cuda_graphs(bool on);

  /// Packs the weights and lets go of the originals, half of the memory. The tensors of the large
  /// parameters are left empty, here and where they came from; the model runs as before, on the
  /// CPU, and must no longer be moved, converted, loaded or saved. It may run beside `forward`, not
  /// beside changes of the weights.
  /// \throws c10::NotImplementedError off the fast path.
  void freeze();
  bool frozen() const;

 private:
  std::shared_ptr<const Layout> layout() const;
  std::shared_ptr<const Layout> layout(const at::Tensor& images) const;
  std::shared_ptr<const cpu::Engine> engine() const;
  std::shared_ptr<const cpu::Engine> locked_engine() const;  // mutex_ is held
  void take_parameters();
  void check_not_frozen() const;  // likewise
  void check_parameters() const;  // likewise
  std::vector<std::pair<const char*, at::Tensor*>> own_tokens();
  std::vector<int64_t> recordings_key() const;
  Sequence embed(const at::Tensor& patches, const Layout& layout) const;
  at::Tensor pooled(const Sequence& sequence, bool proportional) const;
  at::Tensor logits(const Sequence& sequence, bool proportional) const;
  Passed run(
      const at::Tensor& patches, const Layout& layout, const Wanted& wanted,
      std::optional<c10::Stream> side, Stopwatch* watch = nullptr) const;
  Passed pass(const at::Tensor& images, const Wanted& wanted) const;

  Config config_;
  mutable std::mutex mutex_;                                          // guards the next eight
  std::shared_ptr<const Layout> layout_;                              // for the config's image size
  mutable std::vector<std::shared_ptr<const Layout>> other_layouts_;  // for others lately seen
  mutable std::shared_ptr<cpu::Engine> engine_;  // null until the fast path is taken
  bool frozen_ = false;
  CpuPath cpu_path_;
  bool cuda_graphs_;
  std::vector<std::pair<std::string, at::Tensor>> all_parameters_;
  std::vector<std::vector<int64_t>> parameter_shapes_;  // as the config has them

  at::Tensor cls_token_, dist_token_, reg_token_, pos_embed_;  // those that there are
  std::shared_ptr<Linear> patch_embed_, head_, head_dist_;
  std::shared_ptr<Norm> embed_norm_, norm_pre_, norm_, fc_norm_;
  std::shared_ptr<AttentionPool> attn_pool_;
  std::vector<std::shared_ptr<Block>> blocks_;

  std::unique_ptr<cuda::Graphs> graphs_;  // has a lock of its own
};

TORCH_MODULE(VisionTransformer);

}  // namespace dsm_ext
