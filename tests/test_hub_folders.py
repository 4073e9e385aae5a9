"""Folders of the model hub, written by timm, load in C++, without timm."""

import json
import os
import tempfile
from pathlib import Path

import architectures
import pytest
import timm
import torch
from hub_folders import change, write_header, write_hub
from models import create, images_for
from safetensors.torch import load_file, save_file
from tolerance import assert_close

import dsm_ext
from dsm_ext import _C
from dsm_ext.model.class_names import class_names
from dsm_ext.timm_features import config_of

SMALL = "vit_wee_patch16_reg1_gap_256"


@pytest.fixture(scope="module")
def shapes():
    """Each supported model of this timm by its name, on the meta device."""
    return architectures.shapes()


def test_every_supported_architecture_is_known(shapes, tmp_path):
    """Names and shapes of weights, with the table, give the config of timm's model."""
    wrong = []
    for name, model in shapes.items():
        write_header(tmp_path / "model.safetensors", model)
        (tmp_path / "config.json").write_text(json.dumps({"architecture": name}))
        expected = config_of(model).to_dict()
        if model.num_prefix_tokens == 0 or not expected["pos_embed"]:
            expected["no_embed_class"] = False  # has no meaning without these tokens or positions
        found = dsm_ext.model_info(tmp_path).config.to_dict()
        wrong += [
            (name, field, found[field], value)
            for field, value in expected.items()
            if found[field] != value
        ]
    assert wrong == []
    assert len(shapes) > 100


def test_the_table_is_that_of_timm(shapes):
    committed = json.loads(architectures.FILE.read_text())
    if committed["timm"] != timm.__version__:
        pytest.skip(f"the table is of timm {committed['timm']}, this is {timm.__version__}")
    assert architectures.FILE.read_text() == architectures.table(shapes)


@pytest.mark.parametrize(
    "name, arguments",
    [
        (SMALL, {}),
        ("test_vit", {}),
        ("test_vit2", {"num_classes": 5}),
        ("test_vit3", {}),
        ("test_vit4", {"img_size": 192}),
        ("vit_pwee_patch16_reg1_gap_256", {"num_classes": 0}),
        ("deit_tiny_distilled_patch16_224", {"img_size": (96, 64)}),
        ("vit_tiny_patch16_224", {"global_pool": "avg", "img_size": 64, "in_chans": 1}),
        ("vit_tiny_patch16_224", {"num_heads": 6, "depth": 3, "init_values": 1e-2, "img_size": 64}),
        ("vit_tiny_patch16_224", {"dynamic_img_size": True, "depth": 2, "drop_path_rate": 0.1}),
    ],
)
def test_what_timm_writes_loads_as_timm_s_model(name, arguments, tmp_path):
    model = create(name, **arguments)
    write_hub(tmp_path, model)
    images = images_for(model, 2)
    fast = dsm_ext.load(tmp_path, "dense")
    with torch.inference_mode():
        assert_close(fast(images), model(images))
    expected = dsm_ext.from_timm(model, "dense")
    assert fast.config.dynamic_img_size == expected.config.dynamic_img_size
    assert torch.equal(
        _C.load_with_info(str(tmp_path), "dense")[0].forward(images), expected(images)
    )
    info = dsm_ext.model_info(tmp_path)
    assert info.architecture == name
    assert info.schedule == dsm_ext.Schedule.dsm(expected.config.depth)


def test_old_configs_without_pretrained_cfg(tmp_path):
    model = create(SMALL)
    write_hub(tmp_path, model)
    content = json.loads((tmp_path / "config.json").read_text())
    flat = {"architecture": SMALL, **content["pretrained_cfg"], "crop_pct": 0.7}
    (tmp_path / "config.json").write_text(json.dumps(flat))
    assert dsm_ext.load(tmp_path).config == dsm_ext.from_timm(model).config
    assert dsm_ext.model_info(tmp_path).preprocessing.crop_pct == 0.7


def test_preprocessing_and_labels_come_from_the_config(tmp_path):
    model = create(SMALL, num_classes=3)
    write_hub(tmp_path, model)
    pretrained = {
        "input_size": [3, 256, 256], "interpolation": "bilinear", "crop_pct": 0.8,
        "crop_mode": "squash", "mean": [0.5], "std": [0.1, 0.2, 0.3],
        "label_names": ["a", "b", "c"], "label_descriptions": {"b": "the second"},
    }  # fmt: skip
    change(tmp_path, pretrained_cfg=pretrained)
    info = dsm_ext.model_info(tmp_path)
    p = info.preprocessing
    assert (p.size, p.interpolation, p.crop_pct) == ((256, 256), "bilinear", 0.8)
    assert (p.crop_mode, p.mean, p.std) == ("squash", (0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    assert info.labels == ["a", "the second", "c"]
    change(tmp_path, pretrained_cfg={"input_size": [3, 256, 256]}, label_names=["x", "y", "z"])
    info = dsm_ext.model_info(tmp_path)
    assert info.labels == ["x", "y", "z"]
    assert info.preprocessing.crop_pct == 0.875
    assert not info.preprocessing.known  # nothing says how pictures were normalised
    with pytest.raises(ValueError, match="do not say how its pictures were normalised; set mean"):
        info.preprocessing(torch.zeros(8, 8, 3, dtype=torch.uint8))


@pytest.mark.parametrize(
    "top, checkpoint, labels",
    [
        ({"label_names": {"0": "x", "1": "y", "2": "z"}}, {}, ["x", "y", "z"]),
        ({"label_names": ["a", "b", "c"]}, {"label_descriptions": {"a": "A"}}, ["A", "b", "c"]),
        ({"label_descriptions": {"a": "A"}}, {"label_names": ["a", "b", "c"]}, ["A", "b", "c"]),
        ({"label_names": None}, {"label_names": ["a", "b", "c"]}, ["a", "b", "c"]),
        ({}, {"labels": ["a", "b", "c"]}, ["a", "b", "c"]),
        ({"label_names": ["a\0b", "a", "c"]}, {"label_descriptions": {"a": "A"}},
         ["a\0b", "A", "c"]),
    ],
)  # fmt: skip
def test_labels_in_every_form_of_timm_s(top, checkpoint, labels, tmp_path):
    write_hub(tmp_path, create(SMALL, num_classes=3))
    content = json.loads((tmp_path / "config.json").read_text())
    content["pretrained_cfg"] |= checkpoint
    (tmp_path / "config.json").write_text(json.dumps(content | top))
    assert dsm_ext.model_info(tmp_path).labels == labels


def test_a_default_schedule_that_does_not_fit_is_no_fault_of_the_file(tmp_path):
    write_hub(tmp_path, create("vit_tiny_patch16_224", img_size=64, depth=3))
    with pytest.raises(ValueError, match=r"^dsm_ext\.Schedule: expected r of block"):
        dsm_ext.load(tmp_path)
    assert dsm_ext.load(tmp_path, "dense").config.depth == 3


def test_exported_labels_are_those_of_classify(tmp_path):
    model = create("vit_tiny_patch16_224")
    dsm_ext.export(dsm_ext.from_timm(model), tmp_path, model)
    labels = dsm_ext.model_info(tmp_path).labels
    assert labels[1] == "goldfish, Carassius auratus"
    assert labels == class_names(dsm_ext.load(tmp_path).pretrained_cfg, 1000)


@pytest.mark.parametrize(
    "fields, fault",
    [
        ({"architecture": "resnet50"}, "'resnet50' is not one of the supported"),
        ({"architecture": 3}, "'architecture' cannot be 3"),
        ({"architecture": None}, "neither an 'architecture'"),
        ({"num_classes": 7}, "it says 'num_classes' 7, but the model has 1000"),
        ({"model_args": {"act_layer": "relu"}}, "model_args field 'act_layer' is not supported"),
        ({"model_args": {"num_heads": 7}}, "multiple of num_heads = 7"),
        ({"model_args": {"num_heads": -1}}, "field 'num_heads' cannot be -1"),
        ({"model_args": {"img_size": 10}}, "img_size to hold a patch"),
        ({"model_args": {"img_size": "big"}}, "field 'img_size' cannot be"),
        ({"model_args": {"img_size": 192}}, "misshapen pos_embed"),
        ({"model_args": []}, "its 'model_args' is no object"),
        ({"global_pool": "max"}, "expected global_pool to be one of"),
        ({"pretrained_cfg": {"crop_pct": 0}}, "expected crop_pct to be in"),
        ({"pretrained_cfg": {"crop_pct": "0.9"}}, "'crop_pct' cannot be \"0.9\""),
        ({"pretrained_cfg": {"crop_mode": "all"}}, "expected crop_mode to be one of 'center'"),
        ({"pretrained_cfg": {"interpolation": "lanczos"}}, "expected interpolation to be one of"),
        ({"pretrained_cfg": {"mean": [0.1, 0.2]}}, "'mean' has 2 channels, the model 3"),
        ({"pretrained_cfg": {"std": [0, 1, 1]}}, "expected std to be positive"),
        ({"pretrained_cfg": {"input_size": [3, 256]}}, "'input_size' cannot be"),
        ({"pretrained_cfg": 5}, "its 'pretrained_cfg' is no object"),
        ({"label_names": ["a"]}, "it has 1 'label_names' for 1000 classes"),
        ({"label_names": 1}, "'label_names' cannot be 1"),
        ({"label_names": {"a": "b"}}, "no name for class 0"),
        (
            {"pretrained_cfg": {"input_size": [3, 2**62, 2**62]}, "model_args": None},
            "its images would be of",
        ),
        ({"label_names": ["a"] * 1000, "label_descriptions": {"a": 1}}, "'a' cannot be 1"),
    ],
)
def test_faults_are_named(fields, fault, tmp_path):
    write_hub(tmp_path, create(SMALL))
    change(tmp_path, **fields)
    with pytest.raises(ValueError, match=r"^dsm_ext: .*(config\.json|\.safetensors): ") as error:
        dsm_ext.load(tmp_path)
    assert fault in str(error.value)


@pytest.mark.parametrize(
    "change_weights, fault",
    [
        (lambda w: w.pop("patch_embed.proj.weight"), "no tensor 'patch_embed.proj.weight'"),
        (lambda w: w.update({"patch_embed.proj.weight": torch.zeros(3)}), "has 1 dimensions"),
        (lambda w: w.update({"patch_embed.proj.weight": torch.zeros(8, 3, 0, 2)}), "is empty"),
        (lambda w: w.pop("blocks.0.mlp.fc2.weight"), "no tensor 'blocks.0.mlp.fc2.weight'"),
        (lambda w: w.pop("blocks.3.norm1.weight"), "missing blocks.3.norm1.weight"),
        (lambda w: w.update({"head.weight": torch.zeros(0, 256)}), "unexpected head.bias"),
        (lambda w: w.update({"extra": torch.zeros(1)}), "unexpected extra"),
        (lambda w: [w.pop(n) for n in list(w) if n.startswith("blocks")], "no tensor 'blocks.0"),
        (lambda w: w.update({"head.bias": w["head.bias"].long()}), "got head.bias of Long"),
    ],
)
def test_weights_that_do_not_fit_are_named(change_weights, fault, tmp_path):
    write_hub(tmp_path, create(SMALL))
    change(tmp_path, num_classes=None)
    state = load_file(tmp_path / "model.safetensors")
    change_weights(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors: ") as error:
        dsm_ext.load(tmp_path)
    assert fault in str(error.value)


@pytest.fixture
def nobody():
    """Run the test as a user who may not read every file."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that every user may enter; pytest's own folders are private."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_hub(folder, create(SMALL))
        (folder / "model.safetensors").chmod(0o644)
        yield folder


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_no_permission(name, open_folder, request):
    (open_folder / name).chmod(0)
    request.getfixturevalue("nobody")
    with pytest.raises(ValueError, match=rf"{name}: it cannot be read"):
        dsm_ext.load(open_folder)


def test_long_names_are_cut_between_characters(tmp_path):
    write_hub(tmp_path, create(SMALL))
    change(tmp_path, architecture="a" * 99 + "é" * 50)
    with pytest.raises(ValueError, match=r"'a{99}\.\.\.' is not one"):
        dsm_ext.load(tmp_path)
