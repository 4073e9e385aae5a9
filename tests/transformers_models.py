"""Small models of the transformers library, with random weights, and their outputs."""

import pytest
import torch
from tolerance import assert_close

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
    """A model with random weights, none of which has its initial value of 0 or 1."""
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


def dinov3(**kwargs):
    return create("DINOv3ViTModel", transformers.DINOv3ViTConfig(**(VIT | kwargs)))


def siglip(kind="SiglipVisionModel", **kwargs):
    return create(kind, transformers.SiglipVisionConfig(**(VIT | kwargs)))


def whole_siglip(kind="SiglipModel", **kwargs):
    config = transformers.SiglipConfig(vision_config=VIT, text_config=TEXT, **kwargs)
    return create(kind, config)


NAFLEX = {k: v for k, v in VIT.items() if k != "image_size"} | {"num_patches": 16}


def siglip2(kind="Siglip2VisionModel"):
    return create(kind, transformers.Siglip2VisionConfig(**NAFLEX))


def whole_siglip2(kind="Siglip2Model", **kwargs):
    config = transformers.Siglip2Config(vision_config=NAFLEX, text_config=TEXT, **kwargs)
    return create(kind, config)


def aimv2(**kwargs):
    config = transformers.Aimv2VisionConfig(**(VIT | {"use_head": False} | kwargs))
    return create("Aimv2VisionModel", config)


def mae(kind="ViTMAEModel", **kwargs):
    small = {
        "decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 32,
    }  # fmt: skip
    return create(kind, transformers.ViTMAEConfig(**(VIT | small | {"mask_ratio": 0.0} | kwargs)))


def ijepa(kind="IJepaModel", **kwargs):
    return create(kind, transformers.IJepaConfig(**(VIT | kwargs)))


def llava(kind="Llava", **vision):
    text = {
        "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 64, "vocab_size": 50,
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(vision_config=VIT | vision, text_config=text)
    return create(f"{kind}ForConditionalGeneration", config)


def images_for(model):
    config = getattr(model.config, "vision_config", model.config)
    size = getattr(config, "image_size", 4 * config.patch_size)  # SigLIP 2 here has 4 x 4 patches
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(2, config.num_channels, height, width)


def patches_of(images, size):
    """What SigLIP 2 takes in place of images: patches, their mask, and the grid of each image."""
    batch, channels, height, width = images.shape
    grid = (height // size, width // size)
    patches = images.reshape(batch, channels, grid[0], size, grid[1], size)
    patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    mask = torch.ones(patches.shape[:2], dtype=torch.int64)
    return patches, mask, torch.tensor([grid] * batch)


@torch.no_grad()
def expected(model, images):
    """What timm's forward gives: logits, projections, or the pooled tokens after the last norm."""
    kind = model.config.model_type
    tower = getattr(model.base_model, "vision_tower", None)
    if tower is not None:
        return expected(tower, images)
    if isinstance(model, (transformers.SiglipModel, transformers.Siglip2Model)):
        return expected(model.vision_model, images)
    if isinstance(model, transformers.ViTMAEForPreTraining):
        return expected(model.vit, images)
    if isinstance(model, transformers.CLIPModel):
        hidden = model.vision_model(images).pooler_output
        return model.visual_projection(hidden)
    if kind.startswith("siglip2"):
        config = getattr(model.config, "vision_config", model.config)
        patches, mask, grids = patches_of(images, config.patch_size)
        output = model(patches, mask, spatial_shapes=grids)
    else:
        output = model(images)
    for name in ("logits", "image_embeds"):
        if name in output:
            return output[name]
    if kind in ("clip_vision_model", "siglip_vision_model", "siglip2_vision_model"):
        return output.pooler_output if "pooler_output" in output else mean(output)
    return (
        mean(output) if kind in ("aimv2_vision_model", "ijepa") else output.last_hidden_state[:, 0]
    )


def mean(output):
    return output.last_hidden_state.mean(1)


def check(architecture, state, model):
    timm_model = architecture.build()
    timm_model.load_state_dict(state, strict=True)
    images = images_for(model)
    with torch.no_grad():
        assert_close(timm_model(images), expected(model, images))
    return timm_model


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
    # In floating point 44 * (109 / 44) is less than 109.
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
    "DINOv3": lambda: dinov3(num_register_tokens=4),
    "DINOv3 without registers": dinov3,
    "DINOv3 without biases": lambda: dinov3(
        query_bias=False, value_bias=False, proj_bias=False, mlp_bias=False
    ),
    "DINOv3 with all biases": lambda: dinov3(key_bias=True),
    "DINOv3 with biases of the keys alone": lambda: dinov3(
        query_bias=False, key_bias=True, value_bias=False
    ),
    "DINOv3 with a gate": lambda: dinov3(
        use_gated_mlp=True, hidden_act="silu", num_register_tokens=2, intermediate_size=88
    ),
    "DINOv3 with a gate without biases": lambda: dinov3(
        use_gated_mlp=True, hidden_act="silu", mlp_bias=False
    ),
    "DINOv3 of oblong images": lambda: dinov3(image_size=(56, 28), rope_theta=50.0),
    "SigLIP vision": siglip,
    "SigLIP vision without a pool": lambda: siglip(vision_use_head=False),
    "SigLIP": whole_siglip,
    "SigLIP with a classifier": lambda: whole_siglip("SiglipForImageClassification", num_labels=5),
    "SigLIP 2 vision": siglip2,
    "SigLIP 2": whole_siglip2,
    "SigLIP 2 with a classifier": lambda: whole_siglip2(
        "Siglip2ForImageClassification", num_labels=5
    ),
    "AIMv2": aimv2,
    "AIMv2 with qkv_bias": lambda: aimv2(qkv_bias=True),
    "AIMv2 with mlp_bias": lambda: aimv2(mlp_bias=True),
    "MAE": mae,
    "MAE with a decoder": lambda: mae("ViTMAEForPreTraining"),
    "I-JEPA": ijepa,
    "I-JEPA with a classifier": lambda: ijepa("IJepaForImageClassification", num_labels=5),
    "LLaVA with CLIP": lambda: llava(model_type="clip_vision_model"),
    "LLaVA with SigLIP": lambda: llava(model_type="siglip_vision_model", vision_use_head=False),
    "LLaVA-NeXT with CLIP": lambda: llava("LlavaNext", model_type="clip_vision_model"),
    "LLaVA-OneVision with SigLIP": lambda: llava(
        "LlavaOnevision", model_type="siglip_vision_model", vision_use_head=False
    ),
}
