#include "pass.h"

#include <ATen/Functions.h>

namespace dsm_ext {

Passed allocate(
    const Wanted& wanted, const Layout& layout, int64_t images, const at::TensorOptions& options) {
  const auto& config = layout.config();
  const int64_t c = config.embed_dim, patches = config.patches();
  const int64_t tokens = layout.plan().tokens_out();
  const auto sizes = options.dtype(at::kFloat), places = options.dtype(at::kInt);
  Passed passed;
  if (wanted.logits) {
    passed.logits = at::empty({images, config.outputs()}, options);
  }
  if (wanted.features) {
    passed.features = at::empty({images, tokens, c}, options);
  }
  if (wanted.trace) {
    passed.source = at::empty({images, patches}, places);
    passed.size = at::empty({images, tokens}, sizes);
  }
  for (const int64_t i : wanted.blocks) {
    const int64_t m = layout.plan().blocks[i].tokens_out;
    passed.blocks.push_back(
        {at::empty({images, m, c}, options), at::empty({images, patches}, places),
         at::empty({images, m}, sizes)});
  }
  return passed;
}

}  // namespace dsm_ext
