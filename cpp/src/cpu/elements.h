#pragma once

#include "cpu/kernels/rows.h"
#include "dsm_ext/precision.h"

namespace dsm_ext::cpu {

/// The operands' types in the products of a model.
struct Elements {
  Element patch_embed, layers, attention, head;
};

constexpr Elements elements_of(Precision precision) {
  switch (precision) {
    case Precision::float32:
    case Precision::int8:
      break;
    case Precision::bfloat16:
      return {
          .patch_embed = Element::bfloat16,
          .layers = Element::bfloat16,
          .attention = Element::bfloat16,
          .head = Element::float32};
  }
  return {
      .patch_embed = Element::float32,
      .layers = Element::float32,
      .attention = Element::float32,
      .head = Element::float32};
}

}  // namespace dsm_ext::cpu
