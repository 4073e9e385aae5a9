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


def images_for(model):
    config = getattr(model.config, "vision_config", model.config)
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(2, config.num_channels, height, width)


@torch.no_grad()
def expected(model, images):
    """What timm's forward gives: logits, projections, or the class token after the last norm."""
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
}
