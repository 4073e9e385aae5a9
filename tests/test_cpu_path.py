"""The CPU's fast path compared with the ATen path: batches, threads, changed weights, memory."""

import copy
import threading

import pytest
import torch
from models import images_for, small
from timm.models.vision_transformer import ParallelScalingBlock
from tolerance import assert_close

import dsm_ext
from dsm_ext import Schedule
from dsm_ext.timm_models.from_timm import from_timm


def both(model, schedule="dsm:r=16"):
    fast, plain = from_timm(model, schedule), from_timm(model, schedule)
    plain.cpu_path = "aten"
    return fast, plain


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_environment_chooses_the_path(monkeypatch):
    assert from_timm(small(), "dense").cpu_path == "fast"
    monkeypatch.setenv("DSM_EXT_CPU", "aten")
    model = from_timm(small(), "dense")
    assert model.cpu_path == "aten"
    assert copy.deepcopy(model).cpu_path == "aten"
    model.cpu_path = "fast"
    model.cpu_path = "reference"  # the older name of "aten"
    assert model.cpu_path == "aten"
    monkeypatch.setenv("DSM_EXT_CPU", "reference")
    assert from_timm(small(), "dense").cpu_path == "aten"
    with pytest.raises(ValueError, match="cpu_path to be fast or aten, got quick"):
        model.cpu_path = "quick"
    monkeypatch.setenv("DSM_EXT_CPU", "quick")
    with pytest.raises(ValueError, match="DSM_EXT_CPU to be fast or aten, got quick"):
        from_timm(small(), "dense")


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [1, 2, 3, 13])
@pytest.mark.parametrize("schedule", ["dense", "dsm:r=16,skip=1,local=2"])
def test_any_batch_on_any_number_of_threads(batch, count, schedule, threads):
    model = small(num_heads=4)
    images = images_for(model, batch)
    fast, plain = both(model, schedule)
    expected, features = plain(images), plain.forward_features(images)
    threads(count)
    assert_close(fast(images), expected)
    assert_close(fast.forward_features(images), features)
    for i in range(batch):
        assert_close(fast(images[i : i + 1]), expected[i : i + 1], expected.abs().max().item())


@pytest.mark.parametrize("embed_dim, num_heads", [(24, 3), (72, 1), (160, 5), (130, 2)])
def test_widths_that_no_tile_divides(embed_dim, num_heads):
    model = small(embed_dim=embed_dim, num_heads=num_heads, num_classes=77, mlp_ratio=2.6)
    images = images_for(model, 9)
    for schedule in ("dense", "dsm:r=16"):
        fast, plain = both(model, schedule)
        assert_close(fast(images), plain(images))
        assert_close(fast.trace(images).logits, plain.trace(images).logits)


def test_two_steps_in_each_of_two_blocks():
    model = small()
    steps = [dsm_ext.Local(16, 7), dsm_ext.Global(9)]
    fast, plain = both(model, Schedule([steps[0], steps, steps[1], None]))
    images = images_for(model, 5)
    trace, expected = fast.trace(images), plain.trace(images)
    assert torch.equal(trace.source, expected.source)
    assert torch.equal(trace.size, expected.size)
    assert_close(trace.logits, expected.logits)


def test_an_image_with_nan_leaves_the_others_alone():
    model = small()
    fast, _ = both(model)
    images = images_for(model, 4)
    expected = fast(images)
    images[2, 0, 3, 3] = torch.nan
    actual = fast(images)
    assert actual[2].isnan().all()
    kept = [0, 1, 3]
    assert torch.equal(actual[kept], expected[kept])


def test_the_same_bits_every_run():
    model = small()
    fast, _ = both(model)
    images = images_for(model, 7)
    expected = fast(images)
    for _ in range(5):
        assert torch.equal(fast(images), expected)


def test_strided_images():
    model = small()
    fast, plain = both(model)
    images = images_for(model, 3)
    assert torch.equal(fast(images.to(memory_format=torch.channels_last)), fast(images))
    assert torch.equal(fast(torch._neg_view(images)), fast(-images))
    assert_close(fast(images[:, :, ::1].transpose(2, 3)), plain(images.transpose(2, 3)))


def test_weights_changed_in_place_are_packed_again():
    model = small()
    fast, plain = both(model)
    images = images_for(model, 2)
    fast(images)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "fc1" in name or "qkv.bias" in name:
                parameter.mul_(1.5)
    assert_close(fast(images), plain(images))
    other = torch.randn(32, 32)
    for each in (fast, plain):
        each.get_submodule("blocks.1.attn.proj").weight.data = other
    assert_close(fast(images), plain(images))


def test_changes_that_torch_does_not_count_are_seen_when_asked():
    model = small()
    fast, plain = both(model)
    images = images_for(model, 2)
    before = fast(images)
    model.head.weight.data.mul_(2)
    fast.cpu_path = "fast"
    assert not torch.equal(fast(images), before)
    assert_close(fast(images), plain(images))


def test_weights_of_inference_mode_take_the_other_path():
    with torch.inference_mode():
        model = small()
        fast, plain = both(model, "dense")
        images = images_for(model, 2)
        assert torch.equal(fast(images), plain(images))
        assert_close(fast(images), model(images))


def test_models_in_threads_do_not_disturb_each_other():
    models = [both(small(), "dsm:r=16"), both(small(), "tome:r=8")]
    images = images_for(small(), 6)
    expected = [plain(images) for _, plain in models]
    faults = []

    def work(fast, wanted, batch):
        for _ in range(30):
            try:
                assert_close(fast(images[:batch]), wanted[:batch], wanted.abs().max().item())
            except Exception as error:  # the test's own thread reports it below
                faults.append(error)

    workers = [
        threading.Thread(target=work, args=(fast, wanted, batch))
        for (fast, _), wanted in zip(models, expected, strict=True)
        for batch in (1, 6)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not faults, faults[0]


@pytest.mark.parametrize("schedule", ["dense", "dsm:r=16"])
def test_nothing_but_the_result_is_allocated(schedule):
    model = small()
    fast, _ = both(model, schedule)
    images = images_for(model, 4)
    fast(images)
    with torch.profiler.profile(profile_memory=True, acc_events=True) as profile:
        logits = fast(images)
    assert logits.shape == (4, 10)
    allocated = sum(
        event.cpu_memory_usage for event in profile.events() if event.cpu_memory_usage > 0
    )
    assert (
        0 < allocated <= 2 * max(64, logits.nbytes)
    )  # the profiler counts each twice: alone and with its operator


def test_frozen_model_runs_and_refuses_the_rest():
    model = small()
    fast, _ = both(model)
    images = images_for(model, 3)
    expected = fast(images)
    assert fast.freeze() is fast
    assert torch.equal(fast(images), expected)
    assert fast.trace(images).logits.shape == expected.shape
    fast.schedule = "dense"
    assert_close(fast(images), model(images).detach())  # timm's model keeps its weights
    assert sum(p.numel() for p in fast.parameters()) < sum(p.numel() for p in model.parameters())
    for act in (
        fast.state_dict,
        fast.half,
        lambda: fast.load_state_dict(model.state_dict()),
        lambda: copy.deepcopy(fast),
        lambda: setattr(fast, "cpu_path", "aten"),
    ):
        with pytest.raises(RuntimeError, match="the model is frozen"):
            act()
    assert torch.equal(fast.freeze()(images), fast(images))
    with pytest.raises(NotImplementedError, match="only a model on the CPU's fast path"):
        from_timm(small(block_fn=ParallelScalingBlock), "dense").freeze()
