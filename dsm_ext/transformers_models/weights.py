"""Converting transformers' vision checkpoints to timm's names. transformers is not needed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timm.layers import GELU, GELUTanh, LayerNorm, Mlp, QuickGELU, SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dsm_ext.error_text import listed
from dsm_ext.transformers_models.config import KINDS, VisionConfig, contradictions, read_config
from dsm_ext.transformers_models.files import read_json, read_tensors

_ACTIVATIONS = {"gelu": GELU, "quick_gelu": QuickGELU, "gelu_pytorch_tanh": GELUTanh}

# Tensors of training, of the poolers, and of CLIP's text half.
_UNUSED = re.compile(
    r"(\w+\.)?(embeddings\.(mask_token|position_ids)|pooler\.dense\.(weight|bias))"
    r"|text_model\..+|text_projection\.weight|logit_scale"
)
# Applied in this order, to the names in files and to the names of transformers 5 in memory.
_RENAMES = (
    (rf"^({'|'.join(KINDS[:4])}|vision_model)\.", ""),
    (r"^embeddings\.(cls_token|class_embedding)$", "cls_token"),
    (r"^embeddings\.position_embedding(s|\.weight)$", "pos_embed"),
    (r"^embeddings\.patch_embedding(s\.projection)?\.", "patch_embed.proj."),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^(post_)?layernorm\.", "norm."),
    (r"^(cls_classifier|classifier|visual_projection)\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
    (r"^(encoder\.layers?|layers)\.", "blocks."),
    (r"\.(layernorm_before|layer_norm1)\.", ".norm1."),
    (r"\.(layernorm_after|layer_norm2)\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.(attention(\.attention)?|self_attn)\.(q|k|v)(uery|ey|alue|_proj)\.", r".attn.qkv.\3."),
    (r"\.(attention\.(output\.dense|o_proj)|self_attn\.out_proj)\.", ".attn.proj."),
    (r"\.(intermediate\.dense|mlp\.weights_in)\.", ".mlp.fc1."),
    (r"\.mlp\.(gate|up)_proj\.", r".mlp.fc1.\1."),
    (r"\.(output\.dense|mlp\.weights_out|mlp\.down_proj)\.", ".mlp.fc2."),
)
_TEACHER = {"cls_classifier.weight", "distillation_classifier.weight"}
# The parts that are concatenated to one tensor of timm.
_PARTS = {"attn.qkv": ("q", "k", "v"), "mlp.fc1": ("gate", "up")}


class Architecture(NamedTuple):
    """The timm model for the weights: a class and its keyword arguments."""

    model: type[VisionTransformer]
    arguments: dict[str, Any]

    def build(self) -> VisionTransformer:
        """Make the model in eval mode, with random weights."""
        return self.model(**self.arguments).eval()


def is_transformers(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a vision model of transformers, supported or not."""
    patches = re.compile(r"([\w.]+\.)?embeddings\.patch_embedding(s\.projection)?\.weight")
    return any(patches.fullmatch(name) for name in state)


def load_transformers(path: str | os.PathLike[str]) -> tuple[Architecture, dict[str, Tensor]]:
    """Read a folder of the model hub and convert it with ``to_timm``.

    Args:
        path: a folder with config.json and either model.safetensors or pytorch_model.bin. The
            latter is one file, or an index (model.safetensors.index.json) with its shards. Pickles
            are read with ``weights_only``. No file is mapped into memory.

    Raises:
        FileNotFoundError: the folder does not exist or lacks a file.
        ValueError: a file cannot be read; or as ``to_timm``.
        NotImplementedError: as ``to_timm``.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"dsm_ext: no such folder: {path}")
    config = read_json(path / "config.json")
    read_config(config)  # raises before the weights, which may be large, are read
    return to_timm(read_tensors(path), config)


def to_timm(
    state: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[Architecture, dict[str, Tensor]]:
    """Convert a checkpoint of transformers to the timm model that computes the same.

    The tensors get timm's names, and queries, keys and values are concatenated. The model pools by
    the class token. Without a head it returns this token [B, C] after the last norm.

    - DeiT with a teacher becomes timm's distilled model. DeiT without one has a head on the class
      token only, and its distillation token becomes a register token.
    - DINOv2's registers have no position. The position of the class token is added to this token,
      because timm's model does not add it.
    - CLIP's projection becomes a head with a bias of zeros, as in timm. CLIP's text half, mask
      tokens, and the poolers of ViT and DeiT are left out.

    Args:
        state: the tensors by transformers' names, as in its files or its models.
        config: config.json, of model_type vit, deit, dinov2, dinov2_with_registers,
            clip_vision_model or clip.

    Returns:
        The timm model's class and arguments, and the tensors by timm's names.

    Raises:
        NotImplementedError: another model_type; a key that is missing or has a value that timm's
            model does not compute; or a head on the patches. The message names it.
        ValueError: a value has another type or is out of range (the message names its key); or the
            tensors do not fit the config. Then the message names missing tensors by timm's names,
            unexpected and misshapen ones by the checkpoint's names, and the keys that contradict
            them.
    """
    checked = read_config(config)
    kind = checked.kind
    if kind not in ("vit", "deit") and "classifier.weight" in state:
        raise NotImplementedError(
            f"dsm_ext: transformers' {kind} with a classifier on the mean of the patches is not "
            "supported; without the classifier's tensors the backbone is converted"
        )
    given, names = _renamed(kind, state)
    arguments = _arguments(checked)
    arguments["num_classes"] = _classes(given)
    teacher = _TEACHER & state.keys()
    if kind == "deit" and not teacher:
        arguments["reg_tokens"] = 1
    architecture = Architecture(
        VisionTransformerDistilled if teacher else VisionTransformer, arguments
    )
    with torch.device("meta"):
        timm_state = architecture.build().state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in timm_state.items()}
    if arguments["no_embed_class"]:
        shapes["pos_embed"][1] += 1  # the row of the class token, which is added to it below
    try:
        out = _gathered(kind, given, names, shapes)
    except ValueError as error:
        notes = "; ".join(contradictions(checked, given))
        raise ValueError(f"{error}; {notes}" if notes else str(error)) from None
    if arguments["no_embed_class"]:
        out["cls_token"] = out["cls_token"] + out["pos_embed"][:, :1]
        out["pos_embed"] = out["pos_embed"][:, 1:]
    return architecture, out


def _classes(given: Mapping[str, Tensor]) -> int:
    heads = [given[name] for name in ("head.weight", "head_dist.weight") if name in given]
    if not heads:
        return 0
    return max(heads[0].shape[0], 1) if heads[0].ndim == 2 else 1  # other shapes are refused later


def _arguments(config: VisionConfig) -> dict[str, Any]:
    """timm's keyword arguments, without those that depend on the head."""
    channels, hidden = config.hidden_size, config.intermediate_size
    registers = config.kind == "dinov2_with_registers"
    ratio = hidden / channels  # timm computes int(channels * ratio)
    return {
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "in_chans": config.num_channels,
        "embed_dim": channels,
        "depth": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "mlp_ratio": ratio if int(channels * ratio) == hidden else (hidden + 0.5) / channels,
        "mlp_layer": SwiGLUPacked if config.use_swiglu_ffn else Mlp,
        "act_layer": nn.SiLU if config.use_swiglu_ffn else _ACTIVATIONS[config.hidden_act],
        "norm_layer": partial(LayerNorm, eps=config.layer_norm_eps),
        "qkv_bias": config.qkv_bias,
        "init_values": 1e-5 if "dinov2" in config.kind else None,  # a value makes a LayerScale
        "reg_tokens": config.num_register_tokens,
        "no_embed_class": registers,
        "pre_norm": config.kind == "clip_vision_model",
        "global_pool": "token",
    }


def _renamed(kind: str, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by timm's names, and the checkpoint's name for each. Nothing is concatenated."""
    names: dict[str, str] = {}
    for name in state:
        new = name
        for pattern, replacement in _RENAMES:
            new = re.sub(pattern, replacement, new)
        if not _UNUSED.fullmatch(name):
            names[name if new in names else new] = name  # a duplicate is reported as unexpected
    if kind == "deit" and not _TEACHER & state.keys() and "dist_token" in names:
        names["reg_token"] = names.pop("dist_token")
    given = {new: state[name] for new, name in names.items()}
    if kind == "clip_vision_model":
        for new, rank in (("cls_token", 1), ("pos_embed", 2)):  # [C] and [N, C]
            if new in given and given[new].ndim == rank:
                given[new] = given[new].reshape((1,) * (3 - rank) + given[new].shape)
        if "head.weight" in given and given["head.weight"].ndim == 2:
            given["head.bias"] = given["head.weight"].new_zeros(len(given["head.weight"]))
    return given, names


def _gathered(
    kind: str, given: dict[str, Tensor], names: dict[str, str], shapes: dict[str, list[int]]
) -> dict[str, Tensor]:
    """Check the shapes of all tensors and concatenate their parts."""
    out, used = {}, set()
    missing, misshapen = [], []
    for target, shape in shapes.items():
        place, _, leaf = target.rpartition(".")
        split = [f"{place}.{part}.{leaf}" for part in _PARTS.get(place.split(".", 2)[-1], ())]
        parts = split if any(part in given for part in split) else [target]
        wanted = [shape[0] // len(parts), *shape[1:]]
        for part in parts:
            if part not in given:
                missing.append(part)
            elif list(given[part].shape) != wanted:
                got = list(given[part].shape)
                misshapen.append(f"{names.get(part, part)} {got} (expected {wanted})")
        used.update(parts)
        if not missing and not misshapen:
            out[target] = (
                given[target] if parts == [target] else torch.cat([given[p] for p in parts])
            )
    unexpected = [name for new, name in names.items() if new not in used]
    kinds = (("missing (by timm's names)", missing), ("unexpected", unexpected))
    faults = [
        f"{fault} {listed(found)}" for fault, found in (*kinds, ("misshapen", misshapen)) if found
    ]
    if faults:
        raise ValueError(
            f"dsm_ext: the tensors are not those of transformers' {kind} with this config: "
            f"{'; '.join(faults)}"
        )
    return out
