#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "cpu/kernels/rows.h"

// Rotary embeddings on the fast path. The weights of queries and keys are packed such that the two
// channels of a pair always lie in one panel of a layer, `width` columns apart: in each 2 * width
// columns of a head, the first channels of `width` pairs come first. The products of queries with
// keys do not depend on the order of the channels.

namespace dsm_ext::cpu {

constexpr int64_t kPairs = 32;  // in a panel of kTileColumns columns

/// How many columns apart the channels of a pair are.
inline int64_t pair_width(int64_t head_dim) {
  int64_t width = 16;  // a whole vector, if heads have room for it
  while (head_dim % (2 * width) != 0) {
    width /= 2;
  }
  return width;
}

/// How to turn some columns of rows. Without columns nothing is turned.
struct Rotation {
  // For each token and panel: the cosines of the panel's angles [kPairs], then the sines.
  const float* table = nullptr;
  int64_t token_stride = 0;              // floats from one token to the next
  int64_t panel_stride = 0, panels = 1;  // and from one panel to the next; panels repeat
  int64_t token = 0, tokens = 1;         // of the first row; behind the last token comes token 0
  int64_t columns = 0, width = 0;        // the first columns are turned; see `pair_width`

  /// For rows and columns that begin at this row and panel.
  Rotation at(int64_t row, int64_t panel) const {
    auto part = *this;
    part.table += panel % panels * panel_stride;
    part.token = (token + row) % tokens;
    part.columns = std::clamp<int64_t>(columns - panel * 2 * kPairs, 0, 2 * kPairs);
    return part;
  }
};

/// Writes the rotation of one token in some panels: the cosines, then the sines of the angles
/// coordinate 0 * frequency 0 + coordinate 1 * frequency 1.
/// \param frequencies  For each axis [panels * kPairs].
/// \param table        [panels, 2, kPairs], written; panels begin `stride` floats apart.
void write_rotation(
    std::array<float, 2> coordinates, std::array<const float*, 2> frequencies, int64_t panels,
    float* table, int64_t stride);

/// Turns rows in place.
/// \param x  [rows, rotation.columns] float32 or bfloat16, from the first column of a panel on.
void rotate_rows(Rows x, int64_t rows, const Rotation& rotation);

/// Stores the first columns of one row, turned.
/// \param value  Gives the float of each column.
/// \param table  The rotation of the row's token in this panel.
template <int64_t width, typename Value, typename T>
inline __attribute__((always_inline)) void store_turned(
    int64_t columns, const Value& value, const float* table, T* out) {
  for (int64_t c = 0; c < columns; c += 2 * width) {
    const float *cosine = table + c / 2, *sine = cosine + kPairs;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) {
      const float a = value(c + j), b = value(c + width + j);
      out[c + j] = a * cosine[j] - b * sine[j];
      out[c + width + j] = b * cosine[j] + a * sine[j];
    }
  }
}

/// Calls store<width>() with the rotation's width.
template <typename Store>
inline __attribute__((always_inline)) void with_pair_width(int64_t width, const Store& store) {
  switch (width) {
    case 16:
      return store.template operator()<16>();
    case 8:
      return store.template operator()<8>();
    case 4:
      return store.template operator()<4>();
    default:
      return store.template operator()<2>();
  }
}

}  // namespace dsm_ext::cpu
