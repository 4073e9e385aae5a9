"""The model as a module of torch: weights, copies, threads, memory, and images that do not fit."""

import copy
import gc
import io
import threading
import weakref

import pytest
import torch
from commands import resident_kib
from models import images_for, small
from tolerance import assert_close

import dsm_ext
from dsm_ext import Schedule


@pytest.fixture
def model():
    return small()


@pytest.fixture
def fast(model):
    return dsm_ext.from_timm(model, "dsm:r=16")


def test_is_a_module(model, fast):
    assert not fast.training
    assert all(not p.requires_grad for p in fast.parameters())
    assert fast.state_dict().keys() == model.state_dict().keys()
    assert "schedule=" in repr(fast)
    fast.train()  # the model has no training mode
    fast.eval()


def test_weights_are_shared_with_timm(model, fast):
    images = images_for(model, 2)
    before = fast(images)
    with torch.no_grad():
        model.head.bias += 1
    assert_close(fast(images), before + 1)


def test_load_state_dict_is_seen(model, fast):
    other = small()
    images = images_for(model, 2)
    expected = dsm_ext.from_timm(other, "dsm:r=16")(images)
    for assign in (False, True):
        fast = dsm_ext.from_timm(small(), "dsm:r=16")
        fast.load_state_dict(other.state_dict(), assign=assign)
        assert torch.equal(fast(images), expected)
    with pytest.raises(RuntimeError, match="Missing key"):
        fast.load_state_dict({})


def test_whatever_changes_the_parameters_is_seen(model, fast):
    images = images_for(model, 2)
    zero = torch.zeros(10)
    head = fast.head
    with torch.no_grad():
        expected = fast(images) - fast.head.bias
    before = fast.head.bias
    head.bias = torch.nn.Parameter(zero, requires_grad=False)  # a new parameter
    assert_close(fast(images), expected)
    head.bias = before
    assert_close(fast(images), expected + before)
    head.bias.data = zero  # new values in the same parameter
    assert_close(fast(images), expected)
    swapped = {"head.bias": torch.ones(10)}
    assert_close(torch.func.functional_call(fast, swapped, images), expected + 1)
    assert_close(fast(images), expected)
    other = small().state_dict()
    outer = torch.nn.Sequential(fast)
    outer.load_state_dict({f"0.{k}": v for k, v in other.items()}, assign=True)
    again = small()
    again.load_state_dict(other)
    assert torch.equal(fast(images), dsm_ext.from_timm(again, "dsm:r=16")(images))


def test_what_cannot_be_is_refused_and_changes_nothing(model, fast):
    images = images_for(model, 2)
    expected = fast(images)
    for convert in (fast.double, lambda: fast.to("meta"), lambda: fast.to(torch.float64)):
        with pytest.raises(TypeError, match="expected float32, bfloat16 or float16 on a device"):
            convert()
    state = {k: v.clone() for k, v in fast.state_dict().items()}
    state["blocks.1.norm1.bias"][3] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinity in blocks\.1\.norm1\.bias"):
        fast.load_state_dict(state)
    assert torch.equal(fast(images), expected)
    with pytest.raises(ValueError, match=r"misshapen head.bias \[9\] \(expected \[10\]\)"):
        torch.func.functional_call(fast, {"head.bias": torch.ones(9)}, images)
    assert torch.equal(fast(images), expected)


def test_autocast_keeps_out(model, fast):
    images = images_for(model, 2)
    expected = fast(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(images), expected)


def test_to_moves_and_converts(fast, device):
    images = torch.randn(2, 3, 56, 56)
    expected = fast(images)
    fast.to(device)
    assert_close(fast(images.to(device)).cpu(), expected)
    fast.to("cpu", torch.bfloat16)
    assert fast(images.bfloat16()).dtype == torch.bfloat16
    fast.float()
    assert fast(images).dtype == torch.float32


def test_copies_and_pickles(fast):
    images = torch.randn(2, 3, 56, 56)
    expected = fast(images)
    twin = copy.deepcopy(fast)
    with torch.no_grad():
        fast.head.bias += 1
    assert torch.equal(twin(images), expected)
    file = io.BytesIO()
    torch.save(twin, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(loaded(images), expected)
    assert loaded.schedule == twin.schedule


def test_schedule_can_be_changed(model, fast):
    images = images_for(model, 2)
    fast.schedule = "dense"
    with torch.no_grad():
        assert_close(fast(images), model(images))
    fast.schedule = Schedule.tome(4, 8)
    assert fast.schedule == Schedule.tome(4, 8)
    with pytest.raises(ValueError, match="4 blocks, got 5"):
        fast.schedule = Schedule.dense(5)
    with pytest.raises(ValueError, match="got 'nothing'"):
        fast.schedule = "nothing"
    with pytest.raises(TypeError, match="expected a Schedule or a string"):
        fast.schedule = 8
    assert fast.schedule == Schedule.tome(4, 8)


@pytest.mark.parametrize(
    "images, error, message",
    [
        (torch.randn(3, 56, 56), ValueError, r"images to be \[B, 3, 56, 56\], got \[3, 56, 56\]"),
        (torch.randn(2, 4, 56, 56), ValueError, "images of 3 channels, got 4"),
        (torch.randn(2, 3, 56, 60), ValueError, "images of 56 x 56 pixels, got 56 x 60"),
        (torch.randn(2, 3, 56, 56).double(), TypeError, "images of Float like the weights, got Do"),
        (torch.randn(2, 3, 56, 56).bfloat16(), TypeError, "like the weights, got BFloat16"),
        (torch.empty(2, 3, 56, 56, device="meta"), ValueError, "images on cpu .*, got meta"),
        (torch.randn(2, 3, 56, 56).requires_grad_(), NotImplementedError, "pass images.detach()"),
    ],
)
def test_bad_images(fast, images, error, message):
    for call in (fast, fast.forward_features, fast.trace):
        with pytest.raises(error, match=rf"dsm_ext\.VisionTransformer: .*{message}"):
            call(images)


def test_not_a_tensor(fast):
    with pytest.raises(TypeError):
        fast([1, 2, 3])


def test_empty_batch(fast, device):
    fast.to(device)
    images = torch.randn(0, 3, 56, 56, device=device)
    assert fast(images).shape == (0, 10)
    assert fast.forward_features(images).shape == (0, fast.plan.tokens_out, 32)
    trace = fast.trace(images)
    assert trace.source.shape == (0, 196)
    assert trace.size.shape == (0, fast.plan.tokens_out)


def test_nothing_is_recorded_and_results_are_ordinary(fast):
    images = torch.randn(2, 3, 56, 56)
    features = fast.forward_features(images)
    assert not features.requires_grad
    head = torch.nn.Linear(32, 5)
    head(features[:, 0]).sum().backward()  # a user's head can be trained on features
    assert head.weight.grad is not None
    with torch.inference_mode():
        assert torch.equal(fast.forward_features(images), features)


def test_non_contiguous_images(fast):
    images = torch.randn(2, 3, 56, 56)
    expected = fast(images)
    assert_close(fast(images.to(memory_format=torch.channels_last)), expected)
    assert_close(fast(images.transpose(2, 3).contiguous().transpose(2, 3)), expected)


def same_bits(a, b):
    """Whether two tensors are equal, also where the locations of prefix tokens are NaN."""
    return torch.equal(a.nan_to_num(nan=-1), b.nan_to_num(nan=-1))


def test_two_threads_at_once(fast):
    images = torch.randn(2, 4, 3, 56, 56)
    expected = [fast.trace(x) for x in images]
    failures = []

    def work(i):
        for _ in range(50):
            trace = fast.trace(images[i])
            if not all(map(same_bits, trace, expected[i])):
                failures.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_schedule_changes_beside_a_running_forward(fast):
    images = torch.randn(2, 3, 56, 56)
    allowed = []
    for schedule in ("dense", "tome:r=20"):
        fast.schedule = schedule
        allowed.append(fast(images))
    done, failures = threading.Event(), []

    def work():
        while not done.is_set():
            logits = fast(images)
            if not any(torch.equal(logits, a) for a in allowed):
                failures.append(logits)

    thread = threading.Thread(target=work)
    thread.start()
    for i in range(200):
        fast.schedule = ("dense", "tome:r=20")[i % 2]
    done.set()
    thread.join()
    assert not failures


def test_a_model_is_freed_with_its_last_reference(model):
    images = images_for(model, 1)
    fast = dsm_ext.from_timm(model, "dsm:r=16")
    fast(images)
    fast.head = torch.nn.Identity()
    fast(images)
    freed = weakref.ref(fast), weakref.ref(fast.blocks[1]), weakref.ref(fast.blocks[1].mlp)
    del fast
    gc.collect()
    assert [reference() for reference in freed] == [None] * 3


def test_memory_does_not_grow():
    fast = dsm_ext.from_timm(small(img_size=28, depth=2), "dsm:r=8")
    images = torch.randn(2, 3, 28, 28)

    def calls(n):
        for _ in range(n):
            fast(images)
            fast.trace(images)
            fast.schedule = "dsm:r=8"

    calls(200)
    gc.collect()
    before = resident_kib()
    calls(1000)
    gc.collect()
    assert resident_kib() - before < 2048  # KiB; a leak of one activation a call would be 50,000
