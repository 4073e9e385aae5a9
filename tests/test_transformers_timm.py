"""transformers' checkpoints of timm's models give the same outputs in our models."""

import json

import pytest
import timm
import torch
from models import randomize
from safetensors.torch import load_file, save_file
from tolerance import assert_close
from transformers_models import transformers

import dsm_ext
from dsm_ext.transformers_models.weights import to_timm

SMALL = {"depth": 2, "img_size": 64}
# What the hub's PerceptionLM-1B has, on a small model.
ENCODER = {
    "embed_dim": 192, "depth": 2, "img_size": [64, 64], "global_pool": "", "init_values": 0.1,
    "use_post_transformer_norm": False, "ref_feat_shape": [4, 4],
}  # fmt: skip


def wrapped(kind="TimmWrapperModel", name="vit_tiny_patch16_224", **kwargs):
    arguments = kwargs.pop("model_args", SMALL)
    config = transformers.TimmWrapperConfig(architecture=name, model_args=arguments, **kwargs)
    return randomize(getattr(transformers, kind)(config))


def perception():
    vision = {
        "model_type": "timm_wrapper", "architecture": "vit_pe_core_tiny_patch16_384",
        "do_pooling": False, "model_args": ENCODER,
    }  # fmt: skip
    text = {
        "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 64, "vocab_size": 50,
    }  # fmt: skip
    config = transformers.PerceptionLMConfig(vision_config=vision, text_config=text)
    return randomize(transformers.PerceptionLMForConditionalGeneration(config))


MODELS = {
    "a backbone": wrapped,
    "a classifier": lambda: wrapped("TimmWrapperForImageClassification", num_labels=7),
    "a rotary model": lambda: wrapped(name="vit_small_patch16_dinov3"),
}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_agree(name, saved):
    model = MODELS[name]()
    images = torch.randn(2, 3, 64, 64)
    fast = dsm_ext.from_transformers(saved(model), "dense")
    with torch.no_grad():
        output = model(images)
    assert_close(fast(images), output.get("logits", output.get("pooler_output")))


@pytest.mark.parametrize("prefix", ["model.vision_tower.timm_model.", "vision_tower.timm_model."])
def test_the_tokens_of_perception_lm(prefix, saved):
    model = perception()
    path = saved(model)
    file = path / "model.safetensors"
    state = load_file(file)
    own = "model.vision_tower.timm_model."
    save_file({name.replace(own, prefix): tensor for name, tensor in state.items()}, file)
    images = torch.randn(2, 3, 64, 64)
    fast = dsm_ext.from_transformers(path, "dense")
    with torch.no_grad():
        assert_close(fast(images), model.model.vision_tower(images).last_hidden_state)
    fast.schedule = "tome:r=2"
    assert fast(images).shape == (2, 1 + 16 - 4, 192)


def test_preprocessing_and_labels(saved):
    cfg = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.8}
    model = wrapped("TimmWrapperForImageClassification", num_labels=3)
    path = saved(model)
    config = json.loads((path / "config.json").read_text()) | {"pretrained_cfg": cfg}
    (path / "config.json").write_text(json.dumps(config))
    fast = dsm_ext.from_transformers(path, "dense")
    assert fast.pretrained_cfg["mean"] == (0.1, 0.2, 0.3)
    assert "label_names" not in fast.pretrained_cfg  # LABEL_0 and so on
    (path / "config.json").write_text(json.dumps(config | {"label_names": ["a", "b", "c"]}))
    assert dsm_ext.from_transformers(path, "dense").pretrained_cfg["label_names"] == ["a", "b", "c"]


WRONG = {
    "expected architecture .* got 'hf-hub:a/b'": {"architecture": "hf-hub:a/b"},
    "expected architecture .* got 3": {"architecture": 3},
    "expected model_args .* to be an object": {"model_args": [1]},
    "'checkpoint_path': 'a.pth' in its model_args": {"model_args": {"checkpoint_path": "a.pth"}},
    "'block_fn': a dict of 0 tensors": {"model_args": {"block_fn": {}}},
    "'embed_dim': 100000000": {"model_args": {"embed_dim": 10**8}},
    "expected depth in its model_args": {"model_args": {"depth": 1000}},
    "unexpected blocks.1": {"model_args": SMALL | {"depth": 1}},
    "missing blocks.2": {"model_args": SMALL | {"depth": 3}},
    r"misshapen .*pos_embed \[1, 17, 192\]": {"model_args": {"depth": 2, "img_size": 32}},
    "timm does not make": {"model_args": SMALL | {"ref_feat_shape": 3}},
    "Eva with blocks of type EvaBlockPostNorm": {
        "architecture": "eva02_enormous_patch14_clip_224", "model_args": {"depth": 1},
    },
    "ResNet": {"architecture": "resnet18", "model_args": {}},
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_faults_are_named(fault):
    model = wrapped()
    config = model.config.to_dict() | WRONG[fault]
    with pytest.raises((ValueError, NotImplementedError), match=rf"^dsm_ext.*{fault}"):
        to_timm(model.state_dict(), config)


@pytest.mark.parametrize("vision", [None, {}, [], {"model_type": "pe_video"}])
def test_perception_lm_without_a_model_of_timm(vision):
    config = {"model_type": "perception_lm", "vision_config": vision}
    with pytest.raises(ValueError, match="expected vision_config"):
        to_timm({}, config)


def test_names_of_timm_are_kept():
    model = wrapped()
    architecture, state = to_timm(model.state_dict(), model.config.to_dict())
    timm_model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **SMALL)
    assert state.keys() == timm_model.state_dict().keys()
    architecture.build().load_state_dict(state)
