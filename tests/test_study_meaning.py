"""The study of pictures whose neighbours mean nothing: its pictures, figures, chart and tables."""

import pytest
import torch
from study_subjects import study_of

from benchmarks.study.meaning import chart, figures, kinds, measure, pictures, tables
from dsm_ext import Global, Local


def test_every_kind_is_measured_once_and_drawn(tmp_path, monkeypatch):
    # Four blocks cannot save as much as the study asks of twelve.
    monkeypatch.setattr(kinds, "SPEEDUPS", (1.2,))
    monkeypatch.setattr(kinds, "DIGITS_SPEEDUPS", (1.7,))
    monkeypatch.setattr(kinds, "ONE_BLOCK_PAIRS", (48,))
    monkeypatch.setattr(pictures, "textures", lambda *_: None)  # scikit-image may be missing
    study = study_of(tmp_path, 4)
    result = {"model": "tiny", **measure.measure(study)}
    assert list(result["kinds"]) == [
        "photographs",
        "photographs, patches permuted",
        "noise with a photograph's spectrum",
        "digits",
        "digits, patches permuted",
    ]
    found = result["kinds"]["photographs"]
    # two delays and one single block, in windows of 5, 7 and 14 patches
    assert [row["window"] for row in found["rows"]] == [5, 7, 14] * 3
    for row in found["rows"]:
        assert row["kl"]["mean"] > 0
    measured = dict(study.kept.values)
    measure.measure(study)
    assert study.kept.values == measured
    chart.draw(result, tmp_path / "meaning.png")
    assert (tmp_path / "meaning.png").stat().st_size > 10_000
    drawn = {name: table(result) for name, table in tables.TABLES.items()}
    assert "| photographs: permuted over in place |" in drawn["meaning_windows"]
    assert "| 1.2 skip 1, 7 |" in drawn["meaning_schedules"]
    assert "| digits, patches permuted |" in drawn["meaning_likeness"]


def test_permuted_pictures_keep_their_patches():
    images = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    mixed = pictures.permuted(images, (4, 4))

    def patches(of):
        return of.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(2, 6, -1)

    before, after = patches(images), patches(mixed)
    orders = []
    for i in range(2):
        places = (after[i][:, None] == before[i][None]).all(2)
        assert (places.sum(0) == 1).all() and (places.sum(1) == 1).all()
        orders.append(places.float().argmax(1))
    assert not torch.equal(orders[0], torch.arange(6))
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(mixed, pictures.permuted(images, (4, 4)))


def test_noise_has_the_picture_s_spectrum():
    levels = 0.5 + 0.02 * torch.randn(2, 3, 16, 16)  # far from 0 and 1, where it would be cut off
    noise = pictures.noise_like(levels)
    spectrum, wanted = (torch.fft.rfft2(of).abs() for of in (noise, levels))
    torch.testing.assert_close(spectrum[..., 1:-1], wanted[..., 1:-1], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(noise.mean((2, 3)), levels.mean((2, 3)))
    assert (noise - levels).abs().mean() > 0.005


def test_textures_are_crops_of_different_places():
    pytest.importorskip("skimage")
    crops = pictures.textures(6, 40, 30, 3)
    assert crops.shape == (6, 3, 40, 30)
    assert crops.min() >= 0 and crops.max() <= 1
    assert (crops[0] != crops[3]).any()  # of the same texture
    assert pictures.textures(1, 600, 30, 3) is None


def test_equal_delay_and_cost_with_and_without_windows(tmp_path):
    config = study_of(tmp_path, 1, depth=12).photographs().model.config
    made = kinds.schedules(config, (1.7,))
    whole, local = made["1.7 skip 2 window 0"], made["1.7 skip 2 window 7"]
    costs = [of.plan(config).multiply_adds for of in (whole, local)]
    assert costs[0] == pytest.approx(costs[1], rel=0.01)
    for i in range(12):
        assert [step.window for step in whole[i]] == ([] if i < 2 else [0])
        assert [step.window for step in local[i]] == ([] if i < 2 else [7 if i < 7 else 0])
    alone = made["block 6 removes 48 window 5"]
    assert list(alone[5]) == [Local(48, 5)]
    assert list(made["block 6 removes 48 window 0"][5]) == [Global(48)]


def test_the_mean_ratio_leaves_out_what_is_too_small():
    def of(*kls):
        return {"kl": list(kls), "same": [True] * len(kls)}

    errors = {
        "1.4 skip 1 window 0": of(0.1, 0.2),
        "1.4 skip 1 window 7": of(0.4, 0.8),
        "1.7 skip 1 window 0": of(0.1, 0.2),
        "1.7 skip 1 window 7": of(0.1, 0.2),
        "block 2 removes 16 window 0": of(1e-7, 0.0),
        "block 2 removes 16 window 7": of(0.1, 0.2),
    }
    assert figures.mean_ratio(errors, "one block", 7) is None
    exact = pytest.approx({"mean": 2.0, "low": 2.0, "high": 2.0}, rel=1e-4)
    assert figures.mean_ratio(errors, "whole schedules", 7) == exact
    permuted = {
        key: of(*(3 * kl if "window 7" in key else kl for kl in value["kl"]))
        for key, value in errors.items()
    }
    found = figures.mean_ratio(errors, "whole schedules", 7, over=permuted)
    assert found == pytest.approx({"mean": 3.0, "low": 3.0, "high": 3.0}, rel=1e-4)
