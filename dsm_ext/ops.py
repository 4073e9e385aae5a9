"""The three operators of token merging, typed, with fake kernels for torch.compile and export.

One idea carries all three: a map, int32 [B, N], that gives for each token the index of the token
that holds it afterwards. ``match`` makes such a map, ``merge`` carries it out, ``unmerge`` undoes
it.

They are for inference: a tensor that requires grad is refused with NotImplementedError. On a GPU
the values of maps and orders are not checked, which would wait for the device: out of range, they
give meaningless results, and touch no memory outside the tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dsm_ext import _native  # noqa: F401  (registers the operators)


def match(
    metric: Tensor,
    r: int,
    *,
    prefix: int = 0,
    windows: Sequence[int] = (),
    order: Tensor | None = None,
) -> Tensor:
    """Bipartite soft matching: which tokens merge into which.

    Positions are counted over the whole sequence, prefix included, or, with ``windows``, inside
    each window. Tokens at even positions form A, those at odd positions B. Every token of A
    proposes its most similar token of B (cosine; ties: the lower index), and the ``r`` best pairs
    merge (ties: the lower index of A). A tie is an equal similarity in float32: equal rows of B
    tie for every A, while pairs of equal rows of several kinds, all of cosine 1, may differ by a
    rounding. A zero-length or non-finite row of ``metric`` is matched last. The order afterwards is
    the prefix, then, window by window, the unmerged A and all of B.
    With r = 0 the map is the identity.

    Args:
        metric: [B, N, D] float32, float16 or bfloat16, compared in float32.
        r: tokens to remove from the sequence, in [0, (N - prefix) // 2]; with ``windows`` from each
            window, where a window of T tokens gives up T // 2 at most.
        prefix: leading tokens that never merge.
        windows: the number of tokens in each window; they add up to N - prefix.
        order: [N - prefix] int32, the token (counted without the prefix) at each place of the
            window-major order; None where the sequence is in that order already.

    Returns:
        [B, N] int32: the place of each token in the merged sequence.

    Raises:
        ValueError: a shape, a count, a device or the values of ``order`` do not fit.
        TypeError: another dtype.

    Source: ToMe, arXiv 2210.09461, section 3; in windows DSM, arXiv 2303.02331, section 3.
    """
    return torch.ops.dsm_ext.match(metric, r, prefix, list(windows), order)


def merge(x: Tensor, size: Tensor, destination: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Means weighted by size of the tokens that share a destination, and the sums of their sizes.

    Args:
        x: [B, N, C] float32, float16 or bfloat16; summed in float32.
        size: [B, N] float32, how many patches each token stands for.
        destination: [B, N] int32 in [0, tokens), each value present in every image.
        tokens: M, the number of tokens that remain.

    Returns:
        The merged tokens [B, M, C] in the dtype of ``x`` and their sizes [B, M]. A token that
        nothing merged into is copied bit for bit.

    Raises:
        ValueError: a shape, a count, a device or the values of ``destination`` do not fit.
        TypeError: another dtype.
    """
    return torch.ops.dsm_ext.merge(x, size, destination, tokens)


def unmerge(x: Tensor, source: Tensor) -> Tensor:
    """Give each position back the value of the token that holds it.

    Args:
        x: [B, M, C] float32, float16 or bfloat16.
        source: [B, Q] int32 in [0, M): a map from ``match``, or ``trace``'s source map.

    Returns:
        [B, Q, C], where row q equals row ``source[q]`` of ``x``.

    Raises:
        ValueError: a shape, a device or the values of ``source`` do not fit.
        TypeError: another dtype.
    """
    return torch.ops.dsm_ext.unmerge(x, source)


@torch.library.register_fake("dsm_ext::match")
def _(
    metric: Tensor,
    r: int,
    prefix: int = 0,
    windows: Sequence[int] = (),
    order: Tensor | None = None,
) -> Tensor:
    return metric.new_empty(metric.shape[:2], dtype=torch.int32)


@torch.library.register_fake("dsm_ext::merge")
def _(x: Tensor, size: Tensor, destination: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    b, _, c = x.shape
    return x.new_empty((b, tokens, c)), size.new_empty((b, tokens))


@torch.library.register_fake("dsm_ext::unmerge")
def _(x: Tensor, source: Tensor) -> Tensor:
    return x.new_empty((*source.shape, x.shape[2]))
