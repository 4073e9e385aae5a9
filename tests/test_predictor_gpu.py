"""``Predictor`` on a GPU: the results are the model's, also when batches follow one another."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from commands import ROOT
from models import prepared
from test_predictor import pixels_for
from tolerance import assert_close

import dsm_ext
from dsm_ext.images import transform_for
from dsm_ext.predict.outputs import Outputs

pytestmark = pytest.mark.cuda
OUTPUTS = "embedding,logits,top5,tokens"
SIZES = [2, 2, 1, 0, 2, 3, 3]  # smaller, empty and larger batches: buffers are used again


@pytest.fixture
def model():
    return dsm_ext.from_timm(prepared(img_size=28), "tome:r=4").cuda()


@pytest.fixture
def predictor(model):
    return dsm_ext.Predictor(model, device="cuda", outputs=OUTPUTS)


def test_outputs_are_the_models_own(model, predictor):
    pixels = pixels_for(model)
    columns = predictor.pixels(pixels)
    images = transform_for(model).normalise(pixels).cuda()
    assert list(columns) == list(predictor.columns)
    outputs = model.forward_with_features(images)
    assert_close(torch.from_numpy(columns["embedding"]), outputs.pooled.cpu())
    assert_close(torch.from_numpy(columns["logits"]), outputs.logits.cpu())
    assert_close(torch.from_numpy(columns["tokens"]), outputs.features.cpu())
    assert np.array_equal(columns["token_source"], model.trace(images).source.cpu())
    assert np.array_equal(columns["top5_class"][:, 0], columns["logits"].argmax(1))


def test_pixels_are_normalised_with_the_bits_of_the_cpu(model, predictor, monkeypatch):
    pixels = torch.arange(256, dtype=torch.uint8).repeat(10)[: 28 * 28 * 3]
    pixels = pixels.view(1, 28, 28, 3)
    seen = []
    monkeypatch.setattr(
        Outputs, "__call__", lambda self, images: seen.append(images) or {"a": images}
    )
    predictor = dsm_ext.Predictor(model, device="cuda")
    result = predictor.pixels(pixels)["a"]
    assert np.array_equal(result, transform_for(model).normalise(pixels))
    assert seen[0].is_cuda


@pytest.mark.parametrize("outputs", ["embedding", OUTPUTS])
def test_streams_give_a_result_for_each_batch_in_order(model, outputs):
    predictor = dsm_ext.Predictor(model, device="cuda", outputs=outputs)
    batches = [pixels_for(model, n, seed) for seed, n in enumerate(SIZES)]
    memory = torch.empty_like(batches[-1])

    def reused():
        for batch in batches:
            memory[: len(batch)].copy_(batch)
            yield memory[: len(batch)]

    results = list(predictor.stream(reused()))
    assert len(results) == len(batches)
    for result, batch in zip(results, batches, strict=True):
        alone = predictor.pixels(batch)
        for name in predictor.columns:
            assert np.array_equal(result[name], alone[name]), name


def test_a_result_is_read_when_the_next_batch_was_given(model, predictor):
    asked = []

    def batches():
        for number in range(4):
            asked.append(number)
            yield pixels_for(model, 2, number)

    results = predictor.stream(batches())
    assert asked == []
    first = next(results)
    assert asked == [0, 1]
    kept = {name: column.copy() for name, column in first.items()}
    assert len(list(results)) == 3
    for name, column in kept.items():  # results are the caller's
        assert np.array_equal(first[name], column)


def test_two_streams_at_the_same_time(model, predictor):
    batches = [pixels_for(model, 2, seed) for seed in range(4)]
    pairs = zip(predictor.stream(batches), predictor.stream(batches[::-1]), strict=True)
    for (one, other), batch, last in zip(pairs, batches, batches[::-1], strict=True):
        assert np.array_equal(one["embedding"], predictor.pixels(batch)["embedding"])
        assert np.array_equal(other["embedding"], predictor.pixels(last)["embedding"])


def test_streams_that_end_early(model, predictor):
    batches = [pixels_for(model, 2, seed) for seed in range(4)]
    results = predictor.stream(batches)
    next(results)
    results.close()
    bad = predictor.stream([batches[0], batches[1], batches[2][:, :9]])
    next(bad)
    with pytest.raises(ValueError, match="expected pixels"):
        next(bad)
    again = list(predictor.stream(batches))
    assert np.array_equal(again[3]["embedding"], predictor.pixels(batches[3])["embedding"])


def test_the_callers_stream_and_device_stay(model, predictor):
    before = torch.cuda.current_stream()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        results = predictor.stream([pixels_for(model, 2, seed) for seed in range(3)])
        next(results)
        assert torch.cuda.current_stream() == stream
        list(results)
    assert torch.cuda.current_stream() == before and torch.cuda.current_device() == 0


# torch says of this mode that it does not notice everything.
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_nobody_waits_for_the_device_or_a_stream(model, predictor, monkeypatch):
    batches = [pixels_for(model, 2, seed) for seed in range(4)]
    list(predictor.stream(batches))  # the model waits in its first call
    monkeypatch.setattr(torch.cuda, "synchronize", None)
    monkeypatch.setattr(torch.cuda.Stream, "synchronize", None)
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")  # operators that wait raise an error
    try:
        assert len(list(predictor.stream(batches))) == 4
    finally:
        torch.cuda.set_sync_debug_mode(mode)


# Runs a stream under torch's sanitizer, which reports accesses to memory that no event orders.
# Then leaves out the two kinds of waits, to see that the sanitizer notices.
PROGRAM = """
import os, sys
sys.path.insert(0, "tests")
import torch
if "DSM_EXT_STAND_IN" in os.environ:
    import tests.stand_in.plugin
from torch.cuda import _sanitizer
import dsm_ext
from models import prepared
from dsm_ext.predict import staging

model = dsm_ext.from_timm(prepared(img_size=28), "tome:r=4")
predictor = dsm_ext.Predictor(model, device="cuda", outputs="embedding,top5,tokens")
batches = [torch.zeros(2, 28, 28, 3, dtype=torch.uint8) for _ in range(5)]
wait, read = torch.cuda.Stream.wait_event, staging._read
_sanitizer.enable_cuda_sanitizer()
for fault in ("none", "no stream waits", "the host does not wait"):
    torch.cuda.Stream.wait_event = (lambda *_: None) if fault == "no stream waits" else wait
    staging._read = (lambda _: {}) if fault == "the host does not wait" else read
    try:
        print(fault, len(list(predictor.stream(batches))))
    except _sanitizer.CUDASanitizerErrors:
        print(fault, "seen")
"""


def test_events_order_all_accesses_to_memory():
    variables = os.environ | {"DSM_EXT_CUDA_GRAPHS": "0"}  # a replay shows no accesses
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "none 5", "no stream waits seen", "the host does not wait seen",
    ], done.stderr  # fmt: skip


def test_weights_in_bfloat16(model):
    predictor = dsm_ext.Predictor(model, device="cuda", dtype="bfloat16", outputs=OUTPUTS)
    columns = predictor.pixels(pixels_for(model))
    images = transform_for(model).normalise(pixels_for(model)).cuda().bfloat16()
    low = model.bfloat16()
    tokens = low.forward_features(images).float().cpu()
    assert np.array_equal(columns["tokens"], tokens)
    assert columns["embedding"].dtype == columns["logits"].dtype == np.float32


def test_a_batch_of_files(model, predictor):
    from test_predictor_pictures import FILES, objects

    on_cpu = dsm_ext.Predictor(model, device="cpu", outputs=OUTPUTS)
    batch = {"bytes": objects([*FILES.values(), b""])}
    own, other = predictor(batch), on_cpu(batch)
    assert own["error"].tolist() == other["error"].tolist()
    assert np.isnan(own["embedding"][-1]).all()
    assert_close(torch.from_numpy(own["embedding"][:-1]), torch.from_numpy(other["embedding"][:-1]))


def test_it_runs_on_the_second_device(model):
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device is present")
    predictor = dsm_ext.Predictor(model, device="cuda:1", outputs="embedding,top5")
    batches = [pixels_for(model, 2, seed) for seed in range(4)]
    results = list(predictor.stream(batches))
    first = dsm_ext.Predictor(model, device="cuda:0")
    assert_close(
        torch.from_numpy(results[3]["embedding"]),
        torch.from_numpy(first.pixels(batches[3])["embedding"]),
    )
    assert torch.cuda.current_device() == 0
