"""``from_timm`` takes wrappers off a model, and says what it was given in place of a model."""

import functools
import warnings
from pathlib import Path

import pytest
import timm
import torch
from tolerance import assert_close

import dsm_ext

NAME = "deit_tiny_patch16_224"


@pytest.fixture
def model(deit_tiny):
    return deit_tiny


@pytest.fixture
def logits(deit_tiny_logits):
    return deit_tiny_logits


def test_wrappers_are_taken_off(model, logits):
    images, expected = logits
    wrappers = [
        torch.nn.DataParallel, torch.compile, torch.optim.swa_utils.AveragedModel,
        timm.utils.ModelEmaV2, timm.utils.ModelEmaV3,
        lambda m: torch.nn.DataParallel(torch.compile(m)),
    ]  # fmt: skip
    for wrap in wrappers:
        assert_close(dsm_ext.from_timm(wrap(model), "dense")(images), expected)
    assert dsm_ext.from_timm(torch.compile(model)).head.weight.data_ptr() == (
        model.head.weight.data_ptr()
    )


def test_wrappers_with_hooks_are_refused(model):
    wrapped = torch.nn.DataParallel(model)
    wrapped.register_forward_hook(lambda *_: None)
    with pytest.raises(NotImplementedError, match=r"DataParallel with forward hooks.*\.module"):
        dsm_ext.from_timm(wrapped)


def test_a_model_inside_another_is_named(model):
    class Classifier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = model

    with pytest.raises(
        NotImplementedError, match=r"Classifier is not supported; its \.backbone is"
    ):
        dsm_ext.from_timm(Classifier())


def test_what_is_no_model_is_described_briefly(model):
    class Wordy:
        def __repr__(self):
            return "x" * 10**6

    given = {
        r"a OrderedDict of 152 tensors .*; build timm's model and load": model.state_dict(),
        "a Wordy$": Wordy(),
        "got None$": None,
        r"got PosixPath\('a/b.pth'\); give timm's name": Path("a/b.pth"),
        "got b'deit'": b"deit",
        "the class VisionTransformer; give an instance": type(model),
        "give the model that it makes": functools.partial(timm.create_model, NAME),
        r"give its \.ema": timm.utils.ModelEma(model),
        "a dsm_ext.VisionTransformer, which is already compiled": dsm_ext.from_timm(model),
        "traced module; give the timm model": torch.fx.symbolic_trace(torch.nn.Linear(2, 2)),
        r"a list of 100000": [1] * 10**5,
        "a int": 10**5000,
    }
    for message, value in given.items():
        with pytest.raises(TypeError, match="expected a timm model or its name") as error:
            dsm_ext.from_timm(value)
        assert error.match(message)
        assert len(str(error.value)) < 400


def test_scripted_models_are_refused():
    with warnings.catch_warnings(action="ignore"):  # torch warns that scripting is deprecated
        scripted = torch.jit.script(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="scripted or traced module; give the timm model"):
        dsm_ext.from_timm(scripted)


def test_long_names_are_cut():
    with pytest.raises(ValueError, match="timm has no model named 'xxx") as error:
        dsm_ext.from_timm("x" * 10**6, pretrained=True)
    assert len(str(error.value)) < 300
