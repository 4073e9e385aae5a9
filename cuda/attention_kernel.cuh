#pragma once

#include "attention_arguments.h"
#include "attention_queries.cuh"

// Attention with a bias for each key, for the short sequences of vision transformers. A block of
// threads owns one head of one image, or one of `splits` parts of its queries. It copies keys and
// values to shared memory, kKeyBlock tokens at a time. Up to kStages such blocks stay there, so
// that a short sequence is read once; a longer one streams through. A warp owns 16 * kTiles queries
// at a time, with their scores for kStep keys, and takes part in barriers only for its first
// queries.
//
// Bytes moved: q, k, v and the output once, if splits is 1. For DeiT-S at 165 tokens and 256
// images: 155 MB, 12 GFLOP and 45 million exponentials, of which each multiprocessor does 16 a
// clock.

namespace dsm_ext::cuda {

constexpr int kKeyBlock = 64;
constexpr int kStages = 5;
constexpr float kLog2E = 1.4426950408889634f;

/// The number of keys that shared memory holds at once.
inline int64_t held_keys(int64_t tokens) {
  const int64_t all = (tokens + 15) / 16 * 16;
  return all < kStages * kKeyBlock ? all : kStages * kKeyBlock;
}

template <int kDim>
int64_t attention_shared_bytes(int64_t tokens) {
  return 2 * held_keys(tokens) * SharedRows<kDim>::kStride + (tokens + 15) / 16 * 16 * 4;
}

/// How many blocks of `warps` warps share a head. Long sequences stream through shared memory once,
/// so that each warp gets one tile. Of short ones there are as many as the multiprocessors need.
inline int64_t attention_splits(
    int64_t tiles, int64_t warps, int64_t tokens, int64_t pairs, int64_t multiprocessors) {
  const int64_t most = (tiles + warps - 1) / warps;
  if (tokens > kStages * kKeyBlock) {
    return most;
  }
  const int64_t wanted = 2 * multiprocessors / pairs;
  return wanted < 1 ? 1 : wanted < most ? wanted : most;
}

/// Copies a block of keys and values to shared memory, with zeros after the last token.
template <int kDim>
__device__ inline void copy_key_block(
    const AttentionArguments& arguments, const uint16_t* k, const uint16_t* v, int block, int held,
    uint32_t shared) {
  using Rows = SharedRows<kDim>;
  constexpr int kLanes = Rows::kChunks < 8 ? Rows::kChunks : 8;  // that copy a row
  const int first = block * kKeyBlock, tokens = arguments.tokens;
  const int left = (tokens + 15) / 16 * 16 - first;
  const int keys = left < kKeyBlock ? left : kKeyBlock;
  const int place = block % kStages * kKeyBlock;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int chunks = Rows::given_chunks(arguments.dim);
  for (int row = static_cast<int>(threadIdx.x) / kLanes; row < keys;
       row += static_cast<int>(blockDim.x) / kLanes) {
    const bool valid = first + row < tokens;
    const int64_t token = valid ? first + row : 0;
    const uint16_t* k_row = k + token * arguments.k_strides.row;
    const uint16_t* v_row = v + token * arguments.v_strides.row;
    DSM_EXT_UNROLL
    for (int part = 0; part < Rows::kChunks; part += kLanes) {
      const int chunk = part + lane;
      if (Rows::kChunks % kLanes == 0 || chunk < Rows::kChunks) {
        const uint32_t to = shared + Rows::offset(place + row, chunk);
        const bool given = valid && chunk < chunks;
        const int from = given ? chunk * 8 : 0;
        copy_async(to, k_row + from, given);
        copy_async(to + static_cast<uint32_t>(held * Rows::kStride), v_row + from, given);
      }
    }
  }
}

template <bool kBfloat16>
__device__ inline void copy_bias(const AttentionArguments& arguments, int64_t image, float* to) {
  const int64_t offset = image * arguments.bias_stride;
  for (int i = static_cast<int>(threadIdx.x); i < (arguments.tokens + 15) / 16 * 16;
       i += static_cast<int>(blockDim.x)) {
    float value = i < arguments.tokens ? 0.f : -INFINITY;
    if (arguments.bias != nullptr && i < arguments.tokens) {
      value = arguments.bias_float32
                  ? static_cast<const float*>(arguments.bias)[offset + i]
                  : widened<kBfloat16>(static_cast<const uint16_t*>(arguments.bias)[offset + i]);
    }
    to[i] = value * kLog2E;
  }
}

/// How the kernel is compiled for heads of kDim values. Registers must suffice for kBlocks blocks
/// of kThreads threads on a multiprocessor.
template <int kDim>
struct Compiled {
  static constexpr int kTiles = 1, kStep = kDim > 96 ? 32 : 64;
  static constexpr int kThreads = 128, kBlocks = kDim > 96 ? 2 : kDim > 64 ? 3 : 4;
};

template <
    bool kBfloat16, int kDim, int kTiles = Compiled<kDim>::kTiles,
    int kStep = Compiled<kDim>::kStep, int kThreads = Compiled<kDim>::kThreads,
    int kBlocks = Compiled<kDim>::kBlocks>
__global__ void __launch_bounds__(kThreads, kBlocks)
    attention_kernel_impl(const AttentionArguments arguments) {
  using Rows = SharedRows<kDim>;
  DSM_EXT_DYNAMIC_SHARED(float, shared);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  const unsigned splits = static_cast<unsigned>(arguments.splits);
  const unsigned heads = static_cast<unsigned>(arguments.heads);
  const int split = static_cast<int>(blockIdx.x % splits);
  const int64_t image = blockIdx.x / splits / heads, head = blockIdx.x / splits % heads;
  const auto of_head = [&](const auto* values, const HeadStrides& strides) {
    return values + image * strides.image + head * strides.head;
  };
  const uint16_t* q = of_head(arguments.q, arguments.q_strides);
  const uint16_t* k = of_head(arguments.k, arguments.k_strides);
  const uint16_t* v = of_head(arguments.v, arguments.v_strides);

  const int tokens = arguments.tokens, blocks = (tokens + kKeyBlock - 1) / kKeyBlock;
  const int padded = (tokens + 15) / 16 * 16;
  const int held = padded < kStages * kKeyBlock ? padded : kStages * kKeyBlock;
  const uint32_t base = shared_address(shared);
  float* bias = reinterpret_cast<float*>(
      reinterpret_cast<char*>(shared) + static_cast<int64_t>(2 * held) * Rows::kStride);
  for (int block = 0; block < kStages - 1; ++block) {
    if (block < blocks) {
      copy_key_block<kDim>(arguments, k, v, block, held, base);
    }
    end_copy_group();
  }
  copy_bias<kBfloat16>(arguments, image, bias);

  const int tiles = (arguments.rows + 16 * kTiles - 1) / (16 * kTiles);
  const int together = warps * arguments.splits;  // tiles that warps work on at one time
  for (int row = together * 16 * kTiles + static_cast<int>(threadIdx.x); row < arguments.rows;
       row += static_cast<int>(blockDim.x)) {
    prefetch(q + row * arguments.q_strides.row);
  }

  KeyAddresses<kDim> at;
  DSM_EXT_UNROLL
  for (int i = 0; i < kDim / 16; ++i) {
    at.k[i] = base + Rows::offset(lane % 8 + lane / 16 * 8, 2 * i + lane / 8 % 2);
    at.v[i] = base + static_cast<uint32_t>(held * Rows::kStride) +
              Rows::offset(lane % 16, 2 * i + lane / 16);
  }
  at.bias = bias + lane % 4 * 2;

  const float scale = arguments.scale * kLog2E;
  const int chunks = Rows::given_chunks(arguments.dim);
  const int64_t out_stride = static_cast<int64_t>(heads) * (8 * chunks);
  uint16_t* out = arguments.out + image * arguments.rows * out_stride + head * (8 * chunks);
  for (int tile = split * warps + warp, round = 0; round == 0 || tile < tiles;
       tile += together, ++round) {
    const bool active = tile < tiles;  // other warps only copy
    Queries<kBfloat16, kDim, kTiles> queries;
    queries.read(q, arguments.q_strides.row, chunks, tile * 16 * kTiles, arguments.rows);
    for (int block = 0; block < blocks; ++block) {
      if (round == 0) {
        wait_for_copies<kStages - 2>();
        __syncthreads();  // the block is there, and nobody reads the one before it any more
        if (block + kStages - 1 < blocks) {
          copy_key_block<kDim>(arguments, k, v, block + kStages - 1, held, base);
        }
        end_copy_group();
      }
      if (!active) {
        continue;
      }
      const int first = block * kKeyBlock;
      const int end = padded - first < kKeyBlock ? padded - first : kKeyBlock;
      const uint32_t offset = static_cast<uint32_t>(block % kStages * kKeyBlock * Rows::kStride);
      DSM_EXT_UNROLL
      for (int key = 0; key < kKeyBlock; key += kStep) {
        if (key >= end) {
          break;
        }
        const uint32_t rows = offset + static_cast<uint32_t>(key * Rows::kStride);
        const int groups = (end - key) / 16;
        if (groups >= kStep / 16) {
          queries.template attend<kStep / 16>(at, rows, first + key, scale);
        } else if (groups == 1) {
          queries.template attend<1>(at, rows, first + key, scale);
        } else if (kStep > 32 && groups == 2) {
          queries.template attend<2>(at, rows, first + key, scale);
        } else if (kStep > 48) {
          queries.template attend<3>(at, rows, first + key, scale);
        }
      }
    }
    if (active) {
      queries.write(out, out_stride, chunks, tile * 16 * kTiles, arguments.rows);
    }
  }
}

}  // namespace dsm_ext::cuda
