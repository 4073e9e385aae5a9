#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dsm_ext/config.h"
#include "dsm_ext/export.h"
#include "dsm_ext/profile.h"
#include "dsm_ext/schedule.h"

namespace dsm_ext {

/// What `VisionTransformer::trace` returns.
struct DSM_EXT_API Trace {
  at::Tensor logits;  ///< What `forward` gives.
  /// [B, gh * gw] int32: for each patch, the index of the token that holds it at the end.
  at::Tensor source;
  at::Tensor size;  ///< [B, M] float32: how many patches each token stands for.
};

/// The tokens that leave a block.
struct DSM_EXT_API Intermediate {
  at::Tensor tokens;  ///< [B, M, embed_dim], prefix first, in the model's dtype.
  at::Tensor source;  ///< [B, gh * gw] int32: for each patch, the index of the token that holds it.
  at::Tensor size;    ///< [B, M] float32: how many patches each token stands for.
};

/// What a forward gives. `VisionTransformer::forward_with_features` fills all fields but
/// `intermediates`.
struct DSM_EXT_API Outputs {
  at::Tensor logits;    ///< What `forward` gives.
  at::Tensor pooled;    ///< [B, embed_dim]: the input of the head.
  at::Tensor features;  ///< What `forward_features` gives, [B, M, embed_dim].
  at::Tensor size;      ///< [B, M] float32: how many patches each token stands for.
  at::Tensor source;  ///< [B, gh * gw] int32: for each patch, the index of the token that holds it.
  std::vector<Intermediate> intermediates;
};

/// How a float32 model runs on the CPU.
enum class CpuPath {
  fast,              ///< Packed weights, fused loops, planned buffers.
  aten,              ///< ATen's operators, as for other dtypes and devices.
  reference = aten,  ///< The older name of `aten`.
};

/// A Vision Transformer with delayed spatial merging: images in, logits out, in one call.
///
/// Parameters and submodules have timm's names. The model runs on the device and in the dtype of
/// its weights: float32, bfloat16 or float16. It is for inference: nothing is recorded for a
/// backward pass.
///
/// Threads: functions that take images may run in several threads at once. Functions that load,
/// move or convert the weights, and `set_schedule`, must not run while another thread loads, moves
/// or converts the weights.
///
/// CPU, float32: the first call packs the weights. A later call packs them again when the weights
/// have changed since. Torch does not count changes through `data_ptr`, through `.data` or
/// `numpy()` in Python, and by fused optimizers, so the model does not see these changes: call
/// `load_parameters` or `set_cpu_path` after them. Torch does not count changes of weights that
/// were made in inference mode either; a model with such weights runs by ATen's operators.
///
/// GPU: the second call of a kind is recorded as a CUDA graph, and later calls of that kind replay
/// the graph, on any stream, one replay after the other. Calls are of one kind when the number and
/// size of the images, the request (`forward`, `trace`, ...), the memory of the weights, and the
/// setting of TF32 are the same. A model keeps up to 16 recordings. Together they hold the
/// activations of one forward; each holds its own patches and outputs besides. CUDA does not allow
/// other threads to wait for the whole device (`torch.cuda.synchronize()`) during a recording:
/// call `set_cuda_graphs(false)` in a program whose other threads do. Calls do not wait for the
/// GPU, except the first call with a schedule or image size; their work runs after the earlier work
/// of the current stream. When the caller captures a CUDA graph of their own, the model's work
/// becomes part of that graph: before, call the model once in the same way, and keep its schedule
/// as long as the graph is replayed.
///
/// `images` are [B, in_chans, height, width], contiguous or not; B may be 0. Height and width are
/// the config's, or with `dynamic_img_size` any multiples of the patch size; M, gh and gw are then
/// those of this image size.
/// \throws c10::ValueError           for another rank, number of channels, image size or device.
/// \throws c10::TypeError            for another dtype than the weights', and for sparse or nested
///                                   images.
/// \throws c10::NotImplementedError  for images that require grad, and while torch traces, exports
///                                   or transforms a program (jit::trace, vmap, functionalize,
///                                   ...).
/// \source The model: arXiv 2010.11929, and arXiv 2012.12877 where distilled. The merging: DSM,
///         arXiv 2303.02331.
class DSM_EXT_API VisionTransformerImpl : public torch::nn::Module {
 public:
  /// The parameters are on the meta device, with shapes and without values, until
  /// `load_parameters`. Until then no images are taken.
  /// \throws c10::ValueError for a config out of range or a schedule that does not fit it.
  VisionTransformerImpl(Config config, Schedule schedule);
  ~VisionTransformerImpl() override;

  /// \return [B, num_classes], or without classes the pooled tokens: [B, embed_dim], and with
  ///         `Pool::none` all tokens [B, M, embed_dim]. With `Pool::token` the last block computes
  ///         the pooled rows alone.
  at::Tensor forward(const at::Tensor& images) const;

  /// \param dense  Whether each patch gets back the value of the token that holds it.
  /// \return [B, M, embed_dim]: all tokens that remain, prefix first, after the last norm; with
  ///         `dense` [B, P + gh * gw, embed_dim], patches in the image's order.
  at::Tensor forward_features(const at::Tensor& images, bool dense = false) const;

  /// Pools features and applies the head. `forward_head(forward_features(images))` is `forward`.
  /// \param features    [B, M, embed_dim], after the last norm.
  /// \param size        [B, M] float32: how many patches each token stands for, as `trace` gives
  ///                    it. `avg` and `map` pooling weight tokens by size. It may be left out when
  ///                    nothing is merged, and for dense features.
  /// \param pre_logits  Whether to return the input of the head: [B, embed_dim].
  /// \throws c10::ValueError for other shapes or devices, or when a size is needed and missing;
  ///         c10::TypeError for other dtypes; c10::Error when the model is frozen and the weights
  ///         of the head or of the attention pool are needed.
  at::Tensor forward_head(
      const at::Tensor& features, const std::optional<at::Tensor>& size = std::nullopt,
      bool pre_logits = false) const;

  /// Logits, the input of the head, and the tokens after the last norm, from one forward. The last
  /// block computes all rows and runs its merge steps.
  Outputs forward_with_features(const at::Tensor& images) const;

  /// The tokens that leave some of the blocks.
  /// \param blocks  Indices in [0, depth), ascending. Later blocks are not computed.
  /// \param norm    Whether to apply the last norm to the tokens.
  /// \throws c10::ValueError for other indices.
  std::vector<Intermediate> forward_intermediates(
      const at::Tensor& images, const std::vector<int64_t>& blocks, bool norm = false) const;

  /// Logits, and which token holds each patch at the end. The last block computes all rows and runs
  /// its merge steps.
  Trace trace(const at::Tensor& images) const;

  /// Where the time of one `forward` goes, by block and stage. On a GPU no recording is replayed:
  /// the operators run one directly after the other.
  /// \throws c10::ValueError where B is 0.
  Profile profile(const at::Tensor& images) const;

  /// Makes tensors the model's own, by timm's names. Nothing is copied.
  /// \param check_finite Whether to read every weight and refuse NaN and infinity.
  /// \throws c10::ValueError naming every missing, unexpected, misshapen or non-finite weight, and
  ///         when the weights are on several devices; c10::TypeError when they are of several
  ///         dtypes or of a dtype that is not supported. After an error the model has its former
  ///         weights.
  void load_parameters(
      const std::vector<std::pair<std::string, at::Tensor>>& weights, bool check_finite = true);

  const Config& config() const;
  Schedule schedule() const;
  Plan plan() const;  ///< Of the schedule, for the config's image size.

  /// Calls that have begun finish with the schedule they began with.
  /// \throws c10::ValueError when the schedule does not fit the model; the model then keeps its
  ///         schedule.
  void set_schedule(const Schedule& schedule);

  /// `fast`, unless the environment variable DSM_EXT_CPU was "aten" when the model was made.
  CpuPath cpu_path() const;
  /// The next call packs the weights again, also when the path stays the same.
  /// \throws c10::Error when the model is frozen.
  void set_cpu_path(CpuPath path);

  /// Whether forwards on a GPU are recorded and replayed: yes, unless the environment variable
  /// DSM_EXT_CUDA_GRAPHS was 0 when the model was made.
  bool cuda_graphs() const;
  /// Forgets all recordings, whether `on` is true or false. Call it after a change of torch's
  /// settings that a recording keeps, for instance which attention kernels torch may use. A change
  /// of TF32 needs no call: the model sees it.
  void set_cuda_graphs(bool on);

  /// Packs the weights for the CPU's fast path and frees the originals, half of the memory. The
  /// tensors of the large parameters become empty, in the model and in the caller's copies of the
  /// tensors. The model runs as before, on the CPU, and must no longer be moved, converted, loaded
  /// or saved. `freeze` may run beside `forward`, not beside changes of the weights.
  /// \throws c10::NotImplementedError when the model does not take the fast path.
  void freeze();
  bool frozen() const;

 private:
  struct State;
  void take_parameters();

  std::unique_ptr<State> state_;
};

TORCH_MODULE(VisionTransformer);

}  // namespace dsm_ext
