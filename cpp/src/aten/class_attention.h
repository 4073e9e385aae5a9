#pragma once

#include "aten/attention.h"
#include "aten/token_state.h"
#include "schedule/compiled_plan.h"

namespace dsm_ext::aten {

/// The attention that the class token pays to each token. A model without a class token takes the
/// mean of all queries, weighted by size, in place of the class token's query.
/// \param state  The tokens that enter the block.
/// \param heads  The block's queries and keys of all tokens.
/// \return       [B, H, N] float32.
at::Tensor class_attention(const TokenState& state, const Heads& heads, const CompiledPlan& plan);

}  // namespace dsm_ext::aten
