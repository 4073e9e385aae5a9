"""A signal whose handler raises, such as Ctrl-C's, ends a call of many images early."""

import os
import signal
import threading

import pytest
import torch
from commands import resident_kib
from models import small

import dsm_ext

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")

LOOKS = 3


class Enough(Exception):
    pass


@pytest.fixture
def counted():
    """A list that grows with each signal of a timer; the handler raises at number ``LOOKS``.

    Python handles several waiting signals once. So the list reaches ``LOOKS`` only if the call
    checks for signals that often.
    """
    seen = []

    def handle(*_):
        seen.append(1)
        if len(seen) == LOOKS:
            signal.setitimer(signal.ITIMER_REAL, 0)  # a slow machine would count another signal
            raise Enough

    before = signal.signal(signal.SIGALRM, handle)
    yield seen
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def tiny(**kwargs):
    """A model whose images have 16 patches, so that many images fit in memory."""
    arguments = {"img_size": 8, "patch_size": 2, "in_chans": 1, "depth": 8}
    return small(**(arguments | kwargs))


def many(count):
    """Images for a call that takes much longer than the timer's interval."""
    return torch.randn(64, 1, 8, 8).repeat(count // 64, 1, 1, 1)


def call(fast, method, images):
    if method == "forward_intermediates":
        return fast.forward_intermediates(images, [1, 7])
    return getattr(fast, method)(images)


@pytest.mark.parametrize(
    "method", ["forward", "trace", "forward_features", "forward_intermediates", "profile"]
)
def test_a_call_ends_early(method, counted):
    fast = dsm_ext.from_timm(tiny(), "dsm:r=2,window=2")
    images = many(128_000)
    few = images[:100]
    expected = fast(few)
    result = None
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    with pytest.raises(Enough):
        result = call(fast, method, images)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(counted) == LOOKS
    assert result is None
    assert torch.equal(fast(few), expected)
    assert torch.equal(fast(few), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_call_by_torch_operators_ends_early(dtype, counted):
    fast = dsm_ext.from_timm(tiny(depth=64), "dsm:r=1,skip=56,local=4,window=2", dtype=dtype)
    fast.cpu_path = "aten"
    images = many(12_800).to(dtype)
    few = images[:100]
    expected = fast(few)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    with pytest.raises(Enough):
        fast(images)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(counted) == LOOKS
    assert torch.equal(fast(few), expected)


def test_the_interrupt_key():
    """The handler of Python raises KeyboardInterrupt."""
    fast = dsm_ext.from_timm(tiny(), "dense")
    images = many(128_000)
    result = None
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            result = fast(images)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert result is None


def test_a_handler_that_does_not_raise_changes_nothing():
    fast = dsm_ext.from_timm(tiny(), "dsm:r=2,window=2")
    images = many(25_600)
    expected = fast(images)
    handled = []
    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(fast(images[:64])))
    signal.setitimer(signal.ITIMER_REAL, 0.06, 0.06)
    try:
        actual = fast(images)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert torch.equal(actual, expected)
    assert handled
    for logits in handled:  # the handler called the model during a call
        assert torch.equal(logits, expected[:64])


def test_calls_of_other_threads_go_on(counted):
    fast = dsm_ext.from_timm(tiny(), "dsm:r=2,window=2")
    images = many(25_600)
    expected = fast(images)
    results = []
    worker = threading.Thread(target=lambda: results.extend(fast(images) for _ in range(3)))
    worker.start()
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    with pytest.raises(Enough):
        for _ in range(1000):
            fast(images)
    signal.setitimer(signal.ITIMER_REAL, 0)
    worker.join()
    assert len(results) == 3
    for logits in results:
        assert torch.equal(logits, expected)


def test_interrupted_calls_keep_no_memory(counted):
    """After a call ends early, its workspace serves the next call or is freed."""
    fast = dsm_ext.from_timm(tiny(embed_dim=64), "dsm:r=2,window=2")
    images = many(25_600)

    def interrupted(times):
        for _ in range(times):
            counted.clear()
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
            with pytest.raises(Enough):
                for _ in range(1000):
                    fast(images)
            signal.setitimer(signal.ITIMER_REAL, 0)

    interrupted(3)
    before = resident_kib()
    interrupted(10)
    assert resident_kib() - before < 8192  # KiB; ten workspaces would be 15,000 or more
