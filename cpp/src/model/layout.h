#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>

#include <map>
#include <mutex>
#include <vector>

#include "../ops/cpu/matcher.h"
#include "dsm_ext/schedule.h"

namespace dsm_ext {

/// A schedule laid out for a model, with what its steps need on each device. Immutable but for the
/// copies of the window order, which are made when a device is first seen.
class Layout {
 public:
  /// \param config  Of the model, for the image size at hand.
  Layout(const Config& config, Schedule schedule);

  const Config& config() const { return config_; }
  const Schedule& schedule() const { return schedule_; }
  const Plan& plan() const { return plan_; }

  at::Tensor window_order(at::Device device) const;  // [gh * gw] int32

  /// Work on this stream reads the window order: its memory is not to be others' before that is
  /// done.
  void used_on(const c10::Stream& stream) const;

  /// Who is matched with whom on the CPU: the groups of each of a block's steps.
  const std::vector<std::vector<MatchGroup>>& match_groups(int64_t block) const {
    return groups_[block];
  }

 private:
  Config config_;
  Schedule schedule_;
  Plan plan_;
  std::vector<std::vector<std::vector<MatchGroup>>> groups_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, at::Tensor> orders_;  // by device
  mutable std::vector<c10::Stream> streams_;          // that read them
};

}  // namespace dsm_ext
