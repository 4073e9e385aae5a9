"""Schedules for a wanted saving, and the texts that name any schedule."""

import pytest

from dsm_ext import Config, Global, Local, MergeRule, Schedule

DEPTHS = {12: {}, 24: {"embed_dim": 1024, "num_heads": 16}, 6: {"embed_dim": 192, "num_heads": 3}}


def speedup(schedule, config):
    plan = schedule.plan(config)
    return plan.multiply_adds_dense / plan.multiply_adds


@pytest.mark.parametrize("wanted", [1.0, 1.2, 1.4, 1.7, 2.0, 2.5])
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"img_size": (384, 384)},
        {"img_size": (160, 256), "reg_tokens": 4},
        {"class_token": False, "global_pool": "avg"},
    ],
    ids=["224", "384", "registers", "no class token"],
)
def test_the_saving_is_what_was_asked_for(wanted, depth, shape):
    config = Config(depth=depth, **DEPTHS[depth], **shape)
    schedule = Schedule.guided(config, wanted)
    assert speedup(schedule, config) == pytest.approx(wanted, rel=0.01)
    counts = [steps[0].r if steps else 0 for steps in schedule]
    assert counts[-1] == 0
    first = next((i for i, count in enumerate(counts) if count), depth)
    assert first <= depth // 4 or first == depth
    left = config.grid[0] * config.grid[1]
    for count in counts[first:-1]:  # each step removes nearly the same share of what is left
        assert count <= left / 2
        left -= count


def test_a_small_grid_comes_as_near_as_whole_counts_allow():
    config = Config(img_size=(64, 64), depth=12)  # 16 patches
    assert speedup(Schedule.guided(config, 1.5), config) == pytest.approx(1.5, rel=0.05)


def test_the_rule_and_the_text():
    config = Config()
    schedule = Schedule.guided(config, 1.7)
    assert schedule.rule == MergeRule("keys+tokens", protect=0.3)
    assert Schedule.parse("guided:1.7", config) == schedule
    assert Schedule.parse("guided:speedup=1.7", config) == schedule
    plain = Schedule.guided(config, 1.7, MergeRule())
    assert Schedule.parse("guided:1.7,metric=keys,protect=0", config) == plain


@pytest.mark.parametrize("wanted", [0.5, 0.0, -1.0, 9.0, float("nan"), float("inf")])
def test_what_no_schedule_reaches(wanted):
    with pytest.raises(
        ValueError, match=r"speedup to be in \[1, 8\.06.*range that schedules reach"
    ):
        Schedule.guided(Config(), wanted)


def test_guided_needs_a_number():
    for text in ("guided", "guided:", "guided:much", "guided:1.7,1.8"):
        with pytest.raises(ValueError, match=r"guided:SPEEDUP|key=value|to be a number"):
            Schedule.parse(text, Config())


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule.dense(3),
        Schedule.dsm(12).with_rule(MergeRule("keys+tokens", protect=0.1)),
        Schedule.tome(12, 8).with_proportional(False),
        Schedule([None, [Local(16, 7), Global(8)], Global(2)], rule=MergeRule(protect=1e-3)),
    ],
)
def test_a_schedules_text_gives_the_schedule(schedule):
    assert Schedule.parse(schedule.text(), schedule.depth) == schedule
