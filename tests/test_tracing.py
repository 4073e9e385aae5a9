"""torch.compile and torch.export take the reference with our operators, and not the model."""

import pytest
import torch
from models import images_for, small
from tolerance import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import dsm_ext
from dsm_ext import Schedule, reference

SCHEDULE = Schedule.parse("dsm:r=16,skip=1,local=2", 4)
PLAIN = reference.plain(SCHEDULE)


class Merging(torch.nn.Module):
    """The reference with our operators."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return reference.forward(self.model, images, PLAIN, ops=dsm_ext)


@pytest.fixture
def merging(device):
    return Merging(small(reg_tokens=1, init_values=0.1)).to(device)


def test_operators_compute_the_reference(merging):
    images = images_for(merging.model, 4).to(merging.model.cls_token.device)
    expected = reference.forward(merging.model, images, SCHEDULE)
    assert_close(merging(images), expected)


def test_compiles_without_a_graph_break(merging):
    images = images_for(merging.model, 2).to(merging.model.cls_token.device)
    compiled = torch.compile(merging, fullgraph=True, backend="aot_eager")
    assert_close(compiled(images), merging(images))


def test_the_reference_compiles_whole(device):
    """Benchmarks compile the reference; a graph break would cost it speed."""
    model = small().to(device)
    images = images_for(model, 2).to(device)
    compiled = torch.compile(
        lambda x: reference.forward(model, x, PLAIN), fullgraph=True, backend="eager"
    )
    assert_close(compiled(images), reference.forward(model, images, SCHEDULE))


class OnGpu(TorchDispatchMode):
    """Fail if an operator gives a tensor that is not on a GPU.

    Attention also gives the seed of its dropout, a number on the CPU that nothing reads.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            is_seed = "attention" in str(func) and getattr(tensor, "ndim", None) == 0
            assert not isinstance(tensor, torch.Tensor) or tensor.is_cuda or is_seed, func
        return result


@pytest.mark.cuda
@pytest.mark.parametrize("window", [4, 7])
def test_the_reference_leaves_the_gpu_for_nothing(window):
    """torch.compile makes no CUDA graph of a function that computes on the CPU."""
    model = small().cuda()
    images = images_for(model, 2).cuda()
    with OnGpu():
        reference.forward(model, images, Schedule.dsm(4, 16, 1, 2, window))


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch 2.11 warns
def test_exports(merging, tmp_path):
    images = images_for(merging.model, 2).to(merging.model.cls_token.device)
    program = torch.export.export(merging, (images,))
    graphs = [m for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    names = {str(node.target) for graph in graphs for node in graph.graph.nodes}
    assert {"dsm_ext.match.default", "dsm_ext.merge.default"} <= names
    torch.export.save(program, tmp_path / "merging.pt2")
    loaded = torch.export.load(tmp_path / "merging.pt2")
    assert_close(loaded.module()(images), merging(images))


def test_the_compiled_model_runs_inside_torch_compile():
    """torch.compile calls the model and does not trace it."""
    model = small()
    fast = dsm_ext.from_timm(model, SCHEDULE)
    images = images_for(model, 2)
    expected = fast(images)
    assert torch.equal(torch.compile(fast, backend="aot_eager")(images), expected)


def test_the_compiled_model_says_that_it_cannot_be_exported():
    model = small()
    fast = dsm_ext.from_timm(model, SCHEDULE)
    with pytest.raises(NotImplementedError, match="export dsm_ext.reference.forward"):
        torch.export.export(fast, (images_for(model, 1),), strict=False)
