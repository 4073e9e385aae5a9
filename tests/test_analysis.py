"""``dsm_ext.analyze``: every measure against a naive computation, and what it refuses."""

import json
import math

import pytest
import torch
from features import build
from models import images_for, small
from torch.nn.functional import cosine_similarity, kl_div

import dsm_ext
from dsm_ext import reference
from dsm_ext.analysis.attention import distances, head_figures
from dsm_ext.analysis.changes import lengths, merge_change, noise_like
from dsm_ext.analysis.dense import DenseRunner
from dsm_ext.analysis.probes import answers_of, step_alone
from dsm_ext.analysis.result import Figures
from dsm_ext.analysis.similarity import Pairs, SimilarityMeter

KINDS = [
    "registers", "average pooling", "attention pooling, prefix included", "no head",
    "no head, all tokens", "parallel blocks", "a rectangle that no window divides", "EVA-02",
    "DINOv3", "Perception Encoder", "RoPE-ViT with mixed axes", "Sapiens2", "all of Eva",
]  # fmt: skip


@pytest.fixture(scope="module")
def fast():
    """A model whose matrices are large enough that a merged token changes the answers."""
    torch.manual_seed(0)
    source = small()
    with torch.no_grad():
        for parameter in source.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=1.5 * parameter.shape[1] ** -0.5)
    return dsm_ext.from_timm(source, "dense")


@pytest.fixture(scope="module")
def pictures():
    return torch.randn(6, 3, 56, 56, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def analysis(fast, pictures):
    return dsm_ext.analyze(fast, pictures, r=16, speedup=1.25)


@pytest.mark.parametrize("grid, prefix", [((3, 5), 1), ((4, 4), 2), ((1, 6), 0)])
def test_pairs_are_those_of_loops(grid, prefix):
    pairs, (gh, gw) = Pairs(grid, prefix), grid
    places = [(i // gw, i % gw) for i in range(gh * gw)]
    near, far = set(), set()
    for i, (r, c) in enumerate(places):
        for j in range(i + 1, len(places)):
            rows, columns = abs(places[j][0] - r), abs(places[j][1] - c)
            if rows + columns == 1:
                near.add((i, j))
            if rows > gh / 2 or columns > gw / 2:
                far.add((i, j))
    assert set(map(tuple, pairs.neighbours.T.tolist())) == near
    assert set(map(tuple, pairs.strangers.T.tolist())) == far
    assert pairs.a.tolist() == [i for i in range(gh * gw) if (i + prefix) % 2 == 0]


def test_similarities_are_those_of_loops():
    grid = (3, 4)
    keys, tokens = torch.randn(2, 12, 5), torch.randn(2, 12, 7)
    pairs = Pairs(grid, 1)
    meter = SimilarityMeter(pairs)
    for picture in range(2):  # in two batches
        meter.add(keys[picture : picture + 1], tokens[picture : picture + 1])
    for what, rows in (("keys", keys), ("tokens", tokens)):
        partner, neighbours, strangers = [], [], []
        for own_keys, own in zip(keys, rows, strict=True):
            for a in pairs.a.tolist():
                alike = [float(cosine_similarity(own_keys[a], own_keys[b], 0)) for b in pairs.b]
                best = int(pairs.b[alike.index(max(alike))])
                partner.append(cosine_similarity(own[a], own[best], 0))
            for kind, found in ((pairs.neighbours, neighbours), (pairs.strangers, strangers)):
                found += [cosine_similarity(own[i], own[j], 0) for i, j in kind.T.tolist()]
        result = meter.result(what)
        for spread, values in (
            (result.partner, partner), (result.neighbours, neighbours),
            (result.strangers, strangers),
        ):  # fmt: skip
            values = torch.stack(values).sort().values
            assert spread.mean == pytest.approx(float(values.mean()), abs=1e-5)
            below = [float((values <= edge).double().mean()) for edge in (spread.low, spread.high)]
            assert below == pytest.approx([0.1, 0.9], abs=1 / len(values) + 0.01)


def test_distance_and_entropy_are_those_of_loops():
    grid = (2, 3)
    q, k = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 4)
    distance, entropy = head_figures(q, k, distances(grid))
    for b in range(2):
        for h in range(3):
            far, spread = 0.0, 0.0
            for i in range(6):
                scores = [math.exp(float(q[b, h, i] @ k[b, h, j]) / 2) for j in range(6)]
                for j, score in enumerate(scores):
                    p = score / sum(scores)
                    far += p * math.hypot(i // 3 - j // 3, i % 3 - j % 3) / 6
                    spread -= p * math.log(p) / 6
            assert float(distance[b, h]) == pytest.approx(far, rel=1e-5)
            assert float(entropy[b, h]) == pytest.approx(spread, rel=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_the_dense_runner_is_the_compiled_model(name):
    source = build(name)
    model = dsm_ext.from_timm(source, "dense")
    images = images_for(source, 2)
    runner = DenseRunner(model)
    with torch.no_grad():
        features = model.forward_features(images)
        x = runner.embed(images)
        for i in range(2):
            x = runner.second_half(i, runner.first_half(i, x).tokens)
        own = runner.features(2, runner.first_half(2, x).tokens)
    torch.testing.assert_close(own, features, rtol=1e-4, atol=1e-4)


def test_the_change_of_merging_is_that_of_the_reference():
    tokens, keys = torch.randn(2, 15, 8), torch.randn(2, 15, 4)
    change = merge_change(tokens, keys, 5, 1)
    destination = reference.match(keys, 5, 1)
    merged, _ = reference.merge(tokens, torch.ones(2, 15), destination, 10)
    torch.testing.assert_close(change, reference.unmerge(merged, destination) - tokens)
    assert not change[:, 0].any()
    assert ((change != 0).any(2).sum(1) > 5).all()


def test_noise_has_the_norm_of_the_change_in_each_picture():
    change = torch.randn(3, 10, 4) * torch.tensor([1.0, 5.0, 0.0])[:, None, None]
    noise = noise_like(change, 2, [7, 8, 9])
    torch.testing.assert_close(lengths(noise), lengths(change))
    assert not noise[:, :2].any() and noise[:2, 2:].all()
    torch.testing.assert_close(noise_like(change[1:], 2, [8, 9]), noise[1:])


def test_a_step_alone_is_the_schedule_of_that_step(fast, pictures, analysis):
    assert step_alone(4, 1, 16).text() == dsm_ext.Schedule.parse("list:0/16/0/0", 4).text()
    for index, block in enumerate(analysis.blocks):
        fast.schedule = step_alone(4, index, 16)
        own = fast(pictures).double()
        fast.schedule = "dense"
        dense = fast(pictures).double()
        kl = kl_div(own.log_softmax(1), dense.log_softmax(1), log_target=True, reduction="none")
        torch.testing.assert_close(
            analysis.measured.step_error[index], kl.sum(1), rtol=1e-3, atol=1e-6
        )
        same = own.argmax(1) == dense.argmax(1)
        assert block.step.agreement == pytest.approx(100 * float(same.double().mean()))


def test_the_class_token_does_not_see_a_step_in_the_last_block(analysis):
    assert analysis.blocks[-1].step.error.mean == pytest.approx(0, abs=1e-9)
    assert all(block.step.error.mean > 1e-4 for block in analysis.blocks[:-1])


def test_nothing_is_amplified_by_blocks_that_do_nothing(pictures):
    source = small(init_values=0.1, final_norm=False)
    with torch.no_grad():
        for block in source.blocks:
            block.ls1.gamma.zero_()
            block.ls2.gamma.zero_()
    found = dsm_ext.analyze(dsm_ext.from_timm(source, "dense"), pictures, speedup=1.3)
    for block in found.blocks:
        for probe in (block.step, block.noise):
            assert probe.amplification.mean == pytest.approx(1, rel=1e-4)


def test_figures_are_means_over_pictures(analysis):
    measured, block = analysis.measured, analysis.blocks[2]
    assert block.distance == pytest.approx(measured.distance[2].mean(0).tolist())
    assert block.noise.error.mean == pytest.approx(float(measured.noise_error[2].mean()))
    ratio = float(measured.noise_effect[2].mean() / measured.change[2].mean())
    assert block.noise.amplification.mean == pytest.approx(ratio)
    assert block.change.low < block.change.mean < block.change.high


def test_delays_have_equal_cost_and_the_errors_of_their_schedules(fast, pictures, analysis):
    assert [delay.skip for delay in analysis.delays] == [0, 1, 2]
    for delay in analysis.delays:
        schedule = dsm_ext.Schedule.parse(delay.schedule, fast.config)
        assert 1.25 <= delay.speedup < 1.3
        assert [bool(schedule[i]) for i in range(4)] == [i >= delay.skip for i in range(4)]
    assert analysis.text == analysis.delays[analysis.skip].schedule
    assert dsm_ext.Schedule.parse(analysis.text, fast.config) == analysis.schedule
    fast.schedule = analysis.schedule
    own = fast(pictures).double().log_softmax(1)
    fast.schedule = "dense"
    dense = fast(pictures).double().log_softmax(1)
    kl = kl_div(own, dense, log_target=True, reduction="batchmean")
    assert analysis.delays[analysis.skip].error.mean == pytest.approx(float(kl), rel=1e-3)


def test_json_holds_the_figures(analysis):
    value = json.loads(json.dumps(analysis.to_dict()))
    assert Figures.from_dict(value).to_dict() == analysis.to_dict()
    assert "measured" not in value and "schedule" not in value


def test_the_result_does_not_depend_on_batches(fast, pictures, analysis, monkeypatch):
    monkeypatch.setattr("dsm_ext.analysis.probes.MOST_IN_BATCH", 4)
    other = dsm_ext.analyze(fast, pictures, r=16, speedup=1.25).measured
    for name in ("step_error", "noise_error", "change", "entropy"):
        torch.testing.assert_close(
            getattr(other, name), getattr(analysis.measured, name), rtol=1e-3, atol=1e-6
        )


@pytest.mark.parametrize("name", KINDS)
def test_all_kinds_of_models_are_analysed(name):
    source = build(name)
    model = dsm_ext.from_timm(source, "tome:r=3")
    found = dsm_ext.analyze(model, images_for(source, 3), speedup=1.2)
    assert model.schedule == dsm_ext.Schedule.tome(4, 3)
    head = model.config.num_classes > 0
    assert found.measure == ("KL" if head else "1 - cosine")
    assert (found.blocks[0].step.agreement is None) != head
    assert all(torch.isfinite(v).all() for v in vars(found.measured).values() if torch.is_tensor(v))
    assert found.blocks[0].step.error.mean > 0 and found.blocks[0].noise.error.mean > 0
    assert len(found.blocks[0].entropy) == model.config.num_heads


def test_answers_of_features_are_those_of_pictures():
    for name in ("average pooling", "no head", "no head, all tokens", "attention pooling"):
        source = build(name)
        model, images = dsm_ext.from_timm(source, "dense"), images_for(source, 2)
        expected = dsm_ext.tuning.judge.answers(model, images)
        torch.testing.assert_close(
            answers_of(model, model.forward_features(images)), expected, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"r": 0}, r"expected r to be in \[1, 98\], got 0"),
        ({"r": 99}, r"expected r to be in \[1, 98\], got 99"),
        ({"speedup": 1}, "expected speedup to be larger than 1 and at most"),
        ({"speedup": 99}, "the largest that a step in every block reaches, got 99"),
        ({"speedup": math.nan}, "expected speedup to be finite"),
        ({"pictures": torch.zeros(1, 3, 56, 56)}, "expected two pictures or more, got 1"),
        ({"pictures": torch.zeros(2, 1, 56, 56)}, r"analyze: expected pictures to be \[n, 3"),
        ({"chart": "x.txt"}, "expected chart to end in"),
        ({"model": {"depth": 1}}, "expected a model of two blocks or more, got one block"),
        ({"model": {"img_size": 8}}, "expected a grid of three patches or more .* got 2 x 2"),
    ],
)
def test_what_cannot_be_analysed_is_refused(fast, pictures, arguments, message):
    if "chart" in arguments:
        pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    if isinstance(arguments.get("model"), dict):
        arguments = arguments | {"model": dsm_ext.from_timm(small(**arguments["model"]), "dense")}
    with pytest.raises(ValueError, match=message):
        dsm_ext.analyze(**{"model": fast, "pictures": pictures, **arguments})


def test_wrong_types_are_refused(fast, pictures):
    for arguments in (
        {"model": small()}, {"pictures": [1]}, {"r": 1.5}, {"r": True}, {"speedup": "2"}
    ):  # fmt: skip
        with pytest.raises(TypeError, match=r"dsm_ext.analyze: expected"):
            dsm_ext.analyze(**{"model": fast, "pictures": pictures, **arguments})


def test_equal_patches_have_no_change_to_amplify(fast):
    found = dsm_ext.analyze(fast, torch.zeros(2, 3, 56, 56), r=4, speedup=1.2)
    assert found.blocks[0].noise.error.mean >= 0
    json.dumps(found.to_dict(), allow_nan=False)
