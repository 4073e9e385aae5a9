"""Models of timm that are refused by the name of the feature that is not supported."""

import functools
from collections import OrderedDict

import pytest
import timm
import torch
from models import small, small_eva
from timm.layers import LayerNormFp32

import dsm_ext

FEATURES = {
    "dynamic_img_pad": {"dynamic_img_pad": True},
    "a pooling of type AttentionPoolPrr": {"global_pool": "prr"},
    "a pooling other than token, avg or map": {"global_pool": "avgmax"},
    "a head on tokens that are not pooled": {"global_pool": ""},
    "norms of type LayerNormFp32": {"norm_layer": LayerNormFp32},
    "an activation of type ReLU": {"act_layer": torch.nn.ReLU},
    "an MLP of type GatedMlp": {"mlp_layer": timm.layers.GatedMlp},
    "a gate in the MLP's second half": {
        "mlp_layer": timm.layers.GluMlp, "act_layer": torch.nn.GELU,
    },
    "an attention of type DiffAttention": {"attn_layer": "diff"},
    "blocks of type ResPostBlock": {"block_fn": timm.models.vision_transformer.ResPostBlock},
    "blocks of type ParallelThingsBlock": {
        "block_fn": timm.models.vision_transformer.ParallelThingsBlock,
    },
    "one output projection of attention and MLP": {
        "block_fn": functools.partial(
            timm.models.vision_transformer.ParallelScalingBlock, fuse_out_proj=True
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize("feature", FEATURES)
def test_unsupported_features_are_named(feature):
    with pytest.raises(NotImplementedError, match=feature):
        dsm_ext.from_timm(small(**FEATURES[feature]))


def test_other_changes_are_refused():
    model = small()
    model.blocks[1].mlp.act = torch.nn.GELU(approximate="tanh")
    with pytest.raises(NotImplementedError, match="activations of several kinds"):
        dsm_ext.from_timm(model)
    model = small()
    model.blocks[2] = small(mlp_ratio=2).blocks[0]
    with pytest.raises(NotImplementedError, match="blocks of different shapes"):
        dsm_ext.from_timm(model)
    model = small()
    model.head = torch.nn.Sequential(model.head)
    with pytest.raises(NotImplementedError, match="a head of type Sequential"):
        dsm_ext.from_timm(model)
    model = small()
    model.blocks[0].norm2.eps = 1e-5
    with pytest.raises(NotImplementedError, match="norms of different eps"):
        dsm_ext.from_timm(model)


def changed_model(change):
    model = small()
    change(model)
    return model


def test_an_attention_pool_of_another_scale_is_refused():
    model = small(global_pool="map")
    model.attn_pool.scale = 1.0
    with pytest.raises(NotImplementedError, match="an attention pool that timm"):
        dsm_ext.from_timm(model)


def test_rotary_models_with_post_norms_are_refused():
    with pytest.raises(NotImplementedError, match="Eva with blocks of type EvaBlockPostNorm is no"):
        dsm_ext.from_timm("eva02_enormous_patch14_clip_224", weights="nowhere.safetensors")
    rotations = {"rope_type": "mrope", "embed_dim": 128, "rope_mrope_section": (8, 12, 12)}
    with pytest.raises(NotImplementedError, match="rotary positions of type RotaryEmbeddingMRope"):
        dsm_ext.from_timm(small_eva(**rotations))


def uneven_heads(*counts):
    return small_eva(attn_type="rope", qkv_fused=False, num_kv_heads=counts, num_heads=4)


@pytest.mark.parametrize(
    "feature, change",
    [
        (r"pixel coordinates \(in_pixels", lambda m: setattr(m.rope, "in_pixels", True)),
        (
            "for another image size than the model's",
            lambda m: setattr(m.rope, "feat_shape", (7, 7)),
        ),
        ("for another head size than attention's", lambda m: setattr(m.rope, "dim", 8)),
        ("in another layout than attention's", lambda m: setattr(m.rope, "rotate_half", True)),
        (
            "in another layout than attention's",
            lambda m: setattr(m.blocks[2].attn, "rotate_half", True),
        ),
        ("another number of prefix", lambda m: setattr(m.blocks[1].attn, "num_prefix_tokens", 0)),
        (
            "LayerScale in the MLP's branch only",
            lambda m: [setattr(b, "gamma_2", torch.nn.Parameter(torch.ones(32))) for b in m.blocks],
        ),
        (
            "gated attention",
            lambda m: setattr(m.blocks[0].attn, "gate", torch.nn.Linear(32, 32)),
        ),
        ("a bias in only some of the queries", lambda m: setattr(m.blocks[3].attn, "v_bias", None)),
        (
            "an attention of type Attention",
            lambda m: setattr(m.blocks[0], "attn", timm.layers.Attention(32, 2)),
        ),
        ("blocks in a Sequential", lambda m: setattr(m, "blocks", torch.nn.Sequential(*m.blocks))),
        (
            "a pooling other than token, avg or map",
            lambda m: setattr(m, "global_pool", "avgmax"),
        ),
    ],
)
def test_modified_rotary_models_are_refused(feature, change):
    model = small_eva()
    change(model)
    with pytest.raises(NotImplementedError, match=feature):
        dsm_ext.from_timm(model)


@pytest.mark.parametrize(
    "feature, name, value",
    [
        ("normalised otherwise than by each side", "normalize_coords", "max"),
        ("rotations between two periods", "min_period", 0.5),
    ],
)
def test_other_rotations_of_dinov3_are_refused(feature, name, value):
    model = small_eva(rope_type="dinov3")
    setattr(model.rope, name, value)
    with pytest.raises(NotImplementedError, match=feature):
        dsm_ext.from_timm(model)


@pytest.mark.parametrize("counts", [(4, 2, 2, 2), (2, 4, 4, 2), (4, 2, 1, 4), (2, 2, 2, 4)])
def test_other_patterns_of_key_and_value_heads_are_refused(counts):
    with pytest.raises(NotImplementedError, match="heads in another pattern than Sapiens2's"):
        dsm_ext.from_timm(uneven_heads(*counts))
    for fine in ((4, 2, 2, 4), (2, 2, 2, 2), (4, 4, 4, 4)):
        heads = dsm_ext.from_timm(uneven_heads(*fine)).config
        assert (heads.num_kv_heads, heads.num_full_attn_blocks) == (
            (0, 0) if 2 not in fine else (2, fine.index(2))
        )


@pytest.mark.parametrize(
    "feature, change",
    [
        ("forward hooks", lambda m: m.blocks[1].register_forward_hook(lambda *_: None)),
        ("forward hooks", lambda m: m.norm.register_forward_pre_hook(lambda *_: None)),
        ("a patched method in blocks.1", lambda m: setattr(m.blocks[1], "forward", torch.relu)),
        ("a patched method in the model", lambda m: setattr(m, "forward_head", torch.relu)),
        ("a pos_drop of type LayerNorm", lambda m: setattr(m, "pos_drop", torch.nn.LayerNorm(32))),
        (
            "a qkv of type ParametrizedLinear",
            lambda m: torch.nn.utils.parametrizations.weight_norm(m.blocks[0].attn.qkv),
        ),
        ("overlap or are padded", lambda m: setattr(m.patch_embed.proj, "padding", (1, 1))),
        (
            "gated attention",
            lambda m: setattr(m.blocks[0], "attn", timm.layers.Attention(32, 2, gated=True)),
        ),
        (
            "blocks that are not in the order",
            lambda m: setattr(
                m,
                "blocks",
                torch.nn.Sequential(OrderedDict((str(i), m.blocks[i]) for i in (1, 0, 2, 3))),
            ),
        ),
        (
            "a head_drop of type GELU",
            lambda m: setattr(m, "head_drop", m.blocks[0].mlp.act),
        ),
        ("a num_prefix_tokens that does not", lambda m: setattr(m, "num_prefix_tokens", 0)),
        ("a grid_size", lambda m: setattr(m.patch_embed, "grid_size", (7, 28))),
        ("no image size", lambda m: setattr(m.patch_embed, "img_size", None)),
        ("attention scale", lambda m: setattr(m.blocks[0].attn, "scale", 1.0)),
        ("unknown here, adapter", lambda m: m.add_module("adapter", torch.nn.Linear(2, 2))),
        ("no blocks|or none", lambda m: setattr(m, "blocks", torch.nn.Sequential())),
    ],
)
def test_modified_models_are_refused(feature, change):
    with pytest.raises(NotImplementedError, match=feature):
        dsm_ext.from_timm(changed_model(change))


def test_the_nearest_supported_model_is_named():
    with pytest.raises(NotImplementedError, match="nearest supported model is vit_small_patch16_"):
        dsm_ext.from_timm(timm.create_model("vit_small_patch16_18x2_224", depth=2))
    with pytest.raises(NotImplementedError, match="nearest supported model is vit_base_patch16_"):
        dsm_ext.from_timm(timm.create_model("resnet18"))


def test_other_architectures_are_refused():
    with pytest.raises(NotImplementedError, match="the architecture .*ResNet"):
        dsm_ext.from_timm(timm.create_model("resnet18"))
    with pytest.raises(NotImplementedError, match="blocks of type ParallelThingsBlock"):
        dsm_ext.from_timm("vit_small_patch16_18x2_224", weights="nowhere.safetensors")
    with pytest.raises(TypeError, match="expected a timm model or its name"):
        dsm_ext.from_timm(8)
