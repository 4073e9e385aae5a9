"""What is done to the parts of a model: another head is followed, everything else is refused."""

import copy
import io

import pytest
import torch
from models import images_for, small
from tolerance import assert_close
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
    """A layer of somebody's own."""


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
    assert len(seen) == 1  # hooks of the model itself are called


@pytest.mark.parametrize("schedule", ["dense", "dsm:r=16"])
@pytest.mark.parametrize("pool", ["token", "avg", "map"])
def test_an_identity_as_head_gives_features(cpu_path, images, schedule, pool):
    fast = dsm_ext.from_timm(small(global_pool=pool), schedule)
    expected = fast.forward_with_features(images)
    fast.head = nn.Identity()
    assert_close(fast(images), expected.pooled)
    assert fast.config.num_classes == 0
    assert not any(name.startswith("head") for name in fast.state_dict())
    twin = copy.deepcopy(fast)
    assert torch.equal(twin(images), fast(images))
    fast.to("cpu")
    assert_close(fast(images), expected.pooled)
    fast.head = head = nn.Linear(32, 7)
    assert_close(fast(images), head(expected.pooled).detach())
    assert fast.plan.multiply_adds_head >= 7 * 32


@pytest.mark.parametrize("bias", [True, False])
def test_another_linear_as_head_is_another_classifier(fast, images, bias):
    pooled = fast.forward_with_features(images).pooled
    fast.head = nn.Linear(32, 3, bias=bias)
    with torch.no_grad():
        assert_close(fast(images), fast.head(pooled))
    assert fast.num_classes == fast.config.num_classes == 3
    assert fast.config.head_bias == bias
    assert fast.trace(images).logits.shape == (2, 3)
    with torch.no_grad():
        fast.head.weight.zero_()
        assert_close(fast(images), fast.head(pooled), scale=1)
    loaded = torch.nn.Sequential(copy.deepcopy(fast)).state_dict()
    assert loaded["0.head.weight"].shape == (3, 32)


def test_a_head_that_does_not_fit_is_named(fast, images):
    for head, message in (
        (nn.Linear(31, 10), r"misshapen head\.weight \[10, 31\] \(expected \[10, 32\]\)"),
        (nn.Linear(32, 10, dtype=torch.bfloat16), "weights of one dtype, got"),
        (nn.Linear(32, 10, device="meta"), r"weights with values, got head\.bias on the meta"),
    ):
        fast.head = head
        with pytest.raises((ValueError, TypeError), match=message):
            fast(images)
    features = dsm_ext.from_timm(small(global_pool="", num_classes=0), "dense")
    features.head = nn.Linear(32, 10)
    with pytest.raises(ValueError, match="global_pool='' to go with num_classes=0"):
        features(images)


def test_a_model_without_a_head_takes_one(images):
    fast = dsm_ext.from_timm(small(num_classes=0), "dsm:r=16")
    pooled = fast(images)
    assert type(fast.head) is nn.Identity
    fast.head = nn.Linear(32, 4)
    assert_close(fast(images), fast.head(pooled).detach())


def test_both_heads_of_a_distilled_model_are_replaced_together(images):
    fast = dsm_ext.from_timm(small(distilled=True), "dense")
    tokens = fast.forward_features(images)
    fast.head = nn.Identity()
    with pytest.raises(NotImplementedError, match="head_dist likewise, both together"):
        fast(images)
    fast.head_dist = nn.Identity()
    assert_close(fast(images), tokens[:, :2].mean(1))
    fast.head = fast.head_dist = nn.Linear(32, 4)
    assert_close(fast(images), fast.head(tokens[:, :2].mean(1)).detach())


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


@pytest.mark.parametrize("schedule", ["dense", "dsm:r=16"])
@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"global_pool": "avg"}, {"global_pool": "map"}, {"distilled": True},
        {"global_pool": "avg", "reg_tokens": 2, "fc_norm": True, "pool_include_prefix": True},
        {"num_classes": 0, "global_pool": "avg"},
    ],
)  # fmt: skip
def test_features_and_logits_of_one_pass(images, arguments, schedule, cpu_path):
    model = small(**arguments)
    fast = dsm_ext.from_timm(model, schedule)
    logits, pooled, features, size = fast.forward_with_features(images)
    assert_close(logits, fast(images))
    assert torch.equal(features, fast.forward_features(images))
    assert torch.equal(size, fast.trace(images).size)
    assert_close(fast.forward_head(features, size=size), logits)
    assert_close(fast.forward_head(features, pre_logits=True, size=size), pooled)
    dense = fast.forward_features(images, dense=True)
    if not arguments.get("pool_include_prefix"):
        assert_close(fast.forward_head(dense), logits)
    with torch.no_grad():
        if schedule == "dense":
            assert_close(pooled, model.forward_head(features, pre_logits=True))
            assert_close(fast.forward_head(features), model(images))
        if not arguments.get("distilled"):
            assert_close(fast.head(pooled), logits)


def test_forward_head_refuses_what_does_not_fit(images):
    fast = dsm_ext.from_timm(small(global_pool="avg"), "dsm:r=16")
    features, size = fast.forward_features(images), fast.trace(images).size
    for given, sizes, error, message in (
        (features, None, ValueError, "the size of each token beside 149 features"),
        (features[0], size, ValueError, r"features to be \[B, M, 32\], got \[149, 32\]"),
        (features[..., :31], size, ValueError, r"features to be \[B, M, 32\], got"),
        (features, size[:, 1:], ValueError, r"size to be \[2, 149\], got \[2, 148\]"),
        (features, size.double(), TypeError, "size to be float32, got Double"),
        (features[:, :1], size[:, :1], ValueError, "at least 2 tokens, got 1"),
        (features.double(), size, TypeError, "features of Float like the weights"),
        (features.numpy(), size, TypeError, "expected features to be a torch.Tensor"),
    ):
        with pytest.raises(error, match=message):
            fast.forward_head(given, size=sizes)
    fast.freeze()
    assert fast.forward_head(features, pre_logits=True, size=size).shape == (2, 32)
    assert fast.forward_with_features(images).logits.shape == (2, 10)
    with pytest.raises(RuntimeError, match="frozen"):
        fast.forward_head(features, size=size)


def test_reset_classifier(images):
    fast = dsm_ext.from_timm(small(), "dsm:r=16")
    pooled = fast.forward_with_features(images).pooled
    fast.reset_classifier(5)
    assert_close(fast(images), fast.head(pooled))
    assert not any(p.requires_grad for p in fast.parameters())
    fast.reset_classifier(0)
    assert_close(fast(images), pooled)
    fast.reset_classifier(3, "avg")
    out = fast.forward_with_features(images)
    assert fast.config.global_pool == "avg"
    weights = (out.size[:, 1:] / out.size[:, 1:].sum(1, keepdim=True))[..., None]
    assert_close(out.pooled, (out.features[:, 1:] * weights).sum(1))
    fast.reset_classifier(0, "")
    assert torch.equal(fast(images), fast.forward_features(images))
    with pytest.raises(ValueError, match="global_pool='' to go with num_classes=0"):
        fast.reset_classifier(3)
    with pytest.raises(ValueError, match="num_classes to be in"):
        fast.reset_classifier(-1, "token")
    mapped = dsm_ext.from_timm(small(global_pool="map"), "dsm:r=16")
    mapped.reset_classifier(2, "token")
    assert mapped(images).shape == (2, 2)
    assert not any("attn_pool" in name for name in mapped.state_dict())
    with pytest.raises(ValueError, match="an attention pool, which has weights"):
        mapped.reset_classifier(2, "map")
    half = dsm_ext.from_timm(small(), "dense", dtype=torch.bfloat16)
    half.reset_classifier(4)
    assert half(images.bfloat16()).dtype == torch.bfloat16
    frozen = dsm_ext.from_timm(small(), "dense").freeze()
    with pytest.raises(RuntimeError, match="frozen"):
        frozen.reset_classifier(0)
    frozen.head = nn.Identity()
    with pytest.raises(RuntimeError, match="frozen"):
        frozen(images)


def test_what_is_known_of_a_model_follows_its_head_at_once():
    fast = dsm_ext.from_timm(small(), "dense")
    fast.head = nn.Linear(32, 5)
    assert (fast.config.num_classes, fast.num_classes) == (5, 5)
    assert fast.plan.multiply_adds_head == 5 * 32
    del fast.head.bias
    assert not fast.config.head_bias


def test_a_head_that_is_made_in_inference_mode(images):
    fast = dsm_ext.from_timm(small(), "dense")
    with torch.inference_mode():
        fast.head = nn.Linear(32, 3)
        inside = fast(images)
    assert torch.equal(fast(images), inside)


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


def test_settings_survive_another_head(images):
    fast = dsm_ext.from_timm(small(), "tome:r=8")
    fast.cpu_path, fast.cuda_graphs = "reference", False
    fast.head = nn.Identity()
    fast(images)
    assert (fast.cpu_path, fast.cuda_graphs) == ("reference", False)
    assert fast.schedule == dsm_ext.Schedule.tome(4, 8)


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
