"""Which of timm's models are supported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from timm.layers import (
    RmsNorm,
)
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva, EvaBlock
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn

from dsm_ext.error_text import described, listed
from dsm_ext.timm_models.config import activation_of
from dsm_ext.timm_models.eva_features import EVA_BLOCK_FEATURES, EVA_MODEL_FEATURES
from dsm_ext.timm_models.features import BLOCK_FEATURES, MODEL_FEATURES
from dsm_ext.timm_models.parts import EVA_PARTS, PARTS

MODELS = (TimmVisionTransformer, VisionTransformerDistilled, Eva)

# A supported model for each width.
NEAREST = {
    192: "vit_tiny_patch16_224",
    384: "vit_small_patch16_224",
    768: "vit_base_patch16_224",
    1024: "vit_large_patch16_224",
    1280: "vit_huge_patch14_224",
}


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
        if name and type(part) in MODELS:
            return f"its .{name} is timm's {type(part).__name__}: give that"
    width = getattr(model, "embed_dim", None)
    width = width if isinstance(width, int) else 768
    nearest = NEAREST[min(NEAREST, key=lambda own: abs(own - width))]
    return f"the nearest supported model is {nearest}"


def _unsupported(model: Any) -> Iterator[str]:
    if type(model) not in MODELS:
        yield f"the architecture {type(model).__module__}.{type(model).__name__}"
        return
    parts = list(_foreign_parts(model))
    if parts:  # the attributes of unknown classes may have another meaning
        yield from parts
        return
    of_model = MODEL_FEATURES + (EVA_MODEL_FEATURES if type(model) is Eva else [])
    yield from (name for name, present in of_model if present(model))
    for block in model.blocks:
        features = BLOCK_FEATURES | {EvaBlock: EVA_BLOCK_FEATURES}
        yield from (name for name, present in features[type(block)] if present(block))
    yield from _uneven_norms(model)
    if len({_shapes(block) for block in model.blocks}) != 1:
        yield "blocks of different shapes, or none"
    elif len({getattr(b, "attn", b).num_heads for b in model.blocks}) != 1:
        yield "blocks of different numbers of heads"
    if len(_activations(model)) != 1:
        yield "activations of several kinds"


def _shapes(block: nn.Module) -> tuple[Any, ...]:
    """Types and shapes in a block. The shapes of k_proj and v_proj may differ between blocks:
    ``EVA_MODEL_FEATURES`` says how."""
    own: list[Any] = [type(block), type(getattr(block, "attn", None))]
    for name, parameter in block.named_parameters():
        of_kv = name.startswith(("attn.k_proj", "attn.v_proj"))
        own.append((name, None if of_kv else tuple(parameter.shape)))
    return tuple(own)


def _uneven_norms(model: nn.Module) -> Iterator[str]:
    norms = [m for m in model.modules() if isinstance(m, (nn.LayerNorm, RmsNorm))]
    if any(p is None for norm in norms for p in norm._parameters.values()):
        yield "norms without weight or bias"
    if len({isinstance(norm, RmsNorm) for norm in norms}) > 1:
        yield "norms of several kinds"
    if len({norm.eps for norm in norms}) > 1:
        yield "norms of different eps"


def _activations(model: nn.Module) -> set[str]:
    return {
        activation_of(module)
        for name, module in model.named_modules(remove_duplicate=False)
        if name.rpartition(".")[2] in ("act", "mlp_act")
    }


def _foreign_parts(model: nn.Module) -> Iterator[str]:
    """Yield every part that is in an unknown place, or is not of a class for this place."""
    known = EVA_PARTS if type(model) is Eva else PARTS
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
        types, feature = known.get(
            "block" if place.isdecimal() else place, ((), f"a part that is unknown here, {name}")
        )
        if type(module) not in types:
            refused.append(name)
            yield feature.format(type=type(module).__name__)
