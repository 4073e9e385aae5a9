"""timm models with random weights, small enough to build in every test."""

import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer


def randomize(model):
    """Move weights away from their initial zeros and ones, so that tests notice a lost one."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "token" in name or "pos_embed" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model.eval()


def create(name, **kwargs):
    return randomize(timm.create_model(name, **kwargs))


def small(distilled=False, **kwargs):
    """A model with 4 blocks, 32 channels and a grid of 14 x 14 patches."""
    arguments = {
        "img_size": 56, "patch_size": 4, "embed_dim": 32, "depth": 4, "num_heads": 2,
        "num_classes": 10,
    }  # fmt: skip
    kind = VisionTransformerDistilled if distilled else VisionTransformer
    return randomize(kind(**(arguments | kwargs)))


def small_eva(**kwargs):
    """timm's ``Eva`` with 4 blocks, 32 channels, a grid of 14 x 14 patches and rotations.

    Its matrices are larger than timm's initial ones, so that tests notice a wrong rotation.
    """
    arguments = {
        "img_size": 56, "patch_size": 4, "embed_dim": 32, "depth": 4, "num_heads": 2,
        "num_classes": 10, "use_rot_pos_emb": True,
    }  # fmt: skip
    model = randomize(Eva(**(arguments | kwargs)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and name.endswith("weight"):
                parameter.normal_(std=0.6 * parameter.shape[1] ** -0.5)
    return model


def prepared(**kwargs):
    """``small`` with a ``pretrained_cfg``, which says how to prepare pictures for the model."""
    model = small(**kwargs)
    model.pretrained_cfg = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    return model


def images_for(model, batch):
    height, width = model.patch_embed.img_size
    return torch.randn(batch, model.patch_embed.proj.in_channels, height, width)
