// In place of the other files here where the library is built without CUDA.

#include <c10/util/Exception.h>

#include "graphs.h"
#include "hold.h"

namespace dsm_ext::cuda {

struct Graphs::State {};

Graphs::Graphs() = default;

Graphs::~Graphs() = default;

bool Graphs::takes(const at::Device&) { return false; }

Passed Graphs::forward(
    const at::Tensor&, const std::shared_ptr<const Layout>&, const Wanted&,
    const std::vector<int64_t>&, Run) {
  TORCH_INTERNAL_ASSERT(false);
}

void Graphs::clear() {}

void hold(const at::Device&) { TORCH_INTERNAL_ASSERT(false); }

}  // namespace dsm_ext::cuda
