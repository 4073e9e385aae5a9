"""The benchmark of all precisions: who is calibrated on what, answers, tables and chart.

No test here depends on how fast anything is.
"""

import importlib.util

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.cpu import models, pareto, precision, precision_tables, worker
from benchmarks.cpu.artefacts import artefact, images_of
from benchmarks.cpu.call import Call, fastest
from benchmarks.cpu.job import Job
from benchmarks.cpu.peers import PEERS, Peer
from benchmarks.cpu.turns import take_turns

DSM = "dsm:r=16,skip=1,local=6"
TINY = "deit_tiny_patch16_224"


def missing(*names):
    return next((name for name in names if importlib.util.find_spec(name) is None), None)


@pytest.fixture
def data(tmp_path):
    """A folder like DSM_EXT_DATA, with random weights and six pictures of noise."""
    import timm

    torch.manual_seed(3)
    save_file(timm.create_model(TINY, img_size=32).state_dict(), tmp_path / f"{TINY}.safetensors")
    folder = tmp_path / "imagenet_samples"
    folder.mkdir()
    for i in range(6):
        wordnet = ("n01440764", "n01484850")[i % 2]
        Image.effect_noise((40 + i, 50), 90).save(folder / f"{wordnet}_{i}.png")
    return tmp_path


@pytest.fixture
def job(data, tmp_path):
    return {
        "model": TINY, "img_size": 32, "weights": str(data), "cache": str(tmp_path / "cache"),
        "pictures": str(data / "imagenet_samples"),
    }  # fmt: skip


def test_every_precision_has_a_peer():
    """The plan asks each peer only for what it can run."""
    args = precision.arguments(["--data", "/nowhere"])
    common = {"threads": 1, "cache": ""}
    groups = [*precision.speed(args, common), *precision.large(common), *precision.memory(common)]
    for group in groups:
        for one in group.jobs:
            peer = PEERS[one.peer]
            assert one.precision in peer.precisions, one
            assert peer.schedules in ("any", "dense" if one.schedule == "dense" else "merged"), one
    pictured = [(g.model, g.jobs[0].batch) for g in groups if g.then == ("answers",)]
    assert pictured == [precision_tables.HEADLINE]
    without = precision.arguments([])
    without.data = None
    assert not any("answers" in group.then for group in precision.speed(without, common))


def test_calibrated_peers_are_judged_on_other_pictures(monkeypatch, job):
    """Every picture is answered once, by a model that was not calibrated on it."""
    seen = {}

    def build(one, images):
        def run():
            means = images.mean((1, 2, 3))
            seen.setdefault(one.fold, []).extend(means[means != 7].tolist())
            return numpy.stack([means, numpy.full(len(means), one.fold)], 1)

        return Call(run, one.batch)

    monkeypatch.setitem(PEERS, "openvino", Peer(build, (), "dense"))
    for kind, folds in (("int8", (0, 1)), ("float32", (0,))):
        seen.clear()
        one = worker.Worker(Job("openvino", batch=2, precision=kind, **job))
        one.images = numpy.zeros((2, 3, 32, 32), numpy.float32)
        one.call = build(one.job, one.images)
        found = numpy.load(one.answers()["logits_of_pictures"])
        means = images_of(one.job).mean((1, 2, 3))
        numpy.testing.assert_allclose(found[:, 0], means, rtol=1e-6)
        assert tuple(seen) == folds
        if kind == "int8":
            assert found[:, 1].tolist() == [1, 0, 1, 0, 1, 0]


def test_answers_are_judged_against_eager_float32(job):
    jobs = [Job("timm eager", batch=2, precision=p, **job) for p in ("float32", "bfloat16")]
    rows = take_turns(jobs, 1, 0.0, then=("answers",))
    exact, rounded = (models.judge(jobs[0], row["logits_of_pictures"]) for row in rows)
    assert exact["pictures"] == rounded["pictures"] == 6
    assert exact["agreement"] == 100 and exact["kl"] == pytest.approx(0, abs=1e-6)
    assert 0 < rounded["kl"] < 0.01


@pytest.mark.parametrize(
    "peer, kinds",
    [("openvino", ("float32", "int8")), ("onnxruntime", ("int8 dynamic", "int8 static"))],
)
def test_quantised_peers_compute_what_eager_does(peer, kinds, job):
    if name := missing("onnx", "onnxscript", "openvino", "nncf", "onnxruntime"):
        pytest.skip(f"{name} is not installed")
    jobs = [Job(peer, batch=2, precision=kind, **job) for kind in kinds]
    for one, row in zip(jobs, take_turns(jobs, 1, 0.0, then=("answers",)), strict=True):
        assert "failed" not in row
        assert models.judge(one, row["logits_of_pictures"])["kl"] < 0.1


def test_calibration_sees_one_half(job):
    from benchmarks.cpu.quantise import _calibration

    for fold in (0, 1):
        one = Job("openvino", batch=2, fold=fold, **job)
        batches = [*_calibration(one)]
        assert [len(batch) for batch in batches] == [2]
        numpy.testing.assert_array_equal(batches[0], images_of(one)[fold::2][:2])
    first, second = (artefact_name(Job("openvino", fold=fold, **job)) for fold in (0, 1))
    assert first != second


def artefact_name(one):
    from benchmarks.cpu.artefacts import _path

    return _path(one, "openvino_int8").name


def test_artefacts_of_different_jobs_differ(job):
    """A kind is made again only for a field on which it depends."""
    base, other = Job("a", batch=2, **job), Job("b", batch=2, precision="int8", fold=1, **job)
    assert artefact(base, "logits") == artefact(other, "logits")
    with numpy.load(artefact(base, "logits")) as arrays:
        numpy.testing.assert_array_equal(arrays["images"], images_of(base)[:2])


def test_the_fastest_setting_that_works_is_taken():
    def fails():
        raise RuntimeError("no")

    assert fastest({"a": fails, "b": lambda: Call(int, 1, "b")}).setting == "b"
    with pytest.raises(RuntimeError, match="no"):
        fastest({"a": fails})


def row(peer, precision, schedule, rounds, answers=None, **rest):
    median = sorted(rounds)[len(rounds) // 2]
    macs = 1_000_000_000 if schedule == "dense" else 500_000_000
    return {
        "peer": peer, "precision": precision, "schedule": schedule, "multiply_adds": macs,
        "rounds": rounds, "rate": {"median": median, "q1": min(rounds), "q3": max(rounds)},
        **({"answers": answers} if answers else {}), **rest,
    }  # fmt: skip


@pytest.fixture
def result():
    def said(agreement, kl):
        return {"pictures": 500, "agreement": agreement, "kl": kl, "top1": 79.0}

    dense = {"schedule": "dense"}

    def rows():
        return [
            row("dsm_ext", "float32", "dense", [20, 20, 20], said(100.0, 0.0)),
            row("dsm_ext", "int8", "dense", [60, 30, 60], said(98.5, 0.002)),
            row("timm eager", "float32", "dense", [10, 5, 10], said(100.0, 0.0)),
            row("openvino", "auto", "dense", [30, 15, 30], said(99.5, 0.001), setting="bf16, x"),
            row("openvino", "int8", "dense", [40, 20, 40], said(97.0, 0.015), setting="bf16, x"),
            {"peer": "onnxruntime", "precision": "int8 static", **dense, "failed": "no"},
            row("dsm_ext", "int8", DSM, [90, 45, 90], said(90.0, 0.08)),
            row("reference openvino", "int8", DSM, [50, 25, 50], said(88.0, 0.1)),
        ]  # fmt: skip

    at = {"model": TINY, "img_size": 224}
    place = {
        "machine": {"processor": "a processor", "threads": 2, "capability": "AVX512"},
        "versions": {"torch": "2.14", "nncf": "3.4", "torchao": None},
        "settings": {"rounds": 3},
    }
    groups = [{**at, "batch": 1, "rows": rows()}, {**at, "batch": 8, "rows": rows()}]
    for one in groups[0]["rows"]:
        one.pop("answers", None)
    sized = {"model": "vit_small_patch14_dinov2", "batch": 1, "img_size": 518}
    memory = [
        {"peer": "timm eager", "precision": "float32", **dense, "growth": 400 << 20},
        {"peer": "dsm_ext frozen", "precision": "int8", **dense, "growth": 100 << 20},
    ]
    return {
        "speed": {**place, "groups": groups},
        "large": {**place, "groups": [{**sized, "rows": rows()}]},
        "memory": {**place, "groups": [{**at, "batch": 8, "rows": memory}]},
    }


def test_tables(result):
    table = precision_tables.precision(result)
    assert table.startswith("|  | DeiT-T, 1 | DeiT-T, 8 |\n")
    assert "| dense int8, to the fastest dense peer | 1.50 (OpenVINO, int8) |" in table
    assert "| DSM int8, to the fastest dense peer | 2.25 |" in table
    assert "| DSM int8, to the fastest peer with DSM | 1.80 (OpenVINO, int8) |" in table
    assert "| DSM int8, to timm eager float32 | 9.00 | 9.00 |" in table
    assert "| the same, to the ratio of multiply-adds (int8) | 0.75 |" in table
    assert "| dense bfloat16, to OpenVINO bfloat16 | – | – |" in table
    peers = precision_tables.precision_peers(result)
    assert "| dense: OpenVINO, its own choice (bf16) | 30.0 | 30.0 |" in peers
    assert "| dense: ONNX Runtime, int8 static | failed | failed |" in peers
    answers = precision_tables.answers(result)
    assert "| dense: OpenVINO, int8 | 97.0 | 0.0150 | 79.0 | 4.00 | 4.00 |" in answers
    assert "answers of 500 pictures" in answers
    assert "| dense: dsm_ext, frozen, int8 | 100 | 0.25 |" in precision_tables.precision_memory(
        result
    )
    large = precision_tables.large(result)
    assert "| dense: dsm_ext, int8 | 60.00 | 6.00 | – |" in large
    headline = precision_tables.headline(result)
    assert "| **dense: dsm_ext, int8** | 60.0 | 6.00 | 98.5 % | 0.0020 |" in headline
    assert "onnxruntime" not in headline


def test_pareto_chart(result, tmp_path):
    groups = result["speed"]["groups"]
    found = pareto.points(*groups)
    assert len(found) == 7  # a peer that failed has no point
    assert {(one["peer"], speed, same) for one, speed, same in found} >= {
        ("timm eager", 1, 100.0), ("dsm_ext", 9, 90.0),
    }  # fmt: skip
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    pareto.draw(result, tmp_path / "precision.png")
    assert (tmp_path / "precision.png").read_bytes().startswith(b"\x89PNG")
    for one in groups[1]["rows"]:
        one.pop("answers", None)
    with pytest.raises(ValueError, match="no answers"):
        pareto.draw(result, tmp_path / "none.png")
