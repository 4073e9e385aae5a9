#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cpu/kernels/bfloat16.h"

// Operand rows: the operands of the fast path's matrix products, in the kernel's element type.
// Everything else (norms, softmax, activations, merging, the tokens between two blocks) is computed
// and stored in float32. Functions that read or write operands take them as `Rows` and convert them
// from and to float32.

namespace dsm_ext::cpu {

/// The types that a product's operands can have. With int8, rows are unsigned and weights signed.
enum class Element { float32, bfloat16, int8 };

constexpr int64_t size_of(Element element) {
  switch (element) {
    case Element::float32:
      return sizeof(float);
    case Element::bfloat16:
      return sizeof(BFloat16);
    case Element::int8:
      return sizeof(int8_t);
  }
  return 0;
}

/// The number of inputs that a processor's instruction for products takes at one time. Operands are
/// padded to whole groups.
constexpr int64_t group_of(Element element) {
  return static_cast<int64_t>(sizeof(float)) / size_of(element);
}

/// `count` rounded up to whole groups.
constexpr int64_t padded(int64_t count, Element element) {
  const int64_t group = group_of(element);
  return (count + group - 1) / group * group;
}

/// What a row of 8-bit operands stands for: value i is (row[i] - zero) * step.
struct RowScale {
  float step;
  int32_t zero;
};

/// A matrix of values of one type. Its rows begin `stride` values apart; the values of a row are
/// contiguous.
struct Rows {
  Rows() = default;
  Rows(float* values, int64_t row_stride)
      : data(reinterpret_cast<std::byte*>(values)), stride(row_stride) {}
  Rows(std::byte* values, int64_t row_stride, Element type, RowScale* row_scales = nullptr)
      : data(values), stride(row_stride), element(type), scales(row_scales) {}

  /// The part of the matrix that begins at this row and column.
  Rows at(int64_t row, int64_t column = 0) const {
    return {
        data + (row * stride + column) * size_of(element), stride, element,
        scales == nullptr ? nullptr : scales + row};
  }

  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }

  std::byte* data = nullptr;
  int64_t stride = 0;
  Element element = Element::float32;
  RowScale* scales = nullptr;  // of the rows, if the elements are int8
};

// Runs a statement in which T is the C++ type of a floating-point element.
#define DSM_EXT_WITH_ELEMENT(ELEMENT, T, ...) \
  switch (ELEMENT) {                          \
    case Element::float32: {                  \
      using T = float;                        \
      __VA_ARGS__;                            \
    } break;                                  \
    case Element::bfloat16: {                 \
      using T = BFloat16;                     \
      __VA_ARGS__;                            \
    } break;                                  \
    case Element::int8:                       \
      break;                                  \
  }

/// Converts `count` values and stores them to one row.
inline void store_row(const float* x, int64_t count, Rows out) {
  DSM_EXT_WITH_ELEMENT(out.element, T, {
    T* to = out.as<T>();
    for (int64_t i = 0; i < count; ++i) {
      to[i] = x[i];
    }
  })
}

/// Writes zeros behind the `width` values of each row, up to a whole group. int8 rows need none:
/// any int8 times the weight's padding is zero.
inline void pad_rows(Rows x, int64_t rows, int64_t width) {
  const int64_t end = padded(width, x.element);
  for (int64_t row = 0; row < rows && width < end; ++row) {
    DSM_EXT_WITH_ELEMENT(
        x.element, T, std::fill(x.at(row).as<T>() + width, x.at(row).as<T>() + end, T{}))
  }
}

}  // namespace dsm_ext::cpu
