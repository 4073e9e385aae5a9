"""Checkpoints of the transformers library that are refused, and the faults that are named."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers_models import (
    MODELS,
    aimv2,
    dinov2,
    dinov3,
    llava,
    registers,
    vit,
)

import dsm_ext
from dsm_ext.transformers_models.weights import load_transformers, to_timm


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(name, saved):
    path = saved(vit())
    (path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"^dsm_ext: no .*{re.escape(name)}"):
        load_transformers(path)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="^dsm_ext: no such folder: .*nowhere"):
        load_transformers(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name, content, fault",
    [
        ("config.json", b"{", "config.json is not a JSON file"),
        ("config.json", b"\xff\xfe", "config.json is not a JSON file"),
        ("config.json", b"[]", "config.json holds no JSON object"),
        ("model.safetensors", b"{", "model.safetensors is not a safetensors file"),
    ],
)
def test_broken_file(name, content, fault, saved):
    path = saved(vit())
    (path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"^dsm_ext: .*{fault}"):
        load_transformers(path)


def test_index_without_a_map(saved):
    path = saved(vit())
    (path / "model.safetensors").rename(path / "other.safetensors")
    (path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="has no weight_map"):
        load_transformers(path)


UNSUPPORTED = {
    "model_type 'swin'": lambda: (vit(), {"model_type": "swin"}),
    "model_type None": lambda: (vit(), {"model_type": None}),
    "hidden_act 'relu'": lambda: (vit(hidden_act="relu"), {}),
    "hidden_size 64 in 3 heads": lambda: (vit(), {"num_attention_heads": 3}),
    "no hidden_act, no layer_norm_eps": lambda: (
        vit(), {"hidden_act": None, "layer_norm_eps": None}
    ),
    "no intermediate_size": lambda: (vit(), {"intermediate_size": None}),
    "no mlp_ratio": lambda: (dinov2(), {"mlp_ratio": None}),
    "no num_register_tokens": lambda: (registers(), {"num_register_tokens": None}),
    "num_register_tokens 0": lambda: (registers(), {"num_register_tokens": 0}),
    "image_size (56, 28)": lambda: (dinov2(image_size=(56, 28)), {}),
    "hidden_act 'gelu' and use_gated_mlp true": lambda: (dinov3(), {"use_gated_mlp": True}),
    "hidden_act 'quick_gelu' is": lambda: (dinov3(), {"hidden_act": "quick_gelu"}),
    "hidden_size 64 in 32 heads": lambda: (dinov3(), {"num_attention_heads": 32}),
    "use_head True": lambda: (aimv2(use_head=True), {}),
    "is_native True": lambda: (aimv2(is_native=True), {}),
    "hidden_act 'gelu'": lambda: (aimv2(hidden_act="gelu"), {}),
    "model_type 'pixtral' in the vision_config of llava": lambda: (
        llava(model_type="clip_vision_model"), {"vision_config": {"model_type": "pixtral"}}
    ),
    "a classifier on the mean of the patches": lambda: (dinov2("Dinov2ForImageClassification"), {}),
}  # fmt: skip


@pytest.mark.parametrize("fault", UNSUPPORTED)
def test_unsupported(fault):
    model, changes = UNSUPPORTED[fault]()
    config = model.config.to_dict() | changes
    with pytest.raises(NotImplementedError, match=f"^dsm_ext: .*{re.escape(fault)}"):
        to_timm(model.state_dict(), config)


LAYER = "vit.encoder.layer.1."
WRONG = {
    "missing (by timm's names) blocks.1.norm2.bias": {LAYER + "layernorm_after.bias": None},
    "missing (by timm's names) blocks.1.attn.qkv.k.weight": {
        LAYER + "attention.attention.key.weight": None
    },
    "missing (by timm's names) cls_token": {"vit.embeddings.cls_token": None},
    "missing (by timm's names) head.bias": {"classifier.bias": None},
    "unexpected layernorm.weight": {"layernorm.weight": torch.zeros(64)},
    "unexpected decoder.0.weight": {"decoder.0.weight": torch.zeros(1)},
    "unexpected vit.embeddings.distillation_token": {
        "vit.embeddings.distillation_token": torch.zeros(1, 1, 64)
    },
    "misshapen vit.embeddings.position_embeddings [1, 10, 64] (expected [1, 17, 64])": {
        "vit.embeddings.position_embeddings": torch.zeros(1, 10, 64)
    },
    LAYER + "attention.attention.query.bias [32] (expected [64])": {
        LAYER + "attention.attention.query.bias": torch.zeros(32)
    },
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_tensors(fault, saved):
    path = saved(vit())
    state = load_file(path / "model.safetensors") | WRONG[fault]
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    config = json.loads((path / "config.json").read_text())
    with pytest.raises(ValueError, match=f"^dsm_ext: .*{re.escape(fault)}"):
        to_timm(state, config)


def test_blocks_beyond_the_config():
    model = vit()
    config = model.config.to_dict()
    with pytest.raises(ValueError, match=r"unexpected vit\..*1.* and 8 more"):
        to_timm(model.state_dict(), config | {"num_hidden_layers": 1})
    with pytest.raises(ValueError, match=r"missing .* blocks\.2\.norm1\.weight.* and 4 more"):
        to_timm(model.state_dict(), config | {"num_hidden_layers": 3})


@pytest.mark.parametrize("head", ["cls_classifier", "distillation_classifier"])
def test_one_head_of_two(head):
    model = MODELS["DeiT with a teacher"]()
    state = model.state_dict()
    del state[f"{head}.weight"]
    name = {"cls_classifier": "head", "distillation_classifier": "head_dist"}[head]
    with pytest.raises(ValueError, match=rf"missing \(by timm's names\) {name}\.weight"):
        to_timm(state, model.config.to_dict())


def test_naflex_sizes_are_refused(saved):
    path = saved(MODELS["SigLIP 2"]())
    with pytest.raises(NotImplementedError, match="dynamic_img_size is not supported .NaFlex"):
        dsm_ext.from_transformers(path, "dense", dynamic_img_size=True)


def test_a_number_of_patches_without_a_square():
    config = MODELS["SigLIP 2 vision"]().config.to_dict() | {"num_patches": 15}
    with pytest.raises(
        ValueError, match="expected num_patches .* the square of an integer, got 15"
    ):
        to_timm({}, config)


@pytest.mark.parametrize("key", ["query_bias", "value_bias", "proj_bias", "mlp_bias"])
def test_biases_that_the_config_switches_off(key):
    model = dinov3()
    with pytest.raises(ValueError, match=f"unexpected .*the config's {key} is False"):
        to_timm(model.state_dict(), model.config.to_dict() | {key: False})
