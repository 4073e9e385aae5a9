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
#include "dsm_ext/precision.h"
#include "dsm_ext/profile.h"
#include "dsm_ext/schedule.h"

namespace dsm_ext {

/// What `VisionTransformer::trace` returns.
struct DSM_EXT_API Trace {
  at::Tensor logits;  ///< What `forward` gives.
  /// [B, gh * gw] int32: for each patch, the index of the token that holds it at the end.
  at::Tensor source;
  at::Tensor size;  ///< [B, M] float32: how many patches each token stands for.
  /// [B, M, 2] float32: (row, column) of each token in patches from the image's top left corner:
  /// the mean of the centres of its patches. Prefix tokens have NaN.
  at::Tensor location;
};

/// The tokens that leave a block.
struct DSM_EXT_API Intermediate {
  at::Tensor tokens;  ///< [B, M, embed_dim], prefix first, in the model's dtype.
  at::Tensor source;  ///< [B, gh * gw] int32: for each patch, the index of the token that holds it.
  at::Tensor size;    ///< [B, M] float32: how many patches each token stands for.
};

/// The results of a forward. `VisionTransformer::forward_with_features` fills the first five.
struct DSM_EXT_API Outputs {
  at::Tensor logits;    ///< What `forward` gives.
  at::Tensor pooled;    ///< [B, embed_dim]: the input of the head.
  at::Tensor features;  ///< What `forward_features` gives, [B, M, embed_dim].
  at::Tensor size;      ///< [B, M] float32: how many patches each token stands for.
  at::Tensor source;  ///< [B, gh * gw] int32: for each patch, the index of the token that holds it.
  std::vector<Intermediate> intermediates;
  at::Tensor location;         ///< [B, M, 2] float32: where each token is, as in `Trace`.
  at::Tensor class_attention;  ///< [B, num_heads, N] float32: of one block, by token.
};

/// How a model runs on the CPU.
enum class CpuPath {
  fast,              ///< The fast path: packed weights, fused loops, planned buffers.
  aten,              ///< ATen's operators, in the weights' dtype.
  reference = aten,  ///< The older name of `aten`.
};

/// A Vision Transformer with delayed spatial merging: images in, logits out, in one call.
///
/// Parameters and submodules have timm's names. The model runs on the device and in the dtype of
/// its weights: float32, bfloat16 or float16. It is for inference: nothing is recorded for a
/// backward pass.
///
/// Threads: functions that take images may run in several threads at once. While one thread loads,
/// moves or converts the weights, no other thread may load, move or convert them or call
/// `set_schedule`.
///
/// CPU: the first call packs the weights. A later call packs them again when torch has
/// counted a change of the weights since then. Torch does not count changes that are made through
/// `data_ptr`, through Python's `.data` or `numpy()`, or by fused optimizers. After such a change,
/// call `load_parameters` or `set_cpu_path`. Torch also counts no changes of tensors that were
/// created in inference mode. A model with such weights runs by ATen's operators.
///
/// GPU: the model records the second call of a kind as a CUDA graph, and later calls of that kind
/// replay the graph. They may come on any stream; replays run one after the other. Calls are of one
/// kind when the number and size of the images, the request (`forward`, `trace`, ...), the memory
/// of the weights and the setting of TF32 are the same. A model keeps up to 16 recordings. All
/// recordings share the memory of one forward's activations. In addition, each recording has memory
/// for its own patches and outputs. While a call is recorded, CUDA does not allow other threads to
/// wait for the whole device (`torch.cuda.synchronize()`). A program with such threads must call
/// `set_cuda_graphs(false)`. The first call with a schedule or image size waits for the GPU; other
/// calls do not. The work of a call runs after the earlier work of the current stream.
///
/// A caller may capture calls of the model in a CUDA graph of their own. Before the capture, call
/// the model once in the same way. Do not change the model's schedule as long as the graph is
/// replayed.
///
/// `images` are [B, in_chans, height, width], contiguous or not; B may be 0. Height and width are
/// the config's. With `dynamic_img_size` they may be any multiples of the patch size, and M, gh and
/// gw are the values for this image size.
/// \throws c10::ValueError           for a wrong rank, number of channels, image size or device.
/// \throws c10::TypeError            for a dtype that is not the weights', and for sparse or nested
///                                   images.
/// \throws c10::NotImplementedError  for images that require grad, and while torch traces, exports
///                                   or transforms a program (jit::trace, vmap, functionalize,
///                                   ...).
/// \source The model: arXiv 2010.11929; distilled models: arXiv 2012.12877. The merging: DSM, arXiv
///         2303.02331.
class DSM_EXT_API VisionTransformerImpl : public torch::nn::Module {
 public:
  /// The parameters have shapes and no values (they are on the meta device) until
  /// `load_parameters`. Before that, functions that take images throw.
  /// \throws c10::ValueError for a config out of range or a schedule that does not fit it.
  VisionTransformerImpl(Config config, Schedule schedule);
  ~VisionTransformerImpl() override;

  /// With `Pool::token` the last block computes only the pooled rows.
  /// \return [B, num_classes]. A model without classes gives the pooled tokens [B, embed_dim], and
  ///         a model with `Pool::none` gives all tokens [B, M, embed_dim].
  at::Tensor forward(const at::Tensor& images) const;

  /// \param dense  Whether to give each patch the value of the token that holds it.
  /// \return [B, M, embed_dim]: the tokens that remain, prefix first, after the last norm. With
  ///         `dense`: [B, P + gh * gw, embed_dim], the prefix, then the patches row by row.
  at::Tensor forward_features(const at::Tensor& images, bool dense = false) const;

  /// Pools features and applies the head. `forward_head(forward_features(images))` is `forward`.
  /// \param features    [B, M, embed_dim], after the last norm.
  /// \param size        [B, M] float32: how many patches each token stands for, as `trace` gives
  ///                    it. `avg` and `map` pooling weight tokens by size. No size is needed when
  ///                    the schedule merges nothing, and for dense features.
  /// \param pre_logits  Whether to return the input of the head: [B, embed_dim].
  /// \throws c10::ValueError for wrong shapes or devices, or when a size is needed and missing;
  ///         c10::TypeError for wrong dtypes; c10::Error when the model is frozen and the weights
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
  /// \throws c10::ValueError for indices that are out of range or not ascending.
  std::vector<Intermediate> forward_intermediates(
      const at::Tensor& images, const std::vector<int64_t>& blocks, bool norm = false) const;

  /// Logits, which token holds each patch at the end, and where each token is. The last block
  /// computes all rows and runs its merge steps.
  Trace trace(const at::Tensor& images) const;

  /// What the model looks at: the attention that the class token pays to each patch in one block.
  /// A token that stands for several patches shares its attention equally among them. A model
  /// without a class token takes the mean of all queries, weighted by size, in place of the class
  /// token's query. The attention of a head to all patches and prefix tokens adds up to 1.
  /// \param block  The block's index; from the end if negative. Later blocks are not computed.
  /// \return       [B, num_heads, gh, gw] float32.
  /// \throws c10::ValueError for an index out of range.
  at::Tensor class_attention(const at::Tensor& images, int64_t block = -1) const;

  /// Measures one `forward` by block and stage. On a GPU the call replays no recording: its
  /// operators run one directly after the other.
  /// \throws c10::ValueError when B is 0.
  Profile profile(const at::Tensor& images) const;

  /// Replaces the model's parameters by these tensors, without copying them.
  /// \param weights       All parameters of the model, with timm's names.
  /// \param check_finite  Whether to read every weight and refuse NaN and infinity.
  /// \throws c10::ValueError when weights are missing, unexpected, misshapen or not finite (the
  ///         message names them), and when they are on several devices or without values;
  ///         c10::TypeError when they have several dtypes or an unsupported one;
  ///         c10::NotImplementedError when a weight is sparse or belongs to a traced or transformed
  ///         program; c10::Error when the model is frozen. After an error the model still has its
  ///         former weights.
  void load_parameters(
      const std::vector<std::pair<std::string, at::Tensor>>& weights, bool check_finite = true);

  const Config& config() const;
  Schedule schedule() const;
  Plan plan() const;  ///< The schedule's plan for the config's image size.

  /// Calls that run meanwhile finish with the schedule that they began with.
  /// \throws c10::ValueError when the schedule does not fit the model; the model then keeps its
  ///         former schedule.
  void set_schedule(const Schedule& schedule);

  /// The path that is set. At first it is `fast`, unless the environment variable DSM_EXT_CPU was
  /// "aten" when the model was made.
  CpuPath cpu_path() const;
  /// After this, the next call on the fast path packs the weights again, even when `path` is the
  /// path that was set before.
  /// \throws c10::Error when the model is frozen.
  void set_cpu_path(CpuPath path);

  /// The precision of the CPU's fast path. At first it is bfloat16 for bfloat16 weights on a
  /// processor that has bfloat16, and float32 otherwise: bfloat16 would round float16 weights. On a
  /// GPU, and with `CpuPath::aten`, a model computes in its weights' dtype.
  Precision precision() const;
  /// The precision that was set; none when the weights' dtype decides.
  std::optional<Precision> chosen_precision() const;
  /// The next call on the fast path packs the weights in this precision. The weights themselves
  /// keep their dtype.
  /// \throws c10::NotImplementedError when the processor does not have this precision, and when the
  ///         model does not run on the fast path and this precision is not its weights' dtype.
  ///         Later calls throw it, too, when the model has left the fast path since then.
  /// \throws c10::Error when the model is frozen.
  void set_precision(Precision precision);

  /// Whether the model records forwards on a GPU and replays them. At first it does, unless the
  /// environment variable DSM_EXT_CUDA_GRAPHS was 0 when the model was made.
  bool cuda_graphs() const;
  /// Says whether to record forwards, and forgets all recordings in either case. Recordings keep
  /// some of torch's settings, for instance which attention kernels torch may use: call this
  /// function after a change of such a setting. The model itself notices a change of TF32.
  void set_cuda_graphs(bool on);

  /// Packs the weights for the CPU's fast path and frees the original weights. A float32 model
  /// then needs half of the memory. The large parameters become empty tensors, for the model and
  /// for everyone who shares these tensors. The model gives the same results as before, on the CPU
  /// only. It can no longer be moved, converted, loaded or saved. Other threads may call `forward`
  /// during `freeze`, but must not change the weights.
  /// \throws c10::NotImplementedError when the model does not run on the fast path.
  void freeze();
  bool frozen() const;

 private:
  struct State;
  void take_parameters();

  std::unique_ptr<State> state_;
};

TORCH_MODULE(VisionTransformer);

}  // namespace dsm_ext
