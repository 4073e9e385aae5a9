"""The operators refuse bad arguments and say what they expected and what they got."""

import pytest
import torch

import dsm_ext

X = torch.randn(2, 9, 4)
SIZE = torch.ones(2, 9)
MAP = torch.zeros(2, 9, dtype=torch.int32)


def order(*values):
    return torch.tensor(values, dtype=torch.int32)


MATCH = {
    "rank": ((X[0], 1), {}, ValueError, r"metric to be \[B, N, D\], got \[9, 4\]"),
    "dtype": ((X.double(), 1), {}, TypeError, "metric to be float32, float16 or bfloat16, got Dou"),
    "negative r": ((X, -1), {}, ValueError, r"r to be in \[0, 4\], got -1"),
    "r past half": ((X, 5), {"prefix": 1}, ValueError, r"r to be in \[0, 4\], got 5"),
    "prefix": ((X, 1), {"prefix": 10}, ValueError, r"prefix to be in \[0, 9\], got 10"),
    "negative prefix": ((X, 1), {"prefix": -1}, ValueError, r"prefix to be in \[0, 9\], got -1"),
    "windows": ((X, 1), {"windows": [4, 4]}, ValueError, r"add up to N - prefix = 9, got \[4, 4\]"),
    "negative window": ((X, 1), {"windows": [10, -1]}, ValueError, r"windows to be in \[0, 9\]"),
    "huge windows": ((X, 1), {"windows": [2**62] * 4 + [9]}, ValueError, r"windows to be in"),
    "r past half a window": (
        (X, 4), {"prefix": 1, "windows": [3, 5]}, ValueError, r"r to be in \[0, 3\], got 4"),
    "order alone": ((X, 1), {"order": order(*range(9))}, ValueError, "expected windows beside"),
    "order's shape": (
        (X, 1), {"windows": [9], "order": order(0, 1)}, ValueError, r"order to be \[9\], got"),
    "order's dtype": (
        (X, 1), {"windows": [9], "order": torch.arange(9)}, TypeError, "order to be Int, got Long"),
    "order's values": (
        (X, 1), {"windows": [9], "order": order(*range(8), 9)}, ValueError, "permutation .*got 9"),
    "order's repeats": (
        (X, 1), {"windows": [9], "order": order(*range(8), 0)}, ValueError, "permutation .*got 0"),
    "penalty's shape": (
        (X, 1), {"penalty": SIZE[:, 1:]}, ValueError, r"penalty to be \[2, 9\], got \[2, 8\]"),
    "penalty's dtype": (
        (X, 1), {"penalty": SIZE.double()}, TypeError, "penalty to be Float, got Double"),
    "grad": ((X.clone().requires_grad_(), 1), {}, NotImplementedError, "metric requires grad"),
}  # fmt: skip

MERGE = {
    "rank": ((X[0], SIZE, MAP, 1), ValueError, r"x to be \[B, N, C\]"),
    "dtype": ((X.int(), SIZE, MAP, 1), TypeError, "x to be float32"),
    "size's shape": ((X, SIZE[:, 1:], MAP, 1), ValueError, r"size to be \[2, 9\], got \[2, 8\]"),
    "size's dtype": ((X, SIZE.int(), MAP, 1), TypeError, "size to be Float, got Int"),
    "map's shape": ((X, SIZE, MAP[:1], 1), ValueError, r"destination to be \[2, 9\], got \[1, 9\]"),
    "map's dtype": ((X, SIZE, MAP.long(), 1), TypeError, "destination to be Int, got Long"),
    "tokens": ((X, SIZE, MAP, 10), ValueError, r"tokens to be in \[1, 9\], got 10"),
    "no tokens": ((X, SIZE, MAP, 0), ValueError, r"tokens to be in \[1, 9\], got 0"),
    "map's values": ((X, SIZE, MAP + 1, 1), ValueError, r"in \[0, 1\), got 1 for token 0"),
    "a token without source": ((X, SIZE, MAP, 2), ValueError, "got none for token 1 of image 0"),
    "grad": (
        (X.clone().requires_grad_(), SIZE, MAP, 1), NotImplementedError, "x requires grad"),
}  # fmt: skip

UNMERGE = {
    "rank": ((X[0], MAP), ValueError, r"x to be \[B, M, C\]"),
    "map's shape": ((X, MAP[:1]), ValueError, r"source to be \[2, Q\], got \[1, 9\]"),
    "map's dtype": ((X, MAP.long()), TypeError, "source to be Int, got Long"),
    "map's values": ((X, MAP + 9), ValueError, r"in \[0, 9\), got 9"),
    "grad": ((X.clone().requires_grad_(), MAP), NotImplementedError, "x requires grad"),
}  # fmt: skip


@pytest.mark.parametrize("name", MATCH)
def test_match(name):
    arguments, keywords, error, message = MATCH[name]
    with pytest.raises(error, match=rf"dsm_ext\.match: .*{message}"):
        dsm_ext.match(*arguments, **keywords)


@pytest.mark.parametrize("name", MERGE)
def test_merge(name):
    arguments, error, message = MERGE[name]
    with pytest.raises(error, match=rf"dsm_ext\.merge: .*{message}"):
        dsm_ext.merge(*arguments)


@pytest.mark.parametrize("name", UNMERGE)
def test_unmerge(name):
    arguments, error, message = UNMERGE[name]
    with pytest.raises(error, match=rf"dsm_ext\.unmerge: .*{message}"):
        dsm_ext.unmerge(*arguments)


def test_grad_is_accepted_where_nothing_is_recorded():
    with torch.no_grad():
        dsm_ext.match(X.clone().requires_grad_(), 1)
