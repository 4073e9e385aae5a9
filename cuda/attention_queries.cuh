#pragma once

#include <cmath>

#include "rows.cuh"
#include "tensor_core.cuh"

// The part of attention that a warp does for some of its queries: products, exponentials and sums,
// all in registers (arXiv 2205.14135).
//
// Scores, exponentials and sums are float32. The exponentials are rounded to 16 bits for the
// product with the values. A warp subtracts the largest score that it has met, but takes over a new
// one only when exponentials would exceed 2^kSlack. Until then the sums need no rescaling, and the
// exponentials stay far below the largest 16-bit float. The result of a query depends on no other
// query.

namespace dsm_ext::cuda {

constexpr float kSlack = 8;

/// How rows of kDim values lie in shared memory, so that eight lanes that read the same 16 bytes of
/// eight rows meet no bank twice.
template <int kDim>
struct SharedRows {
  static constexpr int kChunks = kDim / 8;  // of 16 bytes
  static constexpr bool kSwizzled = kChunks % 8 == 0 || kChunks == 4;
  static constexpr int kStride = 16 * (kSwizzled ? kChunks : kChunks | 1);  // bytes

  /// The chunks that rows of `dim` values have in global memory; the others are zeros.
  static __device__ inline int given_chunks(int dim) { return kSwizzled ? kChunks : dim / 8; }

  static __device__ inline uint32_t offset(int row, int chunk) {
    const int place = !kSwizzled ? chunk : chunk ^ (kChunks == 4 ? row / 2 % 4 : row % 8);
    return static_cast<uint32_t>(row * kStride + place * 16);
  }
};

/// Transposes a matrix of 4 x 4 words of a quad: word j of lane t becomes word t of lane j.
__device__ inline void transpose_in_quad(uint32_t (&words)[4]) {
  const unsigned lane = threadIdx.x % 4;
  DSM_EXT_UNROLL
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = (lane & bit) != 0;
    DSM_EXT_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int low = bit == 1 ? 2 * i : i;
      const uint32_t other = __shfl_xor_sync(kAllLanes, upper ? words[low] : words[low + bit], bit);
      words[low] = upper ? other : words[low];
      words[low + bit] = upper ? words[low + bit] : other;
    }
  }
}

__device__ inline float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, 1));
  return fmaxf(value, __shfl_xor_sync(kAllLanes, value, 2));
}

__device__ inline float quad_sum(float value) {
  value += __shfl_xor_sync(kAllLanes, value, 1);
  return value + __shfl_xor_sync(kAllLanes, value, 2);
}

/// Where a lane reads keys, values and biases.
template <int kDim>
struct KeyAddresses {
  uint32_t k[kDim / 16], v[kDim / 16];  // in shared memory, for the first key
  const float* bias;                    // in shared memory, times log2 e; -inf after the last token
};

/// 16 * kTiles queries of a warp. Lane 4 r + t has parts of the rows r and r + 8 of each tile.
template <bool kBfloat16, int kDim, int kTiles>
struct Queries {
  static constexpr int kSteps = kDim / 16;

  uint32_t q[kTiles][kSteps][4];
  float sum[kTiles][2 * kSteps][4];            // of exponentials times values
  float highest[kTiles][2], total[kTiles][2];  // of the scores; of this lane's exponentials

  __device__ inline void read(
      const uint16_t* from, int64_t stride, int chunks, int first, int rows) {
    const int r = static_cast<int>(threadIdx.x) % 32 / 4, t = static_cast<int>(threadIdx.x) % 4;
    DSM_EXT_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
      DSM_EXT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = first + 16 * tile + 8 * half + r;
        DSM_EXT_UNROLL
        for (int i = 0; i < kSteps; i += 2) {
          const int chunk = 2 * i + t;
          Pack<uint32_t, 4> words{};
          if (row < rows && chunk < chunks) {
            words = *reinterpret_cast<const Pack<uint32_t, 4>*>(from + row * stride + chunk * 8);
          }
          transpose_in_quad(words.at);
          q[tile][i][half] = words.at[0];
          q[tile][i][2 + half] = words.at[1];
          if (i + 1 < kSteps) {
            q[tile][i + 1][half] = words.at[2];
            q[tile][i + 1][2 + half] = words.at[3];
          }
        }
        highest[tile][half] = -INFINITY;
        total[tile][half] = 0;
      }
      DSM_EXT_UNROLL
      for (int i = 0; i < 2 * kSteps; ++i) {
        DSM_EXT_UNROLL
        for (int j = 0; j < 4; ++j) {
          sum[tile][i][j] = 0;
        }
      }
    }
  }

  /// Attends to 16 * kGroups keys, from key `first` of the addresses on.
  template <int kGroups>
  __device__ inline void attend(
      const KeyAddresses<kDim>& at, uint32_t row_offset, int bias_offset, float scale) {
    float score[kTiles][2 * kGroups][4] = {};
    DSM_EXT_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      DSM_EXT_UNROLL
      for (int i = 0; i < kSteps; ++i) {
        uint32_t k[4];
        load_matrices(k, at.k[i] + row_offset + group * 16 * SharedRows<kDim>::kStride);
        DSM_EXT_UNROLL
        for (int tile = 0; tile < kTiles; ++tile) {
          multiply_add<kBfloat16>(score[tile][2 * group], q[tile][i], k[0], k[1]);
          multiply_add<kBfloat16>(score[tile][2 * group + 1], q[tile][i], k[2], k[3]);
        }
      }
    }
    DSM_EXT_UNROLL
    for (int i = 0; i < 2 * kGroups; ++i) {
      const auto bias = *reinterpret_cast<const Pack<float, 2>*>(at.bias + bias_offset + 8 * i);
      DSM_EXT_UNROLL
      for (int tile = 0; tile < kTiles; ++tile) {
        DSM_EXT_UNROLL
        for (int j = 0; j < 4; ++j) {
          score[tile][i][j] = fmaf(score[tile][i][j], scale, bias.at[j % 2]);
        }
      }
    }
    uint32_t weight[kTiles][kGroups][4];
    DSM_EXT_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
      exponentiate<kGroups>(tile, score[tile], weight[tile]);
    }
    DSM_EXT_UNROLL
    for (int group = 0; group < kGroups; ++group) {
      DSM_EXT_UNROLL
      for (int i = 0; i < kSteps; ++i) {
        uint32_t v[4];
        load_transposed(v, at.v[i] + row_offset + group * 16 * SharedRows<kDim>::kStride);
        DSM_EXT_UNROLL
        for (int tile = 0; tile < kTiles; ++tile) {
          multiply_add<kBfloat16>(sum[tile][2 * i], weight[tile][group], v[0], v[1]);
          multiply_add<kBfloat16>(sum[tile][2 * i + 1], weight[tile][group], v[2], v[3]);
        }
      }
    }
  }

  /// Writes rows of the output.
  __device__ inline void write(uint16_t* to, int64_t stride, int chunks, int first, int rows) {
    const int r = static_cast<int>(threadIdx.x) % 32 / 4, t = static_cast<int>(threadIdx.x) % 4;
    DSM_EXT_UNROLL
    for (int tile = 0; tile < kTiles; ++tile) {
      DSM_EXT_UNROLL
      for (int half = 0; half < 2; ++half) {
        const float inverse = 1 / quad_sum(total[tile][half]);
        const int row = first + 16 * tile + 8 * half + r;
        DSM_EXT_UNROLL
        for (int i = 0; i < 2 * kSteps; i += 4) {
          Pack<uint32_t, 4> words{};
          DSM_EXT_UNROLL
          for (int j = 0; j < 4 && i + j < 2 * kSteps; ++j) {
            const auto& values = sum[tile][i + j];
            words.at[j] =
                rounded<kBfloat16>(values[2 * half] * inverse, values[2 * half + 1] * inverse);
          }
          transpose_in_quad(words.at);
          if (row < rows && i + t < chunks) {
            *reinterpret_cast<Pack<uint32_t, 4>*>(to + row * stride + (i + t) * 8) = words;
          }
        }
      }
    }
  }

 private:
  /// Turns scores (times log2 e) into exponentials, and rescales the sums when a maximum rises.
  template <int kGroups>
  __device__ inline void exponentiate(
      int tile, const float (&score)[2 * kGroups][4], uint32_t (&weight)[kGroups][4]) {
    float factor[2];
    bool rises = false;
    DSM_EXT_UNROLL
    for (int half = 0; half < 2; ++half) {
      float most = -INFINITY;
      DSM_EXT_UNROLL
      for (int i = 0; i < 2 * kGroups; ++i) {
        most = fmaxf(most, fmaxf(score[i][2 * half], score[i][2 * half + 1]));
      }
      most = quad_max(most);
      const float before = highest[tile][half];
      const bool rise = most > before + kSlack;
      highest[tile][half] = rise ? most : before;
      factor[half] = rise ? exp2_fast(before - most) : 1.f;
      rises = rises || rise;
    }
    if (__any_sync(kAllLanes, rises)) {
      DSM_EXT_UNROLL
      for (int i = 0; i < 2 * kSteps; ++i) {
        DSM_EXT_UNROLL
        for (int j = 0; j < 4; ++j) {
          sum[tile][i][j] *= factor[j / 2];
        }
      }
      total[tile][0] *= factor[0];
      total[tile][1] *= factor[1];
    }
    DSM_EXT_UNROLL
    for (int half = 0; half < 2; ++half) {
      // While all scores are -inf, subtract 0: their exponentials are then 0, not NaN.
      const float least = highest[tile][half] == -INFINITY ? 0.f : highest[tile][half];
      DSM_EXT_UNROLL
      for (int i = 0; i < 2 * kGroups; ++i) {
        const float low = exp2_fast(score[i][2 * half] - least);
        const float high = exp2_fast(score[i][2 * half + 1] - least);
        total[tile][half] += low + high;
        weight[i / 2][i % 2 * 2 + half] = rounded<kBfloat16>(low, high);
      }
    }
  }
};

}  // namespace dsm_ext::cuda
