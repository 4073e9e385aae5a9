#include "matcher.h"

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "../groups.h"
#include "cpu/kernels/transpose.h"
#include "multiversion.h"

// Bipartite soft matching on the CPU (ToMe, arXiv 2210.09461, section 3). A task is one group. The
// matcher reads the group's metric rows once and scales them to unit length; all later steps work
// on its own memory: the unit rows of A, the unit rows of B transposed, and one pair for each token
// of A. It writes destinations only. For 197 tokens of 64 channels that memory is 85 KB.
//
// oneDNN's block kernel computes the similarities. It sums each over the channels in their order,
// independently of the other pairs. So equal rows have equal similarities, and the index alone
// decides between them.

namespace dsm_ext {
namespace {

constexpr int64_t kRows = 32;     // rows of A that are compared at once
constexpr int64_t kColumns = 16;  // rows of B are padded to a whole number of vectors
constexpr float kNone = -std::numeric_limits<float>::infinity();

// The largest of n values, and the first index that has it.
DSM_EXT_MULTIVERSION float largest(const float* values, int64_t n, int32_t* index) {
  float best = kNone;
#pragma omp simd reduction(max : best)
  for (int64_t j = 0; j < n; ++j) {
    best = values[j] > best ? values[j] : best;
  }
  *index = 0;
  for (int64_t j = 0; j < n; ++j) {
    if (values[j] == best) {
      *index = static_cast<int32_t>(j);
      break;
    }
  }
  return best;
}

// What ranks a token of A and its partner. A NaN ranks last, because ranks need an order.
float pair_score(float similarity, float penalty) {
  const float score = similarity - penalty;
  return std::isnan(score) ? kNone : score;
}

// How many pairs come before the i-th: those of a higher score, and of equal scores those with a
// lower index. For a few hundred pairs, counting is less work than sorting.
DSM_EXT_MULTIVERSION int32_t rank_of(const float* scores, int32_t n, int32_t i) {
  const float mine = scores[i];
  int32_t rank = 0;
#pragma omp simd reduction(+ : rank)
  for (int32_t k = 0; k < i; ++k) {
    rank += scores[k] >= mine ? 1 : 0;
  }
#pragma omp simd reduction(+ : rank)
  for (int32_t k = i + 1; k < n; ++k) {
    rank += scores[k] > mine ? 1 : 0;
  }
  return rank;
}

int64_t round_up(size_t n, int64_t multiple) {
  return (static_cast<int64_t>(n) + multiple - 1) / multiple * multiple;
}

// The least multiply-adds that are worth a thread of their own.
constexpr int64_t kLeastWork = 1 << 18;

}  // namespace

// The squares are summed in double: there the squares of a finite float32 row neither overflow nor
// vanish.
DSM_EXT_MULTIVERSION bool scaled_row(const float* row, int64_t dim, double length, float* out) {
  double squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t d = 0; d < dim; ++d) {
    squares += static_cast<double>(row[d]) * row[d];
  }
  if (!(squares > 0) || !std::isfinite(squares)) {
    return false;
  }
  const double scale = length / std::sqrt(squares);
  for (int64_t d = 0; d < dim; ++d) {
    out[d] = static_cast<float>(row[d] * scale);
  }
  return true;
}

std::vector<MatchGroup> match_groups(
    int64_t tokens, int64_t r, int64_t prefix, const std::vector<int64_t>& windows,
    const std::vector<int32_t>& order) {
  const int64_t first = first_of_a(prefix, !windows.empty());
  std::vector<MatchGroup> groups;
  for (const auto& shape : groups_of_step(tokens, r, prefix, windows)) {
    MatchGroup group{{}, {}, shape.r, shape.base};
    for (int32_t n = 0; n < shape.tokens; ++n) {
      const int64_t place = shape.begin + n;
      const int64_t token = prefix + (order.empty() ? place : order[place]);
      (n % 2 == first ? group.a : group.b).push_back(static_cast<int32_t>(token));
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

void Matcher::operator()(
    WriteUnitRow write_row, int64_t dim, const MatchGroup& group, const float* penalty,
    int32_t* destination) {
  load(write_row, dim, group);
  propose(dim, group);
  select(group, penalty);
  write(group, destination);
}

// Gets the unit rows of both sets.
void Matcher::load(WriteUnitRow write_row, int64_t dim, const MatchGroup& group) {
  const auto a = static_cast<int64_t>(group.a.size()), b = static_cast<int64_t>(group.b.size());
  columns_ = round_up(group.b.size(), kColumns);
  units_.resize((a + columns_) * dim);
  b_.resize(dim * columns_);
  valid_.resize(a + b);
  constexpr int64_t kWorkPerValue = 8, kRowsAtOnce = 8;
  const auto load_row = [&](int64_t i) {
    const int32_t token = i < a ? group.a[i] : group.b[i - a];
    float* unit = units_.data() + i * dim;
    valid_[i] = write_row(token, unit);
    if (!valid_[i]) {
      std::fill_n(unit, dim, 0.f);
    }
  };
  const int64_t grain = kLeastWork / (kWorkPerValue * dim + 1) + 1;
  at::parallel_for(0, a, grain, [&](int64_t i, int64_t end) {
    for (; i < end; ++i) {
      load_row(i);
    }
  });
  // The rows of B, some at a time, and the transpose of these.
  at::parallel_for(
      0, columns_ / kRowsAtOnce, grain / kRowsAtOnce + 1, [&](int64_t part, int64_t end) {
        for (; part < end; ++part) {
          const int64_t first = part * kRowsAtOnce;
          for (int64_t j = first; j < first + kRowsAtOnce; ++j) {
            if (j < b) {
              load_row(a + j);
            } else {
              std::fill_n(units_.data() + (a + j) * dim, dim, 0.f);
            }
          }
          cpu::transpose(
              reinterpret_cast<const std::byte*>(units_.data() + (a + first) * dim), kRowsAtOnce,
              dim, dim * static_cast<int64_t>(sizeof(float)),
              reinterpret_cast<std::byte*>(b_.data() + first), columns_);
        }
      });
  b_invalid_.clear();
  for (int64_t j = 0; j < b; ++j) {
    if (!valid_[a + j]) {
      b_invalid_.push_back(static_cast<int32_t>(j));
    }
  }
}

// Finds the partner of every token of A: the most similar token of B. An invalid row is similar to
// no other.
void Matcher::propose(int64_t dim, const MatchGroup& group) {
  const auto count = static_cast<int64_t>(group.a.size());
  const int64_t tiles = round_up(group.a.size(), kRows) / kRows;
  similarity_.resize(count);
  partner_.resize(count);
  tiles_.resize(at::get_num_threads() * kRows * columns_);
  const int64_t work = kRows * columns_ * dim;  // of a tile
  at::parallel_for(0, tiles, kLeastWork / (work + 1) + 1, [&](int64_t tile, int64_t end) {
    float* similarities = tiles_.data() + at::get_thread_num() * kRows * columns_;
    for (; tile < end; ++tile) {
      propose_rows(tile * kRows, dim, group, similarities);
    }
  });
}

// Finds the partners of kRows tokens of A.
// similarities: [kRows, columns_], overwritten.
void Matcher::propose_rows(
    int64_t first, int64_t dim, const MatchGroup& group, float* similarities) {
  const auto count = static_cast<int64_t>(group.a.size());
  const int64_t end = std::min(first + kRows, count);
  if (columns_ > 0 && dim > 0) {
    at::native::cpublas::brgemm(
        end - first, columns_, dim, dim, columns_, columns_, /*add_C=*/false,
        units_.data() + first * dim, b_.data(), similarities);
  }
  for (int64_t i = first; i < end; ++i, similarities += columns_) {
    for (const int32_t j : b_invalid_) {
      similarities[j] = kNone;
    }
    similarity_[i] = largest(similarities, static_cast<int64_t>(group.b.size()), &partner_[i]);
    if (!valid_[i]) {
      similarity_[i] = kNone;
      partner_[i] = 0;
    }
  }
}

// Chooses the tokens of A whose pairs have the highest scores: they merge away.
void Matcher::select(const MatchGroup& group, const float* penalty) {
  const auto count = static_cast<int32_t>(similarity_.size());
  score_.resize(count);
  merged_away_.resize(count);
  for (int32_t i = 0; i < count; ++i) {
    score_[i] = pair_score(similarity_[i], penalty == nullptr ? 0.f : penalty[group.a[i]]);
  }
  for (int32_t i = 0; i < count; ++i) {
    merged_away_[i] = rank_of(score_.data(), count, i) < group.r;
  }
}

// In the merged sequence the tokens of A that stay come first, then all of B.
void Matcher::write(const MatchGroup& group, int32_t* destination) const {
  const int64_t base_b = group.base + static_cast<int64_t>(group.a.size()) - group.r;
  for (size_t j = 0; j < group.b.size(); ++j) {
    destination[group.b[j]] = static_cast<int32_t>(base_b + j);
  }
  int64_t next = group.base;
  for (size_t i = 0; i < group.a.size(); ++i) {
    destination[group.a[i]] = static_cast<int32_t>(merged_away_[i] ? base_b + partner_[i] : next++);
  }
}

}  // namespace dsm_ext
