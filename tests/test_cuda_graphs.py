"""A recorded forward on a GPU gives the same bits as a forward that is not recorded."""

import copy
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from models import images_for, small
from timm.models.vision_transformer import Block, ParallelScalingBlock

import dsm_ext

CALLS = 4  # one plain call, one that is recorded, two replays


@pytest.fixture(autouse=True)
def all_were_recorded(capfd):
    """Fail if a model could not record: it prints a warning and goes on without a recording."""
    yield
    assert "could not be recorded" not in capfd.readouterr().err


# The stand-in computes the threads of a GPU one after another, so it gets images of 49 patches.
SHAPE = {"img_size": 28} if "DSM_EXT_STAND_IN" in os.environ else {}


def pair(schedule="dsm:r=16", dtype=torch.float32, **kwargs):
    """A model that records, a model that does not, and images for both."""
    model = small(**(SHAPE | kwargs)).to("cuda", dtype)
    recording, plain = (dsm_ext.from_timm(model, schedule) for _ in range(2))
    plain.cuda_graphs = False
    return recording, plain, images_for(model, 3).to("cuda", dtype)


def recorded():
    """``pair`` after the first model has recorded the call."""
    recording, plain, images = pair()
    for _ in range(CALLS):
        recording(images)
    return recording, plain, images


def test_the_switch(monkeypatch):
    model = small()
    assert dsm_ext.from_timm(model, "dense").cuda_graphs
    monkeypatch.setenv("DSM_EXT_CUDA_GRAPHS", "0")
    fast = dsm_ext.from_timm(model, "dense")
    assert not fast.cuda_graphs
    fast.cuda_graphs = True
    assert copy.deepcopy(fast).cuda_graphs
    monkeypatch.setenv("DSM_EXT_CUDA_GRAPHS", "yes")
    with pytest.raises(ValueError, match="DSM_EXT_CUDA_GRAPHS to be 1 or 0, got yes"):
        dsm_ext.from_timm(model, "dense")


def assert_same_bits(trace, other):
    """Also where the locations of prefix tokens are NaN."""
    for name in trace._fields:
        torch.testing.assert_close(
            getattr(trace, name), getattr(other, name), rtol=0, atol=0, equal_nan=True
        )


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("schedule", ["dense", "dsm:r=16", "tome:r=8"])
def test_replays_have_the_same_bits(schedule, dtype):
    recording, plain, images = pair(schedule, dtype)
    for _ in range(CALLS):
        images = torch.randn_like(images)
        assert torch.equal(recording(images), plain(images))
        assert_same_bits(recording.trace(images), plain.trace(images))
        features = plain.forward_features(images, dense=True)
        assert torch.equal(recording.forward_features(images, dense=True), features)
        (own,), (other,) = (m.forward_intermediates(images, [1]) for m in (recording, plain))
        assert torch.equal(own.tokens, other.tokens)


@pytest.mark.cuda
@pytest.mark.parametrize("block", [Block, ParallelScalingBlock])
def test_matching_beside_attention(block):
    """Matching is recorded on the side stream, for each step of a block."""
    steps = [dsm_ext.Local(16, 7), dsm_ext.Global(8)]
    schedule = dsm_ext.Schedule([None, steps, dsm_ext.Global(8), None])
    recording, plain, images = pair(schedule, block_fn=block)
    for _ in range(CALLS):
        images = torch.randn_like(images)
        assert_same_bits(recording.trace(images), plain.trace(images))


@pytest.mark.cuda
def test_results_are_the_callers():
    recording, _, images = pair()
    results = [recording(images) for _ in range(CALLS)]
    kept = results[-1].clone()
    recording(images + 1)
    assert torch.equal(results[-1], kept)
    assert len({result.data_ptr() for result in results}) == CALLS


@pytest.mark.cuda
def test_values_of_weights_are_seen_and_so_is_their_moving():
    recording, plain, images = recorded()
    with torch.no_grad():  # both models share the weights
        recording.get_parameter("blocks.1.attn.qkv.weight").mul_(0.5)
    assert torch.equal(recording(images), plain(images))
    recording.to("cpu")
    recording.to("cuda")
    for _ in range(CALLS):
        assert torch.equal(recording(images), plain(images))
    recording.half()
    plain.half()
    for _ in range(CALLS):
        assert torch.equal(recording(images.half()), plain(images.half()))


@pytest.mark.cuda
def test_schedules_and_sizes_change():
    recording, plain, images = pair(dynamic_img_size=True)
    for schedule in ("dsm:r=16", "tome:r=8", "dsm:r=16"):
        recording.schedule = plain.schedule = schedule
        for size in (56, 40):
            part = images[:, :, :size, :size]
            for batch in (1, 3):
                for _ in range(CALLS):
                    assert torch.equal(recording(part[:batch]), plain(part[:batch]))


@pytest.mark.cuda
def test_many_windows_can_be_recorded():
    # 256 windows of 4 tokens need more than one launch, for any number of images
    recording, plain, images = pair("dsm:r=256,skip=0,local=2,window=2", img_size=128)
    for _ in range(CALLS):
        assert torch.equal(recording(images[:1]), plain(images[:1]))


@pytest.mark.cuda
def test_streams_and_threads():
    recording, plain, images = pair()
    batches = [torch.randn_like(images) for _ in range(24)]
    expected = [plain(batch) for batch in batches]
    torch.cuda.synchronize()

    def run(batch):
        with torch.cuda.stream(torch.cuda.Stream()):
            result = recording(batch)
            torch.cuda.current_stream().synchronize()
            return result

    with ThreadPoolExecutor(4) as pool:
        for own, other in zip(pool.map(run, batches), expected, strict=True):
            assert torch.equal(own, other)


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
def test_no_call_waits():
    recording, plain, images = recorded()
    recording.trace(images)
    plain(images)
    torch.cuda.set_sync_debug_mode("error")
    try:
        recording(images)
        plain(images)
        recording.trace(images)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
def test_memory_does_not_grow():
    recording, _, images = recorded()
    held = torch.cuda.memory_allocated()
    for _ in range(20):
        recording(images)
    assert torch.cuda.memory_allocated() == held
    recording.cuda_graphs = False
    assert torch.cuda.memory_allocated() <= held


@pytest.mark.cuda
def test_part_of_a_graph_of_the_callers():
    recording, plain, images = recorded()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = recording(images)
    images.copy_(torch.randn_like(images))
    graph.replay()
    assert torch.equal(result, plain(images))


@pytest.mark.cuda
def test_usable_after_out_of_memory():
    recording, plain, images = pair(img_size=56)
    total = torch.cuda.get_device_properties(0).total_memory
    most = int(total // images[0].numel() // images.element_size() * 0.5)
    large = torch.empty(1, *images.shape[1:], device="cuda").expand(most, -1, -1, -1)
    for _ in range(2):
        with pytest.raises(torch.cuda.OutOfMemoryError):
            recording(large)
    torch.cuda.empty_cache()
    for _ in range(CALLS):
        assert torch.equal(recording(images), plain(images))


@pytest.mark.cuda
@pytest.mark.parametrize("first", [True, False])
def test_a_recording_that_fails_is_tried_again(first, capfd):
    recording, plain, images = pair(img_size=56)
    images = images[:1].repeat(
        16, 1, 1, 1
    )  # needs more memory than the pool of a smaller batch has left
    if not first:
        for _ in range(CALLS):
            recording(images[:1])
    expected = plain(images)
    for _ in range(2):  # the allocator keeps the memory of these calls
        plain(images)
    recording(images)
    torch.cuda.set_per_process_memory_fraction(1e-9)  # so that a graph gets no memory
    try:
        assert torch.equal(recording(images), expected)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    said = capfd.readouterr().err
    assert "could not be recorded" in said
    assert "out of memory" in said
    for _ in range(CALLS):
        assert torch.equal(recording(images), expected)
    assert (
        len(torch.randn(4, device="cuda").unique()) == 4
    )  # fails if the generator is still being captured


@pytest.mark.cuda
def test_models_that_end_while_others_record():
    models = [pair() for _ in range(4)]

    def serve(job):
        recording, plain, images = job
        for r in (4, 8, 12):
            for model in (recording, plain):
                model.schedule = f"tome:r={r}"
            for _ in range(CALLS):
                assert torch.equal(recording(images), plain(images))
            recording.cuda_graphs = False  # drops the recordings
            recording.cuda_graphs = True

    with ThreadPoolExecutor(len(models)) as pool:
        list(pool.map(serve, models))


@pytest.mark.cuda
def test_rounding_is_seen():
    recording, plain, images = recorded()
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = not before
    try:
        for _ in range(CALLS):
            assert torch.equal(recording(images), plain(images))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.cuda
def test_inference_mode_and_not():
    recording, plain, images = pair()
    for inference in (False, True, False, True, False, True):
        with torch.inference_mode(inference):
            assert torch.equal(recording(images), plain(images))


@pytest.mark.cuda
def test_images_elsewhere_are_refused():
    recording, _, images = pair()
    with pytest.raises(ValueError, match="expected images on cuda:0 like the weights, got cpu"):
        recording(images.cpu())


@pytest.mark.cuda
def test_parts_of_another_dtype_are_refused():
    _, plain, images = pair(dtype=torch.bfloat16)
    plain.get_submodule("blocks.2.mlp.fc1").float()
    with pytest.raises(TypeError, match="weights of one dtype, got BFloat16 and, for blocks"):
        plain(images)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_several_devices():
    recording, plain, images = pair()
    for device in ("cuda:1", "cuda:0", "cuda:1"):
        recording.to(device)
        plain.to(device)
        for _ in range(CALLS):
            assert torch.equal(recording(images.to(device)), plain(images.to(device)))
