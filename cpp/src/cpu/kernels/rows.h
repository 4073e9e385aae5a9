#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

// Operand rows: the operands of the fast path's matrix products, in the kernel's element type.
// Everything else (norms, softmax, activations, merging, the tokens between two blocks) is computed
// and stored in float32. Functions that read or write operands take them as `Rows` and convert them
// from and to float32.

namespace dsm_ext::cpu {

/// The types that a product's operands can have.
enum class Element { float32 };

constexpr int64_t size_of(Element element) {
  switch (element) {
    case Element::float32:
      return sizeof(float);
  }
  return 0;
}

/// A matrix of values of one type. Its rows begin `stride` values apart; the values of a row are
/// contiguous.
struct Rows {
  Rows() = default;
  Rows(float* values, int64_t row_stride)
      : data(reinterpret_cast<std::byte*>(values)), stride(row_stride) {}
  Rows(std::byte* values, int64_t row_stride, Element type)
      : data(values), stride(row_stride), element(type) {}

  /// The part of the matrix that begins at this row and column.
  Rows at(int64_t row, int64_t column = 0) const {
    return {data + (row * stride + column) * size_of(element), stride, element};
  }

  /// The same memory with another stride.
  Rows with_stride(int64_t row_stride) const { return {data, row_stride, element}; }

  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }

  std::byte* data = nullptr;
  int64_t stride = 0;
  Element element = Element::float32;
};

// Runs a statement in which T is the C++ type of an element.
#define DSM_EXT_WITH_ELEMENT(ELEMENT, T, ...) \
  switch (ELEMENT) {                          \
    case Element::float32: {                  \
      using T = float;                        \
      __VA_ARGS__;                            \
    } break;                                  \
  }

/// Converts `count` values and stores them to one row.
inline void store_row(const float* x, int64_t count, Rows out) {
  DSM_EXT_WITH_ELEMENT(out.element, T, std::copy(x, x + count, out.as<T>()))
}

}  // namespace dsm_ext::cpu
