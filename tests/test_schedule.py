"""Schedules: builders, strings, errors, and multiply-adds, which equal those of the papers."""

import copy
import json
import pickle

import pytest
import timm

from dsm_ext import Config, Global, Local, MergeRule, Schedule
from dsm_ext.timm_features import config_of

DEIT_S = Config(embed_dim=384, num_heads=6, mlp_dim=1536)
VIT_B = Config()
VIT_L = Config(embed_dim=1024, depth=24, num_heads=16, mlp_dim=4096)


def gmacs(schedule, config):
    return Schedule.parse(schedule, config.depth).plan(config).multiply_adds / 1e9


def test_builders_give_the_same_plain_list():
    local, r = Local(16, 7), Global(16)
    assert Schedule.dsm(5, r=16, skip=1, local=2) == Schedule([None, local, local, r, r])
    assert Schedule.dsm(3, r=16, skip=1, local=0) == Schedule.dfe(3, r=16, skip=1)
    assert Schedule.dfe(3, r=16, skip=0) == Schedule.tome(3, r=16) == Schedule([r, r, r])
    assert Schedule.dense(2) == Schedule([None, []]) == Schedule.dsm(2, r=0)
    assert Schedule.dense(2) != Schedule.dense(3)
    assert Schedule.tome(3, 8) != Schedule.tome(3, 8).with_proportional(False)


def test_defaults_follow_the_paper():
    assert Schedule.dsm(12) == Schedule.dsm(12, r=16, skip=1, local=6, window=7)
    assert Schedule.dsm(24) == Schedule.dsm(24, r=8, skip=4, local=12, window=7)
    for depth in (1, 2, 3, 6, 32):
        assert len(Schedule.dsm(depth)) == depth


def test_tome_takes_r_as_tome_does():
    rs = [s[0].r if s else 0 for s in Schedule.tome(12, (8, -1.0))]
    assert rs[0] == 16
    assert rs[-1] == 0
    assert sum(s[0].r if s else 0 for s in Schedule.tome(12, (8, 1.0))) == sum(
        16 * i // 11 for i in range(12)
    )
    assert sum(rs) == sum(16 * i // 11 for i in range(12))
    assert sum(Schedule.tome(5, (8, 1.0))[i][0].r for i in range(1, 5)) == 4 + 8 + 12 + 16
    assert Schedule.tome(3, [8, 4]) == Schedule([Global(8), Global(4), None])
    assert Schedule.tome(3, 8, inflection=0.5) == Schedule.tome(3, (8, 0.5))


@pytest.mark.parametrize(
    "text, schedule",
    [
        ("dense", Schedule.dense(12)),
        ("dsm", Schedule.dsm(12)),
        ("dsm:r=16,skip=2,local=5,window=7", Schedule.dsm(12, 16, 2, 5, 7)),
        ("dsm:window=5", Schedule.dsm(12, window=5)),
        ("dfe:r=8,skip=3", Schedule.dfe(12, 8, 3)),
        ("tome:r=8", Schedule.tome(12, 8)),
        ("tome:r=8,inflection=-0.5", Schedule.tome(12, (8, -0.5))),
        ("tome:r=8/8/4", Schedule.tome(12, [8, 8, 4])),
        ("tome:r=8,proportional=false", Schedule.tome(12, 8).with_proportional(False)),
        ("dsm:metric=keys+tokens", Schedule.dsm(12).with_rule(MergeRule("keys+tokens"))),
        ("tome:r=8,protect=0.25", Schedule.tome(12, 8).with_rule(MergeRule(protect=0.25))),
        (
            "list:r=0/16w7/8w7+4",
            Schedule([None, Local(16, 7), [Local(8, 7), Global(4)], *[None] * 9]),
        ),
        ("list:8", Schedule.tome(12, [8])),
    ],
)
def test_strings(text, schedule):
    assert Schedule.parse(text, 12) == schedule


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "expected dense, dfe, dsm, guided, list or tome, got ''"),
        ("pitome:r=8", "got 'pitome'"),
        ("dense:r=8", "expected one of proportional, metric, protect, got 'r'"),
        ("dsm:r=16,skips=2", "expected one of r, skip, local, window, prop.*, got 'skips'"),
        ("dsm:r", "expected key=value, got 'r'"),
        ("dsm:", "expected key=value, got ''"),
        ("dsm:r=,", "expected r to be a number, got ''|expected key=value"),
        ("dsm:r=8,r=9", "expected r once"),
        ("dsm:r=8.5", "expected r to be a number, got '8.5'"),
        ("dsm:r=99999999999999999999", "expected r to be a number"),
        ("dsm:r=-1", "expected r to be non-negative, got -1"),
        ("dsm:skip=-1", "expected skip to be non-negative"),
        ("dsm:skip=8,local=6", r"skip \+ local to be at most depth = 12, got 8 \+ 6"),
        ("dsm:window=0", "expected window to be positive, got 0"),
        ("dfe:skip=13", "expected skip to be at most depth = 12, got 13"),
        ("tome:r=8,inflection=2", r"inflection to be in \[-1, 1\], got 2"),
        ("tome:r=8/8,inflection=0.5", "no inflection beside a list"),
        ("tome:r=8/x", "expected r to be a number, got 'x'"),
        ("tome:r=" + "/".join("1" * 13), "at most depth = 12 values of r, got 13"),
        ("dsm:proportional=no", "proportional to be true or false, got 'no'"),
        ("dsm:metric=values", "metric to be keys or keys.tokens, got values"),
        ("dsm:protect=-1", "protect to be finite and not negative, got -1"),
        ("dsm:protect=inf", "protect to be finite and not negative, got inf"),
        ("dsm:protect=nan", "protect to be finite and not negative, got nan"),
        ("dsm:protect=much", "protect to be a number, got 'much'"),
        ("guided:1.7", "expected a model's config to parse 'guided:1.7'"),
        ("list", "expected list:R/R/..."),
        ("list:8w", "expected window to be a number, got ''"),
        ("list:8w0", "expected window to be positive, got 0"),
        ("list:8/8w7", "no local step after a global one"),
        ("list:" + "/".join("1" * 13), "at most depth = 12 blocks, got 13"),
    ],
)
def test_bad_strings(text, message):
    with pytest.raises(ValueError, match=message):
        Schedule.parse(text, 12)


def test_bad_lists():
    with pytest.raises(TypeError, match="expected None, Local, Global or a list"):
        Schedule([None, 8])
    with pytest.raises(TypeError, match="expected None, Local, Global or a list"):
        Schedule([["tome"]])
    with pytest.raises(ValueError, match="no local step after a global one"):
        Schedule([Global(8), Local(8, 7)])
    with pytest.raises(ValueError, match="one window size, got 7 and, in block 1, 5"):
        Schedule([Local(8, 7), Local(8, 5)])
    with pytest.raises(ValueError, match="at most one local and one global step in block 0"):
        Schedule([[Local(8, 7), Local(8, 7)]])
    with pytest.raises(ValueError, match="r to be non-negative, got -8"):
        Schedule([Global(-8)])
    with pytest.raises(TypeError, match="strings are for Schedule.parse"):
        Schedule("dsm:r=16")
    for r in ((8, 4, 2), "8", [8.5], range(3)):
        with pytest.raises(TypeError, match="expected r to be an int, "):
            Schedule.tome(3, r)
    with pytest.raises(ValueError, match=r"Local: expected window to be positive, got 0"):
        Local(8, 0)
    with pytest.raises(ValueError, match="expected skip to be at most 1000000000"):
        Schedule.dsm(3, skip=2**63 - 1, local=1)
    with pytest.raises(ValueError, match="expected r to be at most 1000000000"):
        Schedule.tome(3, 2**63 - 1)
    for steps in ([{"local": 8}], [{"global": "8"}], 3, [3], None):
        with pytest.raises(ValueError, match="what to_dict gives"):
            Schedule.from_dict({"blocks": [steps], "proportional": True})
    with pytest.raises(ValueError, match="depth to be non-negative"):
        Schedule.dense(-1)
    with pytest.raises(ValueError, match="what to_dict gives"):
        Schedule.from_dict({"blocks": [[{"r": 8}]], "proportional": True})
    with pytest.raises(ValueError, match="what to_dict gives"):
        Schedule.from_dict({"blocks": []})


def test_a_rule_belongs_to_a_schedule_its_plan_and_its_dictionary():
    plain = Schedule([None, Global(8)])
    assert plain == Schedule([None, Global(8)], rule=MergeRule("keys", protect=0))
    assert "rule" not in plain.to_dict()
    rule = MergeRule(metric="keys+tokens", protect=0.2)
    schedule = plain.with_rule(rule)
    assert schedule != plain
    assert schedule.rule == schedule.plan(Config(depth=2)).rule == rule
    assert repr(schedule).endswith("rule=MergeRule(metric='keys+tokens', protect=0.2))")
    assert schedule.with_proportional(False).rule == rule
    written = schedule.to_dict()
    assert written["rule"] == {"metric": "keys+tokens", "protect": 0.2}
    assert Schedule.from_dict(written) == schedule
    with pytest.raises(ValueError, match="metric to be keys or keys.tokens, got values"):
        Schedule.from_dict(written | {"rule": {"metric": "values", "protect": 0.0}})
    for rule in ({"metric": "keys"}, "keys", None, {"metric": "keys", "protect": "much"}):
        with pytest.raises(ValueError, match="what to_dict gives"):
            Schedule.from_dict(written | {"rule": rule})


def test_what_does_not_fit_the_model():
    with pytest.raises(ValueError, match="each of the model's 12 blocks, got 11"):
        Schedule.dense(11).plan(VIT_B)
    with pytest.raises(ValueError, match=r"r of block 3 to be in \[0, 98\], half of the patches"):
        Schedule([None] * 3 + [Global(99)] + [None] * 8).plan(VIT_B)
    with pytest.raises(ValueError, match=r"r of block 0 to be in \[0, 96\], half of each window's"):
        Schedule.dsm(12, r=97, skip=0).plan(VIT_B)


def test_windows_of_one_patch_give_nothing():
    plan = Schedule.parse("dsm:window=1", 12).plan(VIT_B)
    assert [b.kind for b in plan.blocks] == ["dense"] * 7 + ["global"] * 5
    assert plan.tokens_out == 197 - 5 * 16
    assert plan.window_order == []
    assert Schedule([Local(10**9, 1), Local(3, 1)] + [None] * 10).plan(VIT_B).tokens_out == 197
    both = Schedule([[Local(16, 1), Global(16)]] + [None] * 11).plan(VIT_B)
    assert [both.blocks[0].kind, both.tokens_out] == ["global", 181]


@pytest.mark.parametrize("schedule", ["dsm:r=16", "dsm:r=16,local=0", "tome:r=16"])
def test_a_picture_too_small_is_named(schedule):
    small = Config(img_size=(64, 112))  # 28 patches
    with pytest.raises(ValueError, match=r"in a picture of 64 x 112 pixels, got 16"):
        Schedule.parse(schedule, 12).plan(small)
    assert Schedule.parse(schedule.replace("16", "14"), 12).plan(small).tokens_out < 29


def test_a_window_as_large_as_can_be_is_one_window():
    plan = Schedule([Local(8, 10**9)] + [None] * 11).plan(VIT_B)
    assert plan.tokens_out == 189


def test_round_trips():
    schedule = Schedule([None, [Local(16, 7), Global(4)], Global(8)], proportional=False)
    assert Schedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert copy.deepcopy(schedule) == schedule
    assert hash(schedule) == hash(copy.deepcopy(schedule))
    names = {"Schedule": Schedule, "Local": Local, "Global": Global}
    assert eval(repr(schedule), names) == schedule
    assert [list(steps) for steps in schedule] == [[], [Local(16, 7), Global(4)], [Global(8)]]
    assert schedule[-1] == (Global(8),)
    with pytest.raises(IndexError):
        schedule[3]


def test_token_counts():
    plan = Schedule.dsm(12, r=16, skip=1, local=6).plan(VIT_B)
    assert [b.tokens_in for b in plan.blocks] == [197, 197, *range(181, 21, -16)]
    assert plan.tokens_out == 21
    assert [b.kind for b in plan.blocks] == ["dense"] + ["local"] * 6 + ["global"] * 5
    # Each block merges half of its patches at most: of 20 patches 10, 5, 2, 1 and 1 merge.
    small = Config(img_size=(64, 80), depth=6)
    counts = [b.tokens_out for b in Schedule.tome(6, 10).plan(small).blocks]
    assert counts == [11, 6, 4, 3, 2, 2]
    # 5 x 7 patches in windows of 3 x 3: rows of 3 and 2 patches, columns of 3, 2 and 2.
    ragged = Schedule([Local(8, 3), None]).plan(Config(img_size=(80, 112), depth=2))
    assert ragged.tokens_out == 36 - 8
    assert sorted(ragged.window_order) == list(range(35))
    assert ragged.window_order[:9] == [0, 1, 2, 7, 8, 9, 14, 15, 16]


def test_local_steps_share_their_count_out():
    plan = Schedule.dsm(12, r=13, skip=0, local=1).plan(VIT_B)
    assert plan.blocks[0].tokens_out == 197 - 13


@pytest.mark.parametrize(
    "schedule, config, published, tolerance",
    [
        ("dense", DEIT_S, 4.60, 0.005),
        ("dense", VIT_B, 17.56, 0.01),
        ("dense", VIT_L, 61.6, 0.06),
        ("dsm:r=16,skip=1,local=6", DEIT_S, 2.65, 0.02),
        ("dsm:r=16,skip=1,local=6", VIT_B, 10.13, 0.02),
        ("dfe:r=16,skip=2", DEIT_S, 2.97, 0.02),
        ("dfe:r=8,skip=4", VIT_L, 40.2, 0.05),
        ("tome:r=13", DEIT_S, 2.70, 0.02),
        ("tome:r=14", VIT_B, 9.84, 0.02),
    ],
)
def test_arithmetic_is_the_papers(schedule, config, published, tolerance):
    assert gmacs(schedule, config) == pytest.approx(published, abs=tolerance)


def test_dense_arithmetic_is_what_torch_counts():
    """torch's counter sees the products that timm runs."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = timm.create_model("deit_tiny_patch16_224").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 224, 224))
    counted = counter.get_total_flops() / 2
    plan = Schedule.dense(12).plan(config_of(model))
    # The counter may leave out the two products of attention on the CPU: 2 N^2 C in a block.
    attention = 12 * 2 * 197 * 197 * 192
    assert plan.multiply_adds in (counted, counted + attention)
    assert plan.multiply_adds_dense == plan.multiply_adds
    assert plan.multiply_adds_logits < plan.multiply_adds


def test_table():
    text = str(Schedule.dsm(12).plan(DEIT_S))
    assert text.splitlines()[0].split()[:2] == ["block", "kind"]
    assert "2.644 GMACs against 4.599 dense: 1.74 times fewer" in text
    assert len(text.splitlines()) == 1 + 1 + 12 + 1 + 1 + 2


@pytest.mark.parametrize(
    "field, value",
    [("depth", 0), ("num_heads", 7), ("patch_size", (0, 16)), ("img_size", (8, 224)),
     ("in_chans", -1), ("num_classes", -1), ("mlp_dim", 0), ("embed_dim", 0),
     ("reg_tokens", -1), ("act_layer", "relu"), ("global_pool", "max"), ("class_token", False)],
)  # fmt: skip
def test_bad_configs(field, value):
    with pytest.raises(ValueError, match=r"dsm_ext\.Config: expected"):
        Config(**{field: value})
