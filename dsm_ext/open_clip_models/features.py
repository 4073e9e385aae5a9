"""Which options of OpenCLIP's own VisionTransformer are supported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

_MODULE = "open_clip.transformer"
_LAYERS = ("conv1", "c_fc", "c_proj", "out_proj")


def kind_of(part: nn.Module) -> str:
    """The full name of a module's class."""
    return f"{type(part).__module__}.{type(part).__qualname__}"


def unsupported(tower: Any) -> Iterator[str]:
    """Yield the options of a VisionTransformer of OpenCLIP that timm's does not compute."""
    if tower.attn_pool is not None:
        yield "attentional_pool"
    elif tower.pool_type not in ("tok", "avg"):
        yield f"pool_type={tower.pool_type!r}"
    foreign = list(dict.fromkeys(_foreign_parts(tower)))
    if foreign:  # the attributes of unknown classes may have another meaning
        yield from foreign
        return
    for block in tower.transformer.resblocks:
        if getattr(block.attn, "logit_scale", None) is not None:
            yield "scaled_cosine_attn"
        if getattr(block.attn, "head_scale", None) is not None:
            yield "scale_heads"
        if not isinstance(getattr(block, "ln_attn", nn.Identity()), nn.Identity):
            yield "scale_attn"
        if hasattr(block, "ln_1_kv"):
            yield "is_cross_attention"
    norms = [part for part in tower.modules() if isinstance(part, nn.LayerNorm)]
    if any(norm.weight is None or norm.bias is None for norm in norms):
        yield "norms without weight or bias"
    if len({norm.eps for norm in norms}) > 1:
        yield "norms of different eps"
    if len({repr(activation_of(block.mlp.gelu)) for block in tower.transformer.resblocks}) > 1:
        yield "activations of several kinds"


def activation_of(part: nn.Module) -> str:
    """ "gelu", "gelu_tanh", "quick_gelu", or "" for another activation."""
    if type(part) is nn.GELU:
        return "gelu_tanh" if part.approximate == "tanh" else "gelu"
    return "quick_gelu" if kind_of(part) == f"{_MODULE}.QuickGELU" else ""


def _foreign_parts(tower: nn.Module) -> Iterator[str]:
    """Yield the parts whose class is not known here, such as layers that someone quantised."""
    norms = (f"{_MODULE}.LayerNorm", f"{_MODULE}.LayerNormFp32", kind_of(nn.LayerNorm(1)))
    for path, part in tower.named_modules():
        name, kind = path.rpartition(".")[2], kind_of(part)
        if name in _LAYERS:
            known = type(part) in (nn.Linear, nn.Conv2d, NonDynamicallyQuantizableLinear)
        elif name.startswith("ln_") or name == "ln":
            known = kind in norms or type(part) is nn.Identity
        elif name == "attn":
            known = type(part) is nn.MultiheadAttention or kind == f"{_MODULE}.Attention"
        elif name == "gelu":
            known = activation_of(part) != ""
        else:
            continue
        if not known:
            yield f"a {name} of type {kind}"
