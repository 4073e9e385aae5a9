#include "cpu/kernels/attention_head.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/kernels/ranges.h"
#include "cpu/kernels/softmax.h"

// One call computes some queries of one head. The caller has packed the keys (transposed) and the
// values (row after row). Scores are computed for kQueries queries and one block of keys at a time:
// in float32, 53 KB for 197 tokens, which are one block, and 98 KB for a block of many tokens. The
// scores, not the weights, are divided by sqrt(dim): this costs no time, because the same loop adds
// the bias, and it does not round the weights once more.

namespace dsm_ext::cpu {
namespace {

constexpr int64_t kQueries = 64;

// With at most kFewTokens tokens, a score is the sum of kPartsOfFewTokens partial sums over the
// channels. Other libraries use many short partial sums there, which makes their rounding errors
// small. This number of parts has the smallest rounding errors here.
constexpr int64_t kFewTokens = 16;
constexpr int64_t kPartsOfFewTokens = 5;

constexpr int64_t whole_lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Where the packed blocks of a head are.
struct BlockLayout {
  BlockLayout(const AttentionKernel& kernel, int64_t tokens, int64_t dim)
      : columns(block_tokens(tokens)),
        key_bytes(whole_lines(padded(dim, kernel.element) * columns * size_of(kernel.element))),
        bytes(key_bytes + whole_lines(columns * dim * size_of(kernel.element))) {}

  int64_t columns, key_bytes, bytes;  // of one block
};

// Scratch memory for one call.
struct Scratch {
  Scratch(const AttentionKernel& kernel, int64_t tokens, int64_t dim, std::byte* memory) {
    const int64_t columns = std::min(padded_tokens(tokens), kWholeTokens);
    const int64_t width = padded(dim, kernel.element), size = size_of(kernel.element);
    const auto part = [&](int64_t bytes) {
      auto* begin = memory == nullptr ? nullptr : memory + used;
      used += whole_lines(bytes);
      return begin;
    };
    const auto floats = [&](int64_t count) {
      return reinterpret_cast<float*>(part(count * static_cast<int64_t>(sizeof(float))));
    };
    scores = floats(kQueries * columns);
    // In float32, the weights overwrite the scores.
    weights = kernel.element == Element::float32 ? reinterpret_cast<std::byte*>(scores)
                                                 : part(kQueries * columns * size);
    queries = width == dim ? nullptr : part(kQueries * width * size);
    sums = floats(kQueriesAtOnce * dim);
    softmax = {
        .largest = floats(kQueriesAtOnce),
        .sum = floats(kQueriesAtOnce),
        .rescale = floats(kQueriesAtOnce)};
  }

  int64_t used = 0;    // in bytes
  float* scores;       // [kQueries, columns of a block]
  std::byte* weights;  // [kQueries, columns of a block]: exponentials of the scores
  std::byte* queries;  // [kQueries, padded dim], or null when dim needs no padding
  float* sums;         // [kQueriesAtOnce, dim]: the weighted sums of the values so far
  RunningSoftmax softmax;
};

// Copies queries, with zeros behind `dim`. What lies there in memory belongs to another head, which
// another thread may be writing.
Rows pad_queries(Rows q, int64_t count, int64_t dim, std::byte* to) {
  const Rows out(to, padded(dim, q.element), q.element);
  for (int64_t row = 0; row < count; ++row) {
    std::copy_n(q.at(row).data, dim * size_of(q.element), out.at(row).data);
  }
  pad_rows(out, count, dim);
  return out;
}

}  // namespace

int64_t packed_head_bytes(const AttentionKernel& kernel, int64_t tokens, int64_t dim) {
  return divide_up(tokens, block_tokens(tokens)) * BlockLayout(kernel, tokens, dim).bytes;
}

int64_t attention_scratch(const AttentionKernel& kernel, int64_t tokens, int64_t dim) {
  return Scratch(kernel, tokens, dim, nullptr).used;
}

void pack_block(
    const AttentionKernel& kernel, const AttentionHead& head, int64_t block, std::byte* packed) {
  const BlockLayout layout(kernel, head.tokens, head.dim);
  const int64_t first = block * layout.columns;
  const int64_t tokens = std::min(layout.columns, head.tokens - first);
  auto* to = packed + block * layout.bytes;
  kernel.pack_keys(head.k.at(first), tokens, head.dim, padded_tokens(tokens), to);
  kernel.pack_values(head.v.at(first), tokens, head.dim, to + layout.key_bytes);
}

void attend(
    const AttentionKernel& kernel, const AttentionHead& head, const std::byte* packed,
    std::byte* memory) {
  const int64_t n = head.tokens, d = head.dim, size = size_of(kernel.element);
  const BlockLayout layout(kernel, n, d);
  const Scratch scratch(kernel, n, d, memory);
  const auto factor = static_cast<float>(1 / std::sqrt(static_cast<double>(d)));
  const int64_t channels = padded(
      even_part(d, n <= kFewTokens ? divide_up(d, kPartsOfFewTokens) : head.summed),
      kernel.element);
  // Adds the block's share to the results of m queries, which begin with query `i` of this scratch.
  const auto add_block = [&](int64_t block, Rows q, int64_t i, int64_t m) {
    const int64_t begin = block * layout.columns, count = std::min(layout.columns, n - begin);
    const int64_t columns = padded_tokens(count);
    const auto* keys = packed + block * layout.bytes;
    const auto* values = keys + layout.key_bytes;
    if (scratch.queries != nullptr) {
      q = pad_queries(q, m, d, scratch.queries);
    }
    for (int64_t c = 0; c < d; c += channels) {
      kernel.multiply(
          m, columns, std::min(channels, d - c), q.at(0, c), keys + c * columns * size, columns,
          scratch.scores, columns, c > 0);
    }
    const Rows weights(scratch.weights, columns, kernel.element);
    const auto softmax = scratch.softmax.at(i);
    float* sums = scratch.sums + i * d;
    exponentials(scratch.scores, m, columns, factor, head.bias + begin, weights, softmax);
    if (block > 0) {
      rescale_rows(sums, m, d, softmax.rescale);
    }
    const int64_t tokens = padded(even_part(count, head.summed), kernel.element);
    for (int64_t t = 0; t < count; t += tokens) {
      kernel.multiply(
          m, d, std::min(tokens, count - t), weights.at(0, t), values + t * d * size, d, sums, d,
          block > 0 || t > 0);
    }
  };
  for (int64_t first = 0; first < head.queries; first += kQueriesAtOnce) {
    const int64_t queries = std::min(kQueriesAtOnce, head.queries - first);
    std::fill_n(scratch.softmax.largest, queries, -std::numeric_limits<float>::infinity());
    std::fill_n(scratch.softmax.sum, queries, 0.f);
    for (int64_t block = 0; block < head.blocks(); ++block) {
      for (int64_t i = 0; i < queries; i += kQueries) {
        add_block(block, head.q.at(first + i), i, std::min(kQueries, queries - i));
      }
    }
    divide_rows(scratch.sums, queries, d, scratch.softmax.sum, head.out.at(first));
  }
}

}  // namespace dsm_ext::cpu
