"""Folders of the model hub with rotary models, written by timm, load in C++, without timm."""

import pytest
import torch
from hub_folders import change, write_hub
from models import create, images_for
from safetensors.torch import load_file, save_file
from tolerance import assert_close

import dsm_ext

ROTARY = [
    ("eva02_tiny_patch14_224", {"img_size": 56}),
    ("eva02_base_patch16_clip_224", {"num_classes": 3, "img_size": 64}),
    ("vit_pe_core_tiny_patch16_384", {"img_size": 64}),
    ("vit_small_patch16_dinov3", {"img_size": 64}),
    ("vit_small_patch16_dinov3_qkvb", {"img_size": (64, 96), "num_classes": 3}),
    ("vit_small_plus_patch16_dinov3", {"img_size": 64, "dynamic_img_size": True}),
    ("vit_small_patch16_rope_224", {"img_size": 64, "rope_temperature": 50}),
    ("vit_small_patch16_rope_mixed_224", {"img_size": 64}),
    ("vit_small_patch16_rope_224", {"rope_rotate_half": True, "rope_grid_indexing": "ij"}),
    ("vit_medium_patch16_rope_reg1_gap_256", {"img_size": 64, "ref_feat_shape": 7}),
]


@pytest.mark.parametrize("name, arguments", ROTARY)
def test_what_timm_writes_of_rotary_models(name, arguments, tmp_path):
    model = create(name, depth=2, **arguments)
    write_hub(tmp_path, model)
    images = images_for(model, 2)
    fast = dsm_ext.load(tmp_path, "dense")
    with torch.inference_mode():
        assert_close(fast(images), model(images))
    expected = dsm_ext.from_timm(model, "dense")
    own, theirs = fast.config.to_dict(), expected.config.to_dict()
    if not own["pos_embed"]:
        theirs["no_embed_class"] = False  # has no meaning without positions
    assert own == theirs


def test_tensors_that_timm_passes_over(tmp_path):
    """EVA-02's pretraining leaves a mask token, a head, tables, and a norm for the pooled token."""
    model = create("eva02_tiny_patch14_224", depth=2, img_size=56, num_classes=0)
    write_hub(tmp_path, model)
    state = load_file(tmp_path / "model.safetensors")
    pretraining = {
        "mask_token": torch.zeros(1, 1, 192), "lm_head.weight": torch.zeros(8, 192),
        "lm_head.bias": torch.zeros(8), "rope.freqs_cos": torch.zeros(16, 64),
        "norm.weight": state.pop("fc_norm.weight"), "norm.bias": state.pop("fc_norm.bias"),
    }  # fmt: skip
    save_file(state | pretraining, tmp_path / "model.safetensors")
    images = images_for(model, 2)
    with torch.inference_mode():
        assert_close(dsm_ext.load(tmp_path, "dense")(images), model(images))


@pytest.mark.parametrize(
    "arguments, fault",
    [
        ({"rope_temperature": -1}, "rope_temperature cannot be -1"),
        ({"rope_grid_indexing": "yx"}, "expected rope_grid_indexing to be one of 'ij', 'xy'"),
        ({"rope_type": "mrope"}, "model_args field 'rope_type' is not supported"),
        ({"ref_feat_shape": "big"}, "field 'ref_feat_shape' cannot be"),
        ({"num_kv_heads": 2}, "model_args field 'num_kv_heads' is not supported"),
        ({"use_post_norm": True}, "model_args field 'use_post_norm' is not supported"),
    ],
)
def test_faults_of_rotary_models_are_named(arguments, fault, tmp_path):
    write_hub(tmp_path, create("vit_small_patch16_rope_224", depth=1, img_size=64))
    change(tmp_path, model_args={"depth": 1, "img_size": 64} | arguments)
    with pytest.raises(ValueError, match=r"^dsm_ext: .*config\.json: ") as error:
        dsm_ext.load(tmp_path)
    assert fault in str(error.value)
