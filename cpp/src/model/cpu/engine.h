#pragma once

#include "forward.h"

namespace dsm_ext::cpu {

using Named = std::vector<std::pair<std::string, at::Tensor>>;

/// The fast path: a model's packed weights and the workspaces of its calls.
class Engine {
 public:
  /// Whether such a model is computed here, and these parameters' changes can be seen.
  static bool takes(const Config& config, const Named& parameters);

  Engine(const Config& config, const Named& parameters);

  /// Whether the weights are what they were when they were packed.
  bool packed_from(const Named& parameters) const;

  /// Lets go of what is kept to see changes.
  void forget_origin() { states_.clear(); }

  /// What is wanted of images [B, in_chans, height, width], B > 0, of the layout's size.
  /// \param profile  Filled, where not null.
  Passed forward(
      const at::Tensor& images, const Layout& layout, const Wanted& wanted,
      Profile* profile = nullptr) const;

 private:
  struct State {
    c10::Storage storage;  // kept, so that its address is not given to another
    const void* data;
    std::vector<int64_t> sizes, strides;
    int64_t version;
  };

  at::Tensor positions(const Config& config) const;  // [gh * gw, C] of that size, or undefined

  Config config_;
  std::vector<State> states_;
  Weights weights_;
  mutable std::mutex mutex_;                                                      // guards the next
  mutable std::vector<std::pair<std::array<int64_t, 2>, at::Tensor>> positions_;  // by other grids
  mutable Workspaces workspaces_;
};

}  // namespace dsm_ext::cpu
