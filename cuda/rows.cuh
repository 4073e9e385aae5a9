#pragma once

#include <cmath>
#include <cstdint>

#include "row_shape.h"

// Device functions for rows of channels. A warp owns a row. A lane owns kPack neighbouring channels
// of every 32 * kPack, and no other lane reads them. So these functions need no barrier.

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

/// A row of T, of which a lane holds its own channels in registers: up to kSteps packs at a time.
/// With kMostSteps the row may have more channels. Then it is taken in several parts, and each pass
/// reads it again.
template <typename T, int kPack, int kSteps>
class Row {
 public:
  static constexpr int kPart = 32 * kPack * kSteps;  // channels of a part
  static constexpr bool kInParts = kSteps == kMostSteps;

  /// \param data  [channels]; the lane's channels must be there before `for_each`.
  __device__ Row(const T* data, int channels) : data_(data), channels_(channels) {}

  /// Reads the lane's channels, if the row is a single part.
  __device__ void load() {
    if (!kInParts || channels_ <= kPart) {
      load_part(0);
    }
  }

  /// Calls f(c, values) for each pack of a part, where `values` are the kPack registers of the
  /// channels from c on.
  template <typename F>
  __device__ void for_each_of_part(int part, const F& f) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    DSM_EXT_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      const int c = part + (32 * s + lane) * kPack;
      if (c < channels_) {
        f(c, values_[s]);
      }
    }
  }

  /// Calls f(c, values) for each pack of the row.
  template <typename F>
  __device__ void for_each(const F& f) {
    if (!kInParts || channels_ <= kPart) {
      for_each_of_part(0, f);
      return;
    }
    for (int part = 0; part < channels_; part += kPart) {
      load_part(part);
      for_each_of_part(part, f);
    }
  }

 private:
  __device__ void load_part(int part) {
    for_each_of_part(part, [&](int c, float* values) {
      const auto read = pack<kPack>(data_ + c);
      for (int k = 0; k < kPack; ++k) {
        values[k] = static_cast<float>(read.at[k]);
      }
    });
  }

  const T* data_;
  int channels_;
  float values_[kSteps][kPack] = {};
};

/// Normalises a row. The variance is that of the differences from the mean, in float32, and the
/// result is rounded once. When the variance overflows, a layer norm gives NaN and an RMS norm
/// gives zeros, as torch's do.
/// \param out  [channels]
template <typename T, int kPack, int kSteps>
__device__ inline void normalize_row(
    Row<T, kPack, kSteps>& row, int channels, const NormArguments<T>& norm, T* __restrict__ out) {
  float mean = 0;
  if (!norm.rms) {
    float sum = 0;
    row.for_each([&](int, const float* values) {
      for (int k = 0; k < kPack; ++k) {
        sum += values[k];
      }
    });
    mean = warp_sum(sum) / static_cast<float>(channels);
  }
  float squares = 0;
  row.for_each([&](int, const float* values) {
    for (int k = 0; k < kPack; ++k) {
      squares += (values[k] - mean) * (values[k] - mean);
    }
  });
  const float variance = warp_sum(squares) / static_cast<float>(channels);
  const float scale = 1 / sqrt(variance + norm.eps) + (norm.rms ? 0.f : 0 * variance);
  row.for_each([&](int c, const float* values) {
    const auto weight = pack<kPack>(norm.weight + c);
    Pack<T, kPack> bias{};
    if (norm.bias != nullptr) {
      bias = pack<kPack>(norm.bias + c);
    }
    Pack<T, kPack> result;
    for (int k = 0; k < kPack; ++k) {
      const float unit = (values[k] - mean) * scale;
      result.at[k] =
          static_cast<T>(unit * static_cast<float>(weight.at[k]) + static_cast<float>(bias.at[k]));
    }
    pack<kPack>(out + c) = result;
  });
}

}  // namespace dsm_ext::cuda
