#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <cmath>
#include <limits>
#include <vector>

#include "../dispatch.h"
#include "../match.h"
#include "multiversion.h"

// Bipartite soft matching on the CPU. A task is one group (an image, or one window of an image):
// its metric rows are read once, brought to unit length, and everything after that stays in a
// workspace of the task's own: unit rows of A, unit rows of B transposed, and one candidate for
// each token of A. Only the destinations are written. For 197 tokens of 64 channels the workspace
// is 52 KB. The score of a pair is summed over the channels in their order, whatever the other
// pairs are, so equal rows score equally and ties are settled by index alone.

namespace dsm_ext {
namespace {

constexpr int64_t kRows = 4;      // rows of A and
constexpr int64_t kColumns = 32;  // columns of B whose sums stay in registers together

struct Candidate {
  float similarity;
  int32_t partner;  // index in B
};

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

// The tokens of a group, by their index in the sequence, and where its output begins.
struct Group {
  std::vector<int32_t> a, b;
  int64_t r;
  int64_t base;
};

class Matcher {
 public:
  explicit Matcher(int64_t dim) : dim_(dim) {}

  template <typename T>
  void operator()(const T* metric, const Group& group, int32_t* destination) {
    load(metric, group);
    propose(group);
    write(group, destination);
  }

 private:
  static int64_t round_up(size_t n, int64_t multiple) {
    return (static_cast<int64_t>(n) + multiple - 1) / multiple * multiple;
  }

  template <typename T>
  void load(const T* metric, const Group& group) {
    columns_ = round_up(group.b.size(), kColumns);
    a_.assign(round_up(group.a.size(), kRows) * dim_, 0.f);
    b_.assign(dim_ * columns_, 0.f);
    a_valid_.resize(group.a.size());
    b_valid_.resize(group.b.size());
    for (size_t i = 0; i < group.a.size(); ++i) {
      a_valid_[i] = unit_row(metric + group.a[i] * dim_, a_.data() + i * dim_, 1);
    }
    for (size_t j = 0; j < group.b.size(); ++j) {
      b_valid_[j] = unit_row(metric + group.b[j] * dim_, b_.data() + j, columns_);
    }
  }

  // False for a zero-length or non-finite row, whose output stays zero. The squares are summed in
  // double, where those of any finite float32 row neither overflow nor vanish.
  template <typename T>
  bool unit_row(const T* row, float* unit, int64_t stride) const {
    double squares = 0;
    for (int64_t d = 0; d < dim_; ++d) {
      const double value = static_cast<float>(row[d]);
      squares += value * value;
    }
    if (!(squares > 0) || !std::isfinite(squares)) {
      return false;
    }
    const double scale = 1 / std::sqrt(squares);
    for (int64_t d = 0; d < dim_; ++d) {
      unit[d * stride] = static_cast<float>(static_cast<float>(row[d]) * scale);
    }
    return true;
  }

  // The best partner of every token of A.
  void propose(const Group& group) {
    const auto count = static_cast<int64_t>(group.a.size());
    candidates_.resize(count);
    scores_.resize(kRows * columns_);
    for (int64_t i0 = 0; i0 < count; i0 += kRows) {
      score_rows(a_.data() + i0 * dim_, b_.data(), dim_, columns_, scores_.data());
      for (int64_t i = i0; i < std::min(i0 + kRows, count); ++i) {
        Candidate best{-std::numeric_limits<float>::infinity(), 0};
        const float* scores = scores_.data() + (i - i0) * columns_;
        for (size_t j = 0; a_valid_[i] && j < group.b.size(); ++j) {
          if (b_valid_[j] && scores[j] > best.similarity) {
            best = {scores[j], static_cast<int32_t>(j)};
          }
        }
        candidates_[i] = best;
      }
    }
  }

  // Keeps the r best candidates, by counting how many come before each: with at most a few hundred
  // this is less work than sorting them, and the order of ties is part of the comparison.
  bool kept(int64_t i, int64_t r) const {
    const float mine = candidates_[i].similarity;
    int64_t rank = 0;
    for (int64_t k = 0; k < i; ++k) {
      rank += candidates_[k].similarity >= mine;
    }
    for (size_t k = i + 1; k < candidates_.size(); ++k) {
      rank += candidates_[k].similarity > mine;
    }
    return rank < r;
  }

  void write(const Group& group, int32_t* destination) const {
    const auto count = static_cast<int64_t>(group.a.size());
    const int64_t base_b = group.base + count - group.r;
    for (size_t j = 0; j < group.b.size(); ++j) {
      destination[group.b[j]] = static_cast<int32_t>(base_b + j);
    }
    int64_t next = group.base;
    for (int64_t i = 0; i < count; ++i) {
      destination[group.a[i]] =
          static_cast<int32_t>(kept(i, group.r) ? base_b + candidates_[i].partner : next++);
    }
  }

  int64_t dim_;
  int64_t columns_ = 0;
  std::vector<float> a_, b_, scores_;  // [A, D], [D, B], [kRows, B]
  std::vector<char> a_valid_, b_valid_;
  std::vector<Candidate> candidates_;
};

// `order` as a vector, checked to be a permutation: the kernel indexes by it.
std::vector<int32_t> window_order(const std::optional<at::Tensor>& order, int64_t tokens) {
  std::vector<int32_t> result(tokens);
  if (!order.has_value()) {
    for (int64_t i = 0; i < tokens; ++i) {
      result[i] = static_cast<int32_t>(i);
    }
    return result;
  }
  const auto contiguous = order->contiguous();
  const auto* values = contiguous.const_data_ptr<int32_t>();
  std::vector<char> seen(tokens, 0);
  for (int64_t i = 0; i < tokens; ++i) {
    TORCH_CHECK_VALUE(
        values[i] >= 0 && values[i] < tokens && !seen[values[i]],
        "dsm_ext.match: expected order to be a permutation of [0, ", tokens, "), got ", values[i],
        " at ", i);
    seen[values[i]] = 1;
    result[i] = values[i];
  }
  return result;
}

std::vector<Group> make_groups(
    int64_t tokens, int64_t r, int64_t prefix, at::IntArrayRef windows,
    const std::optional<at::Tensor>& order) {
  if (windows.empty()) {
    Group group{{}, {}, r, prefix};
    for (int64_t n = prefix; n < tokens; ++n) {
      (n % 2 == 0 ? group.a : group.b).push_back(static_cast<int32_t>(n));
    }
    return {group};
  }
  const auto place = window_order(order, tokens - prefix);
  std::vector<Group> groups;
  int64_t begin = 0;
  int64_t base = prefix;
  for (const int64_t size : windows) {
    Group group{{}, {}, removed_from_window(size, r), base};
    for (int64_t n = 0; n < size; ++n) {
      (n % 2 == 0 ? group.a : group.b).push_back(static_cast<int32_t>(prefix) + place[begin + n]);
    }
    begin += size;
    base += size - group.r;
    groups.push_back(std::move(group));
  }
  return groups;
}

at::Tensor match_kernel(
    const at::Tensor& metric, int64_t r, int64_t prefix, at::IntArrayRef windows,
    const std::optional<at::Tensor>& order) {
  check_match(metric, r, prefix, windows, order);
  if (r == 0) {
    const auto identity = at::arange(metric.size(1), metric.options().dtype(at::kInt));
    return identity.repeat({metric.size(0), 1});
  }
  const int64_t images = metric.size(0), tokens = metric.size(1), dim = metric.size(2);
  auto destination = at::empty({images, tokens}, metric.options().dtype(at::kInt));
  const auto groups = make_groups(tokens, r, prefix, windows, order);
  const auto rows = metric.contiguous();
  auto* out = destination.mutable_data_ptr<int32_t>();
  const auto count = static_cast<int64_t>(groups.size());

  DSM_EXT_DISPATCH(rows.scalar_type(), "match", [&] {
    const auto* data = rows.const_data_ptr<scalar_t>();
    at::parallel_for(0, images * count, 1, [&](int64_t begin, int64_t end) {
      Matcher matcher(dim);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t image = task / count;
        int32_t* image_out = out + image * tokens;
        if (task % count == 0) {
          for (int64_t n = 0; n < prefix; ++n) {
            image_out[n] = static_cast<int32_t>(n);
          }
        }
        matcher(data + image * tokens * dim, groups[task % count], image_out);
      }
    });
  });
  return destination;
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CPU, m) { m.impl("match", &match_kernel); }

}  // namespace dsm_ext
