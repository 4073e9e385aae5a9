"""``from_timm`` with names, files, dtypes and devices, and weights that do not fit."""

import pytest
import torch
from models import images_for, small
from safetensors.torch import save_file
from tolerance import assert_close

import dsm_ext
from dsm_ext.weights import load_weights

NAME = "deit_tiny_patch16_224"


@pytest.fixture
def model(deit_tiny):
    return deit_tiny


@pytest.fixture
def file(deit_tiny_file):
    return deit_tiny_file


def test_name_and_safetensors(model, file):
    images = images_for(model, 2)
    fast = dsm_ext.from_timm(NAME, weights=file)
    assert fast.schedule == dsm_ext.Schedule.dsm(12)
    assert_close(fast(images), dsm_ext.from_timm(model)(images))
    tagged = dsm_ext.from_timm(f"{NAME}.fb_in1k", "dense", weights=str(file))
    with torch.no_grad():
        assert_close(tagged(images), model(images))


@pytest.mark.parametrize("under", [None, "state_dict", "model"])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_pickles(model, tmp_path, under, suffix):
    state = model.state_dict()
    path = tmp_path / f"model{suffix}"
    torch.save({under: state, "epoch": 3} if under else state, path)
    images = images_for(model, 1)
    assert_close(dsm_ext.from_timm(NAME, weights=path)(images), dsm_ext.from_timm(model)(images))


def test_dtype_and_device(model, device):
    fast = dsm_ext.from_timm(model, dtype=torch.bfloat16, device=device)
    parameters = list(fast.parameters())
    assert {p.dtype for p in parameters} == {torch.bfloat16}
    assert {p.device.type for p in parameters} == {device.type}
    assert model.head.weight.dtype == torch.float32


def test_models_made_in_inference_mode_work(model):
    with torch.inference_mode():
        fast = dsm_ext.from_timm(model)
    fast.to(torch.bfloat16).float()
    assert fast(images_for(model, 1)).shape == (1, 1000)


def test_shared_modules_are_accepted():
    model = small()
    model.blocks[1] = model.blocks[0]
    images = images_for(model, 2)
    with torch.no_grad():
        assert_close(dsm_ext.from_timm(model, "dense")(images), model(images))


def test_modifications_that_change_nothing_are_accepted():
    model = small(drop_rate=0.1, pos_drop_rate=0.1, patch_drop_rate=0.5, drop_path_rate=0.1)
    model.reset_classifier(7)
    model.set_input_size(img_size=(48, 64))
    images = images_for(model, 2)
    with torch.no_grad():
        assert_close(dsm_ext.from_timm(model, "dense")(images), model(images))


def test_bad_arguments(model, file):
    with pytest.raises(ValueError, match="either weights=FILE or pretrained=True"):
        dsm_ext.from_timm(NAME)
    with pytest.raises(ValueError, match="either weights=FILE or pretrained=True"):
        dsm_ext.from_timm(NAME, weights=file, pretrained=True)
    with pytest.raises(TypeError, match="go with a model's name"):
        dsm_ext.from_timm(model, weights=file)
    with pytest.raises(ValueError, match="timm has no model named 'deit_tinyy'"):
        dsm_ext.from_timm("deit_tinyy", weights=file)
    with pytest.raises(TypeError, match="float32, bfloat16 or float16, got .* of Double"):
        dsm_ext.from_timm(model, dtype=torch.float64)
    with pytest.raises(ValueError, match="12 blocks, got 11"):
        dsm_ext.from_timm(model, dsm_ext.Schedule.dense(11))


def changed(model, tmp_path, **changes):
    state = {**model.state_dict(), **changes}
    path = tmp_path / "changed.safetensors"
    save_file({k: v for k, v in state.items() if v is not None}, path)
    return path


def test_weights_that_do_not_fit_are_named(model, tmp_path):
    path = changed(
        model,
        tmp_path,
        **{
            "norm.bias": None,
            "blocks.3.attn.qkv.weight": None,
            "head.weight": torch.zeros(10, 192),
            "blocks.0.ls1.gamma": torch.zeros(192),
            "pos_embed": torch.full((1, 197, 192), float("nan")),
        },
    )
    with pytest.raises(ValueError, match="do not fit") as error:
        dsm_ext.from_timm(NAME, weights=path)
    for fault in (
        "missing blocks.3.attn.qkv.weight, norm.bias",
        "unexpected blocks.0.ls1.gamma",
        "misshapen head.weight [10, 192] (expected [1000, 192])",
        "NaN or infinity in pos_embed",
    ):
        assert fault in str(error.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_are_named(value):
    model = small()
    with torch.no_grad():
        model.blocks[2].mlp.fc1.weight[3, 4] = value
    with pytest.raises(ValueError, match=r"NaN or infinity in blocks\.2\.mlp\.fc1\.weight$"):
        dsm_ext.from_timm(model)


def test_many_faults_are_counted(model, tmp_path):
    path = tmp_path / "few.safetensors"
    save_file({"norm.bias": torch.zeros(192)}, path)
    with pytest.raises(ValueError, match="and 143 more"):
        dsm_ext.from_timm(NAME, weights=path)


def test_mixed_dtypes_are_refused():
    model = small()
    model.head.half()
    with pytest.raises(TypeError, match="weights of one dtype"):
        dsm_ext.from_timm(model)


def test_bad_files(file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such weight file: .*none\.safetensors"):
        load_weights(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError):
        load_weights(tmp_path)
    odd = tmp_path / "model.bin"
    odd.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"expected a \.safetensors, \.pt or \.pth file"):
        load_weights(odd)
    whole = file.read_bytes()
    for content in (b"", b"\0" * 8, whole[:100], whole[: len(whole) // 2], b"not a file" * 100):
        bad = tmp_path / "bad.safetensors"
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.safetensors is not a safetensors file"):
            load_weights(bad)


def test_bad_pickles(tmp_path):
    path = tmp_path / "bad.pt"
    torch.save({"a": torch.zeros(100)}, path)
    whole = path.read_bytes()
    for content in (b"", b"not a pickle", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.pt is not a file of weights alone"):
            load_weights(path)
    torch.save(torch.nn.Linear(2, 2), path)  # a pickled module, not weights
    with pytest.raises(ValueError, match=r"bad\.pt is not a file of weights alone"):
        load_weights(path)
    for content in ([1, 2], {"a": 1}):
        torch.save(content, path)
        with pytest.raises(ValueError, match="holds no state dict of tensors"):
            load_weights(path)
