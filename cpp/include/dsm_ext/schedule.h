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

/// One merge step of a block. A local step merges tokens within windows, a global step merges
/// tokens of the whole sequence.
struct DSM_EXT_API Step {
  int64_t r = 0;       ///< How many tokens to remove from an image.
  int64_t window = 0;  ///< The side of a window in patches. 0: a global step.

  /// \throws c10::ValueError when the window is not positive.
  static Step local(int64_t r, int64_t window);
  static Step global(int64_t r) { return {r, 0}; }
  bool is_local() const { return window > 0; }
  bool operator==(const Step&) const = default;
  std::string str() const;
};

/// Which blocks merge how many tokens: a list with one entry for each block.
///
/// An entry has no step, a local step, a global step, or a local and then a global step. All
/// builders make such a list, so schedules that do the same are equal. All windows of a schedule
/// have one size, and no local step follows a global one.
///
/// The constructor, every builder and `parse` throw c10::ValueError, which says what was expected
/// and what was given.
/// \source DSM, arXiv 2303.02331. For `tome`, arXiv 2210.09461.
class DSM_EXT_API Schedule {
 public:
  /// \param blocks       The steps of each block. Steps with r = 0 are dropped.
  /// \param proportional Whether attention adds the log size of each key to the key's scores.
  /// \param rule         How every step decides which tokens merge.
  explicit Schedule(
      std::vector<std::vector<Step>> blocks, bool proportional = true, MergeRule rule = {});

  /// A schedule that merges nothing.
  static Schedule dense(int64_t depth);

  /// `skip` dense blocks, then `local` blocks with a local step, then blocks with a global step.
  /// Each step removes `r` tokens. The defaults are the paper's: r = 16, skip 1 and local 6 for 12
  /// blocks, which reproduces the multiply-adds of its ViT-S and ViT-B; r = 8, skip 4 and local 12
  /// for 24 blocks.
  static Schedule dsm(
      int64_t depth, std::optional<int64_t> r = {}, std::optional<int64_t> skip = {},
      std::optional<int64_t> local = {}, int64_t window = 7);

  /// Delay without local steps: `skip` dense blocks, then blocks with a global step ("DFE" in the
  /// paper's figures).
  static Schedule dfe(
      int64_t depth, std::optional<int64_t> r = {}, std::optional<int64_t> skip = {});

  /// ToMe: a global step in every block. The count goes linearly from r * (1 - inflection) in the
  /// first block to r * (1 + inflection) in the last block.
  static Schedule tome(int64_t depth, std::optional<int64_t> r = {}, double inflection = 0);

  /// ToMe with an r for each block. Blocks after the end of the list are dense.
  static Schedule tome(int64_t depth, const std::vector<int64_t>& r);

  /// A schedule for a wanted saving, with nothing else to choose: some dense blocks, then global
  /// steps whose counts fall from block to block, and by default the rule `keys+tokens` with
  /// protect = 0.3. The template was found on DeiT-T with 12 blocks and 196 patches.
  /// \param config   The model's config; the counts are for its image size.
  /// \param speedup  How many times fewer multiply-adds than the dense model's the plan shall have.
  ///                 The schedule comes as near to it as whole counts allow.
  /// \throws c10::ValueError when no schedule reaches `speedup`, with the range that can be
  /// reached.
  static Schedule guided(
      const Config& config, double speedup, const std::optional<MergeRule>& rule = std::nullopt);

  /// The schedule of a text, which is the name of a builder with its arguments, for example
  /// "dense", "dsm", "dsm:r=16,skip=2,local=5,window=7", "dfe:r=16,skip=2",
  /// "tome:r=8,inflection=-0.5", "tome:r=8/8/4" or "guided:1.7". "list:0/16w7/8w7+4/8" has an entry
  /// for each block, in which RwW is a local step in windows of side W and R a global step. Every
  /// name also takes proportional=true or proportional=false and the fields of a `MergeRule`:
  /// metric=keys or metric=keys+tokens, and protect=0.2 or another number.
  static Schedule parse(const std::string& text, const Config& config);

  /// The same for a model of which only the depth is known. It refuses "guided".
  static Schedule parse(const std::string& text, int64_t depth);

  int64_t depth() const { return static_cast<int64_t>(blocks_.size()); }
  const std::vector<std::vector<Step>>& blocks() const { return blocks_; }
  bool proportional() const { return proportional_; }
  Schedule with_proportional(bool on) const { return Schedule(blocks_, on, rule_); }
  const MergeRule& rule() const { return rule_; }
  Schedule with_rule(MergeRule rule) const { return Schedule(blocks_, proportional_, rule); }

  /// The plan of this schedule for a model and its image size.
  ///
  /// A step removes at most half of the tokens of a group (an image's or a window's), so a step may
  /// remove fewer than r tokens. A step that removes nothing is not in the plan.
  /// \throws c10::ValueError when the depths differ, or when a step removes more than half of the
  ///         image's patches (a local step: more than half of each window's). The message then
  ///         names the image size.
  Plan plan(const Config& config) const;

  bool operator==(const Schedule&) const = default;
  std::string str() const;

  /// A text from which `parse` makes this schedule: "list:...".
  std::string text() const;

 private:
  std::vector<std::vector<Step>> blocks_;
  bool proportional_;
  MergeRule rule_;
};

}  // namespace dsm_ext
