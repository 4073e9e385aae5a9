#pragma once

#include <ATen/core/Tensor.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace dsm_ext::cpu {

/// Asks the operating system for pages of 2 MB for a tensor's memory, so that reading all of it
/// needs few address translations.
inline void advise_large_pages(const at::Tensor& tensor) {
#ifdef __linux__
  constexpr uintptr_t page = uintptr_t{2} << 20;
  const auto begin = reinterpret_cast<uintptr_t>(tensor.data_ptr());
  const auto end = begin + tensor.nbytes();
  const auto first = (begin + page - 1) / page * page;
  if (first + page <= end) {
    madvise(reinterpret_cast<void*>(first), (end - first) / page * page, MADV_HUGEPAGE);
  }
#else
  (void)tensor;
#endif
}

}  // namespace dsm_ext::cpu
