#include "workspace.h"

#include <ATen/Functions.h>

#include <algorithm>

#include "attention.h"

namespace dsm_ext::cpu {
namespace {

// Counts how much is asked for, then hands it out, each part at the start of a cache line.
template <typename T>
class Arena {
 public:
  void operator()(T*& pointer, int64_t count) {
    if (base_ != nullptr) {
      pointer = base_ + used_;
    }
    used_ += (count + 15) / 16 * 16;
  }
  at::Tensor allocate() {
    auto memory = at::empty({used_}, at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value));
    base_ = memory.template mutable_data_ptr<T>();
    used_ = 0;
    return memory;
  }

 private:
  T* base_ = nullptr;
  int64_t used_ = 0;
};

}  // namespace

Workspace::Workspace(const Config& config, int64_t images, int64_t threads)
    : images(images), tokens(config.tokens()), threads(threads), scratch(threads) {
  const int64_t c = config.embed_dim, d = config.head_dim(), n = config.tokens();
  const int64_t rows = images * n, padded = padded_tokens(n);
  const int64_t patch = config.in_chans * config.patch_size[0] * config.patch_size[1];
  between.embed_dim = c;
  const int64_t hidden_width = std::max(config.mlp_dim, patch);
  between.hidden_width = 0;  // each chain says how wide its own rows are
  const int64_t capacity = threads * kRowsAtOnce;
  Arena<float> float_arena;
  Arena<int32_t> integer_arena;
  const auto lay_out = [&] {
    float_arena(x, rows * c);
    float_arena(other, rows * c);
    float_arena(qkv, rows * 3 * c);
    float_arena(pooled_q, images * std::max<int64_t>(config.pooled_tokens(), 1) * c);
    float_arena(pooled, images * c);
    float_arena(size, images * n);
    float_arena(new_size, images * n);
    float_arena(bias, images * padded);
    float_arena(new_bias, images * padded);
    float_arena(between.normed, capacity * c);
    float_arena(between.hidden, capacity * hidden_width);
    integer_arena(place, rows);
    integer_arena(begin, rows + images);
    integer_arena(sources, rows);
    integer_arena(holder, images * config.patches());
    for (auto& own : scratch) {
      float_arena(own.tile, kTileRows * kTile);
      float_arena(own.attention, attention_scratch(n, d));
      float_arena(own.metric, n * d);
      float_arena(own.new_metric, n * d);
      float_arena(own.size, n);
      float_arena(own.new_size, n);
      integer_arena(own.place, n);
      integer_arena(own.begin, n + 1);
      integer_arena(own.sources, n);
    }
  };
  lay_out();
  floats = float_arena.allocate();
  advise_large_pages(floats);
  integers = integer_arena.allocate();
  lay_out();
}

std::unique_ptr<Workspace> Workspaces::take(const Config& config, int64_t images, int64_t threads) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(idle_.begin(), idle_.end(), [&](const auto& workspace) {
      return workspace->images >= images && workspace->tokens == config.tokens() &&
             workspace->threads == threads;
    });
    if (found != idle_.end()) {
      auto workspace = std::move(*found);
      idle_.erase(found);
      return workspace;
    }
  }
  return std::make_unique<Workspace>(config, images, threads);
}

void Workspaces::give_back(std::unique_ptr<Workspace> workspace) {
  constexpr size_t kKept = 8;  // batch sizes and concurrent calls beyond that allocate again
  const std::lock_guard lock(mutex_);
  if (idle_.size() == kKept) {
    idle_.erase(idle_.begin());
  }
  idle_.push_back(std::move(workspace));
}

}  // namespace dsm_ext::cpu
