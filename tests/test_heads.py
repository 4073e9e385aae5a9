"""A model takes another head, and computes its head apart from its trunk."""

import copy

import pytest
import torch
from models import small
from tolerance import assert_close
from torch import nn

import dsm_ext


@pytest.fixture
def fast(cpu_path):
    return dsm_ext.from_timm(small(), "dsm:r=16")


@pytest.fixture
def images():
    return torch.randn(2, 3, 56, 56)


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


def test_settings_survive_another_head(images):
    fast = dsm_ext.from_timm(small(), "tome:r=8")
    fast.cpu_path, fast.cuda_graphs = "aten", False
    fast.head = nn.Identity()
    fast(images)
    assert (fast.cpu_path, fast.cuda_graphs) == ("aten", False)
    assert fast.schedule == dsm_ext.Schedule.tome(4, 8)
