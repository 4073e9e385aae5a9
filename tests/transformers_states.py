"""Small checkpoints by transformers' names, without transformers: zeros of the right shapes."""

import torch

C, DEPTH = 16, 2


def layer(prefix, names):
    shapes = {"": (C, C), "up": (4 * C, C), "down": (C, 4 * C), "norm": (C,)}
    out = {}
    for name, shape in names.items():
        out[f"{prefix}{name}.weight"] = torch.zeros(shapes[shape])
        out[f"{prefix}{name}.bias"] = torch.zeros(shapes[shape][0])
    return out


BERT = {
    "attention.attention.query": "", "attention.attention.key": "", "attention.attention.value": "",
    "attention.output.dense": "",
}  # fmt: skip


NAMES = {
    "clip": {
        **{f"self_attn.{part}_proj": "" for part in ("q", "k", "v", "out")},
        "layer_norm1": "norm", "layer_norm2": "norm", "mlp.fc1": "up", "mlp.fc2": "down",
    },
    "dinov2": BERT | {"norm1": "norm", "norm2": "norm", "mlp.fc1": "up", "mlp.fc2": "down"},
    "dinov3": {
        **{f"attention.{part}_proj": "" for part in ("q", "k", "v", "o")},
        "norm1": "norm", "norm2": "norm", "mlp.up_proj": "up", "mlp.down_proj": "down",
    },
    "aimv2": {
        **{f"attention.{part}_proj": "" for part in ("q", "k", "v", "out")},
        "rms_norm1": "norm", "rms_norm2": "norm", "ffn.gate_proj": "up", "ffn.up_proj": "up",
        "ffn.down_proj": "down",
    },
    "vit": BERT | {"layernorm_before": "norm", "layernorm_after": "norm",
                   "intermediate.dense": "up", "output.dense": "down"},
}  # fmt: skip
LAYERS = {
    "clip": "vision_model.encoder.layers", "siglip": "vision_model.encoder.layers",
    "aimv2": "encoder.layers", "dinov3": "layer",
}  # fmt: skip
NORMS = {
    "clip": "vision_model.post_layernorm", "siglip": "vision_model.post_layernorm",
    "aimv2": "rms_norm", "dinov3": "norm",
}  # fmt: skip


def outside(kind):
    """The tensors of a small checkpoint before its layers."""
    patches = {"weight": torch.zeros(C, 3, 14, 14), "bias": torch.zeros(C)}
    if "siglip" in kind or "clip" in kind or "aimv2" in kind:
        place = "" if "aimv2" in kind else "vision_model."
        embed = "patch_embed" if "aimv2" in kind else "patch_embedding"
        if kind.startswith("siglip2"):
            patches["weight"] = torch.zeros(C, 14 * 14 * 3)
        state = {f"{place}embeddings.{embed}.{leaf}": value for leaf, value in patches.items()}
        positions = 5 if kind.startswith("clip") else 4
        state[f"{place}embeddings.position_embedding.weight"] = torch.zeros(positions, C)
        if kind.startswith("clip"):
            del state["vision_model.embeddings.patch_embedding.bias"]
            state["vision_model.embeddings.class_embedding"] = torch.zeros(C)
            state["vision_model.pre_layrnorm.weight"] = torch.zeros(C)
            state["vision_model.pre_layrnorm.bias"] = torch.zeros(C)
        elif "aimv2" in kind:
            state["embeddings.rms_norm.weight"] = torch.zeros(C)
        else:
            state |= pool("vision_model.head.")
        return state
    place = "embeddings.patch_embeddings." + ("" if "dinov3" in kind else "projection.")
    state = {f"{place}{leaf}": value for leaf, value in patches.items()}
    if kind != "ijepa":
        state["embeddings.cls_token"] = torch.zeros(1, 1, C)
    if kind != "dinov3_vit":
        count = {"deit": 6, "ijepa": 4}.get(kind, 5)
        state["embeddings.position_embeddings"] = torch.zeros(1, count, C)
    if kind == "deit":
        state["embeddings.distillation_token"] = torch.zeros(1, 1, C)
    if kind in ("dinov2_with_registers", "dinov3_vit"):
        state["embeddings.register_tokens"] = torch.zeros(1, 4, C)
    return state


def pool(prefix):
    """The tensors of SigLIP's pool."""
    state = {
        f"{prefix}probe": torch.zeros(1, 1, C),
        f"{prefix}attention.in_proj_weight": torch.zeros(3 * C, C),
        f"{prefix}attention.in_proj_bias": torch.zeros(3 * C),
    }
    names = {"attention.out_proj": "", "layernorm": "norm", "mlp.fc1": "up", "mlp.fc2": "down"}
    return state | layer(prefix, names)


def vit_state(kind):
    """The tensors of a small checkpoint: images of 28 x 28 pixels, patches of 14 x 14."""
    family = next(
        (key for key in ("dinov2", "dinov3", "siglip", "clip", "aimv2") if key in kind), "vit"
    )
    names = NAMES["clip" if family == "siglip" else family]
    state = outside(kind)
    for i in range(DEPTH):
        place = f"{LAYERS.get(family, 'encoder.layer')}.{i}."
        state |= layer(place, names)
        if "dino" in kind:
            state[f"{place}layer_scale1.lambda1"] = torch.zeros(C)
            state[f"{place}layer_scale2.lambda1"] = torch.zeros(C)
    state |= layer("", {NORMS.get(family, "layernorm"): "norm"})
    if family == "aimv2":  # RMS norms, and no biases but the patches'
        kept = "embeddings.patch_embed.bias"
        state = {k: v for k, v in state.items() if not k.endswith(".bias") or k == kept}
    if family == "dinov3":
        state = {k: v for k, v in state.items() if not k.endswith("k_proj.bias")}
    return state
