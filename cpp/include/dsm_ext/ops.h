#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

#include "dsm_ext/export.h"

/// The three operators of token merging. Each is also `torch.ops.dsm_ext.<name>`.
///
/// All three use a map: int32 [B, N], for each token of a sequence the index of the token that
/// holds it afterwards. `match` makes a map, `merge` applies it, `unmerge` undoes it. Two maps are
/// composed by indexing the second with the first.
///
/// The operators check the values of maps and orders on the CPU only, because a check on a GPU
/// would wait for the device. On a GPU a value out of range gives meaningless results; it never
/// makes an operator touch memory outside the tensors.
///
/// Errors: c10::ValueError for a value or shape out of range, c10::TypeError for a wrong dtype, and
/// c10::NotImplementedError for a tensor that requires grad, because the operators are for
/// inference.
namespace dsm_ext {

/// Bipartite soft matching: which tokens merge into which.
///
/// The tokens of a group are matched among themselves. A group is the whole sequence, whose
/// positions are counted with the prefix, or with `windows` one window, whose positions are counted
/// inside it. Tokens at even positions form the set A, tokens at odd positions the set B. For each
/// token of A the operator proposes a partner: the token of B with the highest cosine (ties: the
/// lower index). Then it selects the `r` pairs of the highest score (ties: the lower index of A),
/// and their tokens of A merge into their partners. In the merged sequence the prefix comes first,
/// then, group by group, the tokens of A that stay and all tokens of B. With r = 0 the map is the
/// identity.
///
/// A tie is an equal similarity in float32. Equal rows of B tie for every token of A. Pairs of
/// equal rows all have the cosine 1, but rounding may make two kinds of such pairs differ. A
/// zero-length or non-finite row of `metric` is matched last, and so is a token with a NaN in
/// `penalty`.
///
/// \param metric  [B, N, D] float32, float16 or bfloat16; compared in float32.
/// \param r       How many tokens to remove from the sequence, in [0, (N - prefix) / 2]. With
///                `windows`, the largest is the sum of T / 2 over the windows, rounded down for
///                each. Each of G windows loses r / G tokens, rounded down, and each of the first
///                r mod G one more; what a window of T tokens cannot give, beyond T / 2, the next
///                ones give.
/// \param prefix  The number of leading tokens that never merge.
/// \param windows The number of tokens in each window; they add up to N - prefix. Empty: the
///                sequence is one group.
/// \param order   [N - prefix] int32: the token, counted without the prefix, at each place of the
///                window-major order. Absent: the sequence is in that order already.
/// \param penalty [B, N] float32: the score of a pair is its cosine minus the penalty of its token
///                of A. Absent: the cosine.
/// \return        [B, N] int32: the index of each token in the merged sequence.
/// \source        DSM, arXiv 2303.02331, section 3; ToMe, arXiv 2210.09461, section 3.
DSM_EXT_API at::Tensor match(
    const at::Tensor& metric,                                     // [B, N, D]
    int64_t r, int64_t prefix = 0, at::IntArrayRef windows = {},  // [G]
    const std::optional<at::Tensor>& order = std::nullopt,        // [N - prefix]
    const std::optional<at::Tensor>& penalty = std::nullopt);     // [B, N]

/// Replaces the tokens that share a destination by their mean, weighted by size, and adds their
/// sizes.
///
/// \param x           [B, N, C] float32, float16 or bfloat16; summed in float32.
/// \param size        [B, N] float32: how many patches each token stands for.
/// \param destination [B, N] int32 in [0, tokens), each value present in every image.
/// \param tokens      M, the number of tokens that remain.
/// \return            The merged tokens [B, M, C] in the dtype of `x`, and their sizes [B, M].
///                    A token that is the only one with its destination is copied bit for bit.
DSM_EXT_API std::tuple<at::Tensor, at::Tensor> merge(
    const at::Tensor& x,            // [B, N, C]
    const at::Tensor& size,         // [B, N]
    const at::Tensor& destination,  // [B, N]
    int64_t tokens);

/// Gives each position the value of the token that holds it.
///
/// \param x      [B, M, C] float32, float16 or bfloat16.
/// \param source [B, Q] int32 in [0, M): a map from `match`, or the composition of several.
/// \return       [B, Q, C] with row q equal to row source[q] of `x`.
DSM_EXT_API at::Tensor unmerge(
    const at::Tensor& x,        // [B, M, C]
    const at::Tensor& source);  // [B, Q]

}  // namespace dsm_ext
