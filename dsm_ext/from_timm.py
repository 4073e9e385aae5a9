"""timm's Vision Transformers: which are supported, and what their shape is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from timm.layers import GELU, Attention, LayerNorm, Mlp, PatchEmbed
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
    if isinstance(model, str):
        model = _create(model, weights, pretrained)
    elif weights is not None or pretrained:
        raise TypeError("dsm_ext.from_timm: weights and pretrained go with a model's name")
    check_supported(model)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if dtype is not None or device is not None:
        state = {name: tensor.to(device=device, dtype=dtype) for name, tensor in state.items()}
    return VisionTransformer(config_of(model), schedule, state)


def _create(name: str, weights: str | os.PathLike[str] | None, pretrained: bool) -> nn.Module:
    import timm

    if (weights is not None) == pretrained:
        raise ValueError(
            f"dsm_ext.from_timm: expected either weights=FILE or pretrained=True beside the name "
            f"{name!r}"
        )
    if not timm.is_model(name.split(".")[0]):
        raise ValueError(f"dsm_ext.from_timm: timm has no model named {name!r}")
    if weights is None:
        return timm.create_model(name, pretrained=True).eval()
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
    yield from _named(model, _MODEL_TYPES) or _named(model, _MODEL_FEATURES)
    odd = {type(block).__name__ for block in model.blocks if type(block) is not Block}
    yield from (f"blocks of type {name}" for name in sorted(odd))
    blocks = [block for block in model.blocks if type(block) is Block]
    for block in blocks:
        yield from _named(block, _BLOCK_TYPES) or _named(block, _BLOCK_FEATURES)
    norms = [n for block in blocks for n in (block.norm1, block.norm2)]
    norms += [] if _plain(model.norm) else [model.norm]
    for norm in norms:
        if type(norm) not in (LayerNorm, nn.LayerNorm):
            yield f"norms of type {type(norm).__name__}"
        elif norm.weight is None or norm.bias is None:
            yield "norms without weight or bias"
    if len({getattr(norm, "eps", None) for norm in norms}) > 1:
        yield "norms of different eps"
    if len({tuple(p.shape for p in block.parameters()) for block in model.blocks}) != 1:
        yield "blocks of different shapes, or none"
    elif len({getattr(block.attn, "num_heads", None) for block in blocks}) > 1:
        yield "blocks of different numbers of heads"


def _named(part: Any, features: list[tuple[str, Callable[[Any], bool]]]) -> list[str]:
    return [name for name, present in features if present(part)]


def _plain(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity)


def _exact_gelu(act: nn.Module) -> bool:
    return type(act) is GELU or (type(act) is nn.GELU and act.approximate == "none")


# Types come first: where a part is of another class, its features mean nothing.
_MODEL_TYPES: list[tuple[str, Callable[[Any], bool]]] = [
    (
        "a patch embedding other than PatchEmbed",
        lambda m: (
            type(m.patch_embed) is not PatchEmbed or type(m.patch_embed.proj) is not nn.Conv2d
        ),
    ),
    ("no classifier (num_classes=0)", lambda m: _plain(m.head)),
    ("a head other than a linear one", lambda m: type(m.head) not in (nn.Linear, nn.Identity)),
]

_MODEL_FEATURES: list[tuple[str, Callable[[Any], bool]]] = [
    ("register tokens", lambda m: m.reg_token is not None),
    ("no class token", lambda m: m.cls_token is None),
    ("attention pooling", lambda m: m.attn_pool is not None),
    (
        "pooling other than by the class token (global_pool)",
        lambda m: m.global_pool != "token",
    ),
    ("no position embedding", lambda m: m.pos_embed is None),
    ("no_embed_class", lambda m: m.no_embed_class),
    ("dynamic_img_size", lambda m: m.dynamic_img_size),
    ("dynamic_img_pad", lambda m: m.patch_embed.dynamic_img_pad),
    ("a norm in the patch embedding", lambda m: not _plain(m.patch_embed.norm)),
    ("a norm before the blocks (pre_norm)", lambda m: not _plain(m.norm_pre)),
    ("no bias in the patch embedding", lambda m: m.patch_embed.proj.bias is None),
    ("a norm after the pooling (fc_norm)", lambda m: not _plain(m.fc_norm)),
    ("no final norm", lambda m: _plain(m.norm)),
    ("no bias in the head", lambda m: m.head.bias is None),
]

_BLOCK_TYPES: list[tuple[str, Callable[[Any], bool]]] = [
    ("LayerScale", lambda b: not (_plain(b.ls1) and _plain(b.ls2))),
    ("SwiGLU or another MLP than Mlp", lambda b: type(b.mlp) is not Mlp),
    ("an attention other than Attention", lambda b: type(b.attn) is not Attention),
]

_BLOCK_FEATURES: list[tuple[str, Callable[[Any], bool]]] = [
    ("q/k norm", lambda b: not (_plain(b.attn.q_norm) and _plain(b.attn.k_norm))),
    ("a norm in the attention", lambda b: not _plain(b.attn.norm)),
    ("gated attention", lambda b: getattr(b.attn, "gate", None) is not None),
    ("a norm in the MLP", lambda b: not _plain(b.mlp.norm)),
    ("an activation other than exact GELU", lambda b: not _exact_gelu(b.mlp.act)),
    (
        "no bias in the attention",
        lambda b: b.attn.qkv.bias is None or b.attn.proj.bias is None,
    ),
    ("no bias in the MLP", lambda b: b.mlp.fc1.bias is None or b.mlp.fc2.bias is None),
    (
        "heads that do not add up to embed_dim",
        lambda b: b.attn.qkv.out_features != 3 * b.attn.qkv.in_features,
    ),
]
