#include "dsm_ext/precision.h"

#include <ATen/Context.h>
#include <ATen/native/CPUBlas.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>

#include <exception>

namespace dsm_ext {
namespace {

// Multiplies one row by 16 columns. On a processor without an instruction for this product, torch
// throws.
template <typename Operand, typename Sum>
bool multiplies() {
  constexpr int64_t inputs = 4, columns = 16;
  const Operand a[inputs] = {}, b[inputs * columns] = {};
  Sum sums[columns];
  try {
    at::native::cpublas::brgemm(1, columns, inputs, inputs, columns, columns, false, a, b, sums);
    at::native::cpublas::brgemm_release();
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

const char* to_string(Precision precision) {
  switch (precision) {
    case Precision::float32:
      return "float32";
    case Precision::bfloat16:
      return "bfloat16";
    case Precision::int8:
      return "int8";
  }
  return "";
}

Precision parse_precision(const std::string& name) {
  for (const auto precision : {Precision::float32, Precision::bfloat16, Precision::int8}) {
    if (name == to_string(precision)) {
      return precision;
    }
  }
  TORCH_CHECK_VALUE(
      name == "auto",
      "dsm_ext.VisionTransformer: expected precision to be float32, bfloat16, int8 or auto, got ",
      name);
  return fastest_precision();
}

bool has_precision(Precision precision) {
  if (precision == Precision::float32) {
    return true;
  }
  if (!at::globalContext().userEnabledMkldnn()) {
    return false;
  }
  static const bool bfloat16 = multiplies<c10::BFloat16, float>();
  static const bool int8 = multiplies<signed char, int32_t>();
  return precision == Precision::bfloat16 ? bfloat16 : int8;
}

Precision fastest_precision() {
  return has_precision(Precision::int8)       ? Precision::int8
         : has_precision(Precision::bfloat16) ? Precision::bfloat16
                                              : Precision::float32;
}

}  // namespace dsm_ext
