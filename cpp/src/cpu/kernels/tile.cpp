#include "cpu/kernels/tile.h"

#include "cpu/kernels/functions.h"
#include "ops/cpu/multiversion.h"

namespace dsm_ext::cpu {
namespace {

// In almost all calls `columns` equals kTileColumns. These calls pass the constant itself, so that
// the compiler can unroll the loops.

template <typename T>
inline __attribute__((always_inline)) void add_bias(
    const float* tile, int64_t rows, int64_t columns, const float* bias, T* out,
    int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      out[r * out_stride + c] = static_cast<T>(tile[r * kTileColumns + c] + bias[c]);
    }
  }
}

template <typename T>
inline __attribute__((always_inline)) void add_bias_and_addend(
    const float* tile, int64_t rows, int64_t columns, const float* bias, const float* addend,
    int64_t addend_stride, T* out, int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      out[r * out_stride + c] =
          static_cast<T>(tile[r * kTileColumns + c] + bias[c] + addend[r * addend_stride + c]);
    }
  }
}

template <Activation activation, typename T>
inline __attribute__((always_inline)) void activate_tile(
    const float* tile, int64_t rows, int64_t columns, const float* bias, T* out,
    int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r) {
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      out[r * out_stride + c] =
          static_cast<T>(activate<activation>(tile[r * kTileColumns + c] + bias[c]));
    }
  }
}

template <Activation activation, typename T>
inline __attribute__((always_inline)) void gate_tile(
    const float* tile, int64_t rows, int64_t columns, const float* bias, T* out,
    int64_t out_stride) {
  constexpr int64_t half = kTileColumns / 2;
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = tile + r * kTileColumns;
#pragma omp simd
    for (int64_t c = 0; c < columns; ++c) {
      const float gate = activate<activation>(row[c] + bias[c]);
      out[r * out_stride + c] = static_cast<T>(gate * (row[half + c] + bias[half + c]));
    }
  }
}

template <Activation activation, typename T>
inline __attribute__((always_inline)) void activate_any(
    const float* tile, int64_t rows, int64_t columns, const float* bias, bool gated, T* out,
    int64_t out_stride) {
  if (gated) {
    gate_tile<activation>(tile, rows, columns, bias, out, out_stride);
  } else if (columns == kTileColumns) {
    activate_tile<activation>(tile, rows, kTileColumns, bias, out, out_stride);
  } else {
    activate_tile<activation>(tile, rows, columns, bias, out, out_stride);
  }
}

template <typename T>
inline __attribute__((always_inline)) void finish(
    const float* tile, int64_t rows, int64_t columns, const float* bias, const Finish& finish,
    T* out, int64_t out_stride) {
  if (finish.activation) {
    switch (*finish.activation) {
      case Activation::gelu:
        return activate_any<Activation::gelu>(
            tile, rows, columns, bias, finish.gated, out, out_stride);
      case Activation::gelu_tanh:
        return activate_any<Activation::gelu_tanh>(
            tile, rows, columns, bias, finish.gated, out, out_stride);
      case Activation::quick_gelu:
        return activate_any<Activation::quick_gelu>(
            tile, rows, columns, bias, finish.gated, out, out_stride);
      case Activation::silu:
        return activate_any<Activation::silu>(
            tile, rows, columns, bias, finish.gated, out, out_stride);
    }
  }
  const auto [addend, stride] = std::pair(finish.addend, finish.addend_stride);
  if (addend == nullptr) {
    columns == kTileColumns ? add_bias(tile, rows, kTileColumns, bias, out, out_stride)
                            : add_bias(tile, rows, columns, bias, out, out_stride);
  } else {
    columns == kTileColumns
        ? add_bias_and_addend(tile, rows, kTileColumns, bias, addend, stride, out, out_stride)
        : add_bias_and_addend(tile, rows, columns, bias, addend, stride, out, out_stride);
  }
}

}  // namespace

DSM_EXT_MULTIVERSION void finish_tile(
    const float* tile, int64_t rows, int64_t columns, const float* bias, const Finish& how,
    Rows out) {
  DSM_EXT_WITH_ELEMENT(
      out.element, T, finish(tile, rows, columns, bias, how, out.as<T>(), out.stride))
}

}  // namespace dsm_ext::cpu
