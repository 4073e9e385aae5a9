#include "cpu/kernels/tile.h"

#include <algorithm>
#include <utility>

#include "cpu/kernels/functions.h"
#include "ops/cpu/multiversion.h"

namespace dsm_ext::cpu {
namespace {

// One row of a tile's sums; column c gives the sum as a float.
struct FloatRow {
  const float* sums;

  float operator[](int64_t c) const { return sums[c]; }
};

struct IntRow {
  const int32_t* sums;
  RowScale scale;
  const float* column_scales;
  const int32_t* column_sums;

  float operator[](int64_t c) const {
    const int32_t sum = sums[c] - scale.zero * column_sums[c];
    return static_cast<float>(sum) * scale.step * column_scales[c];
  }
};

struct FloatSums {
  const float* sums;

  FloatRow row(int64_t r) const { return {sums + r * kTileColumns}; }
};

struct IntSums {
  const int32_t* sums;
  const RowScale* row_scales;
  const float* column_scales;
  const int32_t* column_sums;

  IntRow row(int64_t r) const {
    return {sums + r * kTileColumns, row_scales[r], column_scales, column_sums};
  }
};

// In almost all calls `columns` equals kTileColumns. These calls pass the constant itself, so that
// the compiler can unroll the loops.

template <typename Sums, typename T>
inline __attribute__((always_inline)) void add_bias(
    const Sums& sums, int64_t rows, int64_t columns, const float* bias, T* out,
    int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = sums.row(r);
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      out[r * out_stride + c] = row[c] + bias[c];
    }
  }
}

template <typename Sums, typename T>
inline __attribute__((always_inline)) void add_bias_and_addend(
    const Sums& sums, int64_t rows, int64_t columns, const float* bias, const float* addend,
    int64_t addend_stride, T* out, int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = sums.row(r);
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      out[r * out_stride + c] = row[c] + bias[c] + addend[r * addend_stride + c];
    }
  }
}

template <Activation activation, typename Sums, typename T>
inline __attribute__((always_inline)) void activate_tile(
    const Sums& sums, int64_t rows, int64_t columns, const float* bias, T* out,
    int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = sums.row(r);
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      out[r * out_stride + c] = activate<activation>(row[c] + bias[c]);
    }
  }
}

template <Activation activation, typename Sums, typename T>
inline __attribute__((always_inline)) void gate_tile(
    const Sums& sums, int64_t rows, int64_t columns, const float* bias, T* out,
    int64_t out_stride) {
  constexpr int64_t half = kTileColumns / 2;
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = sums.row(r);
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      const float gate = activate<activation>(row[c] + bias[c]);
      out[r * out_stride + c] = gate * (row[half + c] + bias[half + c]);
    }
  }
}

template <Activation activation, typename Sums, typename T>
inline __attribute__((always_inline)) void activate_any(
    const Sums& sums, int64_t rows, int64_t columns, const float* bias, bool gated, T* out,
    int64_t out_stride) {
  if (gated) {
    gate_tile<activation>(sums, rows, columns, bias, out, out_stride);
  } else if (columns == kTileColumns) {
    activate_tile<activation>(sums, rows, kTileColumns, bias, out, out_stride);
  } else {
    activate_tile<activation>(sums, rows, columns, bias, out, out_stride);
  }
}

template <typename Sums, typename T>
inline __attribute__((always_inline)) void finish(
    const Sums& sums, int64_t rows, int64_t columns, const float* bias, const Finish& finish,
    T* out, int64_t out_stride) {
  if (finish.activation) {
    switch (*finish.activation) {
      case Activation::gelu:
        return activate_any<Activation::gelu>(
            sums, rows, columns, bias, finish.gated, out, out_stride);
      case Activation::gelu_tanh:
        return activate_any<Activation::gelu_tanh>(
            sums, rows, columns, bias, finish.gated, out, out_stride);
      case Activation::quick_gelu:
        return activate_any<Activation::quick_gelu>(
            sums, rows, columns, bias, finish.gated, out, out_stride);
      case Activation::silu:
        return activate_any<Activation::silu>(
            sums, rows, columns, bias, finish.gated, out, out_stride);
    }
  }
  const auto [addend, stride] = std::pair(finish.addend, finish.addend_stride);
  if (addend == nullptr) {
    columns == kTileColumns ? add_bias(sums, rows, kTileColumns, bias, out, out_stride)
                            : add_bias(sums, rows, columns, bias, out, out_stride);
  } else {
    columns == kTileColumns
        ? add_bias_and_addend(sums, rows, kTileColumns, bias, addend, stride, out, out_stride)
        : add_bias_and_addend(sums, rows, columns, bias, addend, stride, out, out_stride);
  }
}

template <int64_t width, typename Sums, typename T>
inline __attribute__((always_inline)) void rotate(
    const Sums& sums, int64_t rows, int64_t columns, const float* bias, const Rotation& rotation,
    T* out, int64_t out_stride) {
  const int64_t turned = std::min(rotation.columns, columns);
  for (int64_t r = 0, token = rotation.token; r < rows; ++r, out += out_stride) {
    const auto row = sums.row(r);
    const auto value = [&](int64_t c) __attribute__((always_inline)) { return row[c] + bias[c]; };
    const float* table = rotation.table + token * rotation.token_stride;
    if (turned == kTileColumns) {
      store_turned<width>(kTileColumns, value, table, out);
    } else {
      store_turned<width>(turned, value, table, out);
    }
#pragma omp simd
    for (int64_t c = turned; c < columns; ++c) {
      out[c] = row[c] + bias[c];
    }
    token = token + 1 == rotation.tokens ? 0 : token + 1;
  }
}

// Calls run(sums) with the sums of the type that the tile has.
template <typename Run>
inline __attribute__((always_inline)) void with_sums(const Tile& tile, const Run& run) {
  if (tile.column_scales != nullptr) {
    run(IntSums{
        reinterpret_cast<const int32_t*>(tile.sums), tile.row_scales, tile.column_scales,
        tile.column_sums});
  } else {
    run(FloatSums{tile.sums});
  }
}

}  // namespace

DSM_EXT_MULTIVERSION void finish_tile(
    const Tile& tile, int64_t rows, int64_t columns, const Finish& how, Rows out) {
  with_sums(tile, [&](const auto& sums) __attribute__((always_inline)) {
    DSM_EXT_WITH_ELEMENT(
        out.element, T, finish(sums, rows, columns, tile.bias, how, out.as<T>(), out.stride))
  });
}

DSM_EXT_MULTIVERSION void rotate_tile(
    const Tile& tile, int64_t rows, int64_t columns, const Rotation& rotation, Rows out) {
  with_sums(tile, [&](const auto& sums) __attribute__((always_inline)) {
    with_pair_width(rotation.width, [&]<int64_t width>() __attribute__((always_inline)) {
      DSM_EXT_WITH_ELEMENT(
          out.element, T,
          rotate<width>(sums, rows, columns, tile.bias, rotation, out.as<T>(), out.stride))
    });
  });
}

}  // namespace dsm_ext::cpu
