"""Preprocessing and labels of transformers' checkpoints equal those of transformers' processors."""

import json

import pytest
import timm
import torch
import transformers
from PIL import Image
from tolerance import PIXEL_LEVELS, PIXEL_LEVELS_MEAN

import dsm_ext
from dsm_ext.images import transform_for
from dsm_ext.model.class_names import class_names
from dsm_ext.transformers_models.preprocessing import _crop_pct

SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "image_size": 64, "patch_size": 8,
}  # fmt: skip
MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]


def vit(folder, **config):
    config = transformers.ViTConfig(**SHAPE, **config)
    transformers.ViTForImageClassification(config).save_pretrained(folder)


def dinov2(folder):
    shape = {k: v for k, v in SHAPE.items() if k != "intermediate_size"}
    transformers.Dinov2Model(transformers.Dinov2Config(**shape)).save_pretrained(folder)


def siglip(folder):
    transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**SHAPE)).save_pretrained(folder)


def processors():
    """For each family of models: a function that saves a model, and its processor."""
    vits, deits = transformers.ViTImageProcessor, transformers.DeiTImageProcessor
    bits = transformers.BitImageProcessor
    full, half = {"height": 64, "width": 64}, {"height": 32, "width": 32}
    mean = {"image_mean": MEAN, "image_std": STD}
    square = {"height": 73, "width": 73}
    return {
        "ViT": (vit, vits(size=full, **mean)),
        "DeiT": (vit, deits(size=square, crop_size=full, **mean)),
        "DINOv2": (dinov2, bits(size={"shortest_edge": 73}, crop_size=full, **mean)),
        "SigLIP": (siglip, transformers.SiglipImageProcessor(size=full, **mean)),
        "of another size": (dinov2, bits(size={"shortest_edge": 40}, crop_size=half, **mean)),
        "not normalised": (vit, vits(size=full, do_normalize=False)),
    }


@pytest.mark.parametrize("name", ["ViT", "DeiT", "DINOv2", "SigLIP", "not normalised"])
def test_pictures_are_prepared_as_transformers_does(tmp_path, name):
    make, processor = processors()[name]
    make(tmp_path)
    processor.save_pretrained(tmp_path)
    fast = dsm_ext.from_transformers(tmp_path, "dense")
    pixels = torch.randint(256, (30, 40, 3), dtype=torch.uint8).numpy()
    picture = Image.fromarray(pixels).resize((400, 300), Image.Resampling.BICUBIC)
    expected = processor(picture, return_tensors="pt")["pixel_values"][0]
    ours = transform_for(fast)(picture)
    assert ours.shape == expected.shape
    std = torch.tensor([1.0] * 3 if name == "not normalised" else STD)[:, None, None]
    levels = (ours - expected).abs() * std * 255
    assert levels.max() <= 5 * PIXEL_LEVELS  # Pillow and torchvision resize differently
    assert levels.mean() <= 20 * PIXEL_LEVELS_MEAN
    assert timm.data.resolve_model_data_config(fast)["input_size"] == (3, 64, 64)


def test_a_crop_of_another_size_keeps_its_share(tmp_path):
    make, processor = processors()["of another size"]
    make(tmp_path)
    processor.save_pretrained(tmp_path)
    cfg = dsm_ext.from_transformers(tmp_path, "dense").pretrained_cfg
    assert (cfg["input_size"], cfg["crop_pct"], cfg["crop_mode"]) == ((3, 64, 64), 0.8, "center")


@pytest.mark.parametrize("cropped", [1, 32, 224, 336, 518])
def test_timm_scales_to_the_very_size(cropped):
    for scaled in range(cropped, 2 * cropped):
        assert int(cropped / _crop_pct(cropped, scaled)) == scaled


def written(tmp_path, content, **config):
    vit(tmp_path, **config)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    return lambda: dsm_ext.from_transformers(tmp_path, "dense")


OLD = {
    "do_normalize": True, "do_resize": True, "feature_extractor_type": "ViTFeatureExtractor",
    "image_mean": MEAN, "image_std": STD, "resample": 2, "size": 64,
}  # fmt: skip


def test_keys_that_are_null(tmp_path):
    nulls = {"crop_size": None, "do_center_crop": None, "size": {"height": 64, "width": 64}}
    cfg = written(tmp_path, OLD | nulls)().pretrained_cfg
    assert (cfg["crop_pct"], cfg["crop_mode"]) == (1.0, "squash")


def test_files_of_older_transformers(tmp_path):
    cfg = written(tmp_path, OLD)().pretrained_cfg
    assert (cfg["mean"], cfg["std"]) == (tuple(MEAN), tuple(STD))
    assert (cfg["interpolation"], cfg["crop_pct"], cfg["crop_mode"]) == ("bilinear", 1.0, "squash")


@pytest.mark.parametrize(
    "change",
    [
        {"do_resize": False}, {"do_rescale": False}, {"rescale_factor": 1.0}, {"image_mean": None},
        {"size": {"shortest_edge": 64}}, {"do_flip_channel_order": True}, {"do_pad": True},
        {"max_num_patches": 256, "size": None},
    ],
)  # fmt: skip
def test_what_timm_cannot_do_is_not_known(tmp_path, change):
    fast = written(tmp_path, OLD | change)()
    with pytest.raises(ValueError, match="not known"):
        transform_for(fast)


@pytest.mark.parametrize(
    "key, value",
    [
        ("image_mean", "x"), ("image_mean", []), ("image_mean", [0.1] * 4),
        ("image_mean", [10**400, 0, 0]), ("image_std", [0, "a"]), ("image_std", [-1, 1, 1]),
        ("image_std", [0, 0, 0]), ("size", [1]), ("size", -3), ("size", True), ("size", None),
        ("size", {"height": 3, "width": 4}), ("resample", 9), ("resample", True),
        ("resample", [1]), ("do_resize", "yes"), ("do_center_crop", 3),
    ],
)  # fmt: skip
def test_wrong_values_are_named(tmp_path, key, value):
    with pytest.raises(ValueError, match=r"preprocessor_config\.json: '\w+' cannot be"):
        written(tmp_path, OLD | {key: value})()


def test_without_a_processor_nothing_is_known(tmp_path):
    vit(tmp_path)
    with pytest.raises(ValueError, match="not known"):
        transform_for(dsm_ext.from_transformers(tmp_path, "dense"))


def test_labels(tmp_path):
    names = {0: "zero", 1: "one", 2: "two"}
    fast = written(tmp_path / "a", OLD, id2label=names)()
    assert class_names(fast.pretrained_cfg, 3) == ["zero", "one", "two"]
    dsm_ext.export(fast, tmp_path / "exported")
    assert dsm_ext.model_info(tmp_path / "exported").labels == ["zero", "one", "two"]
    fast = written(tmp_path / "b", OLD, num_labels=3)()  # transformers names them LABEL_0 and so on
    assert class_names(fast.pretrained_cfg, 3) is None
    fast = written(tmp_path / "c", OLD, num_labels=1000)()
    assert class_names(fast.pretrained_cfg, 1000) is None
