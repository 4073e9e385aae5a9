#include "cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/tasks.h"

namespace dsm_ext::cpu {

AttentionHead Attention::head(int64_t image, int64_t h, int64_t first_query, int64_t count) const {
  const auto q = queries.at(image * query_count + first_query, h * dim);
  return {
      .q = q,
      .queries = count,
      .k = keys.at(image * key_rows, h * dim),
      .v = values.at(image * key_rows, h * dim),
      .tokens = token_count,
      .dim = dim,
      .bias = bias + image * padded_tokens(token_count),
      .out = q,
      .summed = summed};
}

void attend(
    const AttentionKernel& kernel, const Attention& attention, Workspace& workspace,
    StageTimer* timer, int64_t other_count,
    c10::function_ref<void(int64_t index, int64_t thread)> other) {
  const int64_t images = attention.images, heads = attention.heads, n = attention.query_count;
  // When there are too few heads to keep all threads busy, the queries of each head are cut into
  // parts. Each part packs and reads all keys of its head.
  constexpr int64_t kLeastQueries = 32;
  const int64_t threads = workspace.threads;
  int64_t parts = 1;
  while (images * heads * parts % threads != 0 && images * heads * parts < 8 * threads &&
         n / (parts + 1) >= kLeastQueries) {
    ++parts;
  }
  const int64_t step = divide_up(n, parts);
  const int64_t tasks = other_count + images * heads * parts;
  for_each_task(tasks, threads, [&](int64_t index, int64_t thread) {
    if (index < other_count) {
      other(index, thread);
      return;
    }
    index -= other_count;
    const int64_t first = index % parts * step, h = index / parts % heads;
    const int64_t image = index / parts / heads;
    if (first < n) {
      const auto head = attention.head(image, h, first, std::min(step, n - first));
      timed(timer, attention.stage, thread, [&] {
        attend(kernel, head, workspace.scratch[thread].attention);
      });
    }
  });
}

void fill_bias(float* bias, const float* size, int64_t tokens) {
  for (int64_t t = 0; t < tokens; ++t) {
    bias[t] = size == nullptr ? 0.f : std::log(size[t]);
  }
  std::fill_n(
      bias + tokens, padded_tokens(tokens) - tokens, -std::numeric_limits<float>::infinity());
}

}  // namespace dsm_ext::cpu
