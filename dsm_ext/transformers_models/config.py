"""Reading and checking the config.json of transformers' vision models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from dsm_ext.error_text import described
from dsm_ext.transformers_models.kinds import KINDS, Kind, image_model
from dsm_ext.transformers_models.reader import Reader, is_integer

ACTIVATIONS = ("gelu", "quick_gelu", "gelu_pytorch_tanh")


class VisionConfig(NamedTuple):
    """The checked values of a config, by transformers' names."""

    kind: str
    hidden_size: int
    intermediate_size: int
    """Hidden width of the MLP, or of one half of it if it has a gate."""
    num_hidden_layers: int
    num_attention_heads: int
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    num_channels: int
    hidden_act: str
    layer_norm_eps: float
    biases: frozenset[str]
    """The layers with a bias: of "q", "k", "v", "proj" and "mlp"."""
    gated: bool
    """Whether the MLP has a gate."""
    num_register_tokens: int
    vision_use_head: bool
    """Whether attention pools the patches (SigLIP)."""
    rope_theta: float
    """The base of the rotary position's periods, or 0 without one."""

    @property
    def traits(self) -> Kind:
        """What all models of the model_type have in common."""
        return KINDS[self.kind]

    @property
    def patches(self) -> int:
        """The number of patches, gh * gw."""
        (height, width), (ph, pw) = self.image_size, self.patch_size
        return (height // ph) * (width // pw)

    @property
    def positions(self) -> int:
        """The number of tokens with a learned position."""
        if self.kind == "dinov3_vit":
            return 0
        return self.patches + self.traits.class_token + (self.kind == "deit")


def read_config(config: Mapping[str, Any]) -> VisionConfig:
    """Read the values of a config.json that define the model.

    Raises:
        NotImplementedError: another model_type; a key is missing or null; or timm's model does not
            compute a value. The message names it.
        ValueError: a value has another JSON type or is out of range. The message names its key.
    """
    kind, config = image_model(config)
    features = list(_unsupported(kind, config))
    if features:
        raise NotImplementedError(
            f"dsm_ext: transformers' {kind} with {', '.join(features)} is not supported"
        )
    reader, traits = Reader(kind, config), KINDS[kind]
    hidden_size, patch_size = reader.integer("hidden_size"), reader.size("patch_size")
    gated = kind == "aimv2_vision_model"
    if traits.gate_key:
        gated = reader.boolean(traits.gate_key, False)
    by_ratio, by_count = traits.mlp_key == "mlp_ratio", traits.size_key == "num_patches"
    unbiased = {
        part for part, (key, usual) in traits.biases.items() if not reader.boolean(key, usual)
    }
    out = VisionConfig(
        kind=kind,
        hidden_size=hidden_size,
        intermediate_size=(
            reader.mlp_hidden(hidden_size, gated) if by_ratio else reader.integer(traits.mlp_key)
        ),
        num_hidden_layers=reader.integer("num_hidden_layers"),
        num_attention_heads=reader.integer("num_attention_heads"),
        image_size=(
            reader.square_of("num_patches", patch_size) if by_count else reader.size("image_size")
        ),
        patch_size=patch_size,
        num_channels=reader.integer("num_channels", 3),
        hidden_act=config["hidden_act"],
        layer_norm_eps=reader.positive(traits.eps_key),
        biases=frozenset(("q", "k", "v", "proj", "mlp")) - unbiased,
        gated=gated,
        num_register_tokens=(
            reader.integer("num_register_tokens", least=traits.registers[0])
            if traits.registers
            else 0
        ),
        vision_use_head="siglip" in kind and reader.boolean("vision_use_head", True),
        rope_theta=reader.positive("rope_theta", 100.0) if kind == "dinov3_vit" else 0.0,
    )
    parts = 4 if out.rope_theta else 1  # sine and cosine of rows and columns
    if out.hidden_size % (parts * out.num_attention_heads):
        raise NotImplementedError(
            f"dsm_ext: transformers' {kind} with hidden_size {out.hidden_size} in "
            f"{out.num_attention_heads} heads (num_attention_heads) is not supported"
        )
    if traits.square and out.image_size[0] != out.image_size[1]:
        raise NotImplementedError(
            f"dsm_ext: transformers' {kind} with image_size {out.image_size} is not supported"
        )
    if not out.patches:
        raise reader.fault("image_size", f"at least its patch_size {out.patch_size}")
    return out


def contradictions(config: VisionConfig, given: Mapping[str, Tensor]) -> Iterator[str]:
    """Yield each difference between the config and the tensors, which have timm's names.

    Queries, keys and values, and the halves of a packed MLP, are still apart.
    """
    traits = config.traits
    patches, positions = given.get("patch_embed.proj.weight"), given.get("pos_embed")
    if patches is not None and patches.ndim == 4:
        channels, in_chans, *patch_size = patches.shape
        yield from _differs("hidden_size", config.hidden_size, channels)
        yield from _differs("num_channels", config.num_channels, in_chans)
        yield from _differs("patch_size", config.patch_size, tuple(patch_size))
    elif patches is not None and patches.ndim == 2:  # SigLIP 2
        height, width = config.patch_size
        inputs = config.num_channels * height * width
        yield from _differs("hidden_size", config.hidden_size, patches.shape[0])
        yield from _differs("width that patch_size and num_channels make", inputs, patches.shape[1])
    places = (name.split(".") for name in given if name.startswith("blocks."))
    blocks = {int(place[1]) for place in places if place[1].isdecimal() and len(place[1]) < 10}
    if blocks:
        yield from _differs("num_hidden_layers", config.num_hidden_layers, max(blocks) + 1)
    down = given.get("blocks.0.mlp.fc2.weight")
    if down is not None and down.ndim == 2:
        key = "mlp_ratio makes a width" if traits.mlp_key == "mlp_ratio" else traits.mlp_key
        yield from _differs(key, config.intermediate_size, down.shape[1])
    if blocks and traits.gate_key:
        gated = "blocks.0.mlp.fc1.gate.weight" in given or _is_packed(given)
        yield from _differs(traits.gate_key, config.gated, gated)
    if blocks:
        for part, (key, _) in traits.biases.items():
            biased = any(bias_of(name) == part for name in given if name.startswith("blocks.0."))
            yield from _differs(key, part in config.biases, biased)
    registers = given.get("reg_token")
    if registers is not None and registers.ndim == 3 and traits.registers:
        yield from _differs("num_register_tokens", config.num_register_tokens, registers.shape[1])
    if "siglip" in config.kind and "head.weight" not in given:  # a classifier needs no pool
        yield from _differs("vision_use_head", config.vision_use_head, "attn_pool.latent" in given)
    if positions is not None and positions.ndim == 3 and positions.shape[1] != config.positions:
        yield (
            f"the config's {traits.size_key} makes images of {config.image_size} pixels; in "
            f"patches of patch_size {config.patch_size} they have {config.positions} positions, "
            f"and the tensors have {positions.shape[1]}"
        )


def bias_of(name: str) -> str:
    """The layer whose bias a tensor is, as in ``VisionConfig.biases``, or "" for another tensor."""
    place, _, leaf = name.partition(".attn.")
    if leaf in ("q_bias", "v_bias"):
        return leaf[0]
    if not name.startswith("blocks.") or not name.endswith(".bias"):
        return ""
    if leaf:
        part = leaf.removeprefix("qkv.").removesuffix(".bias")
        return part if part in ("q", "k", "v", "proj") else ""
    return "mlp" if ".mlp." in name else ""


def _is_packed(given: Mapping[str, Tensor]) -> bool:
    up, down = given.get("blocks.0.mlp.fc1.weight"), given.get("blocks.0.mlp.fc2.weight")
    if up is None or down is None or up.ndim != 2 or down.ndim != 2:
        return False
    return up.shape[0] == 2 * down.shape[1]


def _differs(key: str, ours: Any, theirs: Any) -> Iterator[str]:
    if ours != theirs:
        yield f"the config's {key} is {ours}, and the tensors show {theirs}"


def _unsupported(kind: str, config: Mapping[str, Any]) -> Iterator[str]:
    traits = KINDS[kind]
    keys = {
        "hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size", "hidden_act",
        traits.mlp_key, traits.eps_key, traits.size_key,
    }  # fmt: skip
    if traits.registers:
        keys.add("num_register_tokens")
    absent = sorted(key for key in keys if config.get(key) is None)
    if absent:
        yield f"no {', no '.join(absent)} in its config"
        return
    act = config["hidden_act"]
    usual: tuple[str, ...] = ACTIVATIONS
    if kind == "dinov3_vit":  # timm's Eva has these
        usual = ("silu",) if config.get("use_gated_mlp") is True else ("gelu",)
    elif kind == "aimv2_vision_model":
        usual = ("silu",)
    ignored = "dinov2" in kind and config.get("use_swiglu_ffn") is True
    if not ignored and not (isinstance(act, str) and act in usual):
        gate = " and use_gated_mlp true" if usual == ("silu",) and traits.gate_key else ""
        yield f"hidden_act {described(act)}{gate}"
    registers = config.get("num_register_tokens")
    if kind == "dinov2_with_registers" and is_integer(registers) and registers == 0:
        yield "num_register_tokens 0"
    if kind == "aimv2_vision_model":
        for key, usual_value in (("use_head", True), ("is_native", False)):
            if config.get(key, usual_value) is not False:
                yield f"{key} {described(config.get(key, usual_value))}"
