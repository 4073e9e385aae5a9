"""Checkpoints of transformers, by timm's names: the same outputs, and what is refused."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models.deit import VisionTransformerDistilled
from tolerance import assert_close

import dsm_ext
from dsm_ext.transformers_models.weights import is_transformers, load_transformers, to_timm

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SMALL = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56,
    "patch_size": 14,
}  # fmt: skip
VIT = SMALL | {"intermediate_size": 160}
TEXT = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
    "vocab_size": 50, "bos_token_id": 48, "eos_token_id": 49,
}  # fmt: skip


def create(kind, config, **kwargs):
    """Random weights, all of them away from their initial zeros and ones."""
    model = getattr(transformers, kind)(config, **kwargs)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "class_embedding" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "token" in name or "embedding" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.5)
            else:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def vit(kind="ViTForImageClassification", **kwargs):
    return create(kind, transformers.ViTConfig(**(VIT | {"num_labels": 10} | kwargs)))


def deit(kind, **kwargs):
    return create(kind, transformers.DeiTConfig(**(VIT | {"num_labels": 10} | kwargs)))


def dinov2(kind="Dinov2Model", **kwargs):
    return create(kind, transformers.Dinov2Config(**(SMALL | kwargs)))


def registers(**kwargs):
    config = transformers.Dinov2WithRegistersConfig(**(SMALL | kwargs))
    return create("Dinov2WithRegistersModel", config)


def clip(kind="CLIPVisionModel", **kwargs):
    config = transformers.CLIPVisionConfig(**(VIT | {"projection_dim": 24} | kwargs))
    return create(kind, config)


def whole_clip():
    config = transformers.CLIPConfig(
        vision_config=VIT, text_config=TEXT, projection_dim=24, num_labels=5
    )
    return create("CLIPModel", config)


def images_for(model):
    config = getattr(model.config, "vision_config", model.config)
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(2, config.num_channels, height, width)


@torch.no_grad()
def expected(model, images):
    """What timm's forward gives: logits, projections or the class token behind the last norm."""
    if isinstance(model, transformers.CLIPModel):
        hidden = model.vision_model(images).pooler_output
        return model.visual_projection(hidden)
    output = model(images)
    for name in ("logits", "image_embeds"):
        if name in output:
            return output[name]
    if isinstance(model, transformers.CLIPVisionModel):
        return output.pooler_output
    return output.last_hidden_state[:, 0]


def check(architecture, state, model):
    timm_model = architecture.build()
    timm_model.load_state_dict(state, strict=True)
    images = images_for(model)
    with torch.no_grad():
        assert_close(timm_model(images), expected(model, images))
    return timm_model


@pytest.fixture
def folder(tmp_path):
    """Saves a model, and gives the folder."""

    def save(model, **kwargs):
        model.save_pretrained(tmp_path, **kwargs)
        return tmp_path

    return save


MODELS = {
    "ViT": vit,
    "ViT without a head": lambda: vit("ViTModel"),
    "ViT with a mask token": lambda: create(
        "ViTModel", transformers.ViTConfig(**VIT), use_mask_token=True
    ),
    "ViT without qkv_bias": lambda: vit(qkv_bias=False),
    "ViT with gelu_pytorch_tanh": lambda: vit(hidden_act="gelu_pytorch_tanh"),
    "ViT with quick_gelu": lambda: vit(hidden_act="quick_gelu"),
    "ViT with a large eps": lambda: vit(layer_norm_eps=0.1),
    "ViT of one channel": lambda: vit(num_channels=1),
    # 44 * (109 / 44) is less than 109.
    "ViT of other widths": lambda: vit(hidden_size=44, intermediate_size=109),
    "ViT of oblong images and patches": lambda: vit(image_size=(56, 28), patch_size=(14, 7)),
    "DeiT": lambda: deit("DeiTForImageClassification"),
    "DeiT without a head": lambda: deit("DeiTModel"),
    "DeiT with a teacher": lambda: deit("DeiTForImageClassificationWithTeacher"),
    "DINOv2": dinov2,
    "DINOv2 with patches of 8": lambda: dinov2(patch_size=8),
    "DINOv2 with mlp_ratio 3": lambda: dinov2(mlp_ratio=3, qkv_bias=False),
    "DINOv2 with SwiGLU": lambda: dinov2(use_swiglu_ffn=True),
    "DINOv2 with SwiGLU of 48 channels": lambda: dinov2(use_swiglu_ffn=True, hidden_size=48),
    "DINOv2 with registers": registers,
    "DINOv2 with registers and SwiGLU": lambda: registers(
        num_register_tokens=2, use_swiglu_ffn=True
    ),
    "CLIP vision": clip,
    "CLIP vision with GELU": lambda: clip(hidden_act="gelu"),
    "CLIP vision with a projection": lambda: clip("CLIPVisionModelWithProjection"),
    "CLIP": whole_clip,
}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_agree(name, folder):
    model = MODELS[name]()
    path = folder(model)
    assert is_transformers(load_file(path / "model.safetensors"))
    architecture, state = load_transformers(path)
    assert not is_transformers(state)
    check(architecture, state, model)


@pytest.mark.parametrize("name", ["ViT", "DeiT with a teacher", "DINOv2 with registers", "CLIP"])
def test_they_are_exported_for_cpp(name, folder, tmp_path):
    model = MODELS[name]()
    checkpoint = folder(model)
    with pytest.raises(ValueError, match=r"config\.json: it is of a transformers checkpoint"):
        dsm_ext.load(checkpoint)
    fast = dsm_ext.from_transformers(checkpoint, "dense")
    core = dsm_ext._C.load_with_info(str(dsm_ext.export(fast, tmp_path / "exported")))[0]
    images = images_for(model)
    assert_close(core.forward(images), expected(model, images))


@pytest.mark.parametrize("name", ["ViT", "DeiT", "DINOv2", "DINOv2 with SwiGLU", "CLIP"])
def test_names_in_memory(name):
    model = MODELS[name]()
    assert is_transformers(model.state_dict())
    check(*to_timm(model.state_dict(), model.config.to_dict()), model)


@pytest.mark.parametrize("name", ["ViT", "DeiT", "DeiT with a teacher", "DINOv2 with registers"])
def test_all_tokens_agree(name, folder):
    model = MODELS[name]()
    architecture, state = load_transformers(folder(model))
    timm_model = check(architecture, state, model)
    images = images_for(model)
    with torch.no_grad():
        tokens = model.base_model(images).last_hidden_state
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


def test_vision_config_of_clip_may_leave_out_defaults(folder):
    model = whole_clip()
    path = folder(model)
    file = path / "config.json"
    config = json.loads(file.read_text())
    left_out = {"layer_norm_eps", "hidden_act", "num_channels"}
    config["vision_config"] = {
        k: v for k, v in config["vision_config"].items() if k not in left_out
    }
    file.write_text(json.dumps(config))
    check(*load_transformers(path), model)
    config["vision_config_dict"] = config["vision_config"]  # as older versions wrote it
    config["vision_config"] = {}
    file.write_text(json.dumps(config))
    check(*load_transformers(path), model)


def test_buffers_of_older_files_are_left_out():
    model = whole_clip()
    state = model.state_dict()
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    check(*to_timm(state, model.config.to_dict()), model)


def test_shards(folder):
    model = vit()
    path = folder(model, max_shard_size="100KB")
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


def test_pickle(folder):
    model = vit()
    path = folder(model)
    file = path / "model.safetensors"
    torch.save(load_file(file), path / "pytorch_model.bin")
    file.unlink()
    check(*load_transformers(path), model)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(name, folder):
    path = folder(vit())
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
def test_broken_file(name, content, fault, folder):
    path = folder(vit())
    (path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"^dsm_ext: .*{fault}"):
        load_transformers(path)


def test_index_without_a_map(folder):
    path = folder(vit())
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
    "a classifier on the mean of the patches": lambda: (dinov2("Dinov2ForImageClassification"), {}),
}  # fmt: skip


@pytest.mark.parametrize("fault", UNSUPPORTED)
def test_unsupported(fault):
    model, changes = UNSUPPORTED[fault]()
    config = model.config.to_dict() | changes
    with pytest.raises(NotImplementedError, match=f"^dsm_ext: .*{re.escape(fault)}"):
        to_timm(model.state_dict(), config)


def test_backbone_under_a_classifier_of_patches(folder):
    model = dinov2("Dinov2ForImageClassification", num_labels=10)
    path = folder(model)
    file = path / "model.safetensors"
    state = {k: v for k, v in load_file(file).items() if not k.startswith("classifier.")}
    save_file(state, file)
    check(*load_transformers(path), model.dinov2)


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
def test_wrong_tensors(fault, folder):
    path = folder(vit())
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


def test_names_of_timm_are_not_those_of_transformers():
    assert not is_transformers({"patch_embed.proj.weight": torch.zeros(1), "cls_token": None})


@pytest.mark.parametrize("name", ["ViT", "DeiT with a teacher", "DINOv2", "CLIP"])
def test_models_run_compiled(name, folder):
    model = MODELS[name]()
    images = images_for(model)
    fast = dsm_ext.from_transformers(folder(model), "dense")
    assert_close(fast(images), expected(model, images))
    fast.schedule = "dsm:r=2,skip=1,local=0"
    assert fast.plan.tokens_out < fast.config.tokens
    assert fast(images).shape == expected(model, images).shape
