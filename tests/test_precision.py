"""Setting a model's precision: names, defaults, errors, and what keeps it."""

import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
from models import images_for, small
from timm.models.vision_transformer import ParallelScalingBlock

import dsm_ext
from dsm_ext._native import _C

LOW = [name for name in ("bfloat16", "int8") if _C.has_precision(name)]
PRECISIONS = ["float32", *LOW]


def low(name):
    return pytest.param(
        name, marks=pytest.mark.skipif(name not in LOW, reason=f"the processor has no {name}")
    )


def test_names():
    fast = dsm_ext.from_timm(small(), "dense")
    assert fast.precision == "float32"
    for name in PRECISIONS:
        fast.precision = name
        assert fast.precision == name
    fast.precision = "auto"
    assert fast.precision == PRECISIONS[-1]
    with pytest.raises(ValueError, match="float32, bfloat16, int8 or auto, got int4"):
        fast.precision = "int4"
    with pytest.raises(TypeError, match="precision to be a string, got a dtype"):
        fast.precision = torch.bfloat16
    assert fast.precision == PRECISIONS[-1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_default_follows_the_dtype(dtype):
    default = "bfloat16" if dtype == torch.bfloat16 and "bfloat16" in LOW else "float32"
    fast = dsm_ext.from_timm(small(), "dense", dtype=dtype)
    assert fast.precision == default
    images = images_for(small(), 2).to(dtype)
    expected = fast(images)
    assert expected.dtype == dtype
    for name in PRECISIONS:
        fast.precision = name
        assert fast.precision == name
        assert torch.equal(fast(images), expected) == (name == default)
    assert dsm_ext.from_timm(small(), "dense", dtype=dtype).float().precision == "float32"


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_weights_stay_as_they_are(name):
    model = small()
    fast = dsm_ext.from_timm(model, "dense", precision=name)
    fast(images_for(model, 1))
    for key, value in model.state_dict().items():
        assert torch.equal(fast.state_dict()[key], value)


@pytest.mark.parametrize("name", PRECISIONS)
def test_what_keeps_the_precision(name, tmp_path):
    model = small()
    images = images_for(model, 2)
    fast = dsm_ext.from_timm(model, "tome:r=8", precision=name)
    expected = fast(images)
    dsm_ext.export(fast, tmp_path)
    assert dsm_ext.model_info(tmp_path).precision == name
    for other in (
        copy.deepcopy(fast),
        pickle.loads(pickle.dumps(fast)),
        dsm_ext.load(tmp_path),
        dsm_ext.load(tmp_path / "model.safetensors"),
        fast.eval(),
    ):
        assert other.precision == name
        assert torch.equal(other(images), expected)
    fast.reset_classifier(3)
    assert fast.precision == name
    assert dsm_ext.load(tmp_path, precision="float32").precision == "float32"
    assert torch.equal(fast.freeze()(images), fast(images))
    with pytest.raises(RuntimeError, match="the model is frozen"):
        fast.precision = "float32"


def test_a_default_is_not_kept_as_a_choice(tmp_path):
    fast = dsm_ext.from_timm(small(), "dense")
    dsm_ext.export(fast, tmp_path)
    assert dsm_ext.model_info(tmp_path).precision is None
    assert copy.deepcopy(fast).bfloat16().precision == PRECISIONS[min(1, len(LOW))]


@pytest.mark.parametrize("name", PRECISIONS)
def test_frozen(name):
    model = small()
    images = images_for(model, 3)
    fast = dsm_ext.from_timm(model, "dsm:r=8,skip=1,local=2,window=5", precision=name)
    expected = fast(images)
    assert torch.equal(fast.freeze()(images), expected)
    assert fast.precision == name


def test_new_weights_are_packed_in_the_precision():
    first, second = small(), small()
    images = images_for(first, 2)
    for name in PRECISIONS:
        fast = dsm_ext.from_timm(copy.deepcopy(first), "dense", precision=name)
        before = fast(images)
        fast.load_state_dict(second.state_dict())
        assert fast.precision == name
        assert not torch.equal(fast(images), before)
        expected = dsm_ext.from_timm(second, "dense", precision=name)(images)
        assert torch.equal(fast(images), expected)


@pytest.mark.parametrize("name", [low("bfloat16"), low("int8")])
def test_models_that_do_not_run_on_the_fast_path(name):
    parallel = dsm_ext.from_timm(small(block_fn=ParallelScalingBlock), "dense")
    with pytest.raises(NotImplementedError, match=f"{name} needs .* parallel blocks"):
        parallel.precision = name
    aten = dsm_ext.from_timm(small(), "dense")
    aten.cpu_path = "aten"
    with pytest.raises(NotImplementedError, match=f"{name} needs .* cpu_path is aten"):
        aten.precision = name
    aten.cpu_path = "fast"
    aten.precision = name
    aten.cpu_path = "aten"
    with pytest.raises(NotImplementedError, match=f"{name} needs .* cpu_path is aten"):
        aten(images_for(small(), 1))


@pytest.mark.cuda
@pytest.mark.parametrize("name", [low("bfloat16"), low("int8")])
def test_on_a_gpu(name):
    with pytest.raises(NotImplementedError, match=f"{name} needs .* on a GPU"):
        dsm_ext.from_timm(small(), "dense", device="cuda", precision=name)
    fast = dsm_ext.from_timm(small(), "dense", precision=name).cuda()
    with pytest.raises(NotImplementedError, match=f"{name} needs .* on a GPU"):
        fast(images_for(small(), 1).cuda())


def test_bfloat16_weights_run_in_bfloat16_on_the_aten_path():
    fast = dsm_ext.from_timm(small(), "dense", dtype=torch.bfloat16)
    fast.cpu_path = "aten"
    images = images_for(small(), 1).bfloat16()
    expected = fast(images)
    if "bfloat16" in LOW:
        fast.precision = "bfloat16"
    assert torch.equal(fast(images), expected)


@pytest.mark.parametrize(
    "isa, has", [("AVX2", []), ("AVX512_CORE_VNNI", ["int8"])], ids=["AVX2", "VNNI"]
)
def test_a_processor_without_the_instructions(isa, has):
    code = """
import sys, torch, dsm_ext
from models import small
for name in ("bfloat16", "int8"):
    try:
        dsm_ext.from_timm(small(), "dense", precision=name)(torch.randn(1, 3, 56, 56))
        print(name)
    except NotImplementedError as error:
        assert f"the precision {name} needs a processor with AVX512_" in str(error), error
model = dsm_ext.from_timm(small(), "dense", precision="auto")
assert model.precision == (["float32"] + sys.argv[1:])[-1]
assert dsm_ext.from_timm(small(), "dense", dtype=torch.bfloat16).precision == "float32"
"""
    has = [name for name in has if name in LOW]
    environment = os.environ | {
        "ONEDNN_MAX_CPU_ISA": isa,
        "PYTHONPATH": os.pathsep.join(sys.path + [os.path.dirname(__file__)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *has], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == has
