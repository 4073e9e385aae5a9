"""The classes of timm's parts that the compiled model computes."""

from __future__ import annotations

from timm.layers import (
    Attention,
    AttentionPoolLatent,
    AttentionRope,
    DropPath,
    LayerNorm,
    LayerScale,
    PatchDropout,
    PatchDropoutWithIndices,
    PatchEmbed,
    RmsNorm,
)
from timm.models.eva import EvaAttention, EvaBlock
from timm.models.vision_transformer import Block, ParallelScalingBlock
from torch import nn

from dsm_ext.timm_models.config import ACTIVATIONS, MLPS
from dsm_ext.timm_models.eva import ROPES

_LINEAR = (nn.Linear,)
_NORM = (LayerNorm, nn.LayerNorm, RmsNorm)
_NORM_OR_NONE = (*_NORM, nn.Identity)
_SCALE = (LayerScale, nn.Identity)
# Each is the identity in eval mode.
_DROP = (nn.Identity, nn.Dropout, DropPath, PatchDropout, PatchDropoutWithIndices)

# For the last part of a module's name: the supported classes, and what to say of another class.
PARTS: dict[str, tuple[tuple[type, ...], str]] = {
    "patch_embed": ((PatchEmbed,), "a patch embedding of type {type}"),
    "blocks": ((nn.Sequential,), "blocks in a {type}"),
    "block": ((Block, ParallelScalingBlock), "blocks of type {type}"),
    "attn": ((Attention,), "an attention of type {type}"),
    "gate": ((), "gated attention"),
    "mlp": (tuple(MLPS), "an MLP of type {type}"),
    "attn_pool": ((AttentionPoolLatent,), "a pooling of type {type}"),
    "head": ((nn.Linear, nn.Identity), "a head of type {type}"),
    "head_dist": ((nn.Linear, nn.Identity), "a head of type {type}"),
    "out_proj": ((), "one output projection of attention and MLP together (fuse_out_proj)"),
    "proj": ((nn.Linear, nn.Conv2d), "a projection of type {type}"),
    "act": (tuple(ACTIVATIONS), "an activation of type {type}"),
    "mlp_act": (tuple(ACTIVATIONS), "an activation of type {type}"),
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
# The same for timm's Eva.
EVA_PARTS: dict[str, tuple[tuple[type, ...], str]] = PARTS | {
    "blocks": ((nn.ModuleList,), "blocks in a {type}"),
    "block": ((EvaBlock,), "blocks of type {type}"),
    "attn": ((EvaAttention, AttentionRope), "an attention of type {type}"),
    "rope": (tuple(ROPES), "rotary positions of type {type}"),
    **{place: (_LINEAR, f"a {place} of type {{type}}") for place in ("q_proj", "k_proj", "v_proj")},
}
