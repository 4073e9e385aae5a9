#include "cpu/kernels/store_rows.h"

#include "cpu/kernels/store_values.h"
#include "ops/cpu/multiversion.h"

namespace dsm_ext::cpu {
namespace {

template <typename In>
inline __attribute__((always_inline)) void store(const In* x, int64_t width, Rows out) {
  const auto value = [x](int64_t i)
                         __attribute__((always_inline)) { return static_cast<float>(x[i]); };
  store_values(width, out, value);
}

}  // namespace

DSM_EXT_MULTIVERSION void store_rows(Rows x, int64_t rows, int64_t width, Rows out) {
  DSM_EXT_WITH_ELEMENT(
      x.element, In,
      for (int64_t row = 0; row < rows; ++row) { store(x.at(row).as<In>(), width, out.at(row)); })
}

}  // namespace dsm_ext::cpu
