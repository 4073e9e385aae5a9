#include <ATen/Functions.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "../dispatch.h"
#include "../merge.h"
#include "multiversion.h"
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

Inverse invert(const at::Tensor& destination, int64_t rows) {
  const int64_t images = destination.size(0), tokens = destination.size(1);
  const auto* all = destination.const_data_ptr<int32_t>();
  Inverse inverse{
      std::vector<int32_t>(images * (rows + 1), 0), std::vector<int32_t>(images * tokens)};
  at::parallel_for(0, images, 8, [&](int64_t first, int64_t last) {
    std::vector<int32_t> next(rows);
    for (int64_t image = first; image < last; ++image) {
      const auto* to = all + image * tokens;
      auto* begin = &inverse.begin[image * (rows + 1)];
      for (int64_t n = 0; n < tokens; ++n) {
        TORCH_CHECK_VALUE(
            to[n] >= 0 && to[n] < rows, "dsm_ext.merge: expected destination to be in [0, ", rows,
            "), got ", to[n], " for token ", n, " of image ", image);
        ++begin[to[n] + 1];
      }
      for (int64_t m = 0; m < rows; ++m) {
        TORCH_CHECK_VALUE(
            begin[m + 1] > 0, "dsm_ext.merge: expected every one of the ", rows,
            " tokens to have a source, got none for token ", m, " of image ", image);
        begin[m + 1] += begin[m];
        next[m] = begin[m];
      }
      for (int64_t n = 0; n < tokens; ++n) {
        inverse.sources[image * tokens + next[to[n]]++] = static_cast<int32_t>(n);
      }
    }
  });
  return inverse;
}

template <typename T>
inline void add_scaled(const T* __restrict__ x, float scale, float* __restrict__ sum, int64_t n) {
  for (int64_t c = 0; c < n; ++c) {
    sum[c] += scale * static_cast<float>(x[c]);
  }
}

DSM_EXT_MULTIVERSION void accumulate(const float* x, float scale, float* sum, int64_t n) {
  add_scaled(x, scale, sum, n);
}

template <typename T>
void accumulate(const T* x, float scale, float* sum, int64_t n) {
  add_scaled(x, scale, sum, n);
}

std::tuple<at::Tensor, at::Tensor> merge_kernel(
    const at::Tensor& x_, const at::Tensor& size_, const at::Tensor& destination, int64_t rows) {
  check_merge(x_, size_, destination, rows);
  const int64_t images = x_.size(0), tokens = x_.size(1), channels = x_.size(2);
  const auto x = x_.contiguous();
  const auto size = size_.contiguous();
  auto merged = at::empty({images, rows, channels}, x.options());
  auto merged_size = at::empty({images, rows}, size.options());
  const auto inverse = invert(destination.contiguous(), rows);
  const auto* in_size = size.const_data_ptr<float>();
  auto* out_size = merged_size.mutable_data_ptr<float>();

  DSM_EXT_DISPATCH(x.scalar_type(), "merge", [&] {
    const auto* in = x.const_data_ptr<scalar_t>();
    auto* out = merged.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, images * rows, rows_per_task(channels), [&](int64_t first, int64_t last) {
      std::vector<float> sum(channels);
      for (int64_t row = first; row < last; ++row) {
        const int64_t image = row / rows;
        const auto* begin = &inverse.begin[image * (rows + 1) + row % rows];
        const auto* sources = inverse.sources.data() + image * tokens;
        auto* out_row = out + row * channels;
        if (begin[1] - begin[0] == 1) {
          const int64_t source = image * tokens + sources[begin[0]];
          std::copy_n(in + source * channels, channels, out_row);
          out_size[row] = in_size[source];
          continue;
        }
        std::fill(sum.begin(), sum.end(), 0.f);
        float total = 0;
        for (int32_t k = begin[0]; k < begin[1]; ++k) {
          const int64_t source = image * tokens + sources[k];
          accumulate(in + source * channels, in_size[source], sum.data(), channels);
          total += in_size[source];
        }
        const float scale = 1 / total;
        for (int64_t c = 0; c < channels; ++c) {
          out_row[c] = static_cast<scalar_t>(sum[c] * scale);
        }
        out_size[row] = total;
      }
    });
  });
  return {merged, merged_size};
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CPU, m) { m.impl("merge", &merge_kernel); }

}  // namespace dsm_ext
