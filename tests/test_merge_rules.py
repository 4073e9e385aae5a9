"""The rules of merging: what tokens are compared by, and which tokens are protected."""

import pytest
import torch
from features import FEATURES, build
from models import images_for, small
from parity import compare
from tolerance import assert_close

import dsm_ext
from dsm_ext import Global, Local, MergeRule, Schedule, reference

both_paths = pytest.mark.usefixtures("cpu_path")

RULES = {
    "tokens": MergeRule("keys+tokens"),
    "protect": MergeRule(protect=0.3),
    "both": MergeRule("keys+tokens", protect=0.2),
    "much protection": MergeRule("keys+tokens", protect=5),
}
SCHEDULES = {
    "dsm": Schedule.parse("dsm:r=15,skip=1,local=2", 4),
    "falling": Schedule.parse("list:0/40/30/20", 4),
    "local and global in a block": Schedule([None, [Local(16, 7), Global(8)], None, Global(5)]),
}
BOTH = RULES["both"]


@both_paths
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", SCHEDULES)
def test_equals_the_reference(rule, name, device):
    model = small().to(device)
    compare(model, SCHEDULES[name].with_rule(RULES[rule]), images_for(model, 8).to(device))


@both_paths
@pytest.mark.parametrize("feature", FEATURES)
def test_every_feature_equals_the_reference(feature, device):
    model = build(feature).to(device)
    schedule = Schedule.parse("list:0/12w7/8/6", 4)
    compare(model, schedule.with_rule(BOTH), images_for(model, 6).to(device))


@both_paths
def test_a_distilled_model_equals_the_reference(device):
    model = small(distilled=True).to(device)
    compare(model, SCHEDULES["dsm"].with_rule(BOTH), images_for(model, 8).to(device))


@both_paths
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_protection_is_the_plain_rule(schedule, device):
    model = small().to(device)
    fast, images = dsm_ext.from_timm(model, SCHEDULES[schedule]), images_for(model, 3).to(device)
    plain = fast(images)
    fast.schedule = SCHEDULES[schedule].with_rule(MergeRule("keys", protect=0.0))
    assert torch.equal(fast(images), plain)


def test_one_image_gives_the_bits_of_a_batch():
    """One image is matched by all threads together, a batch by one thread for each image."""
    model = small(embed_dim=256, num_heads=4)
    fast = dsm_ext.from_timm(model, SCHEDULES["falling"].with_rule(BOTH))
    images = images_for(model, 4)
    together = fast.trace(images)
    for i in range(4):
        alone = fast.trace(images[i : i + 1])
        assert torch.equal(alone.source[0], together.source[i])
    logits, threads = fast(images[:1]), torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert torch.equal(fast(images[:1]), logits)
            assert torch.equal(fast.trace(images[:1]).source, together.source[:1])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_rules_in_low_precision(precision):
    model = small(embed_dim=64, num_heads=2)
    if not dsm_ext._C.has_precision(precision):
        pytest.skip(f"the processor lacks {precision}")
    images = images_for(model, 6)
    schedule = SCHEDULES["falling"].with_rule(BOTH)
    fast = dsm_ext.from_timm(model, schedule, precision=precision)
    logits, source, *_ = reference.trace(model, images, schedule, precision=precision)
    trace = fast.trace(images)
    same = (trace.source == source).float().mean().item()
    assert same > 0.9, f"{same:.2f} of the patches are in the same token"
    assert trace.size.sum(1).tolist() == [197.0] * 6


def test_a_protected_token_never_merges_away(device):
    metric = torch.randn(2, 21, 8, device=device)
    penalty = torch.zeros(2, 21, device=device)
    penalty[:, 4] = 1e9
    destination = dsm_ext.match(metric, 9, prefix=1, penalty=penalty)
    assert (destination == destination[:, 4:5]).sum(1).tolist() == [1, 1]
    plain = dsm_ext.match(metric, 9, prefix=1)
    assert torch.equal(dsm_ext.match(metric, 9, prefix=1, penalty=0 * penalty), plain)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_penalty_ranks_last(value, device):
    metric = torch.randn(1, 21, 8, device=device)
    penalty = torch.zeros(1, 21, device=device)
    penalty[:, [2, 8]] = value
    destination = dsm_ext.match(metric, 8, prefix=1, penalty=penalty)
    expected = reference.match(metric, 8, prefix=1, penalty=penalty)
    assert torch.equal(destination.long(), expected)
    for token in (2, 8):
        assert (destination == destination[0, token]).sum() == 1


def test_a_bad_image_spoils_no_other(device):
    model = small().to(device)
    fast = dsm_ext.from_timm(model, SCHEDULES["dsm"].with_rule(BOTH))
    images = images_for(model, 3).to(device)
    expected = fast(images)
    images[1, 0, 17, 22] = float("nan")
    spoiled = fast(images)
    assert spoiled[1].isnan().all()
    assert torch.equal(spoiled[[0, 2]], expected[[0, 2]])


@both_paths
@pytest.mark.parametrize("schedule", ["dense", "list:0/60/40/20,protect=0.2"])
@pytest.mark.parametrize(
    "arguments", [{}, {"reg_tokens": 4}, {"class_token": False, "global_pool": "avg"}]
)
def test_class_attention_equals_the_reference(schedule, arguments, device):
    model = small(**arguments).to(device)
    images = images_for(model, 3).to(device)
    fast = dsm_ext.from_timm(model, schedule)
    for block in (0, 2, -1):
        found = fast.class_attention(images, block)
        expected = expected_attention(model, images, fast.schedule, block % 4)
        assert found.shape == (3, 2, 14, 14)
        assert found.dtype == torch.float32
        assert_close(found, expected)


def expected_attention(model, images, schedule, block):
    """The class token's attention by head and patch, from the tokens that enter the block."""
    with torch.no_grad():
        if block == 0:
            x = model.norm_pre(model._pos_embed(model.patch_embed(images)))
            source = torch.arange(model.num_prefix_tokens, x.shape[1], device=x.device)
            source, size = source.repeat(len(x), 1), torch.ones(x.shape[:2], device=x.device)
        else:
            ((x, source, size),) = reference.forward_intermediates(
                model, images, schedule, [block - 1]
            )
        attn = model.blocks[block].attn
        qkv = attn.qkv(model.blocks[block].norm1(x))
        b, n, _ = x.shape
        q, k, _ = qkv.view(b, n, 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
        weights = None if model.cls_token is not None else size
        bias = size.log()[:, None, None, :]
        attention = reference.class_attention(q, k, bias, weights) / size[:, None]
        index = source.long()[:, None].expand(-1, attn.num_heads, -1)
        return attention.gather(2, index).unflatten(2, (14, 14))


def test_the_attention_of_a_head_adds_up_to_one():
    model = small(class_token=False, global_pool="avg")
    fast = dsm_ext.from_timm(model, "list:0/60/40/20")
    assert_close(fast.class_attention(images_for(model, 2), 3).sum((2, 3)), torch.ones(2, 2))


def test_class_attention_refuses_a_block_that_is_not_there():
    fast = dsm_ext.from_timm(small(), "dense")
    for block in (4, -5):
        with pytest.raises(ValueError, match=r"block to be in \[-4, 3\], got"):
            fast.class_attention(images_for(small(), 1), block)
