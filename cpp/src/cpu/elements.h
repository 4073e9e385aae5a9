#pragma once

#include "cpu/kernels/rows.h"
#include "dsm_ext/precision.h"

namespace dsm_ext::cpu {

/// The types of values in a model of one precision.
struct Elements {
  // Operands of products:
  Element patch_embed, layers, attention, head;
  Element hidden;  // what fc1 stores; int8 operands of fc2 are made of whole rows of it
};

inline Elements elements_of(Precision precision) {
  constexpr auto float32 = Element::float32, bfloat16 = Element::bfloat16, int8 = Element::int8;
  const auto narrow = has_precision(Precision::bfloat16) ? bfloat16 : float32;
  switch (precision) {
    case Precision::float32:
      break;
    case Precision::bfloat16:
      return {
          .patch_embed = bfloat16,
          .layers = bfloat16,
          .attention = bfloat16,
          .head = float32,
          .hidden = bfloat16};
    case Precision::int8:
      return {
          .patch_embed = narrow,
          .layers = int8,
          .attention = narrow,
          .head = float32,
          .hidden = float32};
  }
  return {
      .patch_embed = float32,
      .layers = float32,
      .attention = float32,
      .head = float32,
      .hidden = float32};
}

}  // namespace dsm_ext::cpu
