#include "model/request.h"

#include <ATen/Functions.h>

namespace dsm_ext {

Outputs allocate_outputs(
    const Request& request, const CompiledPlan& plan, int64_t images,
    const at::TensorOptions& options) {
  const auto& config = plan.config();
  const int64_t c = config.embed_dim, patches = config.patches();
  const int64_t tokens = plan.plan().tokens_out();
  const auto sizes = options.dtype(at::kFloat), indices = options.dtype(at::kInt);
  Outputs outputs;
  if (request.logits) {
    outputs.logits = at::empty({images, config.outputs()}, options);
  }
  if (request.features) {
    outputs.features = at::empty({images, tokens, c}, options);
  }
  if (request.trace) {
    outputs.source = at::empty({images, patches}, indices);
    outputs.size = at::empty({images, tokens}, sizes);
    outputs.location = at::empty({images, tokens, 2}, sizes);
  }
  if (request.attention_block >= 0) {
    const int64_t n = plan.plan().blocks[request.attention_block].tokens_in;
    outputs.class_attention = at::empty({images, config.num_heads, n}, sizes);
    outputs.source = at::empty({images, patches}, indices);
    outputs.size = at::empty({images, n}, sizes);
  }
  for (const int64_t i : request.blocks) {
    const int64_t m = plan.plan().blocks[i].tokens_out;
    outputs.intermediates.push_back(
        {at::empty({images, m, c}, options), at::empty({images, patches}, indices),
         at::empty({images, m}, sizes)});
  }
  return outputs;
}

}  // namespace dsm_ext
