#include "member_rows.h"

#include <algorithm>

#include "multiversion.h"

namespace dsm_ext {
namespace {

constexpr int64_t kChannels = 64;  // channels whose sums stay in registers
// Rows that are summed one after the other. A mean adds the sums of such parts, so over some
// hundred rows it is as exact as torch's.
constexpr int64_t kRowsSummed = 16;

// The mean of `width` neighbouring channels. It is inlined because in almost all calls `width` is a
// constant.
inline __attribute__((always_inline)) void mean_columns(
    const float* x, const float* size, int64_t count, int64_t channels, int64_t width, float total,
    float* out) {
  float sum[kChannels] = {};
  for (int64_t first = 0; first < count; first += kRowsSummed) {
    float part[kChannels] = {};
    for (int64_t row = first; row < std::min(first + kRowsSummed, count); ++row) {
      const float weight = size == nullptr ? 1.f : size[row];
#pragma omp simd
      for (int64_t c = 0; c < width; ++c) {
        part[c] += weight * x[row * channels + c];
      }
    }
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      sum[c] += part[c];
    }
  }
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) {
    out[c] = sum[c] / total;
  }
}

}  // namespace

void list_members(
    const int32_t* destination, int64_t tokens, int64_t rows, int32_t* begin, int32_t* members) {
  std::fill_n(begin, rows + 1, 0);
  for (int64_t n = 0; n < tokens; ++n) {
    ++begin[destination[n] + 1];
  }
  for (int64_t m = 0; m < rows; ++m) {
    begin[m + 1] += begin[m];
  }
  // Writing a member moves its row's begin by one. In the end each begin is where the next row's
  // was, so all of them are moved back by one row.
  for (int64_t n = 0; n < tokens; ++n) {
    members[begin[destination[n]]++] = static_cast<int32_t>(n);
  }
  std::copy_backward(begin, begin + rows, begin + rows + 1);
  begin[0] = 0;
}

DSM_EXT_MULTIVERSION float merge_row(
    const float* x, const float* size, const int32_t* members, int64_t count, int64_t channels,
    float* out) {
  const float first = size == nullptr ? 1.f : size[members[0]];
  const float* row = x + members[0] * channels;
  if (count == 1) {
    std::copy_n(row, channels, out);
    return first;
  }
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    out[c] = first * row[c];
  }
  float total = first;
  for (int64_t k = 1; k < count; ++k) {
    const float weight = size == nullptr ? 1.f : size[members[k]];
    row = x + members[k] * channels;
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      out[c] += weight * row[c];
    }
    total += weight;
  }
  const float scale = 1 / total;
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    out[c] *= scale;
  }
  return total;
}

DSM_EXT_MULTIVERSION void mean_row(
    const float* x, const float* size, int64_t count, int64_t channels, float* out) {
  float total = size == nullptr ? static_cast<float>(count) : 0.f;
  for (int64_t row = 0; row < count && size != nullptr; ++row) {
    total += size[row];
  }
  int64_t c = 0;
  for (; c + kChannels <= channels; c += kChannels) {
    mean_columns(x + c, size, count, channels, kChannels, total, out + c);
  }
  if (c < channels) {
    mean_columns(x + c, size, count, channels, channels - c, total, out + c);
  }
}

}  // namespace dsm_ext
