#include <ATen/Functions.h>
#include <torch/library.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "../dispatch.h"
#include "../merge.h"
#include "gather.h"
#include "parallel.h"

// Merging as a gather. The destinations of an image are first inverted by counting, so that every
// output row knows its sources, in the order of their positions; then each output row is owned by
// one thread, which reads its sources once and writes the row once: the same bits every run. Bytes
// moved: N*C in, M*C out, and a few integers a token.

namespace dsm_ext {
namespace {

// For every image: sources[begin[m], begin[m + 1]) are the tokens that go to row m.
struct Inverse {
  std::vector<int32_t> begin;    // [B, M + 1]
  std::vector<int32_t> sources;  // [B, N]
};

Inverse invert_all(const at::Tensor& destination, int64_t rows) {
  const int64_t images = destination.size(0), tokens = destination.size(1);
  const auto* all = destination.const_data_ptr<int32_t>();
  Inverse inverse{
      std::vector<int32_t>(images * (rows + 1), 0), std::vector<int32_t>(images * tokens)};
  at::parallel_for(0, images, 8, [&](int64_t first, int64_t last) {
    for (int64_t image = first; image < last; ++image) {
      const auto* to = all + image * tokens;
      auto* begin = &inverse.begin[image * (rows + 1)];
      for (int64_t n = 0; n < tokens; ++n) {
        TORCH_CHECK_VALUE(
            to[n] >= 0 && to[n] < rows, "dsm_ext.merge: expected destination to be in [0, ", rows,
            "), got ", to[n], " for token ", n, " of image ", image);
      }
      invert(to, tokens, rows, begin, inverse.sources.data() + image * tokens);
      for (int64_t m = 0; m < rows; ++m) {
        TORCH_CHECK_VALUE(
            begin[m + 1] > begin[m], "dsm_ext.merge: expected every one of the ", rows,
            " tokens to have a source, got none for token ", m, " of image ", image);
      }
    }
  });
  return inverse;
}

// Half precision is summed in float32 and rounded once.
template <typename T>
float merge_any_row(
    const T* x, const float* size, const int32_t* sources, int64_t count, int64_t channels,
    T* out) {
  if constexpr (std::is_same_v<T, float>) {
    return merge_row(x, size, sources, count, channels, out);
  } else {
    if (count == 1) {
      std::copy_n(x + sources[0] * channels, channels, out);
      return size[sources[0]];
    }
    std::vector<float> sum(channels, 0.f);
    float total = 0;
    for (int64_t k = 0; k < count; ++k) {
      const T* row = x + sources[k] * channels;
      const float weight = size[sources[k]];
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
  const auto inverse = invert_all(destination.contiguous(), rows);
  const auto* in_size = size.const_data_ptr<float>();
  auto* out_size = merged_size.mutable_data_ptr<float>();

  DSM_EXT_DISPATCH(x.scalar_type(), "merge", [&] {
    const auto* in = x.const_data_ptr<scalar_t>();
    auto* out = merged.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, images * rows, rows_per_task(channels), [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        const int64_t image = row / rows;
        const auto* begin = &inverse.begin[image * (rows + 1) + row % rows];
        out_size[row] = merge_any_row(
            in + image * tokens * channels, in_size + image * tokens,
            inverse.sources.data() + image * tokens + begin[0], begin[1] - begin[0], channels,
            out + row * channels);
      }
    });
  });
  return {merged, merged_size};
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CPU, m) { m.impl("merge", &merge_kernel); }

}  // namespace dsm_ext
