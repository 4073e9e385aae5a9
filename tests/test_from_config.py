"""timm's model of a config: the inverse of ``config_of``."""

import pytest
import registry
import timm
import torch
from features import FEATURES, build
from models import images_for, small

import dsm_ext
from dsm_ext.timm_features import check_supported, config_of
from dsm_ext.timm_models.from_config import shape_of_config, timm_model_of

# One or two models of each kind in timm's registry.
NAMES = [
    "aimv2_large_patch14_224", "beit3_base_patch16_224", "deit3_small_patch16_224",
    "deit_tiny_distilled_patch16_224", "deit_tiny_patch16_224", "eva02_base_patch14_224",
    "eva02_base_patch16_clip_224", "eva_giant_patch14_224", "eva_large_patch14_196",
    "flexivit_small", "vit_base_patch16_clip_224", "vit_base_patch16_clip_quickgelu_224",
    "vit_base_patch16_rope_reg1_gap_256", "vit_base_patch16_siglip_224",
    "vit_base_patch16_siglip_gap_224", "vit_giant_patch14_reg4_dinov2",
    "vit_giant_patch16_sapiens2", "vit_pe_core_tiny_patch16_384", "vit_pe_spatial_tiny_patch16_512",
    "vit_pwee_patch16_reg1_gap_256", "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3", "vit_small_patch16_rope_mixed_ape_224",
    "vit_so150m_patch16_reg4_map_256",
    "vit_tiny_patch16_dinov3_qkvb",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_shapes_of_the_registry_are_made_again(name):
    if name not in registry.names():
        pytest.skip(f"this timm has no {name}")
    with torch.device("meta"):
        source = timm.create_model(name).eval()
    check_supported(source)
    made = shape_of_config(config_of(source))
    assert type(made) is type(source)
    shapes = {key: value.shape for key, value in source.named_parameters()}
    assert {key: value.shape for key, value in made.named_parameters()} == shapes
    check_supported(made)


@pytest.mark.parametrize("name", [*FEATURES, "distilled"])
def test_logits_are_those_of_the_compiled_model(name):
    source = small(distilled=True) if name == "distilled" else build(name)
    fast = dsm_ext.from_timm(source, "dense")
    weights = dict(fast.named_parameters())
    made = timm_model_of(fast.config, weights)
    assert all(value is weights[key] or value.data_ptr() == weights[key].data_ptr()
               for key, value in made.named_parameters())  # fmt: skip
    images = images_for(source, 2)
    with torch.no_grad():
        torch.testing.assert_close(made(images), fast(images), rtol=1e-4, atol=2e-5)


def test_a_shape_that_timm_lacks_is_refused_by_its_fields():
    config = dsm_ext.from_timm(build("EVA-02"), "dense").config
    other = dsm_ext.Config(**config.to_dict() | {"proj_bias": False})
    with pytest.raises(NotImplementedError, match="Eva can have, got proj_bias=False"):
        shape_of_config(other)
