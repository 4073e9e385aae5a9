"""Hugging Face transformers' vision checkpoints by timm's names; transformers is not needed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timm.layers import GELU, GELUTanh, LayerNorm, Mlp, QuickGELU, SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dsm_ext.weights import _load_pickle, load_weights

_KINDS = ("vit", "deit", "dinov2", "dinov2_with_registers", "clip_vision_model")
_ACTIVATIONS = {"gelu": GELU, "quick_gelu": QuickGELU, "gelu_pytorch_tanh": GELUTanh}
_CLIP_DEFAULTS: dict[str, Any] = {  # a vision_config may hold no more than what differs from them
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}  # fmt: skip

# Of training, of the poolers and of CLIP's text half.
_UNUSED = re.compile(
    r"(\w+\.)?(embeddings\.(mask_token|position_ids)|pooler\.dense\.(weight|bias))"
    r"|text_model\..+|text_projection\.weight|logit_scale"
)
# Applied one after another, to the names in files and to those that transformers 5 has in memory.
_RENAMES = (
    (rf"^({'|'.join(_KINDS[:4])}|vision_model)\.", ""),
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
# Of a tensor of timm's, the parts that are concatenated.
_PARTS = {"attn.qkv": ("q", "k", "v"), "mlp.fc1": ("gate", "up")}


class Architecture(NamedTuple):
    """The timm model that takes the weights: a class and its keyword arguments."""

    model: type[VisionTransformer]
    arguments: dict[str, Any]

    def build(self) -> VisionTransformer:
        """It, in eval mode, with random weights."""
        return self.model(**self.arguments).eval()


def is_transformers(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a vision model of transformers, supported or not."""
    patches = re.compile(r"([\w.]+\.)?embeddings\.patch_embedding(s\.projection)?\.weight")
    return any(patches.fullmatch(name) for name in state)


def load_transformers(path: str | os.PathLike[str]) -> tuple[Architecture, dict[str, Tensor]]:
    """``to_timm`` of a folder as the hub lays it out.

    Args:
        path: holds config.json beside model.safetensors or pytorch_model.bin, either whole or as
            an index (model.safetensors.index.json) and its shards. Pickles are read with
            ``weights_only``.

    Raises:
        FileNotFoundError: no such folder, or a file that it lacks.
        ValueError: a file cannot be read as what its name says, or as ``to_timm``.
        NotImplementedError: as ``to_timm``.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"dsm_ext: no such folder: {path}")
    config = _load_json(path / "config.json")
    return to_timm(_load_state(path), config)


def to_timm(
    state: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[Architecture, dict[str, Tensor]]:
    """The timm model that computes what a checkpoint of transformers does, and its weights.

    Tensors are renamed, and the queries', keys' and values' concatenated. The model pools by the
    class token; without a head it gives that token [B, C] behind the last norm.

    - DeiT with a teacher becomes timm's distilled model. DeiT without one has its head on the class
      token alone, and its distillation token becomes a register token.
    - DINOv2's registers have no position; the class token's is added to it, as timm does.
    - CLIP's projection becomes a head with a bias of zeros, as in timm. Its text half is left out.
    - Left out as well: mask tokens, and the poolers of ViT and DeiT.

    Args:
        state: the tensors, by their names in transformers' files or in its models.
        config: config.json, of model_type vit, deit, dinov2, dinov2_with_registers,
            clip_vision_model or clip.

    Raises:
        NotImplementedError: another model_type, a config without a key or with a value that timm's
            model does not compute, or a head that takes the patches; the message names it.
        ValueError: the tensors are not those of the config; missing ones are named as in timm,
            unexpected and misshapen ones as in the checkpoint.
    """
    kind, config = _vision_config(config)
    features = list(_unsupported(kind, config, state))
    if features:
        raise NotImplementedError(
            f"dsm_ext: transformers' {kind} with {', '.join(features)} is not supported"
        )
    given, names = _renamed(kind, state)
    arguments = _arguments(kind, config)
    heads = [given[name] for name in ("head.weight", "head_dist.weight") if name in given]
    arguments["num_classes"] = len(heads[0]) if heads else 0
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
        shapes["pos_embed"][1] += 1  # the class token's, added to it below
    out = _gathered(kind, given, names, shapes)
    if arguments["no_embed_class"]:
        out["cls_token"] = out["cls_token"] + out["pos_embed"][:, :1]
        out["pos_embed"] = out["pos_embed"][:, 1:]
    return architecture, out


def _vision_config(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    kind = config.get("model_type")
    if kind == "clip":
        vision = _CLIP_DEFAULTS | (config.get("vision_config") or {})
        override = config.get("vision_config_dict")  # some files have both, and this one counts
        return "clip_vision_model", vision | (_CLIP_DEFAULTS | override if override else {})
    if kind not in _KINDS:
        raise NotImplementedError(
            f"dsm_ext: transformers' model_type {kind!r} is not supported; supported are "
            f"{', '.join(_KINDS)} and clip"
        )
    return kind, dict(config)


def _unsupported(kind: str, config: dict[str, Any], state: Mapping[str, Tensor]) -> Iterator[str]:
    keys = _CLIP_DEFAULTS.keys() - {"intermediate_size"}
    keys |= {"mlp_ratio" if "dinov2" in kind else "intermediate_size"}
    keys |= {"num_register_tokens"} if kind == "dinov2_with_registers" else set()
    absent = sorted(key for key in keys if config.get(key) is None)
    if absent:
        yield f"no {', no '.join(absent)} in its config"
        return
    if config["hidden_act"] not in _ACTIVATIONS and not config.get("use_swiglu_ffn"):
        yield f"hidden_act {config['hidden_act']!r}"
    if config["hidden_size"] % config["num_attention_heads"]:
        yield f"hidden_size {config['hidden_size']} in {config['num_attention_heads']} heads"
    if kind in ("vit", "deit"):
        return
    if config.get("num_register_tokens") == 0:
        yield "num_register_tokens 0"
    image = _size(config["image_size"])
    if not isinstance(image, int) and image[0] != image[1]:
        yield f"image_size {image}"  # whose positions transformers takes for those of a square
    if "classifier.weight" in state:
        yield "a classifier of the patches' mean (without its tensors the backbone is converted)"


def _size(size: int | Sequence[int]) -> int | tuple[int, ...]:
    return size if isinstance(size, int) else tuple(size)


def _arguments(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """timm's keyword arguments, but for what depends on the head."""
    channels, swiglu = config["hidden_size"], bool(config.get("use_swiglu_ffn"))
    dinov2, registers = "dinov2" in kind, kind == "dinov2_with_registers"
    hidden = int(channels * config["mlp_ratio"]) if dinov2 else config["intermediate_size"]
    if swiglu:  # two thirds, rounded up to a multiple of 8; the gate is as wide again
        hidden = 2 * ((int(hidden * 2 / 3) + 7) // 8 * 8)
    ratio = hidden / channels  # timm truncates channels * ratio
    return {
        "img_size": _size(config["image_size"]),
        "patch_size": _size(config["patch_size"]),
        "in_chans": config.get("num_channels", 3),
        "embed_dim": channels,
        "depth": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "mlp_ratio": ratio if int(channels * ratio) == hidden else (hidden + 0.5) / channels,
        "mlp_layer": SwiGLUPacked if swiglu else Mlp,
        "act_layer": nn.SiLU if swiglu else _ACTIVATIONS[config["hidden_act"]],
        "norm_layer": partial(LayerNorm, eps=config["layer_norm_eps"]),
        "qkv_bias": config.get("qkv_bias", True),
        "init_values": 1e-5 if dinov2 else None,  # makes a LayerScale, whose values are loaded
        "reg_tokens": config["num_register_tokens"] if registers else 0,
        "no_embed_class": registers,
        "pre_norm": kind == "clip_vision_model",
        "global_pool": "token",
    }


def _renamed(kind: str, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by timm's names, parts by themselves, and what the checkpoint calls them."""
    names: dict[str, str] = {}
    for name in state:
        new = name
        for pattern, replacement in _RENAMES:
            new = re.sub(pattern, replacement, new)
        if not _UNUSED.fullmatch(name):
            names[name if new in names else new] = name  # a second one is unexpected
    if kind == "deit" and not _TEACHER & state.keys() and "dist_token" in names:
        names["reg_token"] = names.pop("dist_token")
    given = {new: state[name] for new, name in names.items()}
    if kind == "clip_vision_model":
        for new in {"cls_token", "pos_embed"} & given.keys():  # [C] and [N, C]
            given[new] = given[new].reshape(1, -1, given[new].shape[-1])
        if "head.weight" in given:
            given["head.bias"] = given["head.weight"].new_zeros(len(given["head.weight"]))
    return given, names


def _gathered(
    kind: str, given: dict[str, Tensor], names: dict[str, str], shapes: dict[str, list[int]]
) -> dict[str, Tensor]:
    """The tensors of those shapes, their parts concatenated."""
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
        f"{fault} {', '.join(found[:8])}" + (f" and {len(found) - 8} more" if found[8:] else "")
        for fault, found in (*kinds, ("misshapen", misshapen))
        if found
    ]
    if faults:
        raise ValueError(
            f"dsm_ext: the tensors are not those of transformers' {kind} with this config: "
            f"{'; '.join(faults)}"
        )
    return out


def _load_state(folder: Path) -> dict[str, Tensor]:
    for name, load in (("model.safetensors", load_weights), ("pytorch_model.bin", _load_pickle)):
        if (folder / name).is_file():
            return load(folder / name)
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _load_shards(index, load)
    raise FileNotFoundError(
        f"dsm_ext: no model.safetensors or pytorch_model.bin, nor an index of one, in {folder}"
    )


def _load_shards(index: Path, load: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    places = _load_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
        raise ValueError(f"dsm_ext: {index} has no weight_map from names to files")
    state: dict[str, Tensor] = {}
    for name in dict.fromkeys(places.values()):
        shard = index.parent / name
        if Path(name).name != name:
            raise ValueError(f"dsm_ext: {index} names a file outside its folder: {name}")
        if not shard.is_file():
            raise FileNotFoundError(f"dsm_ext: no such file, though {index.name} names it: {shard}")
        state |= load(shard)
    lacking = sorted(places.keys() - state.keys())
    if lacking:
        raise ValueError(f"dsm_ext: the files that {index} names lack {', '.join(lacking[:8])}")
    return state


def _load_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"dsm_ext: no such file: {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"dsm_ext: {path} is not a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"dsm_ext: {path} holds no JSON object")
    return content
