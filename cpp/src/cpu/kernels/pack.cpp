#include "cpu/kernels/pack.h"

#include <ATen/Functions.h>

#include "cpu/kernels/large_pages.h"
#include "cpu/kernels/ranges.h"
#include "cpu/kernels/tile.h"

namespace dsm_ext::cpu {

at::Tensor pack_groups(const at::Tensor& weight, Element element) {
  const int64_t outputs = weight.size(0), inputs = weight.size(1), group = group_of(element);
  const int64_t count = divide_up(outputs, kTileColumns), groups = divide_up(inputs, group);
  auto panels = at::empty({count, groups, kTileColumns, group}, weight.options());
  advise_large_pages(panels);
  const auto whole =
      at::constant_pad_nd(weight, {0, groups * group - inputs, 0, count * kTileColumns - outputs});
  panels.copy_(whole.view({count, kTileColumns, groups, group}).transpose(1, 2));
  return panels;
}

}  // namespace dsm_ext::cpu
