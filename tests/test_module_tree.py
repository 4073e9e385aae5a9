"""A model refuses changes of its parts that it cannot follow, and names them."""

import copy
import io

import pytest
import torch
from models import images_for, small
from torch import nn
from torch.nn.utils import prune

import dsm_ext

REFUSED = "the model is one compiled call and cannot follow this change of its parts: "


@pytest.fixture
def fast(cpu_path):
    return dsm_ext.from_timm(small(), "dsm:r=16")


@pytest.fixture
def images():
    return torch.randn(2, 3, 56, 56)


class Marked(nn.Linear):
    """A user's subclass of a layer."""


def swap_blocks(fast):
    fast.blocks[0], fast.blocks[1] = fast.blocks[1], fast.blocks[0]


def wrap(fast):
    fast.blocks[2] = nn.Sequential(fast.blocks[2])


def cut_weights(fast):
    prune.l1_unstructured(fast.blocks[0].attn.qkv, "weight", 0.5)


def patch(fast):
    fast.blocks[1].forward = lambda x: x


def patch_layer(fast):
    fast.norm.forward = lambda x: x


def write_directly(fast):
    fast.blocks[0].mlp._modules["fc1"] = nn.Linear(32, 128)


CHANGES = {
    "norm was replaced by another torch.nn.*LayerNorm": (
        lambda f: setattr(f, "norm", nn.LayerNorm(32))
    ),
    "norm was replaced by another torch.nn.*Identity": lambda f: setattr(f, "norm", nn.Identity()),
    r"blocks\.3 was deleted": lambda f: f.blocks.__delitem__(3),
    r"blocks\.3 was deleted.": lambda f: delattr(f.blocks, "3"),
    r"blocks\.4 was added \(torch.nn.*Identity": lambda f: f.blocks.append(nn.Identity()),
    r"blocks\.0 was replaced by another dsm_ext.model.module_tree.Part; blocks\.1 was": swap_blocks,
    r"blocks\.2 was replaced by another torch.nn.*Sequential": wrap,
    "blocks was replaced by another torch.nn.*Sequential": (
        lambda f: setattr(f, "blocks", f.blocks[:2])
    ),
    r"blocks\.0\.mlp\.fc1 was replaced by another torch.nn.*Linear": write_directly,
    r"patch_embed\.proj was replaced": (
        lambda f: setattr(f.patch_embed, "proj", nn.Conv2d(3, 32, 4))
    ),
    "head was deleted": lambda f: delattr(f, "head"),
    "head was deleted.": lambda f: setattr(f, "head", None),
    "head was replaced by another torch.nn.*Sequential": (
        lambda f: setattr(f, "head", nn.Sequential(nn.Linear(32, 10)))
    ),
    r"extra was added": lambda f: f.add_module("extra", nn.Linear(3, 3)),
    r"head\.lora was added": lambda f: f.head.add_module("lora", nn.Linear(3, 3)),
    r"blocks\.1 has hooks, which are never called": (
        lambda f: f.blocks[1].register_forward_hook(lambda *_: None)
    ),
    r"blocks\.0\.attn\.qkv has hooks": (
        lambda f: f.blocks[0].attn.qkv.register_forward_pre_hook(lambda *_: None)
    ),
    r"head has hooks": lambda f: f.head.register_forward_hook(lambda *_: None),
    r"blocks\.0\.attn\.qkv has hooks.": cut_weights,
    r"blocks\.1 has another forward, which is never called": patch,
    "norm has another forward, which is never called": patch_layer,
    "norm has eps=1.0, but the model computes with 1e-06": (
        lambda f: setattr(f.norm, "eps", 1.0)
    ),
    "head became a .*Marked": lambda f: setattr(f.head, "__class__", Marked),
}  # fmt: skip


@pytest.mark.parametrize("message", CHANGES)
def test_changes_of_the_parts_are_refused(fast, images, message):
    fast(images)
    CHANGES[message](fast)
    with pytest.raises(NotImplementedError, match=REFUSED + f".*{message}"):
        fast(images)
    for call in (
        fast.forward_features,
        fast.trace,
        fast.forward_with_features,
        lambda x: fast.forward_intermediates(x, [0]),
        lambda x: fast.to("cpu"),
        lambda x: copy.deepcopy(fast),
        lambda x: torch.save(fast, io.BytesIO()),
    ):
        with pytest.raises(NotImplementedError, match="cannot follow this change"):
            call(images)


@pytest.mark.filterwarnings("ignore:torch.*deprecated")
def test_layers_that_quantisation_replaced_are_refused(fast, images):
    quantised = torch.ao.quantization.quantize_dynamic(fast, {nn.Linear})
    with pytest.raises(NotImplementedError, match=r"quantized\.dynamic.*; and \d+ more\. Undo it"):
        quantised(images)
    assert fast(images).shape == (2, 10)


def test_a_change_that_was_undone_is_forgotten(fast, images):
    expected = fast(images)
    norm, block = fast.norm, fast.blocks[3]
    fast.norm = nn.LayerNorm(32)
    with pytest.raises(NotImplementedError):
        fast(images)
    fast.norm = norm
    assert torch.equal(fast(images), expected)
    del fast.blocks[3]
    with pytest.raises(NotImplementedError):
        fast(images)
    fast.blocks.append(block)
    handle = fast.blocks[0].register_forward_hook(lambda *_: None)
    with pytest.raises(NotImplementedError):
        fast(images)
    handle.remove()
    assert torch.equal(fast(images), expected)


def test_what_changes_nothing_is_taken(fast, images):
    expected = fast(images)
    fast.blocks[0].note = "mine"
    fast.register_buffer("mean", torch.zeros(3))
    fast.blocks[1] = fast.blocks[1]
    seen = []
    fast.register_forward_hook(lambda module, given, logits: seen.append(logits))
    assert torch.equal(fast(images), expected)
    assert len(seen) == 1  # torch calls the hooks of the model itself


def test_parts_compute_what_they_look_like(images):
    model = small()
    fast = dsm_ext.from_timm(model, "dense")
    tokens = torch.randn(2, 5, 32)
    with torch.no_grad():
        for name in ("norm", "head", "blocks.2.norm1", "blocks.2.attn.qkv", "blocks.2.mlp.fc1"):
            own, other = fast.get_submodule(name), model.get_submodule(name)
            assert torch.equal(own(tokens), other(tokens)), name
        assert torch.equal(fast.patch_embed.proj(images), model.patch_embed.proj(images))
    assert len(fast.blocks) == 4
    for part in (fast.blocks[0], fast.blocks, fast.patch_embed, fast.blocks[0].attn):
        with pytest.raises(NotImplementedError, match="computed inside the model"):
            part(tokens)


@pytest.mark.parametrize("name", ["global_pool", "dynamic_img_size", "r", "num_heads"])
def test_settings_that_the_model_has_not_are_refused(name):
    fast = dsm_ext.from_timm(small(), "dense")
    with pytest.raises(AttributeError, match=f"{name} cannot be set"):
        setattr(fast, name, 8)


def rename(fast):
    fast.norm.gamma = fast.norm.bias
    del fast.norm.bias


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: setattr(f.head.weight, "data", torch.zeros(5, 32)), r"head\.weight \[5, 32\]"),
        (lambda f: setattr(f.head.weight, "data", torch.zeros(50, 32)), r"head\.weight \[50, 32\]"),
        (lambda f: setattr(f.norm.weight, "data", torch.ones(16)), r"norm\.weight \[16\]"),
        (
            lambda f: setattr(f.blocks[0].mlp.fc1.weight, "data", f.blocks[0].mlp.fc1.weight[:64]),
            r"blocks\.0\.mlp\.fc1\.weight \[64, 32\]",
        ),
        (lambda f: setattr(f.pos_embed, "data", f.pos_embed.data[:, :50]), r"pos_embed \[1, 50"),
        (lambda f: f.head.half(), r"one dtype, got Float and, for head\.weight, Half"),
        (lambda f: f.blocks[0].bfloat16(), r"one dtype, .* for blocks\.0\..*BFloat16"),
        (lambda f: f.patch_embed.half(), "one dtype, got .* and, for "),
        (lambda f: setattr(f.cls_token, "data", f.cls_token.double()), "for .*, (Double|Float)"),
        (lambda f: prune.random_unstructured(f, "pos_embed", 0.9), "missing pos_embed; unexpected"),
        (rename, r"missing norm\.bias; unexpected norm\.gamma"),
    ],
)
def test_parameters_of_another_kind_are_named(fast, images, change, message):
    fast(images)
    change(fast)
    for _ in range(2):
        with pytest.raises((ValueError, TypeError), match=message):
            fast(images)


def test_images_of_another_kind_are_named():
    from PIL import Image

    fast = dsm_ext.from_timm(small(), "dense")
    images = images_for(small(), 2)
    for given, kind in (
        (images.numpy(), r"numpy\.ndarray"),
        ([images], r"builtins\.list"),
        (Image.new("RGB", (56, 56)), r"PIL\.Image\.Image"),
        (None, r"builtins\.NoneType"),
    ):
        for call in (fast, fast.trace, fast.profile, fast.forward_features):
            with pytest.raises(TypeError, match=f"images to be a torch.Tensor .* got {kind};"):
                call(given)
    for given, layout in ((images.to_sparse(), "Sparse"), (images.to_mkldnn(), "Mkldnn")):
        with pytest.raises(TypeError, match=f"a dense tensor, got one of layout {layout}"):
            fast(given)
