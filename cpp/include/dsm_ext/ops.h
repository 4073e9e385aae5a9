#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

#include "dsm_ext/export.h"

/// The three operators of token merging. Each is also `torch.ops.dsm_ext.<name>`.
///
/// One idea carries all three: a map, int32 [B, N], that gives for each token of a sequence the
/// index of the token that holds it afterwards. `match` makes such a map, `merge` carries it out,
/// `unmerge` undoes it, and two maps compose by indexing the second with the first.
///
/// On a GPU the values of maps and orders are not checked, which would wait for the device: out of
/// range, they give meaningless results, and touch no memory outside the tensors.
///
/// Errors are c10::ValueError for a value or shape out of range, c10::TypeError for a dtype and
/// c10::NotImplementedError for autograd: the operators are for inference.
namespace dsm_ext {

/// Bipartite soft matching: which tokens merge into which.
///
/// Positions are counted over the whole sequence, prefix included, or, with `windows`, inside each
/// window. Tokens at even positions form A, those at odd positions B. Every token of A proposes
/// its most similar token of B (cosine; ties: the lower index), and the `r` best pairs merge (ties:
/// the lower index of A). A tie is an equal similarity in float32: equal rows of B tie for every A,
/// while pairs of equal rows of several kinds, all of cosine 1, may differ by a rounding. A
/// zero-length or non-finite row of `metric` is matched last. The order afterwards is the prefix,
/// then, window by window, the unmerged A and all of B. With r = 0 the map is the identity.
///
/// \param metric  [B, N, D] float32, float16 or bfloat16; compared in float32.
/// \param r       Tokens to remove from the sequence, in [0, (N - prefix) / 2]; with `windows` from
///                each window, where a window of T tokens gives up T / 2 at most.
/// \param prefix  Leading tokens that never merge.
/// \param windows Number of tokens in each window; they add up to N - prefix. Empty: one group.
/// \param order   [N - prefix] int32: the token, counted without the prefix, that stands at each
///                place of the window-major order. Absent: the sequence is in that order already.
/// \return        [B, N] int32: the place of each token in the merged sequence.
/// \source        DSM, arXiv 2303.02331, section 3; ToMe, arXiv 2210.09461, section 3.
DSM_EXT_API at::Tensor match(
    const at::Tensor& metric,                                     // [B, N, D]
    int64_t r, int64_t prefix = 0, at::IntArrayRef windows = {},  // [G]
    const std::optional<at::Tensor>& order = std::nullopt);       // [N - prefix]

/// Means weighted by size of the tokens that share a destination, and the sums of their sizes.
///
/// \param x           [B, N, C] float32, float16 or bfloat16; summed in float32.
/// \param size        [B, N] float32: how many patches each token stands for.
/// \param destination [B, N] int32 in [0, tokens), each value present in every image.
/// \param tokens      M, the number of tokens that remain.
/// \return            The merged tokens [B, M, C] in the dtype of `x`, and their sizes [B, M].
///                    A token that nothing merged into is copied bit for bit.
DSM_EXT_API std::tuple<at::Tensor, at::Tensor> merge(
    const at::Tensor& x,            // [B, N, C]
    const at::Tensor& size,         // [B, N]
    const at::Tensor& destination,  // [B, N]
    int64_t tokens);

/// Gives each position back the value of the token that holds it.
///
/// \param x      [B, M, C] float32, float16 or bfloat16.
/// \param source [B, Q] int32 in [0, M): a map from `match`, or the composition of several.
/// \return       [B, Q, C] with row q equal to row source[q] of `x`.
DSM_EXT_API at::Tensor unmerge(
    const at::Tensor& x,        // [B, M, C]
    const at::Tensor& source);  // [B, Q]

}  // namespace dsm_ext
