"""Converting OpenCLIP's image towers to timm's models. OpenCLIP is not imported."""

from __future__ import annotations

import copy
import re
from functools import partial
from typing import Any

import torch
from timm.layers import GELU, GELUTanh, LayerNorm, QuickGELU
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dsm_ext.error_text import described, listed
from dsm_ext.open_clip_models.features import activation_of, kind_of, unsupported
from dsm_ext.timm_models.support import check_supported

OWN = "open_clip.transformer.VisionTransformer"
TIMM = "open_clip.timm_model.TimmModel"

_ACTIVATIONS = {"gelu": GELU, "gelu_tanh": GELUTanh, "quick_gelu": QuickGELU}
_RENAMES = (
    (r"^conv1\.", "patch_embed.proj."),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.ls_([12])\.", r".ls\1."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.attn\.ln_([qk])\.", r".attn.\1_norm."),
    (r"\.attn\.ln_inner\.", ".attn.norm."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.ln\.", ".mlp.norm."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


def tower_of(model: Any) -> nn.Module:
    """The image tower of an OpenCLIP model, or the tower itself.

    Raises:
        TypeError: not a model of OpenCLIP.
        NotImplementedError: a tower of another kind, such as a ResNet.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"dsm_ext.from_open_clip: expected a model of OpenCLIP, got {described(model)}"
        )
    tower = model._modules.get("visual") or model
    kind = kind_of(tower)
    if kind in (OWN, TIMM):
        return tower
    if not kind.startswith("open_clip."):
        raise TypeError(f"dsm_ext.from_open_clip: expected a model of OpenCLIP, got a {kind[:200]}")
    raise NotImplementedError(
        f"dsm_ext.from_open_clip: an image tower of type {kind[:200]} is not supported; supported "
        f"are {OWN} and {TIMM}"
    )


def as_timm(tower: nn.Module) -> nn.Module:
    """The timm model that computes the same as a tower.

    Raises:
        NotImplementedError: an option of the tower is not supported. The message names it.
    """
    if kind_of(tower) == TIMM:
        return _with_head(tower)
    features = list(dict.fromkeys(unsupported(tower)))
    if features:
        raise NotImplementedError(
            f"dsm_ext.from_open_clip: OpenCLIP's VisionTransformer with {listed(features)} is not "
            "supported"
        )
    with torch.device("meta"):
        model = VisionTransformer(**_arguments(tower)).eval()
    model.load_state_dict(_renamed(tower), assign=True)
    return model


def _arguments(tower: Any) -> dict[str, Any]:
    """The keyword arguments of timm's VisionTransformer."""
    width, block = tower.conv1.out_channels, tower.transformer.resblocks[0]
    attn, hidden = block.attn, block.mlp.c_fc.out_features
    mean_first = tower.pool_type == "avg" and tower.final_ln_after_pool
    return {
        "img_size": tower.image_size,
        "patch_size": tower.patch_size,
        "in_chans": tower.conv1.in_channels,
        "num_classes": 0 if tower.proj is None else tower.proj.shape[1],
        "global_pool": "token" if tower.pool_type == "tok" else "avg",
        "embed_dim": width,
        "depth": len(tower.transformer.resblocks),
        "num_heads": attn.num_heads,
        "mlp_ratio": (hidden + 0.5) / width,  # timm computes int(width * mlp_ratio)
        "init_values": None if isinstance(block.ls_1, nn.Identity) else 1e-5,
        "qk_norm": _has_norm(attn, "ln_q"),
        "scale_attn_norm": _has_norm(attn, "ln_inner"),
        "scale_mlp_norm": _has_norm(block.mlp, "ln"),
        "pre_norm": not isinstance(tower.ln_pre, nn.Identity),
        "fc_norm": mean_first,
        "act_layer": _ACTIVATIONS[activation_of(block.mlp.gelu)],
        "norm_layer": partial(LayerNorm, eps=tower.ln_post.eps),
    }


def _has_norm(part: nn.Module, name: str) -> bool:
    return not isinstance(getattr(part, name, nn.Identity()), nn.Identity)


def _renamed(tower: Any) -> dict[str, Tensor]:
    """The weights of OpenCLIP's VisionTransformer by timm's names."""
    state: dict[str, Tensor] = {}
    norm = "fc_norm." if tower.pool_type == "avg" and tower.final_ln_after_pool else "norm."
    for name, tensor in tower.state_dict().items():
        new = re.sub(r"^ln_post\.", norm, name)
        for pattern, replacement in _RENAMES:
            new = re.sub(pattern, replacement, new)
        state[new] = tensor
    width = tower.conv1.out_channels
    state["cls_token"] = state["cls_token"].reshape(1, 1, width)
    state["pos_embed"] = state["pos_embed"].unsqueeze(0)
    if isinstance(tower.ln_pre, nn.Identity):  # timm's patches have a bias unless a norm follows
        state["patch_embed.proj.bias"] = state["patch_embed.proj.weight"].new_zeros(width)
    if tower.proj is not None:
        state["head.weight"] = state.pop("proj").T.contiguous()
        state["head.bias"] = state["head.weight"].new_zeros(len(state["head.weight"]))
    return state


def _with_head(tower: Any) -> nn.Module:
    """timm's model, with the tower's projection as its head."""
    trunk, parts = tower.trunk, dict(tower.head.named_children())
    check_supported(trunk)
    parts.pop("drop", None)
    if not parts:
        return trunk
    projection = parts.pop("proj", None)
    if parts or type(projection) is not nn.Linear:
        kinds = listed(f"head.{name} of type {kind_of(part)}" for name, part in parts.items())
        raise NotImplementedError(
            f"dsm_ext.from_open_clip: OpenCLIP's TimmModel with {kinds or 'another head.proj'} is "
            "not supported; dsm_ext.from_timm(model.visual.trunk) gives the input of this head"
        )
    if not isinstance(getattr(trunk, "head", None), nn.Identity):
        raise NotImplementedError(
            "dsm_ext.from_open_clip: OpenCLIP's TimmModel with two heads is not supported"
        )
    model = copy.copy(trunk)  # shares the parts, so that the tower keeps its own head
    model._modules = dict(trunk._modules)
    model.head, model.num_classes = projection, projection.out_features
    return model
