#pragma once

#include <array>

#include "cpu/kernels/rows.h"

namespace dsm_ext::cpu {

/// Writes the rotation of one token in a block or head: the cosines, then the sines of its angles
/// coordinate 0 * frequency 0 + coordinate 1 * frequency 1.
/// \param frequencies  For each axis [pairs].
/// \param rotation     [2, pairs], written.
void write_rotation(
    std::array<float, 2> coordinates, std::array<const float*, 2> frequencies, int64_t pairs,
    float* rotation);

/// Turns the heads of one row in place. In each head, channel i turns with channel i + pairs.
/// \param x         One row [heads, 2 * pairs] float32 or bfloat16.
/// \param rotation  [heads, 2, pairs]; the heads' rotations begin `stride` floats apart. 0: all
///                  heads have the same.
void rotate_row(Rows x, int64_t heads, int64_t pairs, const float* rotation, int64_t stride);

}  // namespace dsm_ext::cpu
