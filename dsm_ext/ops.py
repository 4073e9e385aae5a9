"""The three operators of token merging, typed, with fake kernels for torch.compile and export.

All three use a map: int32 [B, N], for each token of a sequence the index of the token that holds it
afterwards. ``match`` makes a map, ``merge`` applies it, ``unmerge`` undoes it.

The operators are for inference: they refuse a tensor that requires grad with NotImplementedError.
They check the values of maps and orders on the CPU only, because a check on a GPU would wait for
it. On a GPU a value out of range gives meaningless results; it never makes an operator touch
memory outside the tensors.
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
    penalty: Tensor | None = None,
) -> Tensor:
    """Bipartite soft matching: which tokens merge into which.

    The tokens of a group are matched among themselves. A group is the whole sequence, whose
    positions are counted with the prefix, or with ``windows`` one window, whose positions are
    counted inside it. Tokens at even positions form the set A, tokens at odd positions the set B.
    For each token of A the operator proposes a partner: the token of B with the highest cosine
    (ties: the lower index). Then it selects the ``r`` pairs of the highest score (ties: the lower
    index of A), and their tokens of A merge into their partners. In the merged sequence the prefix
    comes first, then, group by group, the tokens of A that stay and all tokens of B. With r = 0 the
    map is the identity.

    A tie is an equal similarity in float32. Equal rows of B tie for every token of A. Pairs of
    equal rows all have the cosine 1, but rounding may make two kinds of such pairs differ. A
    zero-length or non-finite row of ``metric`` is matched last, and so is a token with a NaN in
    ``penalty``.

    Args:
        metric: [B, N, D] float32, float16 or bfloat16, compared in float32.
        r: how many tokens to remove from the sequence, in [0, (N - prefix) // 2]. With ``windows``
            the largest is the sum of T // 2 over the windows. Each of G windows loses r // G
            tokens, and each of the first r % G one more; what a window of T tokens cannot give,
            beyond T // 2, the next ones give.
        prefix: the number of leading tokens that never merge.
        windows: the number of tokens in each window; they add up to N - prefix. Empty: the sequence
            is one group.
        order: [N - prefix] int32, the token (counted without the prefix) at each place of the
            window-major order; None when the sequence is in that order already.
        penalty: [B, N] float32; the score of a pair is its cosine minus the penalty of its token of
            A. None: the cosine.

    Returns:
        [B, N] int32: the index of each token in the merged sequence.

    Raises:
        ValueError: a shape, a count, a device or the values of ``order`` do not fit.
        TypeError: ``metric``, ``order`` or ``penalty`` has another dtype.

    Source: ToMe, arXiv 2210.09461, section 3; in windows DSM, arXiv 2303.02331, section 3.
    """
    return torch.ops.dsm_ext.match(metric, r, prefix, list(windows), order, penalty)


def merge(x: Tensor, size: Tensor, destination: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Replace tokens that share a destination by their mean, weighted by size; add their sizes.

    Args:
        x: [B, N, C] float32, float16 or bfloat16; summed in float32.
        size: [B, N] float32, how many patches each token stands for.
        destination: [B, N] int32 in [0, tokens), each value present in every image.
        tokens: M, the number of tokens that remain.

    Returns:
        The merged tokens [B, M, C] in the dtype of ``x`` and their sizes [B, M]. A token that is
        the only one with its destination is copied bit for bit.

    Raises:
        ValueError: a shape, a count, a device or the values of ``destination`` do not fit.
        TypeError: a tensor has another dtype.
    """
    return torch.ops.dsm_ext.merge(x, size, destination, tokens)


def unmerge(x: Tensor, source: Tensor) -> Tensor:
    """Give each position the value of the token that holds it.

    Args:
        x: [B, M, C] float32, float16 or bfloat16.
        source: [B, Q] int32 in [0, M): a map from ``match``, or the source map of ``trace``.

    Returns:
        [B, Q, C], where row q equals row ``source[q]`` of ``x``.

    Raises:
        ValueError: a shape, a device or the values of ``source`` do not fit.
        TypeError: a tensor has another dtype.
    """
    return torch.ops.dsm_ext.unmerge(x, source)


@torch.library.register_fake("dsm_ext::match")
def _(
    metric: Tensor,
    r: int,
    prefix: int = 0,
    windows: Sequence[int] = (),
    order: Tensor | None = None,
    penalty: Tensor | None = None,
) -> Tensor:
    return metric.new_empty(metric.shape[:2], dtype=torch.int32)


@torch.library.register_fake("dsm_ext::merge")
def _(x: Tensor, size: Tensor, destination: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    b, _, c = x.shape
    return x.new_empty((b, tokens, c)), size.new_empty((b, tokens))


@torch.library.register_fake("dsm_ext::unmerge")
def _(x: Tensor, source: Tensor) -> Tensor:
    return x.new_empty((*source.shape, x.shape[2]))
