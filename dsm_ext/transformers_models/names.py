"""timm's names for the tensors of transformers' vision models."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from dsm_ext.transformers_models.config import VisionConfig
from dsm_ext.transformers_models.kinds import TOWERS

# The name of the image model inside a model of images and text, in old and new files.
_TOWER = re.compile(r"(model\.)?vision_tower\.(vision_model\.)?")
# Tensors of training, of the poolers, of text models, and of MAE's decoder.
_UNUSED = re.compile(
    r"(\w+\.)?(embeddings\.(mask_token|position_ids)|pooler\.dense\.(weight|bias))"
    r"|text_model\..+|text_projection\.weight|logit_scale|logit_bias"
)
_DECODER = re.compile(r"decoder\..+")
# SigLIP's classifier takes the mean of the patches, and the pool is not used.
_POOL = re.compile(r"(vision_model\.)?head\..+")
# Applied in this order, to the names in files and to the names of transformers 5 in memory.
_RENAMES = (
    (r"^(vit|deit|ijepa|dinov2|dinov2_with_registers|vision_model)\.", ""),
    (r"^embeddings\.(cls_token|class_embedding)$", "cls_token"),
    (r"^embeddings\.position_embedding(s|\.weight)$", "pos_embed"),
    (r"^embeddings\.patch_embed(ding)?(s(\.projection)?)?\.", "patch_embed.proj."),
    (r"^embeddings\.rms_norm\.", "patch_embed.norm."),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^((post_)?layernorm|rms_norm)\.", "norm."),
    (r"^head\.probe$", "attn_pool.latent"),
    (r"^head\.attention\.in_proj_", "attn_pool.in_proj."),
    (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
    (r"^head\.layernorm\.", "attn_pool.norm."),
    (r"^head\.mlp\.", "attn_pool.mlp."),
    (r"^(cls_classifier|classifier|visual_projection)\.", "head."),
    (r"^distillation_classifier\.", "head_dist."),
    (r"^((encoder|model)\.)?layers?\.", "blocks."),
    (r"\.(layernorm_before|layer_norm1|rms_norm1)\.", ".norm1."),
    (r"\.(layernorm_after|layer_norm2|rms_norm2)\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.(attention(\.attention)?|self_attn)\.(q|k|v)(uery|ey|alue|_proj)\.", r".attn.qkv.\3."),
    (r"\.(attention\.(output\.dense|o_proj|out_proj)|self_attn\.out_proj)\.", ".attn.proj."),
    (r"\.(intermediate\.dense|mlp\.weights_in)\.", ".mlp.fc1."),
    (r"\.mlp\.(gate|up)_proj\.", r".mlp.fc1.\1."),
    (r"\.ffn\.gate_proj\.", ".mlp.fc1_g."),
    (r"\.ffn\.up_proj\.", ".mlp.fc1_x."),
    (r"\.(output\.dense|mlp\.weights_out|(mlp|ffn)\.down_proj)\.", ".mlp.fc2."),
)
# timm's Eva has other names than its VisionTransformer.
_EVA = ((r"\.ls([12])\.gamma$", r".gamma_\1"),)
_NO_GATE = ((r"\.mlp\.fc1\.up\.", ".mlp.fc1."),)
_NO_KEY_BIAS = ((r"\.attn\.qkv\.([qv])\.bias$", r".attn.\1_bias"),)
TEACHER = {"cls_classifier.weight", "distillation_classifier.weight"}


def renamed(
    config: VisionConfig, whole: str, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Give the tensors timm's names. Nothing is concatenated.

    Args:
        config: the image model's.
        whole: the model_type of the whole model.
        state: the tensors by transformers' names.

    Returns:
        The tensors by timm's names, and the checkpoint's name for each.
    """
    tower = whole in TOWERS
    rules = _rules(config)
    names: dict[str, str] = {}
    for name in state:
        new = name
        if tower:
            match = _TOWER.match(name)
            if match is None:
                continue
            new = name[match.end() :]
        if _unused(config, new, state):
            continue
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        names[name if new in names else new] = name  # a duplicate is reported as unexpected
    if config.kind == "deit" and not TEACHER & state.keys() and "dist_token" in names:
        names["reg_token"] = names.pop("dist_token")
    given = {new: state[name] for new, name in names.items()}
    _reshape(config, given, names)
    return given, names


def wanted(whole: str, name: str) -> bool:
    """Whether a tensor of a file belongs to the image model, so that it must be read."""
    return whole not in TOWERS or _TOWER.match(name) is not None


def _rules(config: VisionConfig) -> tuple[tuple[str, str], ...]:
    if config.kind != "dinov3_vit":
        return _RENAMES
    gate = () if config.gated else _NO_GATE
    keys = () if "k" in config.biases else _NO_KEY_BIAS
    return (*_RENAMES, *_EVA, *gate, *keys)


def _unused(config: VisionConfig, name: str, state: Mapping[str, Tensor]) -> bool:
    if config.kind == "vit_mae" and _DECODER.fullmatch(name):
        return True
    if "siglip" in config.kind and "classifier.weight" in state and _POOL.fullmatch(name):
        return True
    return _UNUSED.fullmatch(name) is not None


def _reshape(config: VisionConfig, given: dict[str, Tensor], names: dict[str, str]) -> None:
    """Give tensors timm's shapes. Those of unknown shapes stay and are reported later."""
    kind = config.kind
    for new, rank in (("cls_token", 1), ("pos_embed", 2)):  # [C] and [N, C]
        if "vision_model" in kind and new in given and given[new].ndim == rank:
            given[new] = given[new].reshape((1,) * (3 - rank) + given[new].shape)
    registers = given.get("reg_token")
    none = config.kind == "dinov3_vit" and config.num_register_tokens == 0
    if registers is not None and none and registers.shape[1:2] == (0,):
        del given["reg_token"], names["reg_token"]
    patches = given.get("patch_embed.proj.weight")
    height, width = config.patch_size
    flat = (config.num_channels * height * width,)
    if kind == "siglip2_vision_model" and patches is not None and patches.shape[1:] == flat:
        given["patch_embed.proj.weight"] = patches.reshape(
            -1, height, width, config.num_channels
        ).permute(0, 3, 1, 2)
    for leaf in ("weight", "bias"):
        fused = given.get(f"attn_pool.in_proj.{leaf}")
        if fused is None or fused.ndim == 0 or fused.shape[0] != 3 * config.hidden_size:
            continue
        given.pop(f"attn_pool.in_proj.{leaf}")
        name = names.pop(f"attn_pool.in_proj.{leaf}")
        for part, rows in (
            ("q", slice(config.hidden_size)),
            ("kv", slice(config.hidden_size, None)),
        ):
            given[f"attn_pool.{part}.{leaf}"] = fused[rows]
            names[f"attn_pool.{part}.{leaf}"] = name
