"""The GPU's attention with a bias for each key, against the definition in float64."""

import pytest
import torch

import dsm_ext  # noqa: F401, registers the operator

attend = torch.ops.dsm_ext._attend


def heads(tokens, rows, dim, dtype, layout="qkv", scale=1.0):
    """Queries [2, 3, rows, dim], keys and values [2, 3, tokens, dim] as a product leaves them."""
    if layout == "qkv":
        qkv = torch.randn(2, tokens, 3, 3, dim, device="cuda", dtype=dtype) * scale
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return q[:, :, :rows], k, v
    q = torch.randn(2, rows, 3, dim, device="cuda", dtype=dtype) * scale
    k, v = torch.randn(2, tokens, 2, 3, dim, device="cuda", dtype=dtype).permute(2, 0, 3, 1, 4)
    return q.transpose(1, 2), k, v


def log_sizes(tokens, dtype, padding=float("nan")):
    """[2, 1, 1, tokens], a view of padded rows. The kernel reads no padding; ATen's does."""
    rows = torch.full((2, (tokens + 15) // 16 * 16), padding, device="cuda", dtype=dtype)
    rows[:, :tokens] = torch.randint(1, 9, (2, tokens), device="cuda").log()
    return rows[:, None, None, :tokens]


def assert_exact(actual, q, k, v, bias):
    """Off by half a unit of the result, and of the values that the rounded exponentials weigh."""
    scores = q.double() @ k.double().transpose(2, 3) / q.shape[3] ** 0.5 + bias.double()
    weights = scores.softmax(-1)
    expected = (weights @ v.double()).transpose(1, 2).flatten(2)
    weighed = (weights @ v.double().abs()).transpose(1, 2).flatten(2)
    unit = torch.finfo(actual.dtype).eps / 2
    allowed = unit * (expected.abs() + weighed) + 2**-20 * scores.abs().max() * weighed + 1e-6
    assert actual.shape == expected.shape and actual.is_contiguous()
    assert ((actual.double() - expected).abs() <= allowed).all()


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tokens", [1, 7, 16, 53, 64, 101, 165, 197, 257, 320, 321, 577, 1370])
def test_attention(tokens, dtype):
    q, k, v = heads(tokens, tokens, 64, dtype)
    bias = log_sizes(tokens, dtype)
    assert_exact(attend(q, k, v, bias), q, k, v, bias)


@pytest.mark.cuda
@pytest.mark.parametrize("dim", [32, 64, 72, 80, 88, 96, 128])
@pytest.mark.parametrize("rows", [1, 2, 37])
def test_attention_of_the_first_rows(rows, dim):
    q, k, v = heads(117, rows, dim, torch.bfloat16, layout="kv", scale=2.0)
    for dtype in (torch.bfloat16, torch.float32):
        bias = log_sizes(117, dtype)
        assert_exact(attend(q, k, v, bias), q, k, v, bias)


@pytest.mark.cuda
def test_other_layouts():
    q, k, v = (x.contiguous() for x in heads(50, 50, 64, torch.float16))
    bias = log_sizes(50, torch.float16)
    assert_exact(attend(q, k, v, bias), q, k, v, bias)
    assert attend(q[:0], k[:0], v[:0], bias[:0]).shape == (0, 50, 192)


@pytest.mark.cuda
def test_what_the_kernel_does_not_take():
    bias = log_sizes(50, torch.float16, padding=0.0)
    q, k, v = heads(50, 50, 48, torch.float16)
    assert_exact(attend(q, k, v, bias), q, k, v, bias)
    q, k, v = heads(50, 50, 64, torch.float16)
    assert_exact(attend(q, k, v, None), q, k, v, torch.zeros_like(bias))
    shifted = torch.empty(q.numel() + 1, device="cuda", dtype=q.dtype)[1:].view(q.shape)
    shifted.copy_(q)  # its rows begin at no multiple of 16 bytes
    assert_exact(attend(shifted.contiguous(), k, v, bias), q, k, v, bias)


@pytest.mark.cuda
def test_what_is_not_finite_stays_in_its_image():
    q, k, v = heads(101, 101, 64, torch.bfloat16)
    bias = log_sizes(101, torch.bfloat16)
    expected = attend(q, k, v, bias)
    k[1, 0, 100, 5] = float("nan")
    actual = attend(q, k, v, bias)
    assert torch.equal(actual[0], expected[0])
    assert actual[1, :, :64].isnan().all()
    assert torch.equal(actual[1, :, 64:], expected[1, :, 64:])
