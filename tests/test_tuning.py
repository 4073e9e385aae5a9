"""``dsm_ext.tune``: the template, the search, its state, and what it refuses."""

import json
import math

import pytest
import timm
import torch
from models import small
from torch.nn.functional import kl_div

import dsm_ext
from dsm_ext import Schedule
from dsm_ext.tuning import search
from dsm_ext.tuning.cost import BlockTimes, at, measure_block_times, multiply_adds
from dsm_ext.tuning.judge import Errors, Judge
from dsm_ext.tuning.peers import NAMES, peers_at
from dsm_ext.tuning.result import decide
from dsm_ext.tuning.state import Known, State
from dsm_ext.tuning.template import Parameters, fit, parameters_like, schedule_for

PICTURES = 36


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return dsm_ext.from_timm(small(depth=6), "dense")


@pytest.fixture(scope="module")
def pictures():
    return torch.randn(PICTURES, 3, 56, 56, generator=torch.Generator().manual_seed(1))


def same(one, other):
    return one.to_dict() == other.to_dict()


def test_the_result_says_what_was_found_and_keeps_the_target(model, pictures):
    before = model.schedule
    tuned = dsm_ext.tune(model, pictures, speedup=1.5)
    assert model.schedule == before
    assert Schedule.parse(tuned.text, model.config) == tuned.schedule
    assert tuned.finished and tuned.tries > 10
    assert tuned.measure == "KL" and tuned.pictures == (18, 18)
    rows = {row.name: row for row in tuned.rows}
    assert {"dense", *NAMES} <= rows.keys() and tuned.name in rows
    assert rows["dense"].judging_error == 0 and rows["dense"].judging_agreement == 100
    assert all(1.5 <= row.speedup < 1.56 for name, row in rows.items() if name != "dense")
    assert rows[tuned.name].schedule == tuned.text
    assert tuned.verdict.startswith(f"{tuned.name} is returned")
    assert json.loads(json.dumps(tuned.to_dict())) == tuned.to_dict()


def test_a_row_has_the_errors_of_its_half(model, pictures):
    tuned = dsm_ext.tune(model, pictures, gmacs=multiply_adds(model.config)(dense(model)) / 2e9)
    row = next(row for row in tuned.rows if row.name == "ToMe")
    other = dsm_ext.VisionTransformer(model.config, row.schedule, dict(model.named_parameters()))
    for half, error in ((pictures[0::2], row.choosing_error), (pictures[1::2], row.judging_error)):
        kl = kl_div(
            other(half).double().log_softmax(1), model(half).double().log_softmax(1),
            log_target=True, reduction="batchmean",
        )  # fmt: skip
        assert error == pytest.approx(float(kl), rel=1e-4, abs=1e-8)


def dense(model):
    return Schedule.dense(model.config.depth)


def test_the_same_seed_gives_the_same_result(model, pictures):
    first = dsm_ext.tune(model, pictures, speedup=1.4, seed=3)
    assert same(first, dsm_ext.tune(model, pictures, speedup=1.4, seed=3))


@pytest.mark.parametrize("most", [1, 7])
def test_a_stopped_search_goes_on_as_if_it_had_not_stopped(
    model, pictures, tmp_path, monkeypatch, most
):
    whole = dsm_ext.tune(model, pictures, speedup=1.4)
    tries = []

    def check(self):
        tries.append(1)
        if len(tries) > most:
            raise search.OutOfTime

    file = tmp_path / "state.json"
    with monkeypatch.context() as patched:
        patched.setattr(search.Search, "_check_time", check)
        stopped = dsm_ext.tune(model, pictures, speedup=1.4, state=file)
    assert not stopped.finished and stopped.tries < whole.tries
    measured = len(json.loads(file.read_text())["choosing"])
    resumed = dsm_ext.tune(model, pictures, speedup=1.4, state=file)
    assert same(resumed, whole)
    assert len(json.loads(file.read_text())["choosing"]) > measured

    def forbidden(*arguments):
        raise AssertionError("a finished search measures nothing again")

    monkeypatch.setattr(Judge, "errors", forbidden)
    assert same(dsm_ext.tune(model, pictures, speedup=1.4, state=file), whole)


def test_time_ends_the_search(model, pictures):
    tuned = dsm_ext.tune(model, pictures, speedup=1.4, minutes=1e-9)
    assert not tuned.finished and tuned.tries == 0
    assert tuned.name == "guided" and "has found nothing else yet" in tuned.verdict


def test_a_state_of_something_else_is_refused(model, pictures, tmp_path):
    file = tmp_path / "state.json"
    dsm_ext.tune(model, pictures, speedup=1.4, state=file, minutes=1e-9)
    torch.manual_seed(5)
    for arguments, differing in [
        ({"pictures": pictures + 1}, "pictures"),
        ({"speedup": 1.3}, "target"),
        ({"seed": 1}, "seed"),
        ({"model": dsm_ext.from_timm(small(depth=6), "dense")}, "weights"),
    ]:
        call = {"model": model, "pictures": pictures, "speedup": 1.4, "state": file} | arguments
        with pytest.raises(ValueError, match=f"another search: it differs in {differing};"):
            dsm_ext.tune(**call)
    for content in ("", "{}", "[1]", '{"of": {}, "times": null, "choosing": 1, "judging": {}}'):
        file.write_text(content)
        with pytest.raises(ValueError, match="is not the state of a search"):
            dsm_ext.tune(model, pictures, speedup=1.4, state=file)


@pytest.mark.parametrize(
    "target, message",
    [
        ({}, "expected one of speedup, gmacs and latency, got none"),
        ({"speedup": 2, "gmacs": 1}, "got speedup and gmacs"),
        ({"speedup": 0}, "expected speedup to be positive, got 0"),
        ({"speedup": math.nan}, "expected speedup to be positive, got nan"),
        ({"speedup": 1}, "expected speedup to be larger than 1 and at most"),
        ({"speedup": 99}, r"at most \d\.\d\d, the largest that a schedule reaches"),
        ({"gmacs": 1e-6}, r"expected gmacs to be at least 0\.\d\d\d, which the cheapest"),
        ({"speedup": 1.5, "batch": 0}, "expected batch to be positive"),
        ({"speedup": 1.5, "minutes": 0}, "expected minutes to be positive"),
        ({"speedup": 1.5, "precision": "int4"}, "int4"),
        ({"speedup": 1.5, "schedules": {"x": "tome:r=200"}}, "expected r of block 0"),
    ],
)
def test_what_cannot_be_done_is_refused(model, pictures, target, message):
    with pytest.raises(ValueError, match=message):
        dsm_ext.tune(model, pictures, **target)


def test_the_largest_speedup_can_be_asked_for(model, pictures):
    with pytest.raises(ValueError) as error:
        dsm_ext.tune(model, pictures, speedup=99)
    most = float(str(error.value).split("at most ")[1].split(",")[0])
    assert dsm_ext.tune(model, pictures, speedup=most).schedule.plan(model.config)
    with pytest.raises(ValueError, match="at most"):
        dsm_ext.tune(model, pictures, speedup=most + 0.02)


def test_wrong_types_are_refused(model, pictures):
    for arguments in (
        {"model": small(), "pictures": pictures, "speedup": 1.5},
        {"model": model, "pictures": [1], "speedup": 1.5},
        {"model": model, "pictures": pictures, "speedup": "2"},
        {"model": model, "pictures": pictures, "speedup": 1.5, "seed": 0.5},
    ):
        with pytest.raises(TypeError, match="expected"):
            dsm_ext.tune(**arguments)
    with pytest.raises(ValueError, match=r"expected pictures to be \[n, 3, 56, 56\]"):
        dsm_ext.tune(model, pictures[:, :1], speedup=1.5)
    with pytest.raises(ValueError, match="expected two pictures or more"):
        dsm_ext.tune(model, pictures[:1], speedup=1.5)


def test_few_pictures_are_said_to_be_noise(model, pictures, capsys):
    tuned = dsm_ext.tune(model, pictures[:15], speedup=1.5)
    assert tuned.pictures == (8, 7)
    assert "15 pictures, fewer than 16, the judgement is noise" in capsys.readouterr().err
    dsm_ext.tune(model, pictures[:16], speedup=1.5, minutes=1e-9)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "kwargs", [{"num_classes": 0}, {"num_classes": 0, "global_pool": ""}, {
        "num_classes": 0, "global_pool": "", "class_token": False
    }]
)  # fmt: skip
def test_without_a_head_pooled_features_are_compared(pictures, kwargs):
    model = dsm_ext.from_timm(small(**kwargs), "dense")
    tuned = dsm_ext.tune(model, pictures, speedup=1.3)
    assert tuned.measure == "1 - cosine"
    assert all(row.judging_agreement is None for row in tuned.rows)
    assert all(0 <= row.judging_error < 1 for row in tuned.rows)
    assert tuned.rows[0].judging_error == pytest.approx(0, abs=1e-6)


def test_a_latency_goes_by_a_table_of_block_times(model, pictures, tmp_path):
    times = measure_block_times(model, pictures[:2], rounds=2)
    config = model.config
    merged = Schedule.tome(config.depth, 16)
    assert times(merged) > 0 and times(dense(model)) > 0
    restored = BlockTimes.from_dict(config, json.loads(json.dumps(times.to_dict())))
    assert restored(merged) == times(merged)
    for schedule in (merged, dense(model), Schedule.dsm(config.depth, 8)):
        by_hand = times.rest + sum(
            at(times.tables["attention" + end], block.tokens_in)
            + at(times.tables["mlp" + end], block.tokens_in if end else block.tokens_out)
            + (0 if end else sum(
                at(times.tables[f"merge {'local' if s.window else 'global'} keys"], block.tokens_in)
                for s in schedule[i]
            ))
            for i, block in enumerate(schedule.plan(config).blocks)
            for end in (" last" if i == config.depth - 1 else "",)
        )  # fmt: skip
        assert times(schedule) == pytest.approx(times.scale * by_hand)


def test_a_tuned_latency_stays_below_the_limit_by_the_table(model, pictures, monkeypatch):
    def measure(model, images, progress):
        tokens = {n: n * 1e-5 for n in (1, 400)}
        names = ["attention", "mlp", "attention last", "mlp last"]
        return BlockTimes(model.config, 1e-3, 1.0, 0.01, {name: tokens for name in names})

    monkeypatch.setattr("dsm_ext.tuning.tune.measure_block_times", measure)
    with pytest.raises(ValueError, match=r"expected latency to be at least \S+ ms, which the fa"):
        dsm_ext.tune(model, pictures, latency=1e-6)
    tuned = dsm_ext.tune(model, pictures, latency=18)
    found = {row.name: row.milliseconds for row in tuned.rows}
    assert found[tuned.name] <= 18 < found["dense"]
    assert tuned.time_error == 0.01


def test_a_table_is_read_between_its_entries():
    assert at({10: 1.0, 20: 3.0}, 15) == 2
    assert at({10: 1.0, 20: 3.0}, 5) == 1
    assert at({10: 1.0, 20: 3.0}, 25) == 3
    assert at({}, 5) == 0


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "vit_large_patch16_224"])
@pytest.mark.parametrize("speedup", [1.2, 1.7, 2.5])
def test_the_template_meets_every_budget(name, speedup):
    with torch.device("meta"):
        config = dsm_ext.timm_features.config_of(timm.create_model(name))
    cost = multiply_adds(config)
    whole = cost(Schedule.dense(config.depth))
    start = Parameters(skip=config.depth // 4)
    for parameters in (start, start.changed(slope=0.8, local=2), start.changed(bend=-0.8, skip=1)):
        schedule = fit(config, parameters, cost, whole / speedup)
        assert speedup <= whole / cost(schedule) < speedup * 1.01
        assert not schedule[config.depth - 1] and not schedule[parameters.skip - 1]
    peers = peers_at(config, cost, whole / speedup)
    assert set(peers) == set(NAMES)
    for schedule in peers.values():
        assert speedup <= whole / cost(schedule) < speedup * 1.01


def test_a_search_starts_at_the_guided_schedule():
    config = dsm_ext.Config(embed_dim=192, num_heads=3, mlp_dim=768)
    made = Parameters(3, slope=0.4, local=2, protect=0.3)
    like = parameters_like(config, schedule_for(config, made, 0.2))
    assert like.changed(slope=0.4) == made and abs(like.slope - 0.4) <= 0.2
    assert parameters_like(config, Schedule.dense(12)) == parameters_like(config, None)


def errors(values):
    return Errors(list(values), list(values), [True] * len(values))


def test_a_candidate_must_beat_guided_by_more_than_noise():
    guided = errors([0.2, 0.4, 0.6, 0.8] * 10)
    better = errors([value - 0.1 for value in guided.error])
    noisy = errors([value + (0.5 if i % 2 else -0.501) for i, value in enumerate(guided.error)])
    assert decide(guided, [("tuned", better)], "KL")[0] == "tuned"
    name, why = decide(guided, [("tuned", noisy)], "KL")
    assert name == "guided" and "by more than noise" in why
    assert decide(guided, [("tuned", noisy), ("tuned 2", better)], "KL")[0] == "tuned 2"
    assert decide(None, [("tuned", noisy)], "KL")[0] == "tuned"
    assert decide(guided, [], "KL")[0] == "guided"


def test_clearly_worse_schedules_are_given_up(model, pictures):
    best = errors([0.1] * 200)
    assert not search.clearly_worse(errors([0.9] * 32), best)
    assert search.clearly_worse(errors([0.9, 0.8] * 32), best)
    assert not search.clearly_worse(errors([0.0, 0.2] * 32), best)
    known = Known(Judge(model, model, pictures), State(None, {}), "choosing")
    tome = Schedule.tome(model.config.depth, 8)
    assert len(known.errors(tome, lambda errors: True).error) == 32
    assert len(known.errors(tome, lambda errors: True).error) == 32
    assert len(known.errors(tome).error) == PICTURES
