#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

// The values that the CPU's fast path multiplies. All else (norms, softmax, activations, merging,
// the tokens between two blocks) is computed and kept in float32. A kernel that reads or writes
// such values takes them as `Rows`, loads them to float32 and stores float32 to them.

namespace dsm_ext::cpu {

/// The types that are multiplied.
enum class Element { float32 };

constexpr int64_t size_of(Element element) {
  switch (element) {
    case Element::float32:
      return sizeof(float);
  }
  return 0;
}

/// Rows of values of one type. Two rows begin `stride` values apart; the values of a row lie side
/// by side.
struct Rows {
  Rows() = default;
  Rows(float* values, int64_t row_stride)
      : data(reinterpret_cast<std::byte*>(values)), stride(row_stride) {}
  Rows(std::byte* values, int64_t row_stride, Element type)
      : data(values), stride(row_stride), element(type) {}

  /// The rows from this row and column on.
  Rows at(int64_t row, int64_t column = 0) const {
    return {data + (row * stride + column) * size_of(element), stride, element};
  }

  /// The same memory as rows of another stride.
  Rows with_stride(int64_t row_stride) const { return {data, row_stride, element}; }

  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }

  std::byte* data = nullptr;
  int64_t stride = 0;
  Element element = Element::float32;
};

// Runs a statement with T as the type of an element.
#define DSM_EXT_WITH_ELEMENT(ELEMENT, T, ...) \
  switch (ELEMENT) {                          \
    case Element::float32: {                  \
      using T = float;                        \
      __VA_ARGS__;                            \
    } break;                                  \
  }

/// Stores `count` values to one row.
inline void store_row(const float* x, int64_t count, Rows out) {
  DSM_EXT_WITH_ELEMENT(out.element, T, std::copy(x, x + count, out.as<T>()))
}

}  // namespace dsm_ext::cpu
