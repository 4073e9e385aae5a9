"""The study of corrupted pictures: its controls, its figures, its chart and its tables."""

import numpy as np
import pytest
import torch
from models import prepared
from study_subjects import study_of

from benchmarks.study.common.likeness import likeness
from benchmarks.study.shift import chart, corruptions, figures, measure, tables


def noisy(pixels, name, severity, seed):
    """Stands for the package: the same noise for all corruptions, stronger with the severity."""
    noise = np.random.default_rng(seed).normal(0, 12 * severity, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def study(monkeypatch, tmp_path):
    monkeypatch.setattr(corruptions, "NAMES", ("fog", "snow"))
    monkeypatch.setattr(corruptions, "KINDS", {"weather": ("fog", "snow")})
    # Four blocks cannot save as much as the study asks of twelve.
    monkeypatch.setattr(measure, "SPEEDUP", 1.2)
    model = prepared()
    for block in model.blocks:  # larger than timm's initial ones, so that merging changes answers
        block.attn.proj.weight.data.normal_(std=0.5)
    model.head.weight.data.normal_()
    return study_of(tmp_path, 5, model)


def test_every_figure_is_measured_once_and_drawn(study, tmp_path):
    result = measure.measure(study, noisy)
    assert result["corrupted"] == 5
    assert set(result["severities"]) == {"0", "1", "3", "5"}
    clean = result["severities"]["0"]
    assert {"dense", "ToMe", "DFE", "DSM", "noise"} <= set(clean)
    assert clean["dense"]["kl"]["mean"] == 0
    assert clean["dense"]["same"]["mean"] == 100
    # the noise of the control was chosen to have the KL of ToMe
    assert clean["noise"]["kl"]["mean"] == pytest.approx(clean["ToMe"]["kl"]["mean"], abs=1e-6)
    keys = {"clean"} | {f"{name} {level}" for name in ("fog", "snow") for level in (1, 3, 5)}
    assert set(study.kept.values) == {f"{key}, 5" for key in keys}  # of five pictures

    def not_again(*_):
        raise AssertionError("a kept corruption was made again")

    assert measure.measure(study, not_again) == result
    chart.draw({**result, "model": "tiny"}, tmp_path / "shift.png")
    assert {path.name for path in tmp_path.glob("*.png")} == {"shift.png", "shift_corruptions.png"}
    whole = {**result, "model": "tiny", "versions": {"torch": "2"}}
    drawn = {name: table(whole) for name, table in tables.TABLES.items()}
    assert "| weather |" in drawn["shift_kinds"]
    assert "| ToMe | " in drawn["shift_lost"]
    assert f"{result['gain']['5']['DFE']['ratio']['mean']:.2f} (" in drawn["shift_gain"]
    assert "5 photographs" in drawn["shift_answers"]


def test_pixels_survive_the_preparation():
    mean, std = torch.tensor([0.485, 0.4, 0.3])[:, None, None], torch.tensor(0.22)
    pixels = torch.randint(256, (2, 8, 6, 3), dtype=torch.uint8)
    images = measure.to_images(pixels, mean, std)
    assert images.shape == (2, 3, 8, 6)
    assert torch.equal(measure.to_pixels(images, mean, std), pixels)


def test_positions_are_spread_evenly():
    assert measure.spread(500, 250) == list(range(1, 500, 2))
    assert measure.spread(3, 250) == [0, 1, 2]


def test_each_picture_has_a_seed_of_its_own():
    seeds = []

    def corrupt(pixels, name, severity, seed):
        seeds.append(seed)
        return pixels

    same = np.zeros((3, 4, 4, 3), np.uint8)
    with corruptions.Corruptions(corrupt, 0) as made:
        made(same, "fog", 1)
        made(same, "fog", 3)
        made(same, "fog", 1)
    assert len(set(seeds[:6])) == 6
    assert seeds[6:] == seeds[:3]


def test_a_missing_package_is_named(study, monkeypatch):
    monkeypatch.setattr(corruptions.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match='pip install "imagecorruptions-imaug'):
        measure.measure(study)


def test_growth_is_compared_with_the_controls():
    """ToMe's KL doubles for each picture, the control's trebles."""
    kl = torch.tensor([0.1, 0.2, 0.6])

    def cell(factor):
        rows = {"dense": 0 * kl, "ToMe": factor["ToMe"] * kl, "noise": factor["noise"] * kl}
        return {
            "methods": {
                name: {"kl": of.tolist(), "same": [True] * 3, "change": of.tolist()}
                for name, of in rows.items()
            },
            "confidence": [0.5] * 3,
            "likeness": {"pairs": factor["ToMe"]},
        }

    cells = {"clean": cell({"ToMe": 1.0, "noise": 1.0})}
    for name in corruptions.NAMES:
        for level in corruptions.SEVERITIES:
            cells[f"{name} {level}"] = cell({"ToMe": 2.0, "noise": 3.0})
    found = figures.figures(cells)
    grown = found["growth"]["5"]["ToMe"]["kl_over"]["noise"]
    assert grown == pytest.approx({"mean": 2 / 3, "low": 2 / 3, "high": 2 / 3}, rel=1e-4)
    assert found["growth"]["1"]["ToMe"]["change"]["mean"] == pytest.approx(2)
    assert found["growth"]["1"]["noise"]["kl"]["mean"] == pytest.approx(3)
    assert found["lost"]["5"]["ToMe"]["more_than"]["noise"]["mean"] == 0


def test_ranks_alone_decide_a_correlation():
    x = torch.tensor([1.0, 2, 3, 4])
    assert figures.rank_correlation(x, x.exp()) == pytest.approx(1)
    assert figures.rank_correlation(x, -(x**3)) == pytest.approx(-1)


@pytest.mark.parametrize("window", [0, 7])
def test_equal_patches_have_a_cosine_of_1(window, tmp_path):
    subject = study_of(tmp_path, 2).photographs()
    source = subject.source
    with torch.no_grad():
        source.pos_embed.zero_()
    one_colour = torch.ones(2, 3, 56, 56)
    found = likeness(source, subject.model.config, one_colour, 1, 16, window)
    for values in found.values():
        torch.testing.assert_close(values, torch.ones(2))
    other = likeness(source, subject.model.config, subject.images, 1, 16, window)
    assert (other["pairs"] > other["strangers"]).all()
    assert (other["strangers"] < 0.999).all()


def test_the_package_makes_all_corruptions():
    pytest.importorskip("imagecorruptions")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in corruptions.NAMES:
        once, again = (corruptions.corrupt(pixels, name, 3, 7) for _ in range(2))
        assert once.shape == pixels.shape
        assert once.dtype == np.uint8
        assert (once == again).all()
        assert (once != pixels).any()
