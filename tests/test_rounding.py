"""The fast path's rounding errors in float32 are no larger than those of eager PyTorch."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from models import images_for, small
from tolerance import (
    FLOAT32_ERROR,
    FLOAT32_ERROR_OF_LONG_SUMS,
    assert_as_exact_as_eager,
    assert_error_at_most_twice,
)

import dsm_ext

HEADS = 3


def spread(b, n, dim, largest):
    """Queries and keys with scores of both signs, the largest about ``largest``."""
    q, k, v = torch.randn(3, b, HEADS, n, dim).unbind()
    scores = q @ k.transpose(-1, -2) / math.sqrt(dim)
    return q * (largest / scores.abs().amax((2, 3), keepdim=True)), k, v


def alike(b, n, dim, largest):
    """Queries and keys with scores near ``largest``, where float32 rounds coarsely."""
    q, k, v = torch.randn(3, b, HEADS, n, dim).unbind()
    shared = torch.randn(b, HEADS, 1, dim)
    shared *= math.sqrt(largest) * dim**0.25 / shared.norm(dim=-1, keepdim=True)
    return shared + 0.1 * q, shared + 0.3 * k, v


@pytest.mark.parametrize("kind", [spread, alike])
@pytest.mark.parametrize("tokens", [2, 5, 17, 50, 197, 577])
@pytest.mark.parametrize("dim", [32, 48, 64, 128])
@pytest.mark.parametrize("largest", [1, 20, 90])
@pytest.mark.parametrize("sized", [False, True])
def test_attention(kind, tokens, dim, largest, sized, cpu_parts):
    b = max(1, 6000 // (tokens * HEADS))
    q, k, v = kind(b, tokens, dim, largest)
    size = torch.randint(1, 9, (b, tokens)).float() if sized else None
    bias = size.log()[:, None, None, :] if sized else None
    eager = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    bias = size.double().log()[:, None, None, :] if sized else None
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=bias)
    qkv = torch.stack([q, k, v], 2).permute(0, 3, 2, 1, 4)  # [B, N, 3, H, D]
    actual = cpu_parts.attention(qkv, size).unflatten(2, (HEADS, dim)).transpose(1, 2)
    if tokens > 16:
        assert_as_exact_as_eager(actual, eager, exact)
    else:  # eager adds few products in up to 16 sums
        assert_error_at_most_twice(actual, eager, exact)


@pytest.mark.parametrize("inputs", [32, 192, 384, 768, 1024, 3072])
@pytest.mark.parametrize("rows", [64, 197])
def test_linear_layers(rows, inputs, cpu_parts):
    x, weight = torch.randn(rows, inputs), torch.randn(512, inputs) / math.sqrt(inputs)
    bias = torch.randn(512)
    exact = F.linear(x.double(), weight.double(), bias.double())
    actual, eager = cpu_parts.PackedLinear(weight, bias).forward(x), F.linear(x, weight, bias)
    factor = FLOAT32_ERROR if inputs < 768 else FLOAT32_ERROR_OF_LONG_SUMS
    assert_as_exact_as_eager(actual, eager, exact, factor)


def test_exponentials_are_rounded_once_or_twice(cpu_parts):
    """Of two keys with scores s <= 0 and 0, attention gives the first exp(s) / (1 + exp(s))."""
    s = torch.linspace(-80, 0, 200_001)
    qkv = torch.zeros(1, 2, 3, len(s), 1)
    qkv[0, :, 0] = 1
    qkv[0, 0, 1, :, 0] = s
    qkv[0, 0, 2] = 1
    share = cpu_parts.attention(qkv, None)[0, 0].double()
    expected = s.double().exp() / (1 + s.double().exp())
    error = ((share - expected) / expected).abs() / 2.0**-23
    assert error.max() < 2.5  # units in the last place; three roundings follow the exponential
    assert error.mean() < 0.5


MODELS = {
    "class token": {},
    "average": {"class_token": False, "global_pool": "avg"},
    "attention pool": {"class_token": False, "global_pool": "map"},
    "heads of 80": {"num_heads": 2, "embed_dim": 160},
    "q/k norm": {"qk_norm": True},
}


@pytest.mark.parametrize("scale", [1, 4, 8])
@pytest.mark.parametrize("name", MODELS)
def test_models_with_large_scores(name, scale):
    model = small(**({"embed_dim": 192, "num_heads": 3, "num_classes": 500} | MODELS[name]))
    with torch.no_grad():
        for block in model.blocks:
            if name == "q/k norm":
                block.attn.q_norm.weight.mul_(scale)
            else:  # timm's initial weights of about 0.02 make small scores
                block.attn.qkv.weight[: 2 * model.embed_dim].mul_(4 * math.sqrt(scale))
    images = images_for(model, 32)
    fast = dsm_ext.from_timm(model, "dense")
    with torch.no_grad():
        double = copy.deepcopy(model).double()
        exact = torch.cat([double(part) for part in images.double().split(8)])
        for batch in (1, 8):
            eager = torch.cat([model(part) for part in images.split(batch)])
            actual = torch.cat([fast(part) for part in images.split(batch)])
            assert_as_exact_as_eager(actual, eager, exact)
