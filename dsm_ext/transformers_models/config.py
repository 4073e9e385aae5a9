"""Reading and checking the config.json of transformers' vision models."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from dsm_ext.error_text import described

KINDS = ("vit", "deit", "dinov2", "dinov2_with_registers", "clip_vision_model")
ACTIVATIONS = ("gelu", "quick_gelu", "gelu_pytorch_tanh")
_CLIP_DEFAULTS: dict[str, Any] = {  # a vision_config may leave out keys with these values
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}  # fmt: skip

# The bounds of Config. They are far beyond any model and small enough that no size overflows.
_MOST = {
    "hidden_size": 1 << 16, "intermediate_size": 1 << 18, "num_hidden_layers": 1 << 8,
    "num_attention_heads": 1 << 16, "image_size": 1 << 16, "patch_size": 1 << 16,
    "num_channels": 1 << 12, "num_register_tokens": 1 << 16,
}  # fmt: skip


class VisionConfig(NamedTuple):
    """The checked values of a config, by transformers' names."""

    kind: str
    hidden_size: int
    intermediate_size: int
    """Hidden width of the MLP. With a gate, the width of both halves together."""
    num_hidden_layers: int
    num_attention_heads: int
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    num_channels: int
    hidden_act: str
    layer_norm_eps: float
    qkv_bias: bool
    use_swiglu_ffn: bool
    num_register_tokens: int

    @property
    def patches(self) -> int:
        """The number of patches, gh * gw."""
        (height, width), (ph, pw) = self.image_size, self.patch_size
        return (height // ph) * (width // pw)


def read_config(config: Mapping[str, Any]) -> VisionConfig:
    """Read the values of a config.json that define the model.

    Raises:
        NotImplementedError: another model_type; a key is missing or null; or timm's model does not
            compute a value. The message names it.
        ValueError: a value has another JSON type or is out of range. The message names its key.
    """
    kind, config = _vision_config(config)
    features = list(_unsupported(kind, config))
    if features:
        raise NotImplementedError(
            f"dsm_ext: transformers' {kind} with {', '.join(features)} is not supported"
        )
    reader = _Reader(kind, config)
    dinov2, registers = "dinov2" in kind, kind == "dinov2_with_registers"
    hidden_size = reader.integer("hidden_size")
    swiglu = dinov2 and reader.boolean("use_swiglu_ffn", False)
    if dinov2:
        hidden = reader.mlp_hidden(hidden_size, swiglu)
    else:
        hidden = reader.integer("intermediate_size")
    out = VisionConfig(
        kind=kind,
        hidden_size=hidden_size,
        intermediate_size=hidden,
        num_hidden_layers=reader.integer("num_hidden_layers"),
        num_attention_heads=reader.integer("num_attention_heads"),
        image_size=reader.size("image_size"),
        patch_size=reader.size("patch_size"),
        num_channels=reader.integer("num_channels", 3),
        hidden_act=config["hidden_act"],
        layer_norm_eps=reader.positive("layer_norm_eps"),
        qkv_bias=kind == "clip_vision_model" or reader.boolean("qkv_bias", True),
        use_swiglu_ffn=swiglu,
        num_register_tokens=reader.integer("num_register_tokens") if registers else 0,
    )
    if out.hidden_size % out.num_attention_heads:
        raise NotImplementedError(
            f"dsm_ext: transformers' {kind} with hidden_size {out.hidden_size} in "
            f"{out.num_attention_heads} heads (num_attention_heads) is not supported"
        )
    if kind not in ("vit", "deit") and out.image_size[0] != out.image_size[1]:
        raise NotImplementedError(  # transformers assumes that the positions form a square
            f"dsm_ext: transformers' {kind} with image_size {out.image_size} is not supported"
        )
    if not out.patches:
        raise reader.fault("image_size", f"at least its patch_size {out.patch_size}")
    return out


def contradictions(config: VisionConfig, given: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield each difference between the config and the tensors, which have timm's names."""
    patches, positions = given.get("patch_embed.proj.weight"), given.get("pos_embed")
    if patches is not None and patches.ndim == 4:
        channels, in_chans, *patch_size = patches.shape
        yield from _differs("hidden_size", config.hidden_size, channels)
        yield from _differs("num_channels", config.num_channels, in_chans)
        yield from _differs("patch_size", config.patch_size, tuple(patch_size))
    places = (name.split(".") for name in given if name.startswith("blocks."))
    blocks = {int(place[1]) for place in places if place[1].isdecimal() and len(place[1]) < 10}
    if blocks:
        yield from _differs("num_hidden_layers", config.num_hidden_layers, max(blocks) + 1)
    down = given.get("blocks.0.mlp.fc2.weight")
    if down is not None and down.ndim == 2:
        width = down.shape[1] * (2 if config.use_swiglu_ffn else 1)
        key = "mlp_ratio makes a width" if "dinov2" in config.kind else "intermediate_size"
        yield from _differs(key, config.intermediate_size, width)
    if blocks and "dinov2" in config.kind:
        gated = "blocks.0.mlp.fc1.gate.weight" in given or _is_packed(given)
        yield from _differs("use_swiglu_ffn", config.use_swiglu_ffn, gated)
    if "blocks.0.attn.qkv.q.weight" in given:
        biased = "blocks.0.attn.qkv.q.bias" in given
        yield from _differs("qkv_bias", config.qkv_bias, biased)
    registers = given.get("reg_token")
    if registers is not None and registers.ndim == 3 and config.num_register_tokens:
        yield from _differs("num_register_tokens", config.num_register_tokens, registers.shape[1])
    if positions is not None and positions.ndim == 3:
        prefix = 2 if config.kind == "deit" else 1
        if positions.shape[1] != config.patches + prefix:
            yield (
                f"the config's image_size {config.image_size} in patches of patch_size "
                f"{config.patch_size} makes {config.patches + prefix} positions, and the tensors "
                f"have {positions.shape[1]}"
            )


def _is_packed(given: Mapping[str, Tensor]) -> bool:
    up, down = given.get("blocks.0.mlp.fc1.weight"), given.get("blocks.0.mlp.fc2.weight")
    if up is None or down is None or up.ndim != 2 or down.ndim != 2:
        return False
    return up.shape[0] == 2 * down.shape[1]


def _differs(key: str, ours: Any, theirs: Any) -> Iterator[str]:
    if ours != theirs:
        yield f"the config's {key} is {ours}, and the tensors show {theirs}"


def _vision_config(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if not isinstance(config, Mapping):
        raise ValueError(f"dsm_ext: expected a config to be a dict, got {described(config)}")
    kind = config.get("model_type")
    if isinstance(kind, str) and kind == "clip":
        parts = {}
        for key in ("vision_config", "vision_config_dict"):
            part = config.get(key)
            if part is not None and not isinstance(part, Mapping):
                raise ValueError(
                    f"dsm_ext: transformers' clip: expected {key} in its config to be an object, "
                    f"got {described(part)}"
                )
            parts[key] = dict(part or {})
        # some files have both keys, and transformers lets the second one win
        override = parts["vision_config_dict"]
        vision = _CLIP_DEFAULTS | parts["vision_config"]
        return "clip_vision_model", vision | (_CLIP_DEFAULTS | override if override else {})
    if not isinstance(kind, str) or kind not in KINDS:
        raise NotImplementedError(
            f"dsm_ext: transformers' model_type {described(kind)} is not supported; supported are "
            f"{', '.join(KINDS)} and clip"
        )
    return kind, dict(config)


def _unsupported(kind: str, config: Mapping[str, Any]) -> Iterator[str]:
    keys = _CLIP_DEFAULTS.keys() - {"intermediate_size"}
    keys |= {"mlp_ratio" if "dinov2" in kind else "intermediate_size"}
    keys |= {"num_register_tokens"} if kind == "dinov2_with_registers" else set()
    absent = sorted(key for key in keys if config.get(key) is None)
    if absent:
        yield f"no {', no '.join(absent)} in its config"
        return
    act = config["hidden_act"]
    gated = "dinov2" in kind and config.get("use_swiglu_ffn") is True
    if not gated and not (isinstance(act, str) and act in ACTIVATIONS):
        yield f"hidden_act {described(act)}"
    registers = config.get("num_register_tokens")
    if kind == "dinov2_with_registers" and registers == 0 and not isinstance(registers, bool):
        yield "num_register_tokens 0"


class _Reader:
    """Takes values of a given type from a config, or raises an error that names the key."""

    def __init__(self, kind: str, config: Mapping[str, Any]) -> None:
        self._kind = kind
        self._config = config

    def _value(self, key: str, default: Any = None) -> Any:
        return self._config.get(key, default)

    def fault(self, key: str, expected: str) -> ValueError:
        return ValueError(
            f"dsm_ext: transformers' {self._kind}: expected {key} in its config to be {expected}, "
            f"got {described(self._config.get(key))}"
        )

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._value(key, default)
        if not _is_integer(value) or not 1 <= value <= _MOST[key]:
            raise self.fault(key, f"an integer in [1, {_MOST[key]}]")
        return int(value)

    def boolean(self, key: str, default: bool) -> bool:
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.fault(key, "true or false")
        return value

    def positive(self, key: str) -> float:
        value = self._value(key)
        number = math.nan
        if _is_integer(value) or isinstance(value, float):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
        if not (math.isfinite(number) and number > 0):
            raise self.fault(key, "a positive, finite number")
        return number

    def size(self, key: str) -> tuple[int, int]:
        value = self._value(key)
        sides = list(value) if isinstance(value, (list, tuple)) else [value, value]
        if len(sides) != 2 or not all(
            _is_integer(side) and 1 <= side <= _MOST[key] for side in sides
        ):
            raise self.fault(key, f"an integer in [1, {_MOST[key]}] or two of them")
        return int(sides[0]), int(sides[1])

    def mlp_hidden(self, hidden_size: int, swiglu: bool) -> int:
        hidden = hidden_size * self.positive("mlp_ratio")
        most = _MOST["intermediate_size"]
        if not 1 <= hidden <= most:
            raise self.fault("mlp_ratio", f"such that the MLP's width is in [1, {most}]")
        if not swiglu:
            return int(hidden)
        # two thirds, rounded up to a multiple of 8. The gate has the same width
        return 2 * ((int(int(hidden) * 2 / 3) + 7) // 8 * 8)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
