"""Small models of OpenCLIP, with random weights."""

import pytest
import timm
import torch

open_clip = pytest.importorskip("open_clip", reason="open_clip_torch is not installed")

VISION = {"layers": 2, "width": 64, "head_width": 16, "patch_size": 14, "image_size": 56}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
TRUNK = {"img_size": 56, "patch_size": 14, "embed_dim": 64, "depth": 2, "num_heads": 4}


def randomized(model):
    """Move weights away from their initial zeros and ones, so that tests notice a lost one."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "embedding" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def clip(kind="CLIP", **vision):
    """A model with OpenCLIP's own VisionTransformer."""
    quick_gelu = vision.pop("quick_gelu", False)
    return randomized(
        getattr(open_clip, kind)(24, VISION | vision, TEXT, quick_gelu=quick_gelu, output_dict=True)
    )


def coca(**vision):
    decoder = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    text = TEXT | {"embed_cls": True, "output_tokens": True}
    return randomized(open_clip.CoCa(24, decoder, text, VISION | {"output_tokens": True} | vision))


def timm_tower(monkeypatch, make=timm.models.vision_transformer.VisionTransformer, **options):
    """A model with a ``TimmModel``. OpenCLIP makes its trunk by a name, here of a small model.

    Args:
        options: arguments of the trunk, and those of OpenCLIP's config that begin with "timm_".
    """
    vision = {key: options.pop(key) for key in list(options) if key.startswith("timm_")}

    def create(name, pretrained, num_classes=1000, **kwargs):
        assert name == "small" and not pretrained
        kwargs = {key: value for key, value in kwargs.items() if value}
        model = make(**(TRUNK | options | kwargs), num_classes=num_classes)
        model.default_cfg = {"pool_size": None}
        return model

    monkeypatch.setattr(timm, "create_model", create)
    vision = {"timm_model_name": "small", "image_size": 56} | vision
    return randomized(open_clip.CustomTextCLIP(24, vision, TEXT))


def images_for(model, batch=2):
    return torch.randn(batch, 3, *model.visual.image_size)


@torch.no_grad()
def expected(model, images):
    return model.encode_image(images, normalize=False)
