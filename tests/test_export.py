"""C++ and Python load an exported folder and give the logits of the model that was exported."""

import copy
import json
import os

import pytest
import timm
import torch
from features import FEATURES, build
from models import create, images_for, small
from safetensors.torch import load_file, save_file
from tolerance import assert_close

import dsm_ext
from dsm_ext import _C
from dsm_ext.cli import main
from dsm_ext.digits import create_model


@pytest.fixture
def folder(tmp_path):
    return dsm_ext.export(dsm_ext.from_timm(small(), "dsm:r=8"), tmp_path / "model")


@pytest.mark.parametrize("name", FEATURES)
def test_cpp_and_python_give_the_same_logits(name, tmp_path):
    timm_model = build(name)
    model = dsm_ext.from_timm(timm_model, "dsm:r=8,skip=1,local=2")
    dsm_ext.export(model, tmp_path, timm_model)
    images = images_for(timm_model, 3)
    core, again = _C.load_with_info(str(tmp_path))[0], dsm_ext.load(tmp_path)
    file = dsm_ext.load(tmp_path / "model.safetensors")
    assert core.config == again.config == file.config == model.config
    assert core.schedule == again.schedule == file.schedule == model.schedule
    expected = model(images)
    # The code is the same. But a product with one row may depend on the address of the weights.
    scale = 0.1 * expected.abs().max().item()  # 1e-6 of the largest
    for logits in (core.forward(images), again(images), file(images)):
        assert_close(logits, expected, scale)
    dense = _C.load_with_info(str(tmp_path), "dense")[0]
    model.schedule = "dense"
    assert_close(dense.forward(images), model(images), scale)


def test_every_tensor_is_read_as_it_was_written(folder):
    tensors = load_file(folder / "model.safetensors")
    found = dict(_C.read_safetensors(str(folder / "model.safetensors")))
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_timm_s_own_weight_file_loads(tmp_path):
    """A weight file of timm has no config of ours."""
    model = create_model()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    fast = dsm_ext.from_timm(model, "dense")
    fast._core.load_parameters(_C.read_safetensors(str(tmp_path / "model.safetensors")))
    images = images_for(model, 2)
    assert torch.equal(fast._core.forward(images), dsm_ext.from_timm(model, "dense")(images))


def test_command(tmp_path, capsys):
    name = "vit_wee_patch16_reg1_gap_256"
    save_file(create(name).state_dict(), tmp_path / "w.safetensors")
    command = ["export", name, "--weights", str(tmp_path / "w.safetensors"), "-o"]
    assert main([*command, str(tmp_path / "out"), "--schedule", "dsm:r=4"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    content = json.loads((tmp_path / "out" / "config.json").read_text())
    assert content["architecture"] == name
    assert content["pretrained_cfg"]["input_size"] == [3, 256, 256]
    assert _C.load_with_info(str(tmp_path / "out"))[0].plan.tokens_out < 257


def change(folder, **fields):
    path = folder / "config.json"
    content = json.loads(path.read_text())
    for name, value in fields.items():
        place = content["dsm_ext"]
        *outer, last = name.split("__")
        for part in outer:
            place = place[part]
        place[last] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "fields, fault",
    [
        ({"config__depth": 0}, r"expected depth to be in \[1, 256\], got 0"),
        ({"config__depth": 256}, "too few for 256 blocks"),
        ({"config__eps": 1e999}, "eps"),
        ({"config__img_size": [65536, 65536]}, "expected the tokens of an image to be in"),
        ({"config__depth": -1}, "config field 'depth' cannot be -1"),
        ({"config__depth": 2.5}, "config field 'depth' cannot be 2.5"),
        ({"config__depth": 3}, "3 blocks, got 4"),
        ({"config": {"depth": 4}}, "its config has no field 'img_size'"),
        ({"schedul": {}}, "its section 'dsm_ext' has a field 'schedul' that is unknown"),
        ({"schedule__extra": 1}, "its schedule has a field 'extra' that is unknown"),
        ({"config__embed_dim": 2**62}, r"expected embed_dim to be in \[1, 65536\]"),
        ({"config__embed_dim": 64}, "misshapen"),
        ({"config__act_layer": "relu"}, "expected act_layer to be one of"),
        ({"config__layer_scale": 1}, "config field 'layer_scale' cannot be 1"),
        ({"config__layer_scale": True}, "missing"),
        ({"config__unknown": 1}, "no config field is named 'unknown'"),
        ({"config__patch_size": [4]}, "config field 'patch_size' cannot be"),
        ({"config": []}, "its 'config' is no object"),
        ({"schedule": []}, "there is no 'blocks'"),
        ({"schedule__blocks": [[]]}, "4 blocks, got 1"),
        ({"schedule__blocks": [[{"local": 1}], [], [], []]}, "there is no 'window'"),
        ({"schedule__blocks": [[{"global": -1}], [], [], []]}, "'global' is no count"),
        ({"schedule__blocks": [1, [], [], []]}, "no list of steps"),
        ({"schedule__rule": []}, "there is no 'metric'"),
        ({"schedule__rule": {"metric": "keys", "protect": "1"}}, "'metric' and a number 'protect'"),
        ({"schedule__rule": {"metric": "size", "protect": 1}}, "metric to be keys or keys.tokens"),
        ({"schedule__rule": {"metric": "keys", "protect": -1}}, "protect to be finite and not"),
    ],
)
def test_bad_configs_are_named(folder, fields, fault):
    change(folder, **fields)
    file = r"^dsm_ext: .*(config\.json|model\.safetensors): "
    with pytest.raises(ValueError, match=f"{file}.*({fault})"):
        _C.load_with_info(str(folder))
    with pytest.raises((ValueError, RuntimeError)):
        dsm_ext.load(folder)


@pytest.mark.parametrize(
    "content, fault",
    [
        ("", "it is no JSON"),
        ("[]", "it is no JSON object"),
        ("{", "it is no JSON"),
        ("{}", "neither an 'architecture' of timm's nor a section 'dsm_ext'"),
        ('{"dsm_ext": 1}', "its 'dsm_ext' is no object"),
        ('{"dsm_ext": {}}', "its config has no field"),
        (b"\xff\xfe{\x00", r"it is no JSON: .*\?"),
        ('{"a": "\xe9"}'.encode("latin-1"), r"it is no JSON: .*\?"),
        ('{"a": 1, "a": 2}', "has 'a' twice"),
        ("[" * 100_000, "nested deeper than 16"),
        (" " * 16_000_001, "it has 16000001 bytes"),
    ],
)
def test_bad_config_files_are_named(folder, content, fault):
    bytes_ = content.encode() if isinstance(content, str) else content
    (folder / "config.json").write_bytes(bytes_)
    with pytest.raises(ValueError, match=rf"config\.json: .*{fault}"):
        _C.load_with_info(str(folder))
    with pytest.raises(ValueError, match=fault):
        dsm_ext.load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_files_are_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name}: no such file"):
        _C.load_with_info(str(folder))
    for call in (dsm_ext.load, dsm_ext.model_info):
        with pytest.raises(FileNotFoundError, match=name):
            call(folder)


def test_options(folder):
    images = torch.randn(2, 3, 56, 56)
    half = dsm_ext.load(folder, "dense", dtype=torch.bfloat16)
    assert half(images.bfloat16()).dtype == torch.bfloat16
    schedule = dsm_ext.Schedule.tome(4, 3)
    assert dsm_ext.load(folder, schedule).schedule == schedule
    with pytest.raises(TypeError, match="expected a Schedule"):
        dsm_ext.load(folder, 3)
    with pytest.raises(TypeError, match="expected dtype to be float32, bfloat16 or float16"):
        dsm_ext.load(folder, dtype=torch.float64)
    with pytest.raises(ValueError, match="expected a device with memory, got meta"):
        dsm_ext.load(folder, device="meta")


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_loading_in_inference_mode_keeps_the_fast_path(folder, dtype):
    with torch.inference_mode():
        model = dsm_ext.load(folder, dtype=dtype)
        model(torch.randn(1, 3, 56, 56))
        assert not model.head.weight.is_inference()
        model.freeze()  # works on the fast path only


def test_nan_is_refused(folder):
    file = folder / "model.safetensors"
    state = load_file(file)
    state["blocks.1.attn.qkv.weight"][3, 3] = torch.nan
    save_file(state, file)
    with pytest.raises(ValueError, match=r"NaN or infinity in blocks\.1\.attn\.qkv\.weight"):
        dsm_ext.load(folder)
    assert (
        _C.load_with_info(str(folder))[0].config.depth == 4
    )  # C++ looks for NaN only when it is asked to


def test_files_can_be_read_by_whoever_may_read_the_folder(folder):
    modes = {file.stat().st_mode for file in folder.iterdir()}
    assert len(modes) == 1


def test_a_model_outlives_that_its_folder_is_written_anew(folder):
    model = dsm_ext.load(folder)
    images = torch.randn(1, 3, 56, 56)
    expected = model(images)
    inode = (folder / "model.safetensors").stat().st_ino
    model.schedule = "dense"
    dsm_ext.export(model, folder)
    assert (folder / "model.safetensors").stat().st_ino != inode  # a new file replaces it
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors"}
    model.cpu_path = "fast"  # packs the weights again
    model.schedule = "dsm:r=8"
    assert torch.equal(model(images), expected)
    assert dsm_ext.load(folder).schedule == dsm_ext.Schedule.dense(4)


@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"img_size": 64}, {"depth": 3}, {"num_heads": 6}, {"global_pool": "avg"},
        {"global_pool": "avg", "fc_norm": False}, {"num_classes": 7}, {"in_chans": 1},
        {"dynamic_img_size": True},
    ],
    ids=str,
)  # fmt: skip
def test_timm_reads_it_too(arguments, tmp_path):
    model = create("vit_tiny_patch16_224", **arguments)
    dsm_ext.export(dsm_ext.from_timm(model, "dense"), tmp_path, model)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = images_for(model, 1)
    with torch.inference_mode():
        assert torch.equal(again(images), model(images))
        assert_close(dsm_ext.load(tmp_path)(images), model(images))


def test_preprocessing_and_labels_are_made_to_fit(tmp_path):
    model = small(in_chans=1, num_classes=3)
    model.pretrained_cfg = {
        "mean": (0.3, 0.5, 0.7), "std": (0.1, 0.2, 0.3), "label_names": {2: "c", 0: "a", 1: "b"},
    }  # fmt: skip
    dsm_ext.export(dsm_ext.from_timm(model, "dense"), tmp_path, model)
    info = dsm_ext.model_info(tmp_path)
    assert info.preprocessing.mean == pytest.approx((0.5,))
    assert info.labels == ["a", "b", "c"]
    model.pretrained_cfg["interpolation"] = "lanczos"
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(ValueError, match="expected interpolation to be one of"):
        dsm_ext.export(dsm_ext.from_timm(model, "dense"), tmp_path, model)
    assert (tmp_path / "config.json").read_text() == before


def test_a_path_of_any_bytes(folder):
    other = folder.parent / os.fsdecode(b"caf\xe9")
    folder.rename(other)
    assert dsm_ext.load(other).config.depth == 4
    (other / "config.json").write_text("{")
    with pytest.raises(ValueError, match="it is no JSON"):
        dsm_ext.load(other)


def test_weights_alone_need_their_folder(folder):
    save_file(load_file(folder / "model.safetensors"), folder / "bare.safetensors")
    with pytest.raises(ValueError, match=r"bare\.safetensors: its metadata has no config"):
        dsm_ext.load(folder / "bare.safetensors")


def test_a_loaded_model_behaves_as_a_module(folder):
    model = dsm_ext.load(folder)
    again = dsm_ext.export(copy.deepcopy(model), folder.parent / "again")
    state, other = load_file(again / "model.safetensors"), model.state_dict()
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)
    images = torch.randn(2, 3, 56, 56)
    before = model(images)
    with torch.no_grad():
        model.head.bias += 1
    assert torch.allclose(model(images), before + 1, atol=1e-5)
    assert torch.equal(dsm_ext.load(folder)(images), before)  # the file has not changed


def test_schedules_that_do_not_fit(folder):
    with pytest.raises(ValueError, match="expected r to be a number"):
        _C.load_with_info(str(folder), "dsm:r=x")
    with pytest.raises(ValueError, match="expected r of block"):
        _C.load_with_info(str(folder), "tome:r=500")
