"""``from_timm`` with the names of rotary models, and weight files in timm's and in other names."""

import re

import pytest
import timm
import torch
from models import create, images_for
from safetensors.torch import save_file
from test_by_name import check_like_timm, file_of
from tolerance import assert_close

import dsm_ext
from dsm_ext.timm_models.from_timm import create_timm

EVA02 = "eva02_tiny_patch14_224"
DINOV3 = "vit_tiny_patch16_dinov3_qkvb"


@pytest.mark.parametrize(
    "name, kwargs",
    [
        (EVA02, {}),
        (EVA02, {"img_size": (56, 112), "num_classes": 7}),
        (DINOV3, {}),
        (DINOV3, {"img_size": 64, "num_classes": 5, "global_pool": "token", "in_chans": 1}),
        ("vit_small_patch16_rope_224", {"img_size": 96}),
        ("vit_small_patch16_rope_mixed_ape_224", {"img_size": (64, 96)}),
        ("vit_pe_core_tiny_patch16_384", {"img_size": 96}),
    ],
)
def test_weights_saved_with_the_same_arguments(name, kwargs, tmp_path):
    check_like_timm(name, file_of(create(name, **kwargs), tmp_path), **kwargs)


def test_weights_for_another_size(tmp_path):
    """Absolute positions are resampled. Rotations need no weights, so that any size fits."""
    path = file_of(create(EVA02), tmp_path)
    with pytest.raises(ValueError, match=r"has 257 positions, .* give img_size=224"):
        dsm_ext.from_timm(EVA02.replace("224", "336"), weights=path, num_classes=0)
    fast = dsm_ext.from_timm(EVA02, "dense", weights=path, img_size=112)
    theirs = timm.create_model(EVA02, checkpoint_path=str(path)).eval()
    theirs.set_input_size(img_size=(112, 112))
    images = images_for(theirs, 1)
    with torch.no_grad():
        assert_close(fast(images), theirs(images))
    path = file_of(create(DINOV3, img_size=64), tmp_path)
    assert dsm_ext.from_timm(DINOV3, weights=path).config.img_size == (256, 256)


def as_dinov3(state):
    """Meta's names of DINOv3's weights. Its file also has what no image needs."""
    out = {"mask_token": torch.zeros(1, 192), "rope_embed.periods": torch.ones(16)}
    for name, tensor in state.items():
        if name.endswith("v_bias"):
            continue
        name = re.sub(r"gamma_(\d)", r"ls\1.gamma", name).replace("reg_token", "storage_tokens")
        if name.endswith("q_bias"):
            v_bias = state[name.replace("q_bias", "v_bias")]
            tensor = torch.cat([tensor, torch.full_like(tensor, torch.nan), v_bias])
            out[name.replace("q_bias", "qkv.bias_mask")] = torch.ones_like(tensor)
            name = name.replace("q_bias", "qkv.bias")
        out[name] = tensor
    return out


def as_perception_encoder(state):
    """Meta's names of the Perception Encoder's weights, in a file that has its text half, too."""
    out = {"text_projection": torch.zeros(4, 4), "logit_scale": torch.zeros(())}
    state = dict(state)
    for end in ("weight", "bias"):
        pair = [state.pop(f"attn_pool.{part}.{end}") for part in ("q", "kv")]
        out[f"visual.attn_pool.attn.in_proj_{end}"] = torch.cat(pair)
    state["proj"] = state.pop("head.weight").t()
    assert state.pop("head.bias").abs().max() == 0
    state["positional_embedding"] = state.pop("pos_embed")[0]
    state["class_embedding"] = state.pop("cls_token")[0, 0]
    renames = [
        (r"patch_embed\.proj", "conv1"), (r"attn_pool\.latent", "attn_pool.probe"),
        (r"attn_pool\.norm", "attn_pool.layernorm"),
        (r"attn_pool\.proj", "attn_pool.attn.out_proj"),
        (r"norm_pre", "ln_pre"), (r"^norm\.", "ln_post."), (r"norm(\d)", r"ln_\1"),
        (r"gamma_(\d)", r"ls_\1.gamma"), (r"attn\.qkv\.", "attn.in_proj_"),
        (r"attn\.proj", "attn.out_proj"), (r"mlp\.fc1", "mlp.c_fc"), (r"mlp\.fc2", "mlp.c_proj"),
        (r"^blocks", "transformer.resblocks"),
    ]  # fmt: skip
    for name, tensor in state.items():
        for pattern, new in renames:
            name = re.sub(pattern, new, name)
        out["visual." + name] = tensor
    return out


def as_open_clip(state):
    """timm's model as the image half of an OpenCLIP model."""
    trunk = {"visual.trunk." + name: tensor for name, tensor in state.items()}
    return trunk | {"logit_scale": torch.zeros(()), "text.cls_emb": torch.zeros(4)}


@pytest.mark.parametrize(
    "name, rename",
    [
        (DINOV3, as_dinov3),
        ("vit_pe_core_tiny_patch16_384", as_perception_encoder),
        (EVA02, as_open_clip),
    ],
)
def test_other_projects_names(name, rename, tmp_path):
    model = create(name)
    if rename is as_perception_encoder:
        torch.nn.init.zeros_(model.head.bias)
    state = {n: tensor.contiguous() for n, tensor in rename(model.state_dict()).items()}
    save_file(state, tmp_path / "model.safetensors")
    images = images_for(model, 1)
    with torch.no_grad():
        expected = model(images)
        for made in (
            dsm_ext.from_timm(name, "dense", weights=tmp_path / "model.safetensors"),
            create_timm(name, tmp_path / "model.safetensors"),
        ):
            assert_close(made(images), expected)


def test_weights_of_another_model(tmp_path):
    path = file_of(create(EVA02), tmp_path)
    with pytest.raises(ValueError, match=r"missing.*blocks\.0\.gamma_1.*vit_tiny_patch16_dinov3"):
        dsm_ext.from_timm(DINOV3, weights=path)
    with pytest.raises(ValueError, match="the weights have no classifier: give num_classes=0"):
        dsm_ext.from_timm(EVA02, weights=path, num_classes=3)
