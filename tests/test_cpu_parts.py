"""Parts of the CPU's fast path, each compared with ATen's operators."""

import math

import pytest
import torch
import torch.nn.functional as F
from tolerance import assert_close


@pytest.fixture(params=[True, False], ids=["oneDNN", "BLAS"])
def library(request):
    """Runs a test with oneDNN's products, then with BLAS, which other processors use."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = request.param
    yield
    torch.backends.mkldnn.enabled = before


@pytest.mark.parametrize("m, k, n", [(1, 1, 1), (5, 64, 64), (197, 48, 200), (400, 1600, 65)])
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_linear(m, k, n, gelu, threads, library, cpu_parts):
    x, weight, bias = torch.randn(m, k), torch.randn(n, k) / math.sqrt(k), torch.randn(n)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        actual = cpu_parts.PackedLinear(weight, bias).forward(x, gelu)
    finally:
        torch.set_num_threads(before)
    expected = F.linear(x.double(), weight.double(), bias.double())
    assert_close(actual, F.gelu(expected) if gelu else expected)
    assert_close(cpu_parts.PackedLinear(weight, None).forward(x), F.linear(x, weight))


def test_gelu_is_exact_everywhere(cpu_parts):
    x = torch.cat([torch.linspace(-12, 12, 100_001), torch.tensor([-1e4, 1e4, math.inf])])
    actual = cpu_parts.PackedLinear(torch.ones(1, 1), None).forward(x[:, None], True)[:, 0]
    expected = F.gelu(x.double())
    error = (actual.double() - expected).abs()
    finite = expected.isfinite()
    assert (error[finite] <= 2e-6 * expected[finite].abs().clamp(min=1)).all()
    assert actual[-1] == math.inf


@pytest.mark.parametrize("tokens", [1, 2, 16, 37, 197, 300, 1600])
@pytest.mark.parametrize("dim", [4, 32, 64, 80])
def test_attention(tokens, dim, library, cpu_parts):
    qkv = torch.randn(2, tokens, 3, 3, dim)
    size = torch.randint(1, 9, (2, tokens)).float()
    q, k, v = qkv.permute(2, 0, 3, 1, 4).double()
    for sizes in (None, size):
        bias = None if sizes is None else sizes.double().log()[:, None, None, :]
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        actual = cpu_parts.attention(qkv, sizes)
        assert_close(actual, expected.transpose(1, 2).flatten(2))


def test_scores_far_apart_and_huge(cpu_parts):
    qkv = torch.randn(1, 50, 3, 2, 32)
    qkv[:, :, :2] *= 30
    q, k, v = qkv.permute(2, 0, 3, 1, 4).double()
    expected = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    # The scores are some thousands, where float32 has an error of 1e-4.
    assert_close(cpu_parts.attention(qkv, None), expected, scale=10)


def test_nan_stays_in_its_row(cpu_parts):
    qkv = torch.randn(1, 20, 3, 2, 32)
    qkv[0, 7, 0] = math.nan  # a query
    out = cpu_parts.attention(qkv, None)
    assert out[0, 7].isnan().all()
    assert out[0, [i for i in range(20) if i != 7]].isfinite().all()
