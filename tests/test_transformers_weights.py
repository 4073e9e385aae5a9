"""Checkpoints of the transformers library give the same outputs in our models."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models.deit import VisionTransformerDistilled
from tolerance import assert_close
from transformers_models import (
    MODELS,
    check,
    dinov2,
    expected,
    images_for,
    vit,
    whole_clip,
)

import dsm_ext
from dsm_ext.transformers_models.weights import is_transformers, load_transformers, to_timm


@pytest.mark.parametrize("name", MODELS)
def test_outputs_agree(name, saved):
    model = MODELS[name]()
    path = saved(model)
    assert is_transformers(load_file(path / "model.safetensors"))
    architecture, state = load_transformers(path)
    assert not is_transformers(state)
    check(architecture, state, model)


@pytest.mark.parametrize(
    "name", ["ViT", "DeiT with a teacher", "DINOv2 with registers", "CLIP", "DINOv3"]
)
def test_they_are_exported_for_cpp(name, saved, tmp_path):
    model = MODELS[name]()
    checkpoint = saved(model)
    with pytest.raises(ValueError, match=r"config\.json: it is of a transformers checkpoint"):
        dsm_ext.load(checkpoint)
    fast = dsm_ext.from_transformers(checkpoint, "dense")
    core = dsm_ext._C.load_with_info(str(dsm_ext.export(fast, tmp_path / "exported")))[0]
    images = images_for(model)
    assert_close(core.forward(images), expected(model, images))


@pytest.mark.parametrize(
    "name",
    ["ViT", "DeiT", "DINOv2", "DINOv2 with SwiGLU", "CLIP", "DINOv3", "DINOv3 with a gate",
     "SigLIP", "SigLIP 2", "AIMv2", "MAE with a decoder", "I-JEPA", "LLaVA with CLIP",
     "LLaVA with SigLIP"],
)  # fmt: skip
def test_names_in_memory(name):
    model = MODELS[name]()
    assert is_transformers(model.state_dict())
    check(*to_timm(model.state_dict(), model.config.to_dict()), model)


@pytest.mark.parametrize(
    "name",
    ["ViT", "DeiT", "DeiT with a teacher", "DINOv2 with registers", "DINOv3", "SigLIP vision",
     "AIMv2", "I-JEPA"],
)  # fmt: skip
def test_all_tokens_agree(name, saved):
    model = MODELS[name]()
    architecture, state = load_transformers(saved(model))
    timm_model = check(architecture, state, model)
    images = images_for(model)
    with torch.no_grad():
        tokens = (model if name == "DINOv3" else model.base_model)(images).last_hidden_state
        assert_close(timm_model.forward_features(images), tokens)


def test_teacher_makes_a_distilled_model():
    model = MODELS["DeiT with a teacher"]()
    architecture, _ = to_timm(model.state_dict(), model.config.to_dict())
    assert architecture.model is VisionTransformerDistilled


def test_tensors_are_shared_and_keep_their_dtype():
    model = whole_clip().bfloat16()
    state = model.state_dict()
    _, converted = to_timm(state, model.config.to_dict())
    assert {tensor.dtype for tensor in converted.values()} == {torch.bfloat16}
    projection = state["visual_projection.weight"]
    assert converted["head.weight"].data_ptr() == projection.data_ptr()
    assert not converted["head.bias"].any()


def test_vision_config_of_clip_may_leave_out_defaults(saved):
    model = whole_clip()
    path = saved(model)
    file = path / "config.json"
    config = json.loads(file.read_text())
    left_out = {"layer_norm_eps", "hidden_act", "num_channels"}
    config["vision_config"] = {
        k: v for k, v in config["vision_config"].items() if k not in left_out
    }
    file.write_text(json.dumps(config))
    check(*load_transformers(path), model)
    config["vision_config_dict"] = config[
        "vision_config"
    ]  # older versions of transformers wrote this key
    config["vision_config"] = {}
    file.write_text(json.dumps(config))
    check(*load_transformers(path), model)


@pytest.mark.parametrize("name", ["SigLIP vision", "CLIP vision"])
def test_prefixes_of_older_files(name):
    model = MODELS[name]()
    state = {f"vision_model.{key}": tensor for key, tensor in model.state_dict().items()}
    check(*to_timm(state, model.config.to_dict()), model)


def test_buffers_of_older_files_are_left_out():
    model = whole_clip()
    state = model.state_dict()
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    check(*to_timm(state, model.config.to_dict()), model)


def test_shards(saved):
    model = vit()
    path = saved(model, max_shard_size="100KB")
    assert not (path / "model.safetensors").exists()
    check(*load_transformers(path), model)
    shard = next(path.glob("model-*.safetensors"))
    tensors = load_file(shard)
    tensors.popitem()
    save_file(tensors, shard)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json names lack"):
        load_transformers(path)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(shard.name)):
        load_transformers(path)


@pytest.mark.parametrize("name", ["LLaVA with CLIP", "LLaVA with SigLIP"])
@pytest.mark.parametrize("prefix", ["vision_tower.", "vision_tower.vision_model."])
def test_the_tokens_that_llava_takes(name, prefix, saved):
    """An earlier block's, without the last norm. Older files have a longer prefix."""
    model = MODELS[name]()
    path = saved(model)
    file = path / "model.safetensors"
    state = load_file(file)
    save_file({k.replace("vision_tower.", prefix): v for k, v in state.items()}, file)
    images = images_for(model)
    fast = dsm_ext.from_transformers(path, "dense")
    with torch.no_grad():
        hidden = model.base_model.vision_tower(images, output_hidden_states=True).hidden_states[-2]
    index = fast.config.depth - 2
    assert_close(fast.forward_intermediates(images, [index])[0].tokens, hidden)


def test_only_the_shards_of_the_image_model_are_read(saved):
    model = MODELS["LLaVA with CLIP"]()
    path = saved(model, max_shard_size="40KB")
    index = json.loads((path / "model.safetensors.index.json").read_text())["weight_map"]
    image = {file for name, file in index.items() if name.startswith("vision_tower.")}
    others = set(index.values()) - image
    assert image and others
    for file in others:
        (path / file).unlink()
    check(*load_transformers(path), model)


def test_pickle(saved):
    model = vit()
    path = saved(model)
    file = path / "model.safetensors"
    torch.save(load_file(file), path / "pytorch_model.bin")
    file.unlink()
    check(*load_transformers(path), model)


def test_backbone_under_a_classifier_of_patches(saved):
    model = dinov2("Dinov2ForImageClassification", num_labels=10)
    path = saved(model)
    file = path / "model.safetensors"
    state = {k: v for k, v in load_file(file).items() if not k.startswith("classifier.")}
    save_file(state, file)
    check(*load_transformers(path), model.dinov2)


def test_names_of_timm_are_not_those_of_transformers():
    assert not is_transformers({"patch_embed.proj.weight": torch.zeros(1), "cls_token": None})


@pytest.mark.parametrize(
    "name",
    ["ViT", "DeiT with a teacher", "DINOv2", "CLIP", "SigLIP", "SigLIP with a classifier",
     "SigLIP 2", "AIMv2", "AIMv2 with mlp_bias", "MAE", "I-JEPA", "LLaVA with SigLIP", "DINOv3",
     "DINOv3 without registers", "DINOv3 without biases", "DINOv3 with all biases",
     "DINOv3 with biases of the keys alone", "DINOv3 with a gate", "DINOv3 of oblong images"],
)  # fmt: skip
def test_models_run_compiled(name, saved):
    model = MODELS[name]()
    images = images_for(model)
    fast = dsm_ext.from_transformers(saved(model), "dense")
    assert_close(fast(images), expected(model, images))
    fast.schedule = "dsm:r=2,skip=1,local=0"
    assert fast.plan.tokens_out < fast.config.tokens
    assert fast(images).shape == expected(model, images).shape
