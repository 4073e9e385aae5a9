"""Which of timm's Vision Transformers are supported, and the ``Config`` of a supported one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from timm.layers import (
    GELU,
    Attention,
    AttentionPoolLatent,
    DropPath,
    GELUTanh,
    GluMlp,
    LayerNorm,
    LayerScale,
    Mlp,
    PatchDropout,
    PatchEmbed,
    QuickGELU,
    RmsNorm,
    SwiGLU,
)
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, ParallelScalingBlock
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn

from dsm_ext._native import Config
from dsm_ext.described import described, listed

# A supported model for each width.
NEAREST = {
    192: "vit_tiny_patch16_224",
    384: "vit_small_patch16_224",
    768: "vit_base_patch16_224",
    1024: "vit_large_patch16_224",
    1280: "vit_huge_patch14_224",
}


def config_of(model: Any) -> Config:
    """The ``Config`` of a supported timm model."""
    block = model.blocks[0]
    parallel = isinstance(block, ParallelScalingBlock)
    attn = block if parallel else block.attn
    mlp = None if parallel else block.mlp
    norm = block.in_norm if parallel else block.norm1
    distilled = isinstance(model, VisionTransformerDistilled)
    head = None if _plain(model.head) else model.head
    return Config(
        img_size=tuple(model.patch_embed.img_size),
        patch_size=tuple(model.patch_embed.patch_size),
        in_chans=model.patch_embed.proj.in_channels,
        num_classes=head.out_features if head is not None else 0,
        embed_dim=model.embed_dim,
        depth=len(model.blocks),
        num_heads=attn.num_heads,
        mlp_dim=block.mlp_out_proj.in_features if mlp is None else mlp.fc2.in_features,
        class_token=model.cls_token is not None,
        distilled=distilled,
        reg_tokens=0 if model.reg_token is None else model.reg_token.shape[1],
        pos_embed=model.pos_embed is not None,
        no_embed_class=model.no_embed_class,
        dynamic_img_size=model.dynamic_img_size,
        block="parallel" if parallel else "sequential",
        norm_layer="rms_norm" if isinstance(norm, RmsNorm) else "layer_norm",
        eps=norm.eps,
        mlp_layer=_MLPS[type(mlp)] if mlp is not None else "mlp",
        act_layer=_activation(block.mlp_act if mlp is None else mlp.act),
        layer_scale=not _plain(block.ls if parallel else block.ls1),
        qk_norm=not _plain(attn.q_norm),
        scale_attn_norm=not parallel and not _plain(attn.norm),
        scale_mlp_norm=mlp is not None and not _plain(mlp.norm),
        qkv_bias=(block.in_proj if parallel else attn.qkv).bias is not None,
        proj_bias=(block.attn_out_proj if parallel else attn.proj).bias is not None,
        patch_bias=model.patch_embed.proj.bias is not None,
        embed_norm=not _plain(model.patch_embed.norm),
        pre_norm=not _plain(model.norm_pre),
        final_norm=not _plain(model.norm),
        global_pool="token" if distilled else model.global_pool,
        pool_include_prefix=model.pool_include_prefix,
        fc_norm=not distilled and not _plain(model.fc_norm),
        head_bias=head is None or head.bias is not None,
    )


def check_supported(model: nn.Module) -> None:
    """Refuse a model that the compiled model would compute wrongly.

    Every part must be of exactly a class that the compiled model computes. The message names
    unknown classes and unsupported features.

    Raises:
        TypeError: not a module.
        NotImplementedError: the message names the features and the nearest supported model.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"dsm_ext.from_timm: expected a timm model or its name, got {described(model)}"
        )
    features = list(dict.fromkeys(_unsupported(model)))
    if features:
        raise NotImplementedError(
            f"dsm_ext.from_timm: {type(model).__name__[:80]} with {listed(features)} is not "
            f"supported; {_instead(model)}"
        )


def _instead(model: nn.Module) -> str:
    for name, part in model.named_modules():
        if name and type(part) in (TimmVisionTransformer, VisionTransformerDistilled):
            return f"its .{name} is a Vision Transformer of timm's: give that"
    width = getattr(model, "embed_dim", None)
    width = width if isinstance(width, int) else 768
    nearest = NEAREST[min(NEAREST, key=lambda own: abs(own - width))]
    return f"the nearest supported model is {nearest}"


def _unsupported(model: Any) -> Iterator[str]:
    if type(model) not in (TimmVisionTransformer, VisionTransformerDistilled):
        yield f"the architecture {type(model).__module__}.{type(model).__name__}"
        return
    parts = list(_foreign_parts(model))
    if parts:  # the attributes of unknown classes may have another meaning
        yield from parts
        return
    yield from (name for name, present in _MODEL_FEATURES if present(model))
    for block in model.blocks:
        yield from (name for name, present in _BLOCK_FEATURES[type(block)] if present(block))
    yield from _uneven_norms(model)
    if len({(type(b), *(tuple(p.shape) for p in b.parameters())) for b in model.blocks}) != 1:
        yield "blocks of different shapes, or none"
    elif len({getattr(b, "attn", b).num_heads for b in model.blocks}) != 1:
        yield "blocks of different numbers of heads"
    if len(_activations(model)) != 1:
        yield "activations of several kinds"


def _uneven_norms(model: nn.Module) -> Iterator[str]:
    norms = [m for m in model.modules() if isinstance(m, (nn.LayerNorm, RmsNorm))]
    if any(p is None for norm in norms for p in norm._parameters.values()):
        yield "norms without weight or bias"
    if len({isinstance(norm, RmsNorm) for norm in norms}) > 1:
        yield "norms of several kinds"
    if len({norm.eps for norm in norms}) > 1:
        yield "norms of different eps"


def _activation(module: nn.Module) -> str:
    if type(module) is nn.GELU and module.approximate == "tanh":
        return "gelu_tanh"
    return _ACTIVATIONS[type(module)]


def _activations(model: nn.Module) -> set[str]:
    return {
        _activation(module)
        for name, module in model.named_modules(remove_duplicate=False)
        if name.rpartition(".")[2] in ("act", "mlp_act")
    }


def _foreign_parts(model: nn.Module) -> Iterator[str]:
    """Yield every part that is in an unknown place, or is not of a class for this place."""
    refused: list[str] = []
    for name, module in model.named_modules(remove_duplicate=False):
        if any(name.startswith(outer + ".") for outer in refused):
            continue  # a part around this one is refused already
        place = name.rpartition(".")[2]
        if module._forward_hooks or module._forward_pre_hooks:
            yield "forward hooks"
        own = {k: v for k, v in vars(module).items() if k != "_compiled_call_impl"}
        if any(callable(value) for value in own.values()):
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
_NORM = (LayerNorm, nn.LayerNorm, RmsNorm)
_NORM_OR_NONE = (*_NORM, nn.Identity)
_SCALE = (LayerScale, nn.Identity)
_DROP = (nn.Identity, nn.Dropout, DropPath, PatchDropout)  # each is the identity in eval mode
_MLPS: dict[type, str] = {Mlp: "mlp", GluMlp: "glu", SwiGLU: "swiglu"}
_ACTIVATIONS: dict[type, str] = {
    GELU: "gelu",
    nn.GELU: "gelu",
    GELUTanh: "gelu_tanh",
    QuickGELU: "quick_gelu",
    nn.SiLU: "silu",
}

# For the last part of a module's name: the supported classes, and what to say of another class.
_PARTS: dict[str, tuple[tuple[type, ...], str]] = {
    "patch_embed": ((PatchEmbed,), "a patch embedding of type {type}"),
    "blocks": ((nn.Sequential,), "blocks in a {type}"),
    "block": ((Block, ParallelScalingBlock), "blocks of type {type}"),
    "attn": ((Attention,), "an attention of type {type}"),
    "gate": ((), "gated attention"),
    "mlp": (tuple(_MLPS), "an MLP of type {type}"),
    "attn_pool": ((AttentionPoolLatent,), "a pooling of type {type}"),
    "head": ((nn.Linear, nn.Identity), "a head of type {type}"),
    "head_dist": ((nn.Linear, nn.Identity), "a head of type {type}"),
    "out_proj": ((), "one output projection of attention and MLP together (fuse_out_proj)"),
    "proj": ((nn.Linear, nn.Conv2d), "a projection of type {type}"),
    "act": (tuple(_ACTIVATIONS), "an activation of type {type}"),
    "mlp_act": (tuple(_ACTIVATIONS), "an activation of type {type}"),
    **{
        place: (_LINEAR, f"a {place} of type {{type}}")
        for place in (
            "qkv", "fc1", "fc1_g", "fc1_x", "fc2", "q", "kv", "in_proj", "attn_out_proj",
            "mlp_out_proj",
        )
    },
    **{place: (_NORM, "norms of type {type}") for place in ("norm1", "norm2", "in_norm")},
    **{
        place: (_NORM_OR_NONE, "norms of type {type}")
        for place in ("norm", "norm_pre", "fc_norm", "q_norm", "k_norm")
    },
    **{place: (_SCALE, f"a {place} of type {{type}}") for place in ("ls", "ls1", "ls2")},
    **{
        place: (_DROP, f"a {place} of type {{type}}")
        for place in (
            "pos_drop", "patch_drop", "attn_drop", "proj_drop", "mlp_drop", "drop_path",
            "drop_path1", "drop_path2", "drop1", "drop2", "head_drop",
        )
    },
}  # fmt: skip


def _tiles(patch_embed: Any) -> bool:
    proj = patch_embed.proj
    patch = tuple(patch_embed.patch_size)
    return (
        (proj.kernel_size, proj.stride, proj.padding) == (patch, patch, (0, 0))
        and proj.dilation == (1, 1)
        and proj.groups == 1
    )


def _usual_pool(pool: Any) -> bool:
    """Whether an attention pool is like those of timm's Vision Transformers."""
    return (
        pool.latent_len == 1
        and pool.pool == "token"
        and pool.pos_embed is None
        and _plain(pool.q_norm)
        and _plain(pool.k_norm)
        and not _plain(pool.q)
        and not _plain(pool.norm)
        and pool.mlp is not None
        and _plain(pool.mlp.norm)
        and not _unusual_scale(pool)
        and None not in (pool.q.bias, pool.kv.bias, pool.mlp.fc1.bias, pool.mlp.fc2.bias)
    )


def _fits_blocks(model: Any) -> Any:
    """Whether an attention pool has the same heads and hidden width as the blocks."""
    pool, block = model.attn_pool, model.blocks[0]
    parallel = type(block) is ParallelScalingBlock
    heads = (block if parallel else block.attn).num_heads
    hidden = (block.mlp_out_proj if parallel else block.mlp.fc2).in_features
    return (pool.num_heads, pool.mlp.fc2.in_features) == (heads, hidden)


def _names(count: int) -> list[str]:
    return [str(i) for i in range(count)]


def _unusual_scale(attn: Any) -> bool:
    return abs(attn.scale * attn.head_dim**0.5 - 1) > 1e-6


def _prefix(model: Any) -> int:
    tokens = (model.cls_token, getattr(model, "dist_token", None), model.reg_token)
    return sum(token.shape[1] for token in tokens if token is not None)


def _grid(patch_embed: Any) -> tuple[int, ...]:
    sides = zip(patch_embed.img_size, patch_embed.patch_size, strict=True)
    return tuple(side // patch for side, patch in sides)


_MODEL_FEATURES: list[tuple[str, Callable[[Any], bool]]] = [
    ("no image size of its own (img_size=None)", lambda m: m.patch_embed.img_size is None),
    (
        "a grid_size that is not its img_size's",
        lambda m: (
            m.patch_embed.img_size is not None
            and tuple(m.patch_embed.grid_size) != _grid(m.patch_embed)
        ),
    ),
    ("another num_prefix_tokens than it has", lambda m: m.num_prefix_tokens != _prefix(m)),
    (
        "blocks in another order than their names'",
        lambda m: list(m.blocks._modules) != _names(len(m.blocks)),
    ),
    ("dynamic_img_pad", lambda m: m.patch_embed.dynamic_img_pad),
    ("a patch embedding whose patches overlap or are padded", lambda m: not _tiles(m.patch_embed)),
    (
        "a pooling other than token, avg or map (global_pool)",
        lambda m: m.global_pool not in ("", "token", "avg", "map"),
    ),
    (
        "a head on tokens that are not pooled (global_pool='')",
        lambda m: m.global_pool == "" and not (_plain(m.head) and _plain(m.fc_norm)),
    ),
    (
        "an attention pool other than timm's Vision Transformers make",
        lambda m: m.attn_pool is not None and not _usual_pool(m.attn_pool),
    ),
    (
        "an attention pool of other heads or width than the blocks'",
        lambda m: (
            m.attn_pool is not None
            and _usual_pool(m.attn_pool)
            and len(m.blocks) > 0
            and not _fits_blocks(m)
        ),
    ),
    (
        "a distilled head beside registers or a norm of the pooled tokens",
        lambda m: (
            isinstance(m, VisionTransformerDistilled)
            and (m.reg_token is not None or m.cls_token is None or not _plain(m.fc_norm))
        ),
    ),
    (
        "two heads of different kinds",
        lambda m: (
            isinstance(m, VisionTransformerDistilled)
            and (
                type(m.head) is not type(m.head_dist)
                or (getattr(m.head, "bias", None) is None)
                != (getattr(m.head_dist, "bias", None) is None)
            )
        ),
    ),
]

_BLOCK_FEATURES: dict[type, list[tuple[str, Callable[[Any], bool]]]] = {
    Block: [
        (
            "a bias in some of attention's projection and the MLP's layers only",
            lambda b: (
                len({m.bias is None for m in b.mlp.children() if type(m) is nn.Linear}
                    | {b.attn.proj.bias is None}) > 1
            ),
        ),
        (
            "heads that do not add up to embed_dim",
            lambda b: (
                b.attn.num_heads * b.attn.head_dim != b.attn.qkv.in_features
                or b.attn.qkv.out_features != 3 * b.attn.qkv.in_features
            ),
        ),
        ("another attention scale than head_dim ** -0.5", lambda b: _unusual_scale(b.attn)),
        ("a gate in the MLP's second half", lambda b: getattr(b.mlp, "gate_last", False)),
        ("LayerScale in one branch only", lambda b: _plain(b.ls1) != _plain(b.ls2)),
        (
            "a norm of queries or keys only",
            lambda b: _plain(b.attn.q_norm) != _plain(b.attn.k_norm),
        ),
    ],
    ParallelScalingBlock: [
        ("another attention scale than head_dim ** -0.5", _unusual_scale),
        ("a norm of queries or keys only", lambda b: _plain(b.q_norm) != _plain(b.k_norm)),
        (
            "a bias in one output projection only",
            lambda b: (b.attn_out_proj.bias is None) != (b.mlp_out_proj.bias is None),
        ),
    ],
}  # fmt: skip
