"""The frame of the study: kept results, intervals, schedules of equal cost, and its command."""

import pytest
import torch
from models import images_for, small

import dsm_ext
from benchmarks.study.common import errors, words
from benchmarks.study.common.kept import Kept
from benchmarks.study.common.methods import at_cost, dense_cost, methods
from dsm_ext import Config
from dsm_ext.intervals import Interval, bootstrapped, ratio


def test_an_interval_holds_the_mean_and_narrows_with_more_values():
    torch.manual_seed(0)
    values = torch.randn(400)
    few, many = bootstrapped(values[:25]), bootstrapped(values)
    assert few.low < few.mean < few.high
    assert few.mean == pytest.approx(values[:25].mean().item())
    assert many.high - many.low < (few.high - few.low) / 2
    # For a mean, the bootstrap agrees with the normal distribution.
    assert many.high - many.low == pytest.approx(2 * 1.96 * values.std().item() / 20, rel=0.1)
    assert bootstrapped(values) == many  # the same seed gives the same interval


def test_an_interval_of_equal_values_is_a_point():
    assert bootstrapped(torch.full((9,), 3.0)) == Interval(3.0, 3.0, 3.0)
    assert bootstrapped(torch.tensor([True, True])) == Interval(1.0, 1.0, 1.0)


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match="expected one value or more, got none"):
        bootstrapped(torch.empty(0))


def test_a_ratio_draws_the_same_pictures_for_both():
    under = torch.rand(50) + 0.1
    assert ratio(2 * under, under) == Interval(2.0, 2.0, 2.0)
    assert ratio(under.flip(0), under).includes(1.0)


def test_kept_values_are_measured_once(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return {"kl": [0.5, 1.0]}

    path = tmp_path / "folder" / "part.json"
    first = Kept(path, {"weights": "a"})
    assert first.get("x", measure) == first.get("x", measure) == {"kl": [0.5, 1.0]}
    later = Kept(path, {"weights": "a"})
    assert later.get("x", measure) == {"kl": [0.5, 1.0]}
    assert later.seconds == first.seconds > 0
    assert len(calls) == 1


def test_a_stop_loses_only_what_was_being_measured(tmp_path):
    def stopped():
        raise KeyboardInterrupt

    kept = Kept(tmp_path / "part.json", {})
    kept.get("x", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        kept.get("y", stopped)
    assert Kept(tmp_path / "part.json", {}).values == {"x": 1}


def test_values_of_another_model_are_measured_anew(tmp_path, capsys):
    Kept(tmp_path / "part.json", {"weights": "a"}).get("x", lambda: 1)
    other = Kept(tmp_path / "part.json", {"weights": "b"})
    assert "another weights" in capsys.readouterr().out
    assert other.get("x", lambda: 2) == 2


def test_a_file_that_is_no_result_is_refused(tmp_path):
    (tmp_path / "part.json").write_text('{"other": 1}')
    with pytest.raises(ValueError, match="does not hold results of the study"):
        Kept(tmp_path / "part.json", {})


def test_errors_are_those_of_the_definition():
    torch.manual_seed(0)
    logits, dense = torch.randn(2, 5, 7, dtype=torch.double).unbind()
    p, q = dense.softmax(1), logits.softmax(1)
    kl = (p * (p / q).log()).sum(1)
    found = errors.errors(logits, dense)
    assert found["kl"] == pytest.approx(kl.tolist(), abs=1e-6)
    assert found["same"] == [
        int(a) == int(b) for a, b in zip(p.argmax(1), q.argmax(1), strict=True)
    ]
    assert errors.errors(dense, dense) == {"kl": [0.0] * 5, "same": [True] * 5}


def test_answers_do_not_depend_on_the_batches():
    source = small()
    model = dsm_ext.from_timm(source, "dense")
    images = images_for(source, errors.BATCH + 2)
    whole = errors.answers(model, "tome:r=2", images)
    assert torch.equal(whole[-2:], errors.answers(model, "tome:r=2", images[-2:]))


@pytest.mark.parametrize("skip, local, window", [(0, 0, 7), (2, 0, 7), (2, 5, 7), (1, 6, 5)])
def test_schedules_of_one_cost(skip, local, window):
    config = Config(embed_dim=192, num_heads=3, mlp_dim=768)
    schedule = at_cost(config, skip, local, window, 1.5)
    assert dense_cost(config) / schedule.plan(config).multiply_adds == pytest.approx(1.5, rel=5e-3)
    kinds = [steps[0].window if steps else None for steps in schedule]
    assert kinds == [None] * skip + [window] * local + [0] * (12 - skip - local)
    counts = {steps[0].r for steps in schedule if steps}
    assert max(counts) - min(counts) <= 1


def test_a_delay_too_long_for_the_cost_gives_no_schedule():
    config = Config(embed_dim=192, num_heads=3, mlp_dim=768)
    assert at_cost(config, 10, 0, 7, 2.0) is None
    with pytest.raises(ValueError, match="expected speedup to be above 1, got 1"):
        at_cost(config, 0, 0, 7, 1)


def test_methods_have_equal_cost():
    config = Config(embed_dim=192, num_heads=3, mlp_dim=768)
    found = methods(config, 1.7)
    assert list(found) == ["ToMe", "DFE", "DSM", "guided"]
    for schedule in found.values():
        cost = schedule.plan(config).multiply_adds
        assert dense_cost(config) / cost == pytest.approx(1.7, rel=5e-3)


def test_words_say_what_is_noise():
    assert words.ratio({"mean": 0.5, "low": 0.4, "high": 0.6}) == "0.50 (0.40 to 0.60)"
    assert words.ratio({"mean": 0.9, "low": 0.8, "high": 1.1}) == "0.90 (0.80 to 1.10), noise"
    assert words.difference({"mean": 1, "low": -1, "high": 3}) == "+1.0 (-1.0 to +3.0), noise"
