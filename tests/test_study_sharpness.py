"""The study of SAM: sharpness, the comparison of the trainings, and the part from end to end."""

import json
import os
from dataclasses import replace

import pytest
import torch
from models import prepared
from study_subjects import subject_of
from timm.models import VisionTransformer

from benchmarks.study.common.kept import Kept
from benchmarks.study.common.part import Study
from benchmarks.study.sharpness import chart, compare, hessian, measure, tables, worker
from benchmarks.study.sharpness.settings import TRAININGS, Settings
from dsm_ext import Schedule, digits, reference

TINY = Settings(
    seeds=1, jobs=1, epochs=2, digits=16, counts=(4,), speedups=(1.7,),
    sharp_speedups=(1.7,), probes=2, part=1, iterations=1, steps=2,
)  # fmt: skip


def function():
    """A function of two parameters with a full Hessian, as the mean of two losses."""
    torch.manual_seed(0)
    x, y = torch.randn(4, dtype=torch.double), torch.randn(2, 3, dtype=torch.double)
    parameters = [x.requires_grad_(), y.requires_grad_()]
    a, b = torch.randn(2, 4, 6, dtype=torch.double)
    losses = [lambda m=m: ((x @ m + y.flatten()) ** 4).sum() + (x**2).sum() for m in (a, b)]
    return losses, parameters


def full_hessian(losses, parameters):
    sizes = [p.numel() for p in parameters]

    def mean(flat):
        x, y = flat.split(sizes)
        total = 0
        for loss in losses:
            m = loss.__defaults__[0]
            total = total + ((x @ m + y) ** 4).sum() + (x**2).sum()
        return total / len(losses)

    flat = torch.cat([p.detach().flatten() for p in parameters])
    return torch.autograd.functional.hessian(mean, flat)


def test_power_iteration_finds_the_largest_eigenvalue():
    losses, parameters = function()
    expected = torch.linalg.eigvalsh(full_hessian(losses, parameters))
    found = hessian.largest_eigenvalue(losses, parameters, 200, tolerance=1e-9)
    assert found.value == pytest.approx(expected.abs().max().item(), rel=1e-5)
    assert found.iterations < 200 and found.change <= 1e-9
    assert hessian.largest_eigenvalue(losses, parameters, 3, tolerance=1e-9).iterations == 3


def test_a_constant_gradient_has_no_curvature():
    x = torch.ones(3, requires_grad=True)
    assert (
        hessian.largest_eigenvalue([lambda: (2 * x).sum() + 0 * x.pow(2).sum()], [x], 5).value == 0
    )


def test_the_worst_neighbour_of_a_quadratic():
    # L = (3 x^2 + y^2) / 2 at (0, 1): one step along the gradient (0, 1) reaches (0, 1.5), a rise
    # of 0.625; further steps find that the steep way is along x.
    x, y = torch.tensor([0.001], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    losses = [lambda: ((3 * x**2 + y**2) / 2).sum()]
    rises = hessian.rise_in_ball(losses, [x, y], radius=0.5, steps=30)
    assert rises[0] == pytest.approx(0.625, rel=0.01)
    assert rises == sorted(rises)
    angles = torch.linspace(0, 2 * torch.pi, 2000)
    around = (3 * (0.001 + 0.5 * angles.cos()) ** 2 + (1 + 0.5 * angles.sin()) ** 2) / 2
    assert rises[-1] == pytest.approx(around.max().item() - 0.5, rel=0.01)
    assert (x.item(), y.item()) == (pytest.approx(0.001), 1.0)


def test_gradients_flow_through_merge_steps():
    torch.manual_seed(0)
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    model = VisionTransformer(**shape, num_classes=3).double().eval()
    model.head.weight.data.normal_()
    images = torch.randn(2, 3, 32, 32, dtype=torch.double)
    schedule = Schedule.parse("tome:r=2", len(model.blocks))
    logits = reference.forward_with_gradients(model, images, schedule)
    assert torch.equal(logits.detach(), reference.forward(model, images, schedule))
    weight = model.blocks[0].attn.qkv.weight
    (gradient,) = torch.autograd.grad(logits[0, 0], weight)
    step = 1e-6 * torch.randn_like(weight)
    with torch.no_grad():
        weight += step
        above = reference.forward(model, images, schedule)[0, 0]
        weight -= 2 * step
        below = reference.forward(model, images, schedule)[0, 0]
    assert (above - below).item() == pytest.approx(2 * (gradient * step).sum().item(), rel=1e-4)


def rows(adamw, sam):
    """Sharpness as ``compare`` writes it, with the ratios of two seeds."""
    return [{"ball": {"dense": {}, "ToMe": {"ratios": list(own)}}} for own in (adamw, sam)]


@pytest.mark.parametrize(
    "adamw, sam, verdict",
    [
        ((9.9, 8.0), (1.6, 1.7), "holds here"),
        ((1.6, 1.7), (9.9, 8.0), "does not hold here"),
        ((0.9, 0.8), (0.5, 0.9), "does not hold here"),  # merging sharpens nothing
        ((1.05, 1.02), (1.01, 1.0), "does not hold here"),
        ((9.9, 1.2), (1.6, 1.7), "cannot be told from this"),
    ],
)
def test_the_verdict_on_sharpness(adamw, sam, verdict):
    assert compare.sharpness_verdict(*rows(adamw, sam), "ball") == verdict


@pytest.mark.parametrize(
    "accuracy, kl, verdict",
    [
        ((0.1, 2, [1, 2]), (0.5, 0.9, [0.6, 0.8]), "holds here"),
        ((-2, -0.1, [-2, -1]), (1.1, 1.5, [1.2, 1.4]), "does not hold here"),
        ((-1, 1, [0.1, 0.1]), (0.9, 1.1, [0.9, 0.9]), "cannot be told from this"),
        ((0.1, 2, [3, -1]), (0.5, 0.9, [0.4, 1.1]), "cannot be told from this"),
    ],
)
def test_the_verdict_on_tolerance(accuracy, kl, verdict):
    for what, none, (low, high, by_seed) in (("accuracy", 0, accuracy), ("kl", 1, kl)):
        of = {what: {"low": low, "high": high, "by_seed": by_seed}}
        assert compare.tolerance_verdict(of, what, none) == verdict


def test_what_sam_loses_less_is_paired_by_seed_and_digit():
    def run(dense, merged, kl):
        return {"answers dense": {"right": dense}, "answers x": {"right": merged, "kl": kl}}

    # Without SAM a seed loses two digits of four, with SAM one; the other seed loses none.
    runs = {
        ("AdamW", 0): run([1, 1, 1, 1], [0, 0, 1, 1], [4, 4, 1, 1]),
        ("SAM", 0): run([1, 1, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1]),
        ("AdamW", 1): run([1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]),
        ("SAM", 1): run([0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]),
    }
    found = compare._less_lost(runs, "AdamW", ["x"], seeds=2)
    assert found["accuracy"]["mean"] == 12.5
    assert found["accuracy"]["by_seed"] == [25, 0]
    assert found["kl"]["mean"] == pytest.approx(4 / 7)
    assert found["kl"]["by_seed"] == [0.4, 1]


def test_every_training_has_the_budget_that_the_page_states():
    settings = Settings()
    recipes = {name: settings.recipe(name, 0) for name in TRAININGS}
    gradients = {
        name: recipe.epochs * (2 if recipe.optimizer == "sam" else 1)
        for name, recipe in recipes.items()
    }
    assert gradients["AdamW"] == gradients["SAM"] == 2 * gradients["AdamW, half the gradients"]
    assert Settings.from_json(settings.to_json()) == settings


@pytest.fixture
def small_model(monkeypatch):
    small = {"embed_dim": 16, "depth": 4, "num_heads": 2}
    monkeypatch.setattr(digits, "ARCHITECTURE", digits.ARCHITECTURE | small)


def test_a_stopped_training_goes_on_with_its_next_epoch(tmp_path, small_model, capsys):
    folder = tmp_path / "AdamW-0"
    with pytest.raises(SystemExit, match="the study was stopped"):
        worker.run(folder, "AdamW", 0, TINY, parent=-1)  # no process has this parent
    assert "epoch 1 of 2" in capsys.readouterr().out
    worker.run(folder, "AdamW", 0, TINY, os.getppid())
    out = capsys.readouterr().out
    assert "epoch 2 of 2" in out and "epoch 1 of 2" not in out


def test_a_model_is_trained_and_measured_in_a_process_of_its_own(tmp_path, capfd):
    least = replace(TINY, counts=(), speedups=(), sharp_speedups=(), probes=1, steps=1)
    values = measure._run(tmp_path, least, "SAM", 0)
    assert len(values["answers dense"]["right"]) == 16
    assert "SAM, seed 0: measured" in capfd.readouterr().err
    with pytest.raises(RuntimeError, match="Adam, seed 0: the worker failed:[^$]*KeyError: 'Adam'"):
        measure._run(tmp_path, TINY, "Adam", 0)


def test_the_part_from_end_to_end(tmp_path, small_model, monkeypatch):
    trained = []

    def here(state, settings, training, seed):
        trained.append(training)
        return worker.run(state / training, training, seed, settings, os.getppid())

    monkeypatch.setattr(measure, "_run", here)
    kept = tmp_path / "sharpness.json"
    subject = subject_of(prepared(), 4)
    result = measure.measure(Study(subject, Kept(kept, {}), tmp_path / "state"), TINY)
    result = json.loads(json.dumps(result))
    assert trained == list(result["trainings"]) == list(TRAININGS)
    assert result["test_digits"] == 16
    for name in TRAININGS:
        dense = result["answers"][name]["dense"]
        assert dense["same"] == [100] and dense["kl"] == [0]
        assert "ToMe 1.7x" in result["answers"][name]
        for measured in compare.MEASURES:
            of = result["sharpness"][name][measured]
            assert list(of) == ["dense", "ToMe 1.7x", "DSM 1.7x"]
            assert of["dense"]["ratios"] == [1] and of["DSM 1.7x"]["values"][0] != 0
    photographs = result["photographs"]["values"]
    assert list(photographs) == ["dense", "ToMe 1.7x", "DSM 1.7x"]
    assert [len(of) for of in photographs.values()] == [3, 3, 3]
    assert photographs["ToMe 1.7x"][0]["loss"] != photographs["dense"][0]["loss"]
    again = measure.measure(Study(subject, Kept(kept, {}), tmp_path / "state"), TINY)
    assert json.loads(json.dumps(again)) == result
    assert trained == list(TRAININGS)  # the second time, nothing was measured

    result |= {"versions": {"torch": "2", "timm": "1"}}
    for table in tables.TABLES.values():
        assert table(result).startswith("| ")
    del result["photographs"]
    assert tables.photographs(result).startswith("Not measured")
    chart.draw(result, tmp_path / "sharpness.png")
    assert (tmp_path / "sharpness.png").stat().st_size > 10_000
