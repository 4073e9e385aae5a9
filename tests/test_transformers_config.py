"""Hostile config.json files of transformers give errors that name the field."""

import json
import math

import pytest
import torch
from transformers_states import DEPTH, C, vit_state

import dsm_ext
from dsm_ext.transformers_models.weights import to_timm

CONFIG = {
    "hidden_size": C, "num_hidden_layers": DEPTH, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "num_channels": 3,
    "qkv_bias": True,
}  # fmt: skip
SHAPES = CONFIG | {"intermediate_size": 4 * C}
RATIOS = CONFIG | {"mlp_ratio": 4, "use_swiglu_ffn": False}
PLAIN = {k: v for k, v in SHAPES.items() if k != "qkv_bias"}
CONFIGS = {
    "vit": SHAPES,
    "deit": SHAPES,
    "dinov2": RATIOS,
    "dinov2_with_registers": RATIOS | {"num_register_tokens": 4},
    "clip_vision_model": PLAIN,
    "siglip_vision_model": PLAIN | {"vision_use_head": True},
    "siglip2_vision_model": {k: v for k, v in PLAIN.items() if k != "image_size"}
    | {"vision_use_head": True, "num_patches": 4},
    "aimv2_vision_model": {k: v for k, v in PLAIN.items() if k != "layer_norm_eps"}
    | {"rms_norm_eps": 1e-5, "qkv_bias": False, "mlp_bias": False, "hidden_act": "silu",
       "use_head": False, "is_native": False},
    "vit_mae": SHAPES,
    "ijepa": SHAPES,
    "dinov3_vit": PLAIN
    | {"query_bias": True, "key_bias": False, "value_bias": True, "proj_bias": True,
       "mlp_bias": True, "use_gated_mlp": False, "num_register_tokens": 4, "rope_theta": 100.0},
}  # fmt: skip
HOSTILE = {
    "true": True, "false": False, "null": None, "zero": 0, "minus": -1, "one": 1, "seven": 7,
    "300": 300, "65536": 65536, "2^31": 1 << 31, "2^63": 1 << 63, "10^100": 10**100,
    "10^4400": 10**4400, "half": 0.5, "float": 16.0, "tiny": 5e-324, "1e999": math.inf,
    "-1e999": -math.inf, "NaN": math.nan, "string": "16", "empty": "", "name": "gelu\0",
    "long": "x" * 10**6, "[]": [], "[16]": [16], "[28, 28]": [28, 28], "[1, 2, 3]": [1, 2, 3],
    "[null, null]": [None, None], "[true, true]": [True, True], "[1e999, 1]": [math.inf, 1],
    "[0, 28]": [0, 28], "nested": [[28, 28]], "{}": {}, "{...}": {"height": 28, "width": 28},
    "deep": [[[[[[[[]]]]]]]],
}  # fmt: skip
POSITIVE = ("one", "seven", "300", "65536", "2^31", "2^63", "10^100", "half", "float", "tiny")
# Hostile values that are valid for the field, or that describe the same tensors.
RIGHT = {
    ("image_size", "[28, 28]"), ("num_attention_heads", "one"), ("qkv_bias", "true"),
    ("use_swiglu_ffn", "false"), ("vision_use_head", "true"), ("mlp_bias", "false"),
    ("use_head", "false"), ("is_native", "false"), ("query_bias", "true"), ("key_bias", "false"),
    ("value_bias", "true"), ("proj_bias", "true"), ("use_gated_mlp", "false"),
    *((key, name) for key in ("layer_norm_eps", "rms_norm_eps", "rope_theta") for name in POSITIVE),
}  # fmt: skip
# The same where other models differ: AIMv2 has no biases, and DINOv3 takes images of any size.
RIGHT_HERE = {
    ("aimv2_vision_model", "qkv_bias"): ("false",),
    ("dinov3_vit", "mlp_bias"): ("true",),
    ("dinov3_vit", "image_size"): ("300", "65536", "[28, 28]"),
}
CASES = [(kind, key) for kind, config in CONFIGS.items() for key in (*config, "model_type")]


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_checkpoints_are_right_as_they_are(kind):
    architecture, state = to_timm(vit_state(kind), {"model_type": kind, **CONFIGS[kind]})
    architecture.build().load_state_dict(state, strict=True)


@pytest.mark.parametrize("kind, key", CASES)
def test_hostile_values(kind, key):
    state = vit_state(kind)
    for name, value in HOSTILE.items():
        config = {"model_type": kind, **CONFIGS[kind], key: value}
        right = RIGHT_HERE.get((kind, key))
        if name in right if right else (key, name) in RIGHT:
            to_timm(state, config)
            continue
        with pytest.raises((ValueError, NotImplementedError), match="^dsm_ext: ") as error:
            to_timm(state, config)
            pytest.fail(f"{key} {name} was taken")
        assert key in str(error.value), (key, name, str(error.value))
        assert len(str(error.value)) < 2000


@pytest.mark.parametrize("key", ["vision_config", "vision_config_dict"])
def test_hostile_configs_of_clip(key):
    state = vit_state("clip_vision_model")
    good = {"model_type": "clip", "vision_config": CONFIGS["clip_vision_model"]}
    to_timm(state, good)
    for name, value in HOSTILE.items():
        if value is None and key == "vision_config_dict":
            to_timm(state, good | {key: value})
            continue
        if isinstance(value, dict) or value is None:
            continue  # other tests try the keys of a dict
        with pytest.raises(ValueError, match=f"expected {key} in its config to be an object") as e:
            to_timm(state, good | {key: value})
        assert len(str(e.value)) < 300, name


@pytest.mark.parametrize("inner", ["hidden_size", "num_hidden_layers", "patch_size", "hidden_act"])
def test_hostile_values_in_the_config_of_a_half(inner):
    state = vit_state("clip_vision_model")
    for name, value in HOSTILE.items():
        config = {
            "model_type": "clip", "vision_config": CONFIGS["clip_vision_model"] | {inner: value}
        }  # fmt: skip
        with pytest.raises((ValueError, NotImplementedError), match=inner):
            to_timm(state, config)
            pytest.fail(f"{inner} {name} was taken")


def test_a_remainder_of_the_image_is_left_out():
    """The convolutions of transformers and timm leave it out too."""
    config = {"model_type": "vit", **SHAPES, "image_size": 30}
    architecture, state = to_timm(vit_state("vit"), config)
    architecture.build().load_state_dict(state, strict=True)


@pytest.mark.parametrize("value", [3, "config", None, [1]])
def test_a_config_that_is_no_object(value):
    with pytest.raises(ValueError, match="expected a config to be a dict"):
        to_timm(vit_state("vit"), value)


@pytest.mark.parametrize("kind", CONFIGS)
def test_tensors_of_any_rank_are_named(kind):
    config = {"model_type": kind, **CONFIGS[kind]}
    state = vit_state(kind)
    for name in (name for name in state if ".1." not in name):
        for shape in ((), (0,), (C,), (1, 1), (0, C), (1, 0, C), (1, 2, 3, 4, 5)):
            if tuple(state[name].shape) == shape:
                continue
            with pytest.raises(ValueError, match="^dsm_ext: ") as error:
                to_timm(state | {name: torch.zeros(shape)}, config)
            assert name in str(error.value), (name, shape, str(error.value))


@pytest.mark.parametrize("shape", [(), (0,), (3,), (0, C), (3, C, 1), (3, 7)])
def test_heads_of_any_shape_are_named(shape):
    state = vit_state("vit") | {"classifier.weight": torch.zeros(shape)}
    state["classifier.bias"] = torch.zeros(shape[0] if shape else 1)
    with pytest.raises(ValueError, match=r"misshapen classifier\.weight"):
        to_timm(state, {"model_type": "vit", **SHAPES})
    state = vit_state("clip_vision_model") | {"visual_projection.weight": torch.zeros(shape)}
    with pytest.raises(ValueError, match=r"misshapen visual_projection\.weight"):
        to_timm(state, {"model_type": "clip_vision_model", **CONFIGS["clip_vision_model"]})


def test_the_config_is_checked_before_the_weights_are_read(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "vit", **SHAPES, "patch_size": 0})
    )
    with pytest.raises(ValueError, match="patch_size"):
        dsm_ext.from_transformers(tmp_path)


@pytest.mark.parametrize(
    "text, fault",
    [
        ("[" * 10**5, "is not a JSON file"),
        ('{"hidden_size": 1' + "0" * 5000 + "}", "is not a JSON file"),
        ('"config"', "holds no JSON object, but 'config'"),
        ("NaN", "holds no JSON object, but nan"),
        ("", "is not a JSON file"),
        ('{"model_type": "vit", "patch_size": 1e999}', "no hidden_act"),
    ],
    ids=range(6),
)
def test_hostile_json(text, fault, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises((ValueError, NotImplementedError), match=f"^dsm_ext: .*{fault}") as error:
        dsm_ext.from_transformers(tmp_path)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "places, fault",
    [
        ({"a": 3}, "has no weight_map from names to files, but a dict of 1"),
        ([], r"has no weight_map .*, but \[\]"),
        ("model", "has no weight_map"),
        (None, "has no weight_map"),
        ({}, "lack any tensor"),
        ({"a": "../a"}, "names a file outside its folder: '../a'"),
        ({"a": ".."}, "names a file outside its folder"),
        ({"a": "/etc/passwd"}, "names a file outside its folder"),
        ({"a": "x" * 10**5}, "names a file outside its folder"),
        ({"a": ""}, "no such file"),
        ({"a": "a\0b"}, "no such file"),
        ({"a": "none.safetensors"}, "no such file, though model.safetensors.index.json names"),
    ],
    ids=range(12),
)
def test_hostile_indices(places, fault, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", **SHAPES}))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises((ValueError, FileNotFoundError), match=f"^dsm_ext: .*{fault}") as error:
        dsm_ext.from_transformers(tmp_path)
    assert len(str(error.value)) < 700
