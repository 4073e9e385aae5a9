#include "cpu/workspace.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <numeric>

#include "cpu/attention.h"
#include "cpu/kernels/large_pages.h"

namespace dsm_ext::cpu {
namespace {

// Places arrays in one block of memory, each at the start of a cache line. It takes two passes over
// the arrays: the first counts the bytes, `allocate` follows, and the second sets the pointers.
class Layout {
 public:
  template <typename T>
  void operator()(T*& pointer, int64_t count) {
    if (base_ != nullptr) {
      pointer = reinterpret_cast<T*>(base_ + used_);
    }
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  }
  at::Tensor allocate() {
    auto memory = at::empty({used_}, at::TensorOptions().dtype(at::kByte));
    base_ = reinterpret_cast<std::byte*>(memory.mutable_data_ptr());
    used_ = 0;
    return memory;
  }

 private:
  std::byte* base_ = nullptr;
  int64_t used_ = 0;
};

// How many rows a thread takes through a chain at once. An int8 model's hidden layer is float32 and
// then int8, and both must fit into the second-level cache.
int64_t rows_of(const Config& config, const Elements& elements) {
  if (elements.hidden == elements.layers) {
    return kRowsAtOnce;
  }
  constexpr int64_t kCache = 768 << 10, kLeast = 48;
  const int64_t row = std::max(config.mlp_dim, config.pool_mlp_dim()) *
                      (size_of(elements.hidden) + size_of(elements.layers));
  return std::clamp(kCache / row, kLeast, kRowsAtOnce);
}

}  // namespace

Workspace::Workspace(
    const Config& config, const Elements& elements, int64_t images, int64_t threads)
    : images(images), tokens(config.tokens()), threads(threads), scratch(threads) {
  const int64_t c = config.embed_dim, d = config.head_dim(), n = config.tokens();
  const int64_t rows = images * n;
  const auto& layers = gemm_kernel(elements.layers);
  const auto& attention = attention_kernel(elements.attention);
  const int64_t patch = config.in_chans * config.patch_size[0] * config.patch_size[1];
  const int64_t rows_at_once = rows_of(config, elements), chain_rows = threads * rows_at_once;
  const auto bytes = [](int64_t width, Element element) {  // of a row
    return padded(width, element) * size_of(element);
  };
  const bool axial = config.rope_type != RopeType::none && config.rope_type != RopeType::mixed;
  const int64_t mlp_dim = std::max(config.mlp_dim, config.pool_mlp_dim());
  const int64_t pooled_tokens = std::max<int64_t>(config.pooled_tokens(), 1);
  const int64_t pooled_bytes = images * std::max(
                                            pooled_tokens * bytes(c, elements.attention),
                                            bytes(pooled_tokens * c, elements.head));
  // int8 rows have scales, and are made of whole rows of another type.
  const int64_t scales = elements.layers == Element::int8 ? chain_rows : 0;
  RowScale *normed_scales = nullptr, *operand_scales = nullptr;
  std::byte *normed = nullptr, *hidden = nullptr, *hidden_operands = nullptr;
  Layout layout;
  const auto lay_out = [&] {
    for (auto* s : {&state, &next}) {
      layout(s->tokens, rows * c);
      layout(s->size, rows);
      layout(s->bias, images * padded_tokens(n));
      layout(s->location, 2 * rows);
      layout(s->rotation, axial ? rows * 2 * std::lcm(d / 2, kPairs) : 0);
    }
    layout(state.source, images * config.patches());
    layout(qkv, rows * 3 * c * size_of(elements.attention));
    layout(pooled_q, pooled_bytes);
    layout(pooled, images * c);
    layout(destination, rows);
    layout(member_begin, rows + images);
    layout(members, rows);
    layout(class_query, images * c);
    layout(importance, rows);
    layout(normed, chain_rows * bytes(c, elements.layers));
    layout(
        hidden,
        chain_rows * std::max(bytes(mlp_dim, elements.hidden), bytes(patch, elements.patch_embed)));
    layout(normed_scales, scales);
    layout(operand_scales, scales);
    layout(hidden_operands, scales * bytes(mlp_dim, elements.layers));
    layout(
        this->attention,
        std::max(
            attention_memory(attention, images, config.num_heads, n, d, threads),
            attention_memory(
                attention, images, config.pool_heads(), n, c / config.pool_heads(), threads)));
    for (auto& own : scratch) {
      layout(own.tile, layers.tile_rows * layers.tile_columns);
      layout(own.metric, n * (d + c));
      layout(own.new_metric, n * (d + c));
      layout(own.penalty, n);
      layout(own.attention, n);
      layout(own.rotation, kTileRows * 2 * kPairs);
      layout(own.importance, n);
      layout(own.size, n);
      layout(own.new_size, n);
      layout(own.destination, n);
      layout(own.member_begin, n + 1);
      layout(own.members, n);
    }
  };
  lay_out();
  memory = layout.allocate();
  advise_large_pages(memory);
  lay_out();
  next.source = state.source;  // matching updates it in place
  buffers = {
      .rows_at_once = rows_at_once,
      .normed =
          {normed, padded(c, elements.layers), elements.layers,
           scales > 0 ? normed_scales : nullptr},
      .hidden = {hidden, 0, elements.hidden},
      .operands = {hidden_operands, 0, elements.layers, operand_scales}};
}

std::unique_ptr<Workspace> Workspaces::take(
    const Config& config, const Elements& elements, int64_t images, int64_t threads) {
  {
    const std::lock_guard lock(mutex_);
    if (auto idle = idle_.take([&](const auto& workspace) {
          return workspace->images >= images && workspace->tokens == config.tokens() &&
                 workspace->threads == threads;
        })) {
      return std::move(*idle);
    }
  }
  return std::make_unique<Workspace>(config, elements, images, threads);
}

void Workspaces::give_back(std::unique_ptr<Workspace> workspace) {
  const std::lock_guard lock(mutex_);
  idle_.put(std::move(workspace));
}

}  // namespace dsm_ext::cpu
