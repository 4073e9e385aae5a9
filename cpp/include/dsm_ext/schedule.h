#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dsm_ext/config.h"
#include "dsm_ext/export.h"
#include "dsm_ext/merge_rule.h"
#include "dsm_ext/plan.h"

namespace dsm_ext {

/// One merge step of a block: local, inside windows, or global, over the whole sequence.
struct DSM_EXT_API Step {
  int64_t r = 0;       ///< Tokens to remove from an image.
  int64_t window = 0;  ///< Side of a window in patches; 0: global.

  /// \throws c10::ValueError for a window that is not positive.
  static Step local(int64_t r, int64_t window);
  static Step global(int64_t r) { return {r, 0}; }
  bool is_local() const { return window > 0; }
  bool operator==(const Step&) const = default;
  std::string str() const;
};

/// Which blocks merge how many tokens.
///
/// A list with one entry a block: no step, a local one, a global one, or a local and then a global
/// one. All builders give the same plain list, so schedules that do the same are equal. Windows
/// keep one size through a schedule and no local step follows a global one. Where a sequence has
/// shrunk so far that fewer than r tokens can be removed, half of its patches are.
///
/// Every builder and parser throws c10::ValueError, naming what was expected and what was given.
/// \source DSM, arXiv 2303.02331; for `tome`, arXiv 2210.09461.
class DSM_EXT_API Schedule {
 public:
  /// \param blocks       The steps of each block; steps with r = 0 are left out.
  /// \param proportional Whether attention adds the logarithm of a key's size to its scores.
  /// \param rule         How every step decides which tokens merge.
  explicit Schedule(
      std::vector<std::vector<Step>> blocks, bool proportional = true, MergeRule rule = {});

  /// No merging.
  static Schedule dense(int64_t depth);

  /// `skip` dense blocks, `local` blocks with local steps, then global steps to the end, each
  /// removing `r`. Left out, they follow the paper: r = 16, skip 1 and local 6 for 12 blocks, which
  /// reproduces its ViT-S and ViT-B arithmetic; r = 8, skip 4 and local 12 for 24.
  static Schedule dsm(
      int64_t depth, std::optional<int64_t> r = {}, std::optional<int64_t> skip = {},
      std::optional<int64_t> local = {}, int64_t window = 7);

  /// Delay only: `skip` dense blocks, then global steps ("DFE" in the paper's figures).
  static Schedule dfe(
      int64_t depth, std::optional<int64_t> r = {}, std::optional<int64_t> skip = {});

  /// ToMe: global steps in every block. With `inflection` t, r falls or rises linearly from
  /// r * (1 - t) in the first block to r * (1 + t) in the last.
  static Schedule tome(int64_t depth, std::optional<int64_t> r = {}, double inflection = 0);

  /// ToMe with an r for each block; blocks beyond the list's end are dense.
  static Schedule tome(int64_t depth, const std::vector<int64_t>& r);

  /// A name and its arguments: "dense", "dsm", "dsm:r=16,skip=2,local=5,window=7",
  /// "dfe:r=16,skip=2", "tome:r=8,inflection=-0.5", "tome:r=8/8/4"; each also takes
  /// proportional=true or proportional=false.
  static Schedule parse(const std::string& text, int64_t depth);

  int64_t depth() const { return static_cast<int64_t>(blocks_.size()); }
  const std::vector<std::vector<Step>>& blocks() const { return blocks_; }
  bool proportional() const { return proportional_; }
  Schedule with_proportional(bool on) const { return Schedule(blocks_, on, rule_); }
  const MergeRule& rule() const { return rule_; }

  /// The schedule laid out for a model's shape.
  ///
  /// A step gives what it can: where fewer than r tokens can be removed from what is left, half of
  /// each group's are, and windows of one patch, which have no pair, give nothing. Such a step is
  /// left out.
  /// \throws c10::ValueError where the depths differ, or a step asks for more than half of the
  ///         patches that the whole picture (or its windows) has, whose size is then named.
  Plan plan(const Config& config) const;

  bool operator==(const Schedule&) const = default;
  std::string str() const;

 private:
  std::vector<std::vector<Step>> blocks_;
  bool proportional_;
  MergeRule rule_;
};

}  // namespace dsm_ext
