"""Weights with the names of other projects, which timm converts to its own names."""

import numpy as np
import pytest
import timm
import torch
from models import create, images_for
from tolerance import assert_close

import dsm_ext

CLIP = "vit_xsmall_patch16_clip_224"


@torch.no_grad()
def check(name, state, model, tmp_path, **kwargs):
    torch.save(state, tmp_path / "model.pth")
    images = images_for(model, 1)
    own = dsm_ext.from_timm(name, "dense", weights=tmp_path / "model.pth", **kwargs)
    assert_close(own(images), model(images))


def clip_names(state, prefix="visual."):
    """timm's tensors with the names of OpenAI's CLIP."""
    out = {}
    for name, tensor in state.items():
        for old, new in (
            ("patch_embed.proj", "conv1"), ("norm_pre", "ln_pre"), ("cls_token", "class_embedding"),
            ("pos_embed", "positional_embedding"), ("blocks.", "transformer.resblocks."),
            (".norm1", ".ln_1"), (".norm2", ".ln_2"), ("qkv.", "in_proj_"),
            ("attn.proj", "attn.out_proj"),
            ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"), ("head.weight", "proj"),
        ):  # fmt: skip
            name = name.replace(old, new)
        name = "ln_post" + name[4:] if name.startswith("norm.") else name
        if name == "class_embedding":
            tensor = tensor[0, 0]
        elif name == "positional_embedding":
            tensor = tensor[0]
        elif name == "proj":
            tensor = tensor.T
        if name != "head.bias":
            out[prefix + name] = tensor
    return out


def clip_model(**kwargs):
    model = create(CLIP, num_classes=24, **kwargs)
    torch.nn.init.zeros_(model.head.bias)  # CLIP's head has no bias
    return model


TEXT = {
    "positional_embedding": torch.ones(7, 8), "text_projection": torch.ones(8, 8),
    "logit_scale": torch.tensor(1.0), "transformer.resblocks.0.ln_1.weight": torch.ones(8),
}  # fmt: skip


@pytest.mark.parametrize("prefix", ["visual.", "module.visual.", ""])
def test_the_image_half_of_clip(prefix, tmp_path):
    model = clip_model()
    state = clip_names(model.state_dict(), prefix) | (TEXT if prefix else {})
    check(CLIP, {"state_dict": state, "epoch": 1}, model, tmp_path, num_classes=24)


def test_clip_in_half_precision(tmp_path):
    model = clip_model()
    state = {n: t.half() for n, t in clip_names(model.state_dict()).items()}
    with torch.no_grad():
        check(CLIP, state, model.half().float(), tmp_path, num_classes=24)


def test_clip_without_its_projection(tmp_path):
    model = create(CLIP, num_classes=0)
    check(CLIP, clip_names(model.state_dict()) | TEXT, model, tmp_path, num_classes=0)
    torch.save(clip_names(clip_model().state_dict()), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="give num_classes=24"):
        dsm_ext.from_timm(CLIP, weights=tmp_path / "a.pt")


@pytest.mark.parametrize("outer", ["", "module.", "model."])
def test_open_clip_with_a_tower_of_timms(outer, tmp_path):
    model = create("deit_tiny_patch16_224", num_classes=24)
    torch.nn.init.zeros_(model.head.bias)
    state = model.state_dict()
    projection = state.pop("head.weight")
    del state["head.bias"]
    state = {f"{outer}visual.trunk.{n}": t for n, t in state.items()}
    state |= {f"{outer}visual.head.proj.weight": projection, f"{outer}text.a": torch.ones(2)}
    check("deit_tiny_patch16_224", state, model, tmp_path, num_classes=24)


def dinov2_names(state, gated=False):
    out = {"mask_token": torch.zeros(1, state["cls_token"].shape[-1])}
    for name, tensor in state.items():
        if gated:
            name = name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3")
        out[name] = tensor
    return out


@pytest.mark.parametrize("prefix", ["", "backbone.", "teacher.backbone."])
def test_dinov2(prefix, tmp_path):
    name = "vit_small_patch14_dinov2"
    model = create(name, img_size=56)
    state = {prefix + n: t for n, t in dinov2_names(model.state_dict()).items()}
    check(name, state, model, tmp_path, img_size=56)


def test_dinov2_with_registers(tmp_path):
    name = "vit_small_patch14_reg4_dinov2"
    model = create(name, img_size=56)
    state = dinov2_names(model.state_dict())
    state["register_tokens"] = state.pop("reg_token")
    first = torch.randn(1, 1, 384)  # the position embedding of the class token
    state["pos_embed"] = torch.cat([first, state["pos_embed"]], 1)
    state["cls_token"] = state["cls_token"] - first
    check(name, state, model, tmp_path, img_size=56)


def test_layer_scales_of_deit3(tmp_path):
    name = "deit3_small_patch16_224"
    model = create(name)
    state = {n.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): t
             for n, t in model.state_dict().items()}  # fmt: skip
    check(name, {"model": state}, model, tmp_path)


def test_patch_embeddings_as_a_matrix(tmp_path):
    model = create("deit_tiny_patch16_224")
    state = model.state_dict()
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].flatten(1)
    check("deit_tiny_patch16_224", state, model, tmp_path)


def test_halves_of_a_conversion_are_refused(tmp_path):
    state = clip_names(clip_model().state_dict())
    state.pop("visual.transformer.resblocks.3.attn.in_proj_weight")
    state["visual.ln_pre.bias"] = torch.ones(3)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"missing blocks\.3\.attn\.qkv\.weight; misshapen norm_pre"
    ):
        dsm_ext.from_timm(CLIP, weights=tmp_path / "a.pt", num_classes=24)


def jax_names(model):
    """timm's tensors with the names and layouts of Google's JAX checkpoints."""
    state, heads = model.state_dict(), model.blocks[0].attn.num_heads
    out = {
        "embedding/kernel": state["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    for i in range(len(model.blocks)):
        ours, theirs = f"blocks.{i}.", f"Transformer/encoderblock_{i}/"
        for norm, index in (("norm1", 0), ("norm2", 2)):
            out[f"{theirs}LayerNorm_{index}/scale"] = state[f"{ours}{norm}.weight"]
            out[f"{theirs}LayerNorm_{index}/bias"] = state[f"{ours}{norm}.bias"]
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        weights = state[f"{ours}attn.qkv.weight"].chunk(3)
        biases = state[f"{ours}attn.qkv.bias"].chunk(3)
        for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            out[f"{attention}{part}/kernel"] = weight.T.unflatten(1, (heads, -1))
            out[f"{attention}{part}/bias"] = bias.unflatten(0, (heads, -1))
        out[f"{attention}out/kernel"] = state[f"{ours}attn.proj.weight"].T.unflatten(0, (heads, -1))
        out[f"{attention}out/bias"] = state[f"{ours}attn.proj.bias"]
        for r in range(2):
            out[f"{theirs}MlpBlock_3/Dense_{r}/kernel"] = state[f"{ours}mlp.fc{r + 1}.weight"].T
            out[f"{theirs}MlpBlock_3/Dense_{r}/bias"] = state[f"{ours}mlp.fc{r + 1}.bias"]
    return {name: tensor.contiguous().numpy() for name, tensor in out.items()}


def test_archives_of_jax(tmp_path):
    name = "vit_tiny_patch16_224"
    model = create(name)
    path = tmp_path / "model.npz"
    arrays = jax_names(model)
    np.savez(path, **arrays)
    images = images_for(model, 1)
    theirs = timm.create_model(name, checkpoint_path=str(path)).eval()
    with torch.no_grad():
        assert_close(theirs(images), model(images))
        assert_close(dsm_ext.from_timm(name, "dense", weights=path)(images), model(images))
    assert dsm_ext.from_timm(name, weights=path, num_classes=0)(images).shape == (1, 192)
    assert dsm_ext.from_timm(name, weights=path, img_size=96).config.img_size == (96, 96)
    with pytest.raises(ValueError, match=r"missing or NaN are head\.weight, head\.bias; give"):
        dsm_ext.from_timm(name, weights=path, num_classes=3)
    with pytest.raises(ValueError, match="has 197 positions.*give img_size=224"):
        dsm_ext.from_timm("vit_tiny_patch16_384", weights=path)
    with pytest.raises(ValueError, match="weights_prefix does not go with NumPy archives"):
        dsm_ext.from_timm(name, weights=path, weights_prefix="a.")
    np.savez(path, **{n: a for n, a in arrays.items() if "encoderblock_3" not in n})
    with pytest.raises(ValueError, match="timm cannot read .* as vit_tiny_patch16_224: KeyError"):
        dsm_ext.from_timm(name, weights=path)
