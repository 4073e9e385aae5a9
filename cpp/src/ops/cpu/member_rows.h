#pragma once

#include <cstdint>

namespace dsm_ext {

// The members of an output row are the tokens whose destination it is.

/// Lists the members of each row, in the order of their positions. The members of row m are
/// `members[begin[m]]` to `members[begin[m + 1] - 1]`.
/// \param destination  [tokens], each in [0, rows); the caller has checked this.
/// \param begin        [rows + 1], written.
/// \param members      [tokens], written.
void list_members(
    const int32_t* destination, int64_t tokens, int64_t rows, int32_t* begin, int32_t* members);

/// Writes the mean of the members of one row, weighted by size. A single member is copied bit for
/// bit.
/// \param x        [N, channels], contiguous.
/// \param size     [N], or null when every row stands for one patch.
/// \param members  [count], indices of rows of x; at least one.
/// \return         The sum of the sizes.
float merge_row(
    const float* x, const float* size, const int32_t* members, int64_t count, int64_t channels,
    float* out);

/// Writes the mean of `count` rows that lie one behind the other, weighted by size.
/// \param x     [count, channels], contiguous.
/// \param size  [count], or null when every row stands for one patch.
void mean_row(const float* x, const float* size, int64_t count, int64_t channels, float* out);

}  // namespace dsm_ext
