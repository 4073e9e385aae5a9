"""The model_types of transformers that are read, and where a config describes the image model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dsm_ext.error_text import described

# Config keys by the layer that has the bias: queries, keys, values, attention's projection, MLP.
# With each key comes its value where a config leaves it out.
_QKV = {part: ("qkv_bias", True) for part in "qkv"}
_DINOV3 = {
    "q": ("query_bias", True), "k": ("key_bias", False), "v": ("value_bias", True),
    "proj": ("proj_bias", True), "mlp": ("mlp_bias", True),
}  # fmt: skip
_AIMV2 = {part: ("qkv_bias", False) for part in ("q", "k", "v", "proj")} | {
    "mlp": ("mlp_bias", False)
}


class Kind(NamedTuple):
    """What all models of a model_type have in common."""

    classifier: str = ""
    """What the classifier takes: the class token ("token"), the mean of the patches ("mean"), or
    there is none ("")."""
    class_token: bool = True
    square: bool = True
    """transformers' model assumes that the patches form a square."""
    biases: Mapping[str, tuple[str, bool]] = {}
    """The config keys that say which layers have a bias. Layers without a key have one."""
    mlp_key: str = "intermediate_size"
    eps_key: str = "layer_norm_eps"
    size_key: str = "image_size"
    gate_key: str = ""
    """The config key that says whether the MLP has a gate."""
    registers: tuple[int, ...] = ()
    """The least num_register_tokens, if the model can have registers."""


KINDS = {
    "vit": Kind("token", square=False, biases=_QKV),
    "deit": Kind("token", square=False, biases=_QKV),
    "vit_mae": Kind(square=False, biases=_QKV),
    "ijepa": Kind("mean", class_token=False, square=False, biases=_QKV),
    "dinov2": Kind(biases=_QKV, mlp_key="mlp_ratio", gate_key="use_swiglu_ffn"),
    "dinov2_with_registers": Kind(
        biases=_QKV, mlp_key="mlp_ratio", gate_key="use_swiglu_ffn", registers=(1,)
    ),
    "dinov3_vit": Kind(square=False, biases=_DINOV3, gate_key="use_gated_mlp", registers=(0,)),
    "clip_vision_model": Kind(),
    "siglip_vision_model": Kind("mean", class_token=False),
    "siglip2_vision_model": Kind("mean", class_token=False, size_key="num_patches"),
    "aimv2_vision_model": Kind(class_token=False, biases=_AIMV2, eps_key="rms_norm_eps"),
}
# Models of images and text: their config describes the image model in its vision_config. The value
# is the image model's model_type where the vision_config names none.
WITH_TEXT = {
    "clip": "clip_vision_model",
    "siglip": "siglip_vision_model",
    "siglip2": "siglip2_vision_model",
    "llava": "clip_vision_model",
    "llava_next": "clip_vision_model",
    "llava_onevision": "siglip_vision_model",
    "vipllava": "clip_vision_model",
    "paligemma": "siglip_vision_model",
}
TOWERS = ("llava", "llava_next", "llava_onevision", "vipllava", "paligemma")
"""Models that call the image model ``vision_tower``."""

_VISION = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12,
}  # fmt: skip
_SIGLIP = _VISION | {
    "patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
}  # fmt: skip
# transformers writes only those keys of a vision_config that differ from these.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "clip_vision_model": _VISION
    | {"image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    "siglip_vision_model": _SIGLIP | {"image_size": 224},
    "siglip2_vision_model": _SIGLIP | {"num_patches": 256},
}


def image_model(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The model_type of the image model in a config.json, and its part of the config.

    Raises:
        NotImplementedError: another model_type.
        ValueError: the config or its vision_config is no object.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"dsm_ext: expected a config to be a dict, got {described(config)}")
    whole = config.get("model_type")
    if not isinstance(whole, str) or whole not in WITH_TEXT:
        return _known(whole, ""), dict(config)
    parts = {}
    for key in ("vision_config", "vision_config_dict"):
        part = config.get(key)
        if part is not None and not isinstance(part, Mapping):
            raise ValueError(
                f"dsm_ext: transformers' {whole}: expected {key} in its config to be an object, "
                f"got {described(part)}"
            )
        parts[key] = dict(part or {})
    # some files of CLIP have both keys, and transformers lets the second one win
    given = parts["vision_config"]
    if whole == "clip" and parts["vision_config_dict"]:
        given |= _DEFAULTS["clip_vision_model"] | parts["vision_config_dict"]
    if whole in TOWERS:
        kind = _known(
            given.get("model_type", WITH_TEXT[whole]), f" in the vision_config of {whole}"
        )
    else:
        kind = WITH_TEXT[whole]
    return kind, _DEFAULTS.get(kind, {}) | given


def _known(kind: Any, place: str) -> str:
    if not isinstance(kind, str) or kind not in KINDS:
        raise NotImplementedError(
            f"dsm_ext: transformers' model_type {described(kind)}{place} is not supported; "
            f"supported are {', '.join(KINDS)}, timm_wrapper, and the image models in "
            f"{', '.join(WITH_TEXT)}, perception_lm"
        )
    return kind
