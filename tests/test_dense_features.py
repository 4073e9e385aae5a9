"""Features of every patch of a merging model, and the tokens after each block."""

import pytest
import torch
from models import images_for, small
from near_ties import recorded_margins
from tolerance import assert_close, far_from_ties

import dsm_ext
from dsm_ext import reference

pytestmark = pytest.mark.usefixtures("cpu_path")

MODELS = {
    "class token": {},
    "registers": {"reg_tokens": 3, "no_embed_class": True, "init_values": 0.1},
    "no prefix": {"class_token": False, "global_pool": "avg"},
    "oblong": {"img_size": (40, 72)},
}
SCHEDULE = "dsm:r=16,skip=1,local=2,window=5"


@pytest.fixture(params=MODELS)
def model(request, device):
    return small(**MODELS[request.param]).to(device)


def clear_images(model, schedule, count=6):
    """Images in which rounding cannot change a merge."""
    images = images_for(model, 2 * count).to(next(model.parameters()).device)
    with recorded_margins() as margins:
        reference.forward(model, images, schedule)
    return images[far_from_ties(torch.stack(margins).amin(0))][:count]


def test_every_block_equals_the_reference(model):
    fast = dsm_ext.from_timm(model, SCHEDULE)
    images = clear_images(model, fast.schedule)
    expected = reference.forward_intermediates(model, images, fast.schedule, range(4))
    found = fast.forward_intermediates(images, range(4))
    for i, (tokens, source, size) in enumerate(expected):
        assert_close(found[i].tokens, tokens)
        assert torch.equal(found[i].source.long(), source)
        assert torch.equal(found[i].size, size)
        assert found[i].source.dtype == torch.int32
        assert fast.plan.blocks[i].tokens_out == size.shape[1]
    storages = {t.data_ptr() for block in found for t in block}
    assert len(storages) == 12  # no two results share memory
    for chosen in ([0], [1, 3], [2]):  # fewer blocks give the same results
        for i, block in zip(chosen, fast.forward_intermediates(images, chosen), strict=True):
            assert torch.equal(block.tokens, found[i].tokens)
            assert torch.equal(block.source, found[i].source)


@pytest.mark.parametrize("batch", [0, 1, 40])
def test_any_number_of_images(batch):
    """A model computes 40 images in more than one part."""
    model = small()
    fast = dsm_ext.from_timm(model, SCHEDULE)
    images = images_for(model, batch)
    whole = fast.forward_intermediates(images, [1, 3], norm=True)
    for block, i in zip(whole, (1, 3), strict=True):
        assert block.tokens.shape == (batch, fast.plan.blocks[i].tokens_out, 32)
        assert block.source.shape == (batch, 196)
    for i in range(batch):
        alone = fast.forward_intermediates(images[i : i + 1], [1, 3], norm=True)
        for block, own in zip(whole, alone, strict=True):
            assert_close(block.tokens[i : i + 1], own.tokens)
            assert torch.equal(block.source[i : i + 1], own.source)


# Each way to name layers once with each value of both flags.
@pytest.mark.parametrize(
    "n, reshape, norm",
    [
        (1, False, False), (1, True, True), (3, False, True), (3, True, False),
        ([0, 2], False, False), ([0, 2], True, True), ([-1, -4], False, True),
        ([-1, -4], True, False),
    ],
)  # fmt: skip
def test_dense_layers_are_those_of_timm(model, n, reshape, norm):
    images = images_for(model, 3).to(next(model.parameters()).device)
    fast = dsm_ext.from_timm(model, "dense")
    chosen = [i % 4 for i in n] if isinstance(n, list) else n
    with torch.no_grad():
        expected = model.get_intermediate_layers(
            images, chosen, reshape=reshape, return_prefix_tokens=True, norm=norm
        )
    found = fast.get_intermediate_layers(
        images, n, reshape=reshape, return_prefix_tokens=True, norm=norm
    )
    plain = fast.get_intermediate_layers(images, n, reshape=reshape, norm=norm)
    assert len(found) == len(expected)
    for own, timms, alone in zip(found, expected, plain, strict=True):
        assert type(own) is type(timms)
        if isinstance(timms, tuple):
            assert_close(own[1], timms[1])
            own, timms = own[0], timms[0]
        assert_close(own, timms)
        assert torch.equal(own, alone)


def test_dense_features_hold_each_group_s_value(model):
    fast = dsm_ext.from_timm(model, SCHEDULE)
    images = images_for(model, 3).to(next(model.parameters()).device)
    prefix, source = fast.config.prefix, fast.trace(images).source
    tokens, dense = fast.forward_features(images), fast.forward_features(images, dense=True)
    assert dense.shape == (3, fast.config.tokens, 32)
    assert torch.equal(dense[:, :prefix], tokens[:, :prefix])
    for image in range(3):
        assert torch.equal(dense[image, prefix:], tokens[image, source[image].long()])
    (layer,) = fast.get_intermediate_layers(images, norm=True)
    assert_close(layer, dense[:, prefix:])


def test_a_segmentation_head_takes_merged_features():
    """A linear head gives maps of the shape that the dense model gives, with similar values."""
    model = small()
    images = images_for(model, 2)
    head = torch.nn.Conv2d(32, 5, 1)
    maps = {}
    for schedule in ("dense", "dsm:r=4,skip=2,local=1"):
        fast = dsm_ext.from_timm(model, schedule)
        (features,) = fast.get_intermediate_layers(images, reshape=True, norm=True)
        assert features.shape == (2, 32, 14, 14) and features.is_contiguous()
        maps[schedule] = torch.nn.functional.interpolate(head(features), size=images.shape[2:])
    dense, merged = maps.values()
    assert merged.shape == (2, 5, 56, 56)
    assert torch.nn.functional.cosine_similarity(dense, merged, dim=1).mean() > 0.9


def test_headless_trunks_and_dynamic_sizes():
    model = small(num_classes=0, dynamic_img_size=True)
    fast = dsm_ext.from_timm(model, "dsm:r=4")
    images = torch.randn(2, 3, 40, 72)
    (features,) = fast.get_intermediate_layers(images, reshape=True)
    assert features.shape == (2, 32, 10, 18)
    with torch.no_grad():
        (expected,) = model.get_intermediate_layers(images, reshape=True)
    fast.schedule = "dense"
    assert_close(fast.get_intermediate_layers(images, reshape=True)[0], expected)


@pytest.mark.parametrize("blocks", [[], [4], [-1], [1, 0], [1, 1]])
def test_bad_blocks(blocks):
    model = small()
    fast = dsm_ext.from_timm(model)
    with pytest.raises(ValueError, match=r"ascending indices of blocks in \[0, 3\], got"):
        fast.forward_intermediates(images_for(model, 1), blocks)


@pytest.mark.parametrize("n", [0, 5, [4], [-5]])
def test_bad_layers(n):
    model = small()
    with pytest.raises(ValueError, match=r"indices of blocks in \[0, 3\]"):
        dsm_ext.from_timm(model).get_intermediate_layers(images_for(model, 1), n)
