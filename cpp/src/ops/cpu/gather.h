#pragma once

#include <cstdint>

namespace dsm_ext {

/// Turns a map around by counting: `sources[begin[m], begin[m + 1])` are the tokens that go to row
/// m, in the order of their positions.
/// \param to       [tokens], each in [0, rows); checked by the caller.
/// \param begin    [rows + 1], written.
/// \param sources  [tokens], written.
void invert(const int32_t* to, int64_t tokens, int64_t rows, int32_t* begin, int32_t* sources);

/// The mean of `count` rows of x weighted by their sizes; one source is copied as it is.
/// \param x     [N, channels], contiguous.
/// \param size  [N], or null where every row stands for one patch.
/// \return The sum of the sizes.
float merge_row(
    const float* x, const float* size, const int32_t* sources, int64_t count, int64_t channels,
    float* out);

/// The mean of `count` rows that lie one behind the other.
/// \param x     [count, channels], contiguous.
/// \param size  [count], their weights, or null where every row stands for one patch.
void mean_row(const float* x, const float* size, int64_t count, int64_t channels, float* out);

}  // namespace dsm_ext
