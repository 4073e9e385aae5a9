"""The part of the study about delay and windows."""

import json

import pytest
import torch
from pictures import colours
from PIL import Image
from study_subjects import study_of

from benchmarks.study import __main__ as study
from benchmarks.study.common.errors import answers, errors
from benchmarks.study.delay import chart, grid, measure, summary, tables
from benchmarks.study.delay.grid import Cell


@pytest.fixture
def few(monkeypatch):
    """A few delays, windows and speedups for a model of four blocks, and short times."""
    monkeypatch.setattr(grid, "SKIPS", (0, 1, 2))
    monkeypatch.setattr(grid, "WINDOWS", (0, 7))
    monkeypatch.setattr(grid, "COUNTS", (16,))
    monkeypatch.setattr(grid, "SPEEDUPS", (1.2, 1.6))
    monkeypatch.setattr(grid, "SPANS", (0, 1, 2))
    monkeypatch.setattr(grid, "SPAN_OF", (1, 7, 1.2))
    for name in ("SKIPS", "WINDOWS", "SPEEDUPS"):
        monkeypatch.setattr(summary, name, getattr(grid, name))
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "LEAST", 0.0)


def test_all_figures_of_a_tiny_model(few, tmp_path):
    part = study_of(tmp_path, count=5)
    result = json.loads(json.dumps(measure.measure(part)))
    rows = result["rows"]
    assert {row["at"] for row in rows} == {"r", "speedup", "span"}
    subject = part.subject
    row = next(r for r in rows if (r["at"], r["amount"], r["skip"], r["window"]) == ("r", 16, 1, 7))
    assert row["schedule"].startswith("list:r=0/16w7/16/16")
    dense = answers(subject.model, "dense", subject.images)
    own = errors(answers(subject.model, row["schedule"], subject.images), dense)
    assert row["kl"]["mean"] == pytest.approx(sum(own["kl"]) / 5)
    assert row["agreement"]["mean"] == pytest.approx(20 * sum(own["same"]))
    assert all(row["time"] > 0 for row in rows if row["at"] != "span")
    for row in rows:
        if row["at"] != "r":
            assert row["speedup"] == pytest.approx(row["amount"], rel=0.02)

    claims = {row["claim"] for row in result["claims"]}
    assert claims == {"delay", "windows", "both"}
    kls = {
        (r["amount"], r["skip"], r["window"]): r["kl"]["mean"] for r in rows if r["at"] == "speedup"
    }
    for claim in result["claims"]:
        of, than = (
            kls[claim["speedup"], claim[n]["skip"], claim[n]["window"]] for n in ("of", "than")
        )
        assert claim["kl"]["mean"] == pytest.approx(of / than)

    about = {"model": "tiny", "pictures": 5, "machine": MACHINE, "versions": {"torch": "2"}}
    chart.draw(result | about, tmp_path / "delay.png")
    with Image.open(tmp_path / "delay.png") as png:
        assert png.width > 800
    for table in tables.TABLES.values():
        assert table(result | about).startswith("|")


MACHINE = {"processor": "P", "threads": 1, "capability": "AVX2"}


def test_a_later_run_measures_nothing_again(few, tmp_path, monkeypatch):
    torch.manual_seed(0)
    first = measure.measure(study_of(tmp_path))
    monkeypatch.setattr(measure, "answers", None)
    monkeypatch.setattr(measure, "rates_in_turn", None)
    torch.manual_seed(0)
    assert measure.measure(study_of(tmp_path)) == first


def test_the_best_of_one_half_is_judged_on_the_other():
    kls = {(0, 0): [1.0, 4.0] * 3, (1, 0): [3.0, 1.0] * 3, (2, 7): [2.0, 2.0] * 3}
    found = {
        Cell("speedup", 1.2, skip, window, 0): summary.Errors.of({"kl": kl, "same": [True] * 6})
        for (skip, window), kl in kls.items()
    }
    (row,) = summary.halves(found)
    assert (row["skip"], row["window"]) == (0, 0)  # the lowest at even places
    assert row["kl"]["mean"] == 4.0  # its mean at odd places
    assert row["to_together"]["mean"] == 2.0


def test_the_command_measures_draws_and_goes_on(few, tmp_path, tiny_folder, capsys, monkeypatch):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(3):
        Image.fromarray(colours(40, 40, seed=i)).save(pictures / f"{i}.png")
    monkeypatch.setattr(summary, "TOGETHER", (1, 2))
    monkeypatch.setattr(grid, "SPAN_OF", (0, 2, 1.2))
    command = [
        "delay", "--model", str(tiny_folder), "--images", str(pictures),
        "--results", str(tmp_path / "results"), "--state", str(tmp_path / "state"),
    ]  # fmt: skip
    assert study.main(command) == 0
    result = json.loads((tmp_path / "results" / "delay.json").read_text())
    assert result["pictures"] == 3
    assert result["commit"] is not None
    capsys.readouterr()
    assert study.main([*command, "--draw"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'results' / 'delay.png'}\n"


def test_without_pictures_the_command_says_what_it_needs(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DSM_EXT_DATA", raising=False)
    assert study.main(["delay", "--results", str(tmp_path)]) == 0
    assert "delay: skipped, because it needs a model and pictures" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        study.main(["other"])
    assert "expected parts of delay, " in capsys.readouterr().err
