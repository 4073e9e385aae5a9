#include "cpu/kernels/transpose.h"

#include "ops/cpu/multiversion.h"

namespace dsm_ext::cpu {
namespace {

using Word = uint32_t __attribute__((aligned(1), may_alias));

#if defined(__clang__) || __GNUC__ >= 12
#define DSM_EXT_SHUFFLES 1

// Compilers do not vectorize a loop that transposes, so the code below shuffles vectors explicitly,
// with the vector extension that GCC and Clang share. In its comments, letters are rows and digits
// are columns.
using Eight = float __attribute__((vector_size(32), aligned(1), may_alias));

inline __attribute__((always_inline)) void transpose_8_by_8(
    const std::byte* x, int64_t stride, Word* out, int64_t out_stride) {
  Eight row[8], pair[8], four[8];
  for (int64_t i = 0; i < 8; ++i) {
    row[i] = *reinterpret_cast<const Eight*>(x + i * stride);
  }
  for (int64_t i = 0; i < 8; i += 2) {  // a0 b0 a1 b1 a4 b4 a5 b5, a2 b2 a3 b3 a6 b6 a7 b7
    pair[i] = __builtin_shufflevector(row[i], row[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    pair[i + 1] = __builtin_shufflevector(row[i], row[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int64_t i = 0; i < 8; i += 4) {  // a0 b0 c0 d0 a4 b4 c4 d4, a1 b1 c1 d1 a5 b5 c5 d5, ...
    for (int64_t j = 0; j < 2; ++j) {
      four[i + 2 * j] =
          __builtin_shufflevector(pair[i + j], pair[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
      four[i + 2 * j + 1] =
          __builtin_shufflevector(pair[i + j], pair[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int64_t i = 0; i < 4; ++i) {
    *reinterpret_cast<Eight*>(out + i * out_stride) =
        __builtin_shufflevector(four[i], four[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    *reinterpret_cast<Eight*>(out + (i + 4) * out_stride) =
        __builtin_shufflevector(four[i], four[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

#endif

}  // namespace

DSM_EXT_MULTIVERSION void transpose(
    const std::byte* x, int64_t rows, int64_t columns, int64_t stride, std::byte* transposed,
    int64_t out_stride) {
  auto* out = reinterpret_cast<Word*>(transposed);
  int64_t whole_rows = 0, whole_columns = 0;
#ifdef DSM_EXT_SHUFFLES
  whole_rows = rows / 8 * 8;
  whole_columns = columns / 8 * 8;
  for (int64_t r = 0; r < whole_rows; r += 8) {
    for (int64_t c = 0; c < whole_columns; c += 8) {
      transpose_8_by_8(x + r * stride + c * 4, stride, out + c * out_stride + r, out_stride);
    }
  }
#endif
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) {
      out[c * out_stride + r] = reinterpret_cast<const Word*>(x + r * stride)[c];
    }
  }
}

}  // namespace dsm_ext::cpu
