"""The image towers of OpenCLIP's models give the same features in our models."""

import re

import pytest
import timm
import torch
from open_clip_models import clip, coca, expected, images_for, open_clip, timm_tower
from PIL import Image
from timm.models.eva import Eva
from tolerance import assert_close

import dsm_ext
from dsm_ext.images import transform_for

OWN = {
    "CLIP": clip,
    "of quick_gelu": lambda: clip(quick_gelu=True),
    "of gelu_tanh": lambda: clip(act_kwargs={"approximate": "tanh"}),
    "of another eps": lambda: clip(norm_kwargs={"eps": 0.01}),
    "with LayerScale": lambda: clip(ls_init_value=0.5),
    "of another mlp_ratio": lambda: clip(mlp_ratio=1.7, width=80),
    "of oblong images": lambda: clip(image_size=(56, 28)),
    "of oblong patches": lambda: clip(patch_size=(14, 7)),
    "with patch_dropout": lambda: clip(patch_dropout=0.5),
    "without ln_pre": lambda: clip(no_ln_pre=True),
    "of sines and cosines": lambda: clip(pos_embed_type="sin_cos_2d"),
    "of the mean": lambda: clip(pool_type="avg"),
    "of CLIPA": lambda: clip(pool_type="avg", no_ln_pre=True, final_ln_after_pool=True),
    "of a norm after the token": lambda: clip(final_ln_after_pool=True),
    "with qk_norm": lambda: clip(qk_norm=True),
    "with inner norms": lambda: clip(scale_attn_inner=True, scale_fc=True),
    "of custom blocks": lambda: clip(block_type="custom"),
    "with a text tower of its own": lambda: clip("CustomTextCLIP"),
    "CoCa without a pool": coca,
}


@pytest.mark.parametrize("name", OWN)
def test_image_features_agree(name):
    model = OWN[name]()
    images = images_for(model)
    fast = dsm_ext.from_open_clip(model, "dense")
    assert_close(fast(images), expected(model, images))


def test_the_tower_alone():
    model = clip()
    images = images_for(model)
    fast = dsm_ext.from_open_clip(model.visual, "dense")
    assert_close(fast(images), expected(model, images))


def test_a_tower_without_a_projection():
    model = clip()
    model.visual.prune_intermediate_layers([0])
    images = images_for(model)
    assert_close(dsm_ext.from_open_clip(model, "dense")(images), expected(model, images))


def test_tokens_after_a_block():
    model = clip()
    images = images_for(model)
    with torch.no_grad():
        patches = model.visual.forward_intermediates(images, indices=[0], output_fmt="NLC")
    tokens = dsm_ext.from_open_clip(model, "dense").forward_intermediates(images, [0])[0].tokens
    assert_close(tokens[:, 1:], patches["image_intermediates"][0])


TIMM = {
    "a linear head": {"timm_proj": "linear", "timm_pool": "token"},
    "a linear head with a bias": {
        "timm_proj": "linear", "timm_proj_bias": True, "timm_pool": "avg", "fc_norm": False
    },
    "a linear head and dropout": {"timm_proj": "linear", "timm_drop": 0.5, "timm_pool": ""},
    "no head": {"timm_proj": "none", "timm_pool": "token"},
    "a pool by attention": {
        "timm_proj": "none", "timm_pool": "map", "class_token": False, "fc_norm": False
    },
    "the head of timm": {"timm_proj": None, "timm_pool": "token"},
    "Eva, as EVA-02": {
        "make": Eva, "timm_proj": None, "timm_pool": "token", "use_rot_pos_emb": True,
        "ref_feat_shape": 3, "swiglu_mlp": True, "scale_mlp": True, "qkv_fused": False,
    },
    "Eva, as Perception Encoder": {
        "make": Eva, "timm_proj": None, "timm_pool": "map", "attn_type": "rope",
        "use_rot_pos_emb": True, "ref_feat_shape": 4, "rope_grid_offset": 1.0,
        "rope_grid_indexing": "xy", "use_pre_transformer_norm": True, "attn_pool_num_heads": 2,
        "attn_pool_mlp_ratio": 2.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TIMM)
def test_towers_of_timm(name, monkeypatch):
    model = timm_tower(monkeypatch, **TIMM[name])
    images = images_for(model)
    before = list(model.visual.state_dict())
    fast = dsm_ext.from_open_clip(model, "dense")
    assert_close(fast(images), expected(model, images))
    assert list(model.visual.state_dict()) == before
    fast.schedule = "tome:r=2"
    assert fast(images).shape == expected(model, images).shape


def test_zero_shot_with_the_text_tower():
    """The answers of OpenCLIP's zero-shot classifier, with our model in place of its tower."""
    model = clip()
    words = ["a photo of a cat", "a photo of a dog", "a drawing", "noise"]
    tokens = open_clip.tokenize(words, context_length=16)
    images = images_for(model, batch=8)
    fast = dsm_ext.from_open_clip(model, "dense")
    with torch.no_grad():
        text = model.encode_text(tokens, normalize=True)
        logits = model.logit_scale.exp() * model.encode_image(images, normalize=True) @ text.T
        ours = torch.nn.functional.normalize(fast(images), dim=-1)
    assert_close(model.logit_scale.detach().exp() * ours @ text.T, logits)


def test_it_is_exported_for_cpp(tmp_path):
    model = clip(pool_type="avg", no_ln_pre=True, final_ln_after_pool=True)
    images = images_for(model)
    dsm_ext.export(dsm_ext.from_open_clip(model, "dense"), tmp_path)
    assert_close(dsm_ext.load(tmp_path)(images), expected(model, images))


def test_weights_are_shared():
    model = clip()
    fast = dsm_ext.from_open_clip(model, "dense")
    own = model.visual.transformer.resblocks[0].attn.in_proj_weight
    assert fast.blocks[0].attn.qkv.weight.data_ptr() == own.data_ptr()


def test_half_precision_with_norms_in_float32():
    model = clip()
    open_clip.model.convert_weights_to_lp(model, torch.bfloat16)
    assert model.visual.ln_post.weight.dtype == torch.float32
    fast = dsm_ext.from_open_clip(model, "dense")
    assert {p.dtype for p in fast.parameters()} == {torch.bfloat16}
    assert (
        dsm_ext.from_open_clip(model, "dense", dtype=torch.float32).norm.weight.dtype
        == torch.float32
    )


def test_other_sizes_and_precisions():
    fast = dsm_ext.from_open_clip(clip(), "dense", dynamic_img_size=True, precision="float32")
    assert fast(torch.randn(1, 3, 70, 84)).shape == (1, 24)
    assert fast.precision == "float32"


@pytest.mark.parametrize(
    "mode, crop_mode", [("shortest", "center"), ("squash", "squash"), ("longest", None)]
)
def test_preprocessing(mode, crop_mode):
    model = clip()
    cfg = {
        "size": 56, "mode": "RGB", "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6),
        "interpolation": "bicubic", "resize_mode": mode, "fill_color": 0,
    }  # fmt: skip
    open_clip.model.set_model_preprocess_cfg(model, cfg)
    fast = dsm_ext.from_open_clip(model, "dense")
    if crop_mode is None:
        with pytest.raises(ValueError, match="not known"):
            transform_for(fast)
        return
    assert fast.pretrained_cfg["crop_mode"] == crop_mode
    pixels = torch.randint(256, (3, 90, 70), dtype=torch.uint8)
    picture = torch.nn.functional.interpolate(pixels[None].float(), scale_factor=2)[0]
    picture = Image.fromarray(picture.byte().permute(1, 2, 0).numpy())
    theirs = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**cfg), is_train=False
    )
    assert torch.equal(transform_for(fast)(picture), theirs(picture))


def test_without_preprocessing_nothing_is_known():
    with pytest.raises(ValueError, match="not known"):
        transform_for(dsm_ext.from_open_clip(clip(), "dense"))


@pytest.mark.parametrize(
    "fault, make",
    [
        ("attentional_pool", lambda: clip(attentional_pool=True)),
        ("attentional_pool", lambda: clip(attentional_pool="parallel")),
        ("attentional_pool", lambda: coca(attentional_pool=True)),
        ("pool_type='none'", lambda: clip(pool_type="none")),
        ("scaled_cosine_attn", lambda: clip(scaled_cosine_attn=True)),
        ("scale_heads", lambda: clip(scale_heads=True)),
        ("scale_attn", lambda: clip(scale_attn=True)),
        ("an image tower of type open_clip.modified_resnet.ModifiedResNet",
         lambda: clip(layers=(1, 1, 1, 1), image_size=64)),
    ],
    ids=range(8),
)  # fmt: skip
def test_refused_options_are_named(fault, make):
    message = rf"^dsm_ext\.from_open_clip: .*{re.escape(fault)}"
    with pytest.raises(NotImplementedError, match=message):
        dsm_ext.from_open_clip(make(), "dense")


def test_foreign_layers_are_named():
    model = clip()
    model.visual.transformer.resblocks[1].mlp.gelu = torch.nn.ReLU()
    with pytest.raises(NotImplementedError, match="a gelu of type torch.*ReLU"):
        dsm_ext.from_open_clip(model, "dense")


def test_trunks_of_other_architectures_are_named(monkeypatch):
    def make(num_classes, **_):
        return timm.models.convnext.ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8))

    model = timm_tower(monkeypatch, make, timm_proj="linear", timm_pool="")
    with pytest.raises(NotImplementedError, match="ConvNeXt with the architecture timm"):
        dsm_ext.from_open_clip(model)


def test_heads_of_timm_towers_that_are_refused(monkeypatch):
    model = timm_tower(monkeypatch, timm_proj="mlp", timm_pool="token")
    with pytest.raises(NotImplementedError, match=r"head\.mlp of type timm.*from_timm\("):
        dsm_ext.from_open_clip(model, "dense")


@pytest.mark.parametrize("value", ["ViT-B-32", None, torch.nn.Linear(1, 1), clip])
def test_other_types_are_refused(value):
    with pytest.raises(TypeError, match=r"^dsm_ext\.from_open_clip: expected a model of OpenCLIP"):
        dsm_ext.from_open_clip(value)
