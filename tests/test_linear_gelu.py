"""A linear layer with GELU as one operator, on a GPU, against float64."""

import os

import pytest
import torch
from tolerance import assert_error_at_most_twice
from torch.nn import functional as F

pytestmark = pytest.mark.cuda

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
GELU = ["none", "tanh"]  # as at::gelu calls the exact form and the tanh form

# (rows, inputs, outputs). A GPU of compute capability 9.0 fuses the exact form in half precision if
# inputs and outputs are multiples of 8, in tiles of 128 x 128 outputs, or 64 x 128 for few rows.
SHAPES = [
    *[(1, 8, 8), (197, 384, 1536), (1577, 384, 1536), (4225, 72, 520)],
    *[(1577, 380, 1536), (1577, 384, 1532), (17000, 64, 8)],
]


def layer(rows, inputs, outputs, dtype, spread=2.0):
    """Input, weight and bias whose products have this standard deviation."""
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs) * spread * inputs**-0.5
    return [t.to("cuda", dtype) for t in (x, weight, torch.randn(outputs))]


def exact(x, weight, bias, gelu):
    bias = None if bias is None else bias.double()
    return F.gelu(F.linear(x.double(), weight.double(), bias), approximate=gelu)


@pytest.mark.parametrize("gelu", GELU)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_error_at_most_twice_eagers(shape, dtype, gelu):
    x, weight, bias = layer(*shape, dtype)
    for b in (bias, None):
        actual = torch.ops.dsm_ext._linear(x, weight, b, None, gelu)
        eager = F.gelu(F.linear(x, weight, b), approximate=gelu)
        assert actual.dtype == dtype and actual.shape == eager.shape
        assert_error_at_most_twice(actual, eager, exact(x, weight, b, gelu))


@pytest.mark.parametrize("shift", [1, 4, 8])
def test_any_alignment(shift):
    x, weight, bias = layer(1577, 384, 1536, torch.bfloat16)
    moved = torch.empty(x.numel() + shift, dtype=x.dtype, device="cuda")[shift:].view_as(x)
    moved.copy_(x)
    actual = torch.ops.dsm_ext._linear(moved, weight, bias, None, "none")
    eager = F.gelu(F.linear(x, weight, bias))
    assert_error_at_most_twice(actual, eager, exact(x, weight, bias, "none"))


@pytest.mark.skipif(
    "DSM_EXT_STAND_IN" in os.environ,
    reason="the stand-in computes GELU by ATen's operator of the CPU, whose error is larger",
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_number_of_half_precision(dtype):
    """The product is one number for all columns: the error is GELU's and the last rounding's."""
    x = torch.zeros(2**16, 64, dtype=dtype, device="cuda")
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    x[:, 0] = torch.where(patterns.isinf(), 0, patterns).cuda()  # ATen's CPU kernels differ
    weight = torch.zeros(8, 64, dtype=dtype, device="cuda")
    weight[:, 0] = 1
    actual = torch.ops.dsm_ext._linear(x, weight, None, None, "none")
    assert torch.equal(actual.nan_to_num(), actual[:, :1].expand_as(actual).nan_to_num())
    actual, expected = actual.double()[:, 0], F.gelu(x[:, 0].double())
    assert torch.equal(actual.isnan(), expected.isnan())
    half_ulp = torch.finfo(dtype).eps / 2
    allowed = 1.2 * half_ulp * expected.abs() + 3e-7  # float32's 1 + erf(x) is off by so much
    assert ((actual - expected).abs() <= allowed)[~expected.isnan()].all()


def test_rows_do_not_depend_on_their_place():
    x, weight, bias = layer(2048, 384, 1536, torch.bfloat16)
    order = torch.randperm(len(x), device="cuda")
    op = torch.ops.dsm_ext._linear
    assert torch.equal(
        op(x[order], weight, bias, None, "none"), op(x, weight, bias, None, "none")[order]
    )


def test_in_a_cuda_graph():
    x, weight, bias = layer(1577, 384, 1536, torch.bfloat16)
    expected = torch.ops.dsm_ext._linear(x, weight, bias, None, "none")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        actual = torch.ops.dsm_ext._linear(x, weight, bias, None, "none")
    actual.zero_()
    graph.replay()
    assert torch.equal(actual, expected)
