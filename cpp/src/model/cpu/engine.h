#pragma once

#include "forward.h"

namespace dsm_ext::cpu {

using Named = std::vector<std::pair<std::string, at::Tensor>>;

/// The fast path: a model's packed weights and the workspaces of its calls.
class Engine {
 public:
  /// Whether these parameters can be packed, and whether their changes can be seen.
  static bool takes(const Named& parameters);

  Engine(const Config& config, const Named& parameters);

  /// Whether the weights are what they were when they were packed.
  bool packed_from(const Named& parameters) const;

  /// Lets go of what is kept to see changes.
  void forget_origin() { states_.clear(); }

  /// Fills `outputs`, for images [B, in_chans, height, width], B > 0.
  /// \param profile  Filled too, where not null.
  void forward(
      const at::Tensor& images, const Layout& layout, const Outputs& outputs,
      Profile* profile = nullptr) const;

 private:
  struct State {
    c10::Storage storage;  // kept, so that its address is not given to another
    const void* data;
    std::vector<int64_t> strides;
    int64_t version;
  };

  Config config_;
  std::vector<State> states_;
  Weights weights_;
  mutable Workspaces workspaces_;
};

}  // namespace dsm_ext::cpu
