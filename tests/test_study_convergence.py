"""The study's part on convergence: it runs on tiny inputs, and its statistics."""

import json
from types import SimpleNamespace

import pytest
import torch
from models import small

import dsm_ext
from benchmarks.study.common.kept import Kept
from benchmarks.study.common.part import Study
from benchmarks.study.convergence import chart, measure, tables
from benchmarks.study.convergence.claims import claims, correlation_with_depth
from dsm_ext.analysis.result import Measured


def test_the_part_runs_draws_and_goes_on(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.setattr(measure, "MOST", 4)
    model = dsm_ext.from_timm(small(depth=6), "dense")
    subject = SimpleNamespace(model=model, images=torch.randn(5, 3, 56, 56))
    kept = Kept(tmp_path / "state.json", {})
    result = measure.measure(Study(subject, kept, tmp_path))
    assert [result[name]["pictures"] for name in ("photographs", "digits")] == [4, 4]
    again = measure.measure(Study(subject, Kept(tmp_path / "state.json", {}), tmp_path))
    assert again == json.loads(json.dumps(result))
    chart.draw(result | {"model": "small"}, tmp_path / "convergence.png")
    assert {"convergence.png", "convergence-similarity.png"} <= {p.name for p in tmp_path.iterdir()}
    assert "suggested skip" in tables.example(result)
    for table in set(tables.TABLES.values()) - {tables.example}:
        lines = table(result).split("\n\n")[0].splitlines()
        assert len(lines) > 3 and len({line.count("|") for line in lines}) == 1


def measured(error, effect, change):
    """Values of 20 pictures that differ by a factor alone."""
    scale = torch.linspace(0.5, 1.5, 20, dtype=torch.double)
    error, effect, change = (
        torch.tensor([*v, 0.1], dtype=torch.double)[:, None] for v in (error, effect, change)
    )
    heads = torch.zeros(len(error), 20, 1)
    ones = torch.ones(len(error), 20)
    return Measured(
        error * scale**2, error * scale**2, ones, ones, change * scale, effect * scale,
        effect * scale, heads, heads, {},
    )  # fmt: skip


def test_errors_that_amplification_alone_makes():
    amplification = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.5, 1.0])
    found = claims(measured(amplification**2 * 0.01, amplification * 0.1, torch.full((6,), 0.1)))
    assert found["explained"]["amplification"]["mean"] == pytest.approx(1)
    assert found["explained"]["change"]["mean"] == pytest.approx(0, abs=1e-6)
    assert found["amplification"]["first"]["mean"] == pytest.approx(4.5)
    assert found["error"]["difference"]["low"] > 0
    assert found["error_by_depth"]["mean"] == pytest.approx(-1)


def test_errors_that_the_size_of_the_change_alone_makes():
    change = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    found = claims(measured(change**2, change, change))
    assert found["explained"]["change"]["mean"] == pytest.approx(1)
    assert found["explained"]["rest"]["mean"] == pytest.approx(0, abs=1e-6)
    assert found["error"]["difference"]["high"] < 0


def test_rank_correlation():
    values = torch.tensor([[1.0, 2.0, 30.0], [3.0, 2.0, 1.0], [2.0, 1.0, 3.0]])
    torch.testing.assert_close(
        correlation_with_depth(values), torch.tensor([1.0, -1.0, 0.5], dtype=torch.double)
    )
