"""The part of the study about limits: which pictures fail first, and why."""

import json
import math

import pytest
import torch
from models import images_for, small
from PIL import Image
from sklearn.metrics import roc_auc_score
from study_subjects import study_of

from benchmarks.study.limits import (
    chart,
    evidence,
    failures,
    gallery,
    measure,
    network,
    relations,
    sweep,
    tables,
)
from dsm_ext import from_timm

SPEEDUPS = (1.2, 1.7, 2.5)


def tiny(count=6):
    """A model of four blocks with random pictures, whose answers merging changes."""
    source = small()
    source.head.weight.data.normal_()
    source.requires_grad_(False)
    images = images_for(source, count)
    with torch.no_grad():  # no class is ahead on all pictures, so that small errors change answers
        source.head.bias -= source(images).mean(0)
    model = from_timm(source, "dense")
    return network.Network("tiny", model, source, images, torch.zeros(count, dtype=torch.long))


def test_the_object_is_the_fewest_patches_that_hold_the_evidence():
    maps = torch.tensor([[[0.5, 0.2], [0.2, 0.1]], [[0.25, 0.25], [0.25, 0.25]]])
    inside = evidence.objects(maps, mass=0.6)
    assert inside[0].tolist() == [[True, True], [False, False]]  # the first of two equal patches
    assert inside[1].sum() == 3
    assert evidence.objects(maps, mass=0.5)[0].sum() == 1
    # a map of another sum has the same object
    assert torch.equal(evidence.objects(3 * maps, mass=0.6), inside)


def test_mixed_is_the_share_of_the_evidence_in_tokens_of_background():
    inside = torch.tensor([[[True, True, False, False]]])
    maps = torch.tensor([[[0.6, 0.2, 0.1, 0.1]]])
    together = torch.tensor([[0, 0, 1, 1]])
    assert evidence.mixed(together, inside, maps).item() == 0
    # the second patch shares its token with two of background: 2/3 of a fourth of the evidence
    shared = torch.tensor([[3, 1, 1, 1]], dtype=torch.int32)
    assert evidence.mixed(shared, inside, maps).item() == pytest.approx(0.25 * 2 / 3)
    one = torch.zeros(1, 4, dtype=torch.int32)
    assert evidence.mixed(one, inside, maps).item() == pytest.approx(0.5)


def test_the_neighbours_cosine_of_stripes():
    tokens = torch.tensor([[1.0, 0.0], [0.0, 2.0]])[torch.arange(4) % 2]  # columns alternate
    stripes = tokens.expand(1, 3, 4, 2)
    # 9 pairs across have the cosine 0, 8 pairs down have 1
    assert evidence.neighbours_cosine(stripes).item() == pytest.approx(8 / 17)


def test_evidence_is_how_much_the_logit_falls():
    own = tiny(1)
    own.source.double()
    images = own.images.double()
    found = evidence._of_batch(own, images, [3])[0].flatten()
    assert not own.source.blocks[3]._forward_pre_hooks

    kept = []
    handle = own.source.blocks[3].register_forward_pre_hook(lambda _, a: kept.append(a[0]))
    best = own.source(images).argmax(1)
    handle.remove()
    falls = []
    for patch in range(1, 197):
        logits = []
        for step in (-1e-4, 1e-4):  # towards the mean token of the picture
            tokens = kept[0].clone()
            tokens[:, patch] += step * (kept[0][:, 1:].mean(1) - tokens[:, patch])
            after = own.source.norm(own.source.blocks[3](tokens))
            logits.append(own.source.forward_head(after)[0, best].item())
        falls.append(max((logits[0] - logits[1]) / 2e-4, 0.0))
    expected = torch.tensor(falls) / sum(falls)
    torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-6)


def test_the_evidence_of_all_pictures():
    own = tiny(3)
    maps = evidence.evidence(own)
    assert maps.shape == (3, 14, 14)
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(3))
    assert maps.min() >= 0
    nothing = evidence.normalised(torch.zeros(1, 2, 2))
    assert nothing.tolist() == [[[0.25, 0.25], [0.25, 0.25]]]


def test_limits_end_at_the_first_change():
    same = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 0]]).bool()
    assert sweep.limits([1.2, 1.5, 2.0], same).tolist() == [2.0, 1.2, 1.0]
    assert sweep.comes_back(same).tolist() == [False, True, False]


def test_ranks_and_auc_with_equal_values():
    values = torch.tensor([3.0, 1.0, 3.0, 2.0])
    assert relations.ranks(values).tolist() == [3.5, 1.0, 3.5, 2.0]
    failed = torch.tensor([1, 0, 0, 1, 0, 1])
    scores = torch.tensor([0.9, 0.1, 0.4, 0.4, 0.8, 0.7])
    expected = roc_auc_score(failed.numpy(), scores.numpy())
    assert relations.auc(failed, scores).item() == pytest.approx(expected)


def test_auc_compares_within_halves_alone():
    failed, half = torch.tensor([1, 0, 1, 0, 0.0]), torch.tensor([0, 0, 1, 1, 1.0])
    score = torch.tensor([0.1, 0.0, 7.0, 8.0, 6.0])  # 1 of 1 pairs, and 1 of 2
    drawn = torch.stack([failed, half, score, score], 1)[None]
    assert relations._aucs(drawn, 2).item() == pytest.approx(2 / 3)


def test_correlations_and_what_is_left_without_another():
    torch.manual_seed(0)
    z = torch.rand(200)
    x, y = z + 0.1 * torch.rand(200), z.square() + 0.1 * torch.rand(200)
    both = relations.correlation(x, y)
    left = relations.correlation(x, y, without=z)
    assert both["mean"] > 0.9
    assert both["low"] > 0.8
    assert left["low"] < 0 < left["high"]
    assert relations.correlation(x, -x)["mean"] == pytest.approx(-1)
    assert relations.correlation(x, torch.ones(200)) is None


def test_thirds_count_every_picture():
    first, second = torch.arange(9.0), torch.arange(9.0) % 3
    table = relations.by_thirds(first > 2, first, second)
    assert [[cell["count"] for cell in row] for row in table] == [[1] * 3] * 3
    assert [cell["mean"] for cell in table[0]] == [0, 0, 0]
    assert [cell["mean"] for cell in table[1]] == [100, 100, 100]
    assert relations.by_thirds(first > 2, first, first)[0][1] == {"count": 0}


def test_a_plain_model_tells_failures_by_the_cause_that_decides():
    torch.manual_seed(0)
    causes = {"decides": torch.rand(100), "nothing": torch.rand(100)}
    found = relations.predictors(causes, causes["decides"] < 0.3)
    assert found["decides"]["low"] > 0.95
    assert found["nothing"]["high"] < 0.8
    assert found["all but decides"]["difference"]["high"] < 0
    assert found["all"]["difference"]["mean"] == 0
    assert relations.predictors(causes, torch.zeros(100, dtype=torch.bool)) == {}


def test_all_figures_tables_and_the_chart(monkeypatch, tmp_path):
    monkeypatch.setattr(sweep, "SPEEDUPS", SPEEDUPS)
    few = network.of_digits(10)
    monkeypatch.setattr(measure, "of_digits", lambda: few)
    study = study_of(tmp_path, count=12, source=tiny(12).source)
    result = json.loads(json.dumps(measure.measure(study), allow_nan=False))
    first, last = result["networks"]
    assert (first["name"], last["name"]) == ("tiny", "digits")
    row = next(r for r in first["sweep"] if (r["method"], r["speedup"]) == ("guided", 1.7))
    run = study.kept.values["sweep tiny guided 1.7"]
    assert row["kl"]["mean"] == pytest.approx(sum(run["kl"]) / 12, rel=1e-4)
    assert row["same"]["mean"] == pytest.approx(100 * sum(run["same"]) / 12, rel=1e-4)
    assert sum(first["limits"]["ToMe"]["shares"].values()) == pytest.approx(100, abs=0.1)
    assert set(first["why"]["guided"]["correlations"]) == set(tables.CAUSES)

    result |= {"model": "tiny", "pictures": 12, "versions": {"torch": "2", "timm": "1"}}
    for draw in tables.TABLES.values():
        text = draw(result)
        assert text.startswith("| ")
        assert text.count("\n| ") > 0
        assert "nan" not in text
    assert f"| tiny, 1.7x | {row['patches']}" in tables.kl(result).replace(" to ", " | ")
    chart.draw(result, tmp_path / "limits.png")
    with Image.open(tmp_path / "limits.png") as picture:
        assert picture.width > 1000

    # a second run measures nothing
    monkeypatch.setattr(sweep, "answers", None)
    monkeypatch.setattr(measure, "causes", None)
    assert measure.measure(study)["networks"] == result["networks"]


def test_failures_are_the_first_changes():
    own = tiny(6)
    found = failures.first_failures(own, "guided", 4, SPEEDUPS)
    assert found
    assert [f.lost for f in found] == sorted(f.lost for f in found)
    for failure in found:
        (dense, _), (merged, probability) = failure.answers
        assert dense != merged
        assert probability > failure.dense_after
        assert failure.groups[0].unique().numel() > failure.groups[1].unique().numel()
        assert failure.kept < failure.lost
        assert 0 < failure.size < 1


@pytest.mark.parametrize(
    ("margin", "size", "mixed", "words"),
    [
        (0.1, 0.5, 0.1, "Dense is unsure."),
        (0.9, 0.1, 0.9, "The evidence is small and merged"),
        (0.1, 0.1, 0.9, "unsure, and the evidence is small"),
        (0.9, 0.1, 0.1, "Neither"),
    ],
)
def test_the_reason_in_words(margin, size, mixed, words):
    failure = failures.Failure(
        0, 1.0, 1.2, ((0, 0.5), (1, 0.5)), 0.4, (torch.zeros(4), torch.zeros(4)),
        torch.ones(2, 2, dtype=torch.bool), margin, size, mixed,
    )  # fmt: skip
    assert words in failure.reason()


def test_the_gallery_draws_a_row_for_each_failure(monkeypatch, tmp_path, capsys):
    own = tiny(6)
    monkeypatch.setattr(gallery, "of_digits", lambda: own)
    out = tmp_path / "out.png"
    arguments = ["gallery", "--of", "digits", "--rows", "2", "-o", str(out)]
    monkeypatch.setattr("sys.argv", arguments)
    assert gallery.main() == 0
    assert capsys.readouterr().out == f"{out}\n"
    with Image.open(out) as picture:
        assert picture.width == pytest.approx(1000, abs=20)
        assert picture.height > 2 * 236

    with pytest.raises(SystemExit, match="2"):
        monkeypatch.setattr("sys.argv", [*arguments, "--rows", "0"])
        gallery.main()


def test_without_scikit_image_a_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage", None)
    with pytest.raises(SystemExit, match="pip install --group study"):
        gallery.free_pictures()


def test_the_plan_counts_the_patches_that_the_last_block_reads():
    own = tiny(2)
    kept = measure.Kept(None, {})
    runs = sweep.sweep(own, kept, (1.5,))
    assert {run["method"] for run in runs} == set(sweep.METHODS)
    for run in runs:
        assert run["patches"] < 196
        assert not math.isnan(run["kl"][0])
    summary = sweep.summary(runs, own.labels)
    assert "kl_difference" not in next(r for r in summary if r["method"] == "guided")
    tome = next(r for r in summary if r["method"] == "ToMe")
    guided = next(r for r in summary if r["method"] == "guided")
    assert tome["kl_difference"]["mean"] == pytest.approx(tome["kl"]["mean"] - guided["kl"]["mean"])
