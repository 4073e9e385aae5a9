"""The study of merging in rotary models: its figures and its tables."""

import pytest
import torch

from benchmarks.study.rotary import rules, tables
from dsm_ext import digits


@pytest.fixture
def few_digits(monkeypatch):
    """Three held-out digits, and one schedule."""
    load = digits.load_digits
    monkeypatch.setattr(digits, "load_digits", lambda split: tuple(t[:3] for t in load(split)))
    monkeypatch.setattr(rules, "SCHEDULES", ("tome:r=13",))


@pytest.mark.parametrize("kind", digits.ROTARY_ARCHITECTURE)
def test_the_first_pair_is_compared_with_itself(kind, few_digits):
    torch.manual_seed(0)
    model = digits.create_rotary_model(kind)
    model.head.weight.data.normal_()  # timm's start is so small that no KL differs from 0
    images, labels = rules.pictures(1)
    found = rules.study([model], images, labels)
    assert found["seeds"] == 1
    assert len(found["rows"]) == 4
    first = found["rows"][0]
    assert (first["metric"], first["location"]) == ("rotated", "centroid")
    assert first["kl"] > 0
    assert first["difference"] == first["standard_error"] == 0
    for row in found["rows"]:
        assert row["difference"] == pytest.approx(row["kl"] - first["kl"])

    result = {"digits": 3, "pictures": 6, "kinds": {kind: found}, "versions": {"torch": "2"}}
    assert f"| {kind} `tome:r=13` | {first['kl']:.4f}, " in tables.rotary_rules(result)
    assert f"| {kind}, ratio | 1.00 | " in tables.rotary_differences(result)


def test_copies_of_a_digit_count_as_one_value(few_digits):
    first = torch.zeros(2, 6)
    kl = torch.tensor([[1.0, 2, 3, 1, 2, 3], [1, 2, 3, 1, 2, 3]])  # two seeds, a copy of each
    found = rules.difference(kl, first)
    assert found == {"difference": 2, "standard_error": pytest.approx(3**-0.5)}
