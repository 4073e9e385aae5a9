#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "../dispatch.h"
#include "../merge.h"
#include "member_rows.h"
#include "rows_per_task.h"

// Merging by output rows. The kernel first lists the members of each output row, in the order of
// their positions. Then one thread owns an output row: it reads the members once and writes the row
// once, so every run gives the same bits. Bytes moved: N*C in, M*C out, and a few integers for each
// token.

namespace dsm_ext {
namespace {

// The members of row m of an image are the image's members[begin[m]] to members[begin[m + 1] - 1].
struct Members {
  std::vector<int32_t> begin;    // [B, M + 1]
  std::vector<int32_t> members;  // [B, N]
};

// Lists the members of all images' rows, after checking the destinations' values.
Members list_all_members(const at::Tensor& destinations, int64_t rows) {
  const int64_t images = destinations.size(0), tokens = destinations.size(1);
  const auto* all = destinations.const_data_ptr<int32_t>();
  Members lists{
      std::vector<int32_t>(images * (rows + 1), 0), std::vector<int32_t>(images * tokens)};
  at::parallel_for(0, images, 8, [&](int64_t first, int64_t last) {
    for (int64_t image = first; image < last; ++image) {
      const auto* destination = all + image * tokens;
      auto* begin = &lists.begin[image * (rows + 1)];
      for (int64_t n = 0; n < tokens; ++n) {
        TORCH_CHECK_VALUE(
            destination[n] >= 0 && destination[n] < rows,
            "dsm_ext.merge: expected destination to be in [0, ", rows, "), got ", destination[n],
            " for token ", n, " of image ", image);
      }
      list_members(destination, tokens, rows, begin, lists.members.data() + image * tokens);
      for (int64_t m = 0; m < rows; ++m) {
        TORCH_CHECK_VALUE(
            begin[m + 1] > begin[m], "dsm_ext.merge: expected each of the ", rows,
            " tokens to have a member, got none for token ", m, " of image ", image);
      }
    }
  });
  return lists;
}

// The mean of a row's members, as `merge_row`. Half precision is summed in float32 and rounded
// once.
template <typename T>
float merge_any_row(
    const T* x, const float* size, const int32_t* members, int64_t count, int64_t channels,
    T* out) {
  if constexpr (std::is_same_v<T, float>) {
    return merge_row(x, size, members, count, channels, out);
  } else {
    if (count == 1) {
      std::copy_n(x + members[0] * channels, channels, out);
      return size[members[0]];
    }
    std::vector<float> sum(channels, 0.f);
    float total = 0;
    for (int64_t k = 0; k < count; ++k) {
      const T* row = x + members[k] * channels;
      const float weight = size[members[k]];
      for (int64_t c = 0; c < channels; ++c) {
        sum[c] += weight * static_cast<float>(row[c]);
      }
      total += weight;
    }
    for (int64_t c = 0; c < channels; ++c) {
      out[c] = static_cast<T>(sum[c] / total);
    }
    return total;
  }
}

std::tuple<at::Tensor, at::Tensor> merge_kernel(
    const at::Tensor& x_, const at::Tensor& size_, const at::Tensor& destination, int64_t rows) {
  check_merge(x_, size_, destination, rows);
  const int64_t images = x_.size(0), tokens = x_.size(1), channels = x_.size(2);
  const auto x = x_.contiguous();
  const auto size = size_.contiguous();
  auto merged = at::empty({images, rows, channels}, x.options());
  auto merged_size = at::empty({images, rows}, size.options());
  const auto lists = list_all_members(destination.contiguous(), rows);
  const auto* in_size = size.const_data_ptr<float>();
  auto* out_size = merged_size.mutable_data_ptr<float>();

  DSM_EXT_DISPATCH(x.scalar_type(), "merge", [&] {
    const auto* in = x.const_data_ptr<scalar_t>();
    auto* out = merged.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, images * rows, rows_per_task(channels), [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        const int64_t image = row / rows;
        const auto* begin = &lists.begin[image * (rows + 1) + row % rows];
        out_size[row] = merge_any_row(
            in + image * tokens * channels, in_size + image * tokens,
            lists.members.data() + image * tokens + begin[0], begin[1] - begin[0], channels,
            out + row * channels);
      }
    });
  });
  return {merged, merged_size};
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CPU, m) { m.impl("merge", &merge_kernel); }

}  // namespace dsm_ext
