"""timm's Vision Transformers: which are supported, and what their shape is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from timm.layers import (
    GELU,
    Attention,
    DropPath,
    LayerNorm,
    Mlp,
    PatchDropout,
    PatchEmbed,
)
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn

from dsm_ext._native import Config, Schedule
from dsm_ext.model import VisionTransformer
from dsm_ext.weights import load_weights

SUPPORTED = "timm's plain ViT and DeiT, distilled or not, with a class token and a linear head"


def from_timm(
    model: nn.Module | str,
    schedule: Schedule | str = "dsm",
    *,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> VisionTransformer:
    """A compiled model with a timm model's weights.

    Args:
        model: a timm ``VisionTransformer``, whose weights are shared where dtype and device stay,
            or a name that ``timm.create_model`` takes.
        schedule: a ``Schedule``, or a string such as ``"dsm:r=16,skip=2,local=5,window=7"``.
        weights: with a name, a .safetensors, .pt or .pth file of timm's names.
        pretrained: with a name, take the weights that timm downloads.
        dtype: float32, bfloat16 or float16; None keeps the model's.
        device: None keeps the model's.

    Raises:
        NotImplementedError: the model has a feature that is not supported; the message names it.
        ValueError: the schedule or the weights do not fit; missing, unexpected, misshapen and
            non-finite weights are named.
        TypeError: an argument of another type, or weights of an unsupported dtype.
        FileNotFoundError: no such weight file.
    """
    source: Any = model
    if isinstance(model, str):
        if (weights is not None) == pretrained:
            raise ValueError(
                "dsm_ext.from_timm: expected either weights=FILE or pretrained=True beside the "
                f"name {model!r}"
            )
        source = create_timm(model, weights, pretrained)
    elif weights is not None or pretrained:
        raise TypeError("dsm_ext.from_timm: weights and pretrained go with a model's name")
    check_supported(source)
    state = {name: tensor.detach() for name, tensor in source.state_dict().items()}
    if dtype is not None or device is not None:
        state = {name: tensor.to(device=device, dtype=dtype) for name, tensor in state.items()}
    return VisionTransformer(config_of(source), schedule, state)


def create_timm(
    name: str, weights: str | os.PathLike[str] | None = None, pretrained: bool = False
) -> Any:
    """timm's own model, in eval mode: with a file's weights, timm's, or random ones.

    Raises:
        NotImplementedError, ValueError, FileNotFoundError: as ``from_timm``.
    """
    import timm

    if ":" not in name and not timm.is_model(name.split(".")[0]):  # "hf-hub:..." is a hub's
        raise ValueError(f"dsm_ext.from_timm: timm has no model named {name!r}")
    if weights is None:
        model = timm.create_model(name, pretrained=pretrained).eval()
        check_supported(model)
        return model
    with torch.device("meta"):  # for its shape alone: the file brings the weights
        model = timm.create_model(name).eval()
    check_supported(model)
    return _assign(model, load_weights(weights))


def _assign(model: nn.Module, state: dict[str, torch.Tensor]) -> nn.Module:
    """Give a model on the meta device its weights; faults are named by the compiled model."""
    own = model.state_dict()
    if own.keys() != state.keys() or any(own[k].shape != state[k].shape for k in own):
        VisionTransformer(config_of(model), "dense", state)  # raises, naming them
    model.load_state_dict(state, assign=True)
    return model


def config_of(model: Any) -> Config:
    """The shape of a supported timm model."""
    return Config(
        img_size=tuple(model.patch_embed.img_size),
        patch_size=tuple(model.patch_embed.patch_size),
        in_chans=model.patch_embed.proj.in_channels,
        num_classes=model.head.out_features,
        embed_dim=model.embed_dim,
        depth=len(model.blocks),
        num_heads=model.blocks[0].attn.num_heads,
        mlp_dim=model.blocks[0].mlp.fc1.out_features,
        distilled=isinstance(model, VisionTransformerDistilled),
        eps=model.norm.eps,
    )


def check_supported(model: nn.Module) -> None:
    """Refuse what would be computed wrongly.

    Every part must be exactly the class that the compiled model computes: an unknown one is refused
    by its name, a known feature by its own.

    Raises:
        TypeError: not a module.
        NotImplementedError: naming the features found.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"dsm_ext.from_timm: expected a timm model or its name, got {model!r}")
    features = list(dict.fromkeys(_unsupported(model)))
    if features:
        raise NotImplementedError(
            f"dsm_ext.from_timm: {type(model).__name__} with {', '.join(features)} is not "
            f"supported; supported are {SUPPORTED}"
        )


def _unsupported(model: Any) -> Iterator[str]:
    if type(model) not in (TimmVisionTransformer, VisionTransformerDistilled):
        yield f"the architecture {type(model).__module__}.{type(model).__name__}"
        return
    parts = list(_foreign_parts(model))
    if parts:  # where a part is of another class, its attributes mean nothing
        yield from parts
        return
    yield from (name for name, present in _MODEL_FEATURES if present(model))
    for block in model.blocks:
        yield from (name for name, present in _BLOCK_FEATURES if present(block))
    norms = [n for b in model.blocks for n in (b.norm1, b.norm2)] + [model.norm]
    if any(n.weight is None or n.bias is None for n in norms if not _plain(n)):
        yield "norms without weight or bias"
    if len({n.eps for n in norms if not _plain(n)}) > 1:
        yield "norms of different eps"
    if len({tuple(p.shape for p in b.parameters()) for b in model.blocks}) != 1:
        yield "blocks of different shapes, or none"
    elif len({b.attn.num_heads for b in model.blocks}) != 1:
        yield "blocks of different numbers of heads"


def _foreign_parts(model: nn.Module) -> Iterator[str]:
    """Every part must stand in a known place and be of just the class that belongs there."""
    refused: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(outer + ".") for outer in refused):
            continue  # the part around it is refused already
        place = name.rpartition(".")[2]
        if module._forward_hooks or module._forward_pre_hooks:
            yield "forward hooks"
        if any(callable(value) for value in vars(module).values()):
            yield f"a patched method in {name or 'the model'}"
        if name == "":
            continue
        types, feature = _PARTS.get(
            "block" if place.isdecimal() else place, ((), f"a part that is unknown here, {name}")
        )
        if type(module) not in types:
            refused.append(name)
            yield feature.format(type=type(module).__name__)


def _plain(module: nn.Module) -> bool:
    return type(module) is nn.Identity


_IDENTITY = (nn.Identity,)
_LINEAR = (nn.Linear,)
_NORM = (LayerNorm, nn.LayerNorm)
_DROP = (nn.Identity, nn.Dropout, DropPath, PatchDropout)  # all of them the identity in eval mode

# By the last part of a module's name: the classes that are computed, and what another one means.
_PARTS: dict[str, tuple[tuple[type, ...], str]] = {
    "patch_embed": ((PatchEmbed,), "a patch embedding other than PatchEmbed"),
    "proj": ((nn.Linear, nn.Conv2d), "a projection of type {type}"),
    "norm_pre": (_IDENTITY, "a norm before the blocks (pre_norm)"),
    "blocks": ((nn.Sequential,), "blocks in a {type}"),
    "block": ((Block,), "blocks of type {type}"),
    "norm1": (_NORM, "norms of type {type}"),
    "norm2": (_NORM, "norms of type {type}"),
    "norm": ((*_NORM, nn.Identity), "norms of type {type}"),
    "attn": ((Attention,), "an attention other than Attention"),
    "qkv": (_LINEAR, "a qkv of type {type}"),
    "q_norm": (_IDENTITY, "q/k norm"),
    "k_norm": (_IDENTITY, "q/k norm"),
    "gate": ((), "gated attention"),
    "ls1": (_IDENTITY, "LayerScale"),
    "ls2": (_IDENTITY, "LayerScale"),
    "mlp": ((Mlp,), "SwiGLU or another MLP than Mlp"),
    "fc1": (_LINEAR, "an fc1 of type {type}"),
    "fc2": (_LINEAR, "an fc2 of type {type}"),
    "act": ((GELU, nn.GELU), "an activation other than exact GELU"),
    "attn_pool": ((), "attention pooling"),
    "fc_norm": (_IDENTITY, "a norm after the pooling (fc_norm)"),
    "head": ((nn.Linear, nn.Identity), "a head other than a linear one"),
    "head_dist": ((nn.Linear, nn.Identity), "a head other than a linear one"),
    **{
        place: (_DROP, f"a {place} of type {{type}}")
        for place in (
            "pos_drop", "patch_drop", "attn_drop", "proj_drop", "drop_path1", "drop_path2",
            "drop1", "drop2", "head_drop",
        )
    },
}  # fmt: skip

_MODEL_FEATURES: list[tuple[str, Callable[[Any], bool]]] = [
    ("register tokens", lambda m: m.reg_token is not None),
    ("no class token", lambda m: m.cls_token is None),
    (
        "pooling other than by the class token (global_pool)",
        lambda m: m.global_pool != "token",
    ),
    ("no position embedding", lambda m: m.pos_embed is None),
    ("no_embed_class", lambda m: m.no_embed_class),
    ("dynamic_img_size", lambda m: m.dynamic_img_size),
    ("dynamic_img_pad", lambda m: m.patch_embed.dynamic_img_pad),
    ("a norm in the patch embedding", lambda m: not _plain(m.patch_embed.norm)),
    ("no bias in the patch embedding", lambda m: m.patch_embed.proj.bias is None),
    ("a patch embedding whose patches overlap or are padded", lambda m: not _tiles(m.patch_embed)),
    ("no final norm", lambda m: _plain(m.norm)),
    (
        "no classifier (num_classes=0)",
        lambda m: _plain(m.head) or _plain(getattr(m, "head_dist", m.head)),
    ),
    ("no bias in the head", lambda m: getattr(m.head, "bias", True) is None),
]

_BLOCK_FEATURES: list[tuple[str, Callable[[Any], bool]]] = [
    ("a norm in the attention", lambda b: not _plain(b.attn.norm)),
    ("a norm in the MLP", lambda b: not _plain(b.mlp.norm)),
    (
        "an activation other than exact GELU",
        lambda b: getattr(b.mlp.act, "approximate", "none") != "none",
    ),
    (
        "no bias in the attention",
        lambda b: b.attn.qkv.bias is None or b.attn.proj.bias is None,
    ),
    ("no bias in the MLP", lambda b: b.mlp.fc1.bias is None or b.mlp.fc2.bias is None),
    (
        "heads that do not add up to embed_dim",
        lambda b: (
            b.attn.num_heads * b.attn.head_dim != b.attn.qkv.in_features
            or b.attn.qkv.out_features != 3 * b.attn.qkv.in_features
        ),
    ),
    (
        "another attention scale than head_dim ** -0.5",
        lambda b: abs(b.attn.scale * b.attn.head_dim**0.5 - 1) > 1e-6,
    ),
]


def _tiles(patch_embed: Any) -> bool:
    proj = patch_embed.proj
    patch = tuple(patch_embed.patch_size)
    return (
        (proj.kernel_size, proj.stride, proj.padding) == (patch, patch, (0, 0))
        and proj.dilation == (1, 1)
        and proj.groups == 1
    )
