"""A model keeps the preprocessing and labels of its source. Unknown ones are not guessed."""

import copy
import inspect
import json
import pickle

import numpy as np
import pytest
import timm
import torch
from models import create, small
from PIL import Image
from safetensors.torch import save_file

import dsm_ext
from dsm_ext.images import transform_for
from dsm_ext.model.class_names import class_names, label_names

NAME = "vit_tiny_patch16_224"
KEYS = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")
OWN = {
    "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "interpolation": "bilinear", "crop_pct": 0.8,
    "crop_mode": "squash",
}  # fmt: skip


def resolved(model):
    return timm.data.resolve_model_data_config(model)


@pytest.fixture
def picture():
    pixels = torch.randint(256, (40, 50, 3), dtype=torch.uint8).numpy()
    return Image.fromarray(pixels).resize((300, 240))


@pytest.mark.parametrize("name", [NAME, "vit_base_patch16_siglip_224", "deit3_small_patch16_384"])
def test_timms_models_bring_their_own(name):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=0)
    config = resolved(model)
    model = timm.create_model(NAME)
    model.pretrained_cfg = config
    fast = dsm_ext.from_timm(model, "dense")
    expected = config | {"input_size": (3, 224, 224)}
    assert {key: resolved(fast)[key] for key in KEYS} == {key: expected[key] for key in KEYS}


def test_a_name_brings_its_own(tmp_path):
    save_file(create(NAME).state_dict(), tmp_path / "a.safetensors")
    fast = dsm_ext.from_timm(NAME, "dense", weights=tmp_path / "a.safetensors")
    assert resolved(fast) == resolved(timm.create_model(NAME))
    assert fast.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    assert class_names(fast.pretrained_cfg, 1000)[:2] == [
        "tench, Tinca tinca",
        "goldfish, Carassius auratus",
    ]


def test_the_size_is_the_models_own():
    model = timm.create_model(NAME, img_size=96, in_chans=1, num_classes=7)
    fast = dsm_ext.from_timm(model, "dense")
    assert fast.pretrained_cfg["input_size"] == (1, 96, 96)
    assert fast.pretrained_cfg["mean"] == (0.5,)
    assert fast.pretrained_cfg["num_classes"] == 7
    assert label_names(fast.pretrained_cfg, 7) is None


def test_what_is_not_known_is_not_guessed(picture, tmp_path):
    model = small(num_classes=1000)
    fast = dsm_ext.from_timm(model, "dense")
    for use in (
        lambda: resolved(fast),
        lambda: fast.pretrained_cfg["mean"],
        lambda: fast.pretrained_cfg.get("mean"),
        lambda: dict(fast.pretrained_cfg),
        lambda: transform_for(fast),
        lambda: transform_for(model),
    ):
        with pytest.raises(ValueError, match="how pictures are prepared for this .* not known"):
            use()
    assert repr(fast.pretrained_cfg) == "<unknown>"
    inspect.getmembers(fast)  # tools that read every attribute must work
    assert label_names(None, 1000) is None  # 1000 classes need not be ImageNet's
    dsm_ext.export(fast, tmp_path)
    info = dsm_ext.model_info(tmp_path)
    assert (info.labels, info.preprocessing.known) == ([], False)
    with pytest.raises(ValueError, match="not known"):
        resolved(dsm_ext.load(tmp_path))
    fast.pretrained_cfg = OWN
    assert transform_for(fast)(picture).shape == (3, 56, 56)
    assert resolved(fast) == OWN | {"input_size": (3, 56, 56)}
    fast.pretrained_cfg = None
    with pytest.raises(ValueError, match="not known"):
        resolved(fast)


def test_numbers_of_any_kind_are_taken_and_others_refused():
    fast = dsm_ext.from_timm(small(), "dense")
    for mean in (np.array([0.5] * 3), torch.tensor([0.5] * 3), [0.5], (0.5, 0.5, 0.5)):
        fast.pretrained_cfg = OWN | {"mean": mean}
        assert fast.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    for change in (
        {"mean": (float("nan"),) * 3}, {"mean": (True,) * 3}, {"mean": ("0.5",) * 3},
        {"mean": (0.1, 0.9)}, {"std": (-1, 1, 1)}, {"std": (0, 0, 0)}, {"crop_pct": 0},
        {"crop_pct": "0.9"}, {"crop_mode": "weird"},
    ):  # fmt: skip
        (key,) = change
        with pytest.raises(ValueError, match=f"expected '{key}' of pretrained_cfg to be"):
            fast.pretrained_cfg = OWN | change
    for cfg in ("vit", 5, [1]):
        with pytest.raises(TypeError, match="expected pretrained_cfg to be a dict"):
            fast.pretrained_cfg = cfg


def test_export_describes_no_model_by_another(tmp_path):
    fast = dsm_ext.from_timm(small(), "dense")
    with pytest.raises(ValueError, match="timm_model is another model than this one: img_size"):
        dsm_ext.export(fast, tmp_path / "a", timm.create_model(NAME))
    with pytest.raises(NotImplementedError, match="ResNet"):
        dsm_ext.export(fast, tmp_path / "a", timm.create_model("resnet10t"))
    with pytest.raises(TypeError, match="expected a dsm_ext.VisionTransformer, got"):
        dsm_ext.export(small(), tmp_path / "a")
    fast.norm = torch.nn.LayerNorm(32)
    with pytest.raises(NotImplementedError, match="norm was replaced"):
        dsm_ext.export(fast, tmp_path / "a")
    assert not (tmp_path / "a" / "config.json").exists()


def test_what_is_assigned_must_say_how_to_normalise():
    fast = dsm_ext.from_timm(small(), "dense")
    for cfg in ({}, {"mean": (0.5,)}, {"std": (0.5,)}, {"mean": None, "std": (1, 1, 1)}):
        with pytest.raises(
            ValueError, match="expected '(mean|std)' of pretrained_cfg to be a number for"
        ):
            fast.pretrained_cfg = cfg
    with pytest.raises(ValueError, match="not known"):
        resolved(fast)


@pytest.mark.parametrize("given", [True, False])
def test_export_and_load_carry_it(tmp_path, given, picture):
    model = small(num_classes=3)
    model.pretrained_cfg = OWN | {
        "architecture": NAME, "label_names": ["n1", "n2", "n3"],
        "label_descriptions": {"n2": "a second, or another"},
    }  # fmt: skip
    fast = dsm_ext.from_timm(model, "tome:r=8")
    dsm_ext.export(fast, tmp_path / "a", *([model] if given else []))
    again = dsm_ext.load(tmp_path / "a")
    dsm_ext.export(copy.deepcopy(again), tmp_path / "b")
    twice = dsm_ext.load(tmp_path / "b" / "model.safetensors")
    for own in (fast, again, twice, pickle.loads(pickle.dumps(fast))):
        assert resolved(own) == OWN | {"input_size": (3, 56, 56)}
        assert class_names(own.pretrained_cfg, 3) == ["n1", "a second, or another", "n3"]
        assert label_names(own.pretrained_cfg, 3) == ["n1", "n2", "n3"]
        assert torch.equal(transform_for(own)(picture), transform_for(fast)(picture))
    info = dsm_ext.model_info(tmp_path / "b")
    assert (info.architecture, info.labels) == (NAME, ["n1", "a second, or another", "n3"])
    ours = info.preprocessing(torch.from_numpy(np.array(picture)))
    assert (ours - transform_for(fast)(picture)).abs().max() < 0.1


def test_a_folder_of_timms_keeps_what_it_says(tmp_path):
    model = create(NAME, num_classes=4)
    model.pretrained_cfg |= OWN
    timm.models.save_for_hf(
        model, tmp_path, {"label_names": ["a", "b", "c", "d"]}, safe_serialization=True
    )
    loaded = dsm_ext.load(tmp_path)
    assert resolved(loaded) == OWN | {"input_size": (3, 224, 224)}
    assert label_names(loaded.pretrained_cfg, 4) == ["a", "b", "c", "d"]
    config = json.loads((tmp_path / "config.json").read_text())
    del config["pretrained_cfg"]["mean"], config["pretrained_cfg"]["std"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="not known"):
        resolved(dsm_ext.load(tmp_path))


def test_timm_reads_what_is_exported_without_its_model(tmp_path):
    model = create(NAME, img_size=64, num_classes=5)
    dsm_ext.export(dsm_ext.from_timm(model, "tome:r=1"), tmp_path)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again(images), model(images))


def test_imagenets_names_are_given_to_models_of_imagenet_alone():
    for tag, known in (
        ("augreg_in21k_ft_in1k", True), ("fb_in1k", True), ("in1k", True), ("in1k_ft_cars", False),
        ("in12k", False), ("webli", False), ("", False), (None, False),
    ):  # fmt: skip
        names = label_names({"tag": tag}, 1000)
        assert (names is not None) == known, tag
        assert names is None or names[0] == "n01440764"
    assert label_names({"tag": "in1k"}, 999) is None
    assert label_names({"label_names": {"1": "b", "0": "a"}}, 2) == ["a", "b"]
    assert label_names({"label_names": ["a", "b"]}, 3) is None


@pytest.mark.parametrize("change", ["head", "reset"])
def test_another_classifier_has_other_labels(change):
    fast = dsm_ext.from_timm(timm.create_model(NAME), "dense")
    assert label_names(fast.pretrained_cfg, 1000) is not None
    if change == "head":
        fast.head = torch.nn.Linear(192, 5)
        fast(torch.zeros(1, 3, 224, 224))
        fast.head = torch.nn.Linear(192, 1000)
        fast(torch.zeros(1, 3, 224, 224))
    else:
        fast.reset_classifier(1000)
    assert label_names(fast.pretrained_cfg, 1000) is None
    assert fast.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
