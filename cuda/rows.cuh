#pragma once

#include <cmath>
#include <cstdint>

// Device functions for rows of channels. A warp owns a row. A lane owns kPack neighbouring channels
// of every 32 * kPack, and keeps them in shared memory, where no other lane reads them. So these
// functions need no barrier.

namespace dsm_ext::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

/// Neighbouring values that one instruction reads or writes.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T at[kCount];
};

template <int kPack, typename T>
__device__ inline const Pack<T, kPack>& pack(const T* values) {
  return *reinterpret_cast<const Pack<T, kPack>*>(values);
}

template <int kPack, typename T>
__device__ inline Pack<T, kPack>& pack(T* values) {
  return *reinterpret_cast<Pack<T, kPack>*>(values);
}

/// Gives every lane the sum over the warp, added in the same order every time.
template <typename T>
__device__ inline T warp_sum(T value) {
  for (int other = 16; other > 0; other /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, other);
  }
  return value;
}

/// The parameters of a layer norm (arXiv 1607.06450) or of an RMS norm (arXiv 1910.07467).
template <typename T>
struct NormArguments {
  const T* weight;  // [C]
  const T* bias;    // [C], or null: an RMS norm has none
  float eps;
  bool rms;
};

/// Normalises a row that the warp has in shared memory. The variance is that of the differences
/// from the mean, in float32, and the result is rounded once. When the variance overflows, a layer
/// norm gives NaN and an RMS norm gives zeros, as torch's do.
template <int kPack, typename T>
__device__ inline void normalize_row(
    const float* row, int channels, const NormArguments<T>& norm, T* __restrict__ out) {
  const int first = static_cast<int>(threadIdx.x) % 32 * kPack;
  float mean = 0;
  if (!norm.rms) {
    float sum = 0;
    for (int c = first; c < channels; c += 32 * kPack) {
      const auto values = pack<kPack>(row + c);
      for (int k = 0; k < kPack; ++k) {
        sum += values.at[k];
      }
    }
    mean = warp_sum(sum) / static_cast<float>(channels);
  }
  float squares = 0;
  for (int c = first; c < channels; c += 32 * kPack) {
    const auto values = pack<kPack>(row + c);
    for (int k = 0; k < kPack; ++k) {
      squares += (values.at[k] - mean) * (values.at[k] - mean);
    }
  }
  const float variance = warp_sum(squares) / static_cast<float>(channels);
  const float scale = 1 / sqrt(variance + norm.eps) + (norm.rms ? 0.f : 0 * variance);
  for (int c = first; c < channels; c += 32 * kPack) {
    const auto values = pack<kPack>(row + c);
    const auto weight = pack<kPack>(norm.weight + c);
    Pack<T, kPack> bias{};
    if (norm.bias != nullptr) {
      bias = pack<kPack>(norm.bias + c);
    }
    Pack<T, kPack> result;
    for (int k = 0; k < kPack; ++k) {
      const float unit = (values.at[k] - mean) * scale;
      result.at[k] =
          static_cast<T>(unit * static_cast<float>(weight.at[k]) + static_cast<float>(bias.at[k]));
    }
    pack<kPack>(out + c) = result;
  }
}

}  // namespace dsm_ext::cuda
