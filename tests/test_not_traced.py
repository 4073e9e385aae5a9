"""A model refuses with one sentence to be traced, exported or transformed by torch."""

import pytest
import torch
from models import small
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

import dsm_ext

SENTENCE = (
    "^dsm_ext.VisionTransformer: the model is one compiled call that torch can neither trace, "
    "export nor transform; trace or export dsm_ext.reference.forward with ops=dsm_ext in its place$"
)


class Larger(nn.Module):
    """A model that contains a model of ours."""

    def __init__(self, fast):
        super().__init__()
        self.fast, self.own = fast, nn.Linear(10, 3)

    def forward(self, images):
        return self.own(self.fast(images * 2))


def in_fake_mode(model, images):
    with FakeTensorMode() as mode:
        return model(mode.from_tensor(images))


def with_fake_weights(model, images):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        state = {k: mode.from_tensor(v) for k, v in model.state_dict().items()}
        return torch.func.functional_call(model, state, mode.from_tensor(images))


WAYS = {
    "jit.trace": lambda m, x: torch.jit.trace(m, x),
    "jit.trace, unchecked": lambda m, x: torch.jit.trace(m, x, check_trace=False),
    "jit.trace_module": lambda m, x: torch.jit.trace_module(m, {"forward": x}),
    "make_fx, real": lambda m, x: make_fx(m)(x),
    "make_fx, fake": lambda m, x: make_fx(m, tracing_mode="fake")(x),
    "make_fx, pre-dispatch": lambda m, x: make_fx(m, pre_dispatch=True)(x),
    "make_fx, symbolic": lambda m, x: make_fx(m, tracing_mode="symbolic")(x),
    "fx": lambda m, x: torch.fx.symbolic_trace(m),
    "export": lambda m, x: torch.export.export(m, (x,)),
    "export, strict": lambda m, x: torch.export.export(m, (x,), strict=True),
    "ONNX by tracing": lambda m, x: torch.onnx.export(m, (x,), "/dev/null", dynamo=False),
    "vmap": lambda m, x: torch.vmap(m)(x[None]),
    "functionalize": lambda m, x: torch.func.functionalize(m)(x),
    "jvp": lambda m, x: torch.func.jvp(m, (x,), (x,)),
    "grad": lambda m, x: torch.func.grad(lambda x: m(x).sum())(x),
    "jacrev": lambda m, x: torch.func.jacrev(m)(x),
    "fake tensors": in_fake_mode,
}


@pytest.mark.parametrize("larger", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore")  # torch warns that some of these ways are deprecated
def test_tracing_is_refused(cpu_path, way, larger):
    images = torch.randn(1, 3, 56, 56)
    fast = dsm_ext.from_timm(small(), "dsm:r=16")
    expected = fast(images)
    model = Larger(fast) if larger else fast
    with pytest.raises(Exception) as caught:
        WAYS[way](model, images)
    error, said = caught.value, []
    while error is not None:  # strict export wraps the error
        said.append(str(error))
        error = error.__cause__
    assert any(SENTENCE[1:-1] in text for text in said), said
    assert torch.equal(fast(images), expected)  # the refusal changes nothing


@pytest.mark.parametrize("larger", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_scripting_is_refused(larger):
    fast = dsm_ext.from_timm(small(), "dense")
    with pytest.raises(NotImplementedError, match=SENTENCE):
        torch.jit.script(Larger(fast) if larger else fast)


@pytest.mark.parametrize("method", ["forward_features", "forward_with_features", "trace"])
def test_every_method_refuses_tracing(method):
    images = torch.randn(1, 3, 56, 56)
    call = getattr(dsm_ext.from_timm(small(), "dense"), method)
    with pytest.raises(NotImplementedError, match=SENTENCE):
        make_fx(lambda x: call(x))(images)
    with pytest.raises(NotImplementedError, match=SENTENCE):
        torch.vmap(lambda x: call(x))(images[None])


def test_weights_of_a_traced_program_are_refused():
    fast = dsm_ext.from_timm(small(), "dense")
    images = torch.randn(1, 3, 56, 56)
    with pytest.raises(NotImplementedError):
        with_fake_weights(fast, images)
    stacked = {k: torch.stack([v, v]) for k, v in fast.state_dict().items()}
    with pytest.raises(NotImplementedError, match="expected weights to be dense tensors with val"):
        torch.vmap(lambda state: torch.func.functional_call(fast, state, images))(stacked)
    assert fast(images).shape == (1, 10)


def test_forward_mode_derivatives_are_refused():
    fast = dsm_ext.from_timm(small(), "dense")
    images = torch.randn(1, 3, 56, 56)
    with (
        forward_ad.dual_level(),
        pytest.raises(NotImplementedError, match="require grad, and the model is for inference"),
    ):
        fast(forward_ad.make_dual(images, images))


def test_torch_compile_calls_the_model():
    images = torch.randn(1, 3, 56, 56)
    larger = Larger(dsm_ext.from_timm(small(), "dsm:r=16")).eval()
    with torch.no_grad():
        expected = larger(images)
        assert torch.allclose(torch.compile(larger, backend="eager")(images), expected)


def test_modes_that_only_look_on_are_no_tracing():
    from torch.utils.flop_counter import FlopCounterMode

    fast = dsm_ext.from_timm(small(), "dsm:r=16")
    images = torch.randn(1, 3, 56, 56)
    expected = fast(images)
    with FlopCounterMode(display=False):
        assert torch.equal(fast(images), expected)
    with torch.profiler.profile():
        assert torch.equal(fast(images), expected)
