#include "matcher.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "../match.h"
#include "multiversion.h"

// Bipartite soft matching on the CPU. A task is one group: its metric rows are read once, brought
// to unit length, and everything after that stays in the workspace: unit rows of A, unit rows of B
// transposed, and one candidate for each token of A. Only the destinations are written. For 197
// tokens of 64 channels the workspace is 60 KB. The score of a pair is summed over the channels in
// their order, whatever the other pairs are, so equal rows score equally and ties are settled by
// index alone.

namespace dsm_ext {
namespace {

constexpr int64_t kRows = 4;      // rows of A and
constexpr int64_t kColumns = 32;  // columns of B whose sums stay in registers together
constexpr float kNone = -std::numeric_limits<float>::infinity();

// scores[i][j] = sum_d a[i][d] * b[d][j] for kRows rows of A and `columns` (padded) of B.
DSM_EXT_MULTIVERSION void score_rows(
    const float* __restrict__ a, const float* __restrict__ b, int64_t dim, int64_t columns,
    float* __restrict__ scores) {
  for (int64_t j0 = 0; j0 < columns; j0 += kColumns) {
    float sum[kRows][kColumns] = {};
    for (int64_t d = 0; d < dim; ++d) {
      for (int64_t i = 0; i < kRows; ++i) {
        for (int64_t j = 0; j < kColumns; ++j) {
          sum[i][j] += a[i * dim + d] * b[d * columns + j0 + j];
        }
      }
    }
    for (int64_t i = 0; i < kRows; ++i) {
      for (int64_t j = 0; j < kColumns; ++j) {
        scores[i * columns + j0 + j] = sum[i][j];
      }
    }
  }
}

// False for a zero-length or non-finite row, whose output stays zero. The squares are summed in
// double, where those of any finite float32 row neither overflow nor vanish.
DSM_EXT_MULTIVERSION bool unit_row(const float* row, int64_t dim, float* unit, int64_t stride) {
  double squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t d = 0; d < dim; ++d) {
    squares += static_cast<double>(row[d]) * row[d];
  }
  if (!(squares > 0) || !std::isfinite(squares)) {
    return false;
  }
  const double scale = 1 / std::sqrt(squares);
  for (int64_t d = 0; d < dim; ++d) {
    unit[d * stride] = static_cast<float>(row[d] * scale);
  }
  return true;
}

// The largest of n scores, and the first place where it stands.
DSM_EXT_MULTIVERSION float largest(const float* scores, int64_t n, int32_t* place) {
  float best = kNone;
#pragma omp simd reduction(max : best)
  for (int64_t j = 0; j < n; ++j) {
    best = scores[j] > best ? scores[j] : best;
  }
  *place = 0;
  for (int64_t j = 0; j < n; ++j) {
    if (scores[j] == best) {
      *place = static_cast<int32_t>(j);
      break;
    }
  }
  return best;
}

// How many candidates come before the i-th: with at most a few hundred, counting is less work than
// sorting them, and the order of ties is part of the comparison.
DSM_EXT_MULTIVERSION int32_t rank_of(const float* similarity, int32_t n, int32_t i) {
  const float mine = similarity[i];
  int32_t rank = 0;
#pragma omp simd reduction(+ : rank)
  for (int32_t k = 0; k < i; ++k) {
    rank += similarity[k] >= mine ? 1 : 0;
  }
#pragma omp simd reduction(+ : rank)
  for (int32_t k = i + 1; k < n; ++k) {
    rank += similarity[k] > mine ? 1 : 0;
  }
  return rank;
}

int64_t round_up(size_t n, int64_t multiple) {
  return (static_cast<int64_t>(n) + multiple - 1) / multiple * multiple;
}

}  // namespace

std::vector<MatchGroup> match_groups(
    int64_t tokens, int64_t r, int64_t prefix, const std::vector<int64_t>& windows,
    const std::vector<int32_t>& order) {
  if (windows.empty()) {
    MatchGroup group{{}, {}, r, prefix};
    for (int64_t n = prefix; n < tokens; ++n) {
      (n % 2 == 0 ? group.a : group.b).push_back(static_cast<int32_t>(n));
    }
    return {group};
  }
  std::vector<MatchGroup> groups;
  int64_t begin = 0;
  int64_t base = prefix;
  for (const int64_t size : windows) {
    MatchGroup group{{}, {}, removed_from_window(size, r), base};
    for (int64_t n = 0; n < size; ++n) {
      const int64_t place = order.empty() ? begin + n : order[begin + n];
      (n % 2 == 0 ? group.a : group.b).push_back(static_cast<int32_t>(prefix + place));
    }
    begin += size;
    base += size - group.r;
    groups.push_back(std::move(group));
  }
  return groups;
}

void Matcher::operator()(
    const float* metric, int64_t dim, const MatchGroup& group, int32_t* destination) {
  load(metric, dim, group);
  propose(dim, group);
  write(group, destination);
}

void Matcher::load(const float* metric, int64_t dim, const MatchGroup& group) {
  columns_ = round_up(group.b.size(), kColumns);
  a_.assign(round_up(group.a.size(), kRows) * dim, 0.f);
  b_.assign(dim * columns_, 0.f);
  a_valid_.resize(group.a.size());
  b_invalid_.clear();
  for (size_t i = 0; i < group.a.size(); ++i) {
    a_valid_[i] = unit_row(metric + group.a[i] * dim, dim, a_.data() + i * dim, 1);
  }
  for (size_t j = 0; j < group.b.size(); ++j) {
    if (!unit_row(metric + group.b[j] * dim, dim, b_.data() + j, columns_)) {
      b_invalid_.push_back(static_cast<int32_t>(j));
    }
  }
}

// The best partner of every token of A.
void Matcher::propose(int64_t dim, const MatchGroup& group) {
  const auto count = static_cast<int64_t>(group.a.size());
  similarity_.resize(count);
  partner_.resize(count);
  scores_.resize(kRows * columns_);
  for (int64_t i0 = 0; i0 < count; i0 += kRows) {
    score_rows(a_.data() + i0 * dim, b_.data(), dim, columns_, scores_.data());
    for (int64_t i = i0; i < std::min(i0 + kRows, count); ++i) {
      float* scores = scores_.data() + (i - i0) * columns_;
      for (const int32_t j : b_invalid_) {
        scores[j] = kNone;
      }
      similarity_[i] = largest(scores, static_cast<int64_t>(group.b.size()), &partner_[i]);
      if (!a_valid_[i]) {
        similarity_[i] = kNone;
        partner_[i] = 0;
      }
    }
  }
}

void Matcher::write(const MatchGroup& group, int32_t* destination) const {
  const auto count = static_cast<int32_t>(group.a.size());
  const int64_t base_b = group.base + count - group.r;
  for (size_t j = 0; j < group.b.size(); ++j) {
    destination[group.b[j]] = static_cast<int32_t>(base_b + j);
  }
  int64_t next = group.base;
  for (int32_t i = 0; i < count; ++i) {
    const bool kept = rank_of(similarity_.data(), count, i) < group.r;
    destination[group.a[i]] = static_cast<int32_t>(kept ? base_b + partner_[i] : next++);
  }
}

}  // namespace dsm_ext
