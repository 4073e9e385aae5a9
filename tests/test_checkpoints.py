"""Checkpoints of training scripts: which tensors are taken, and which files are refused."""

import argparse

import pytest
import timm
import torch
from models import create
from safetensors.torch import save_file
from tolerance import assert_close

import dsm_ext
from dsm_ext.weights import load_weights
from dsm_ext.weights.checkpoint import find_state

NAME = "deit_tiny_patch16_224"


@pytest.fixture
def model(deit_tiny):
    return deit_tiny


@pytest.fixture(scope="module")
def averaged():
    torch.manual_seed(1)
    return create(NAME)


@pytest.fixture
def logits(deit_tiny_logits):
    return deit_tiny_logits


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def saved(content, tmp_path, name="checkpoint.pth.tar"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


def check(path, logits, **kwargs):
    images, expected = logits
    assert_close(dsm_ext.from_timm(NAME, "dense", weights=path, **kwargs)(images), expected)


BESIDE = {
    "epoch": 3,
    "arch": NAME,
    "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    "args": argparse.Namespace(lr=0.1, betas=(0.9, 0.95)),
    "metric": 0.5,
}
LAYOUTS = {
    "timm": lambda s: {"state_dict": s, **BESIDE},
    "DeiT": lambda s: {"model": s, **BESIDE},
    "EMA alone": lambda s: {"model_ema": s, **BESIDE},
    "DataParallel": lambda s: {"state_dict": under("module.", s), **BESIDE},
    "torch.compile": lambda s: under("_orig_mod.", s),
    "both wrappers": lambda s: under("module._orig_mod.", s),
    "both wrappers, the other way": lambda s: under("_orig_mod.module.", s),
    "a wrapper of each block": lambda s: {
        n.replace(".attn.", "._orig_mod.attn."): t for n, t in s.items()
    },
    "checkpointed blocks": lambda s: {
        n.replace(".mlp.", "._checkpoint_wrapped_module.mlp."): t for n, t in s.items()
    },
    "Lightning": lambda s: {
        "state_dict": under("model.", s) | {"criterion.weight": torch.ones(1000)},
        "hyper_parameters": {"lr": 0.1}, "callbacks": {}, "pytorch-lightning_version": "2",
    },
    "compiled Lightning": lambda s: {"state_dict": under("model._orig_mod.", s)},
    "a teacher": lambda s: {
        "teacher": under("backbone.", s) | {"head.mlp.0.weight": torch.ones(2, 2)}, "epoch": 1,
    },
    "two dicts deep": lambda s: {"state_dict": {"model": s}},
    "a model of another kind beside it": lambda s: {
        "model": s, "text": {"embeddings.weight": torch.ones(2, 2)},
    },
    "OpenCLIP's prefix": lambda s: under("visual.trunk.", s) | {"text.token.weight": torch.ones(2)},
    "parameters that require grad": lambda s: {n: torch.nn.Parameter(t) for n, t in s.items()},
    "empty averages": lambda s: {"state_dict": s, "state_dict_ema": None, "model_ema": {}},
    "a config named model": lambda s: {"model": {"name": NAME}, "weights": s},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, model, logits, tmp_path):
    check(saved(LAYOUTS[layout](model.state_dict()), tmp_path), logits)


@pytest.mark.parametrize("name", ["a.pth.tar", "a.bin", "a.ckpt", "a.model", "a"])
def test_the_content_decides_not_the_name(name, model, logits, tmp_path):
    check(saved(model.state_dict(), tmp_path, name), logits)
    save_file(model.state_dict(), tmp_path / "other")
    check(tmp_path / "other", logits)


def test_formats_that_are_wrongly_named(model, logits, tmp_path):
    check(saved(model.state_dict(), tmp_path, "a.safetensors"), logits)
    save_file(under("module.", model.state_dict()), tmp_path / "b.pth")
    check(tmp_path / "b.pth", logits)


def test_the_old_format_of_torch(model, logits, tmp_path):
    path = tmp_path / "old.pth"
    torch.save(
        {"state_dict": model.state_dict(), **BESIDE}, path, _use_new_zipfile_serialization=False
    )
    check(path, logits)


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema"])
@pytest.mark.parametrize("plain", ["state_dict", "model"])
def test_averaged_weights_are_taken_as_timm_does(key, plain, model, averaged, logits, tmp_path):
    images, expected = logits
    path = saved(
        {plain: averaged.state_dict(), key: under("module.", model.state_dict())}, tmp_path
    )
    check(path, logits)
    theirs = timm.create_model(NAME, checkpoint_path=str(path)).eval()
    with torch.no_grad():
        assert_close(theirs(images), expected)
        other = averaged(images)
    own = dsm_ext.from_timm(NAME, "dense", weights=path, use_ema=False)
    assert_close(own(images), other)
    assert_close(load_weights(path, use_ema=False)["head.bias"], averaged.head.bias.detach())


def test_the_prefix_is_chosen_where_two_fit(model, averaged, logits, tmp_path):
    state, other = model.state_dict(), averaged.state_dict()
    path = saved(
        {"teacher": under("module.backbone.", state), "student": under("backbone.", other)},
        tmp_path,
    )
    with pytest.raises(ValueError, match=r"2 Vision Transformers.*weights_prefix=") as error:
        dsm_ext.from_timm(NAME, weights=path)
    assert "'teacher.module.backbone.', 'student.backbone.'" in str(error.value)
    for prefix in ("teacher.module.backbone.", "teacher.backbone.", "teacher.backbone", "teacher."):
        check(path, logits, weights_prefix=prefix)
    taken = load_weights(path, prefix="student.backbone.")
    assert taken.keys() == state.keys()
    assert torch.equal(taken["norm.bias"], other["norm.bias"])


def test_a_prefix_beside_what_timm_takes(model, averaged, logits, tmp_path):
    path = saved(
        {"state_dict": averaged.state_dict(), "teacher": under("net.", model.state_dict())},
        tmp_path,
    )
    check(path, logits, weights_prefix="teacher.net.")
    path = saved({"state_dict": under("a.", averaged.state_dict())
                  | under("b.", model.state_dict())}, tmp_path)  # fmt: skip
    check(path, logits, weights_prefix="b.")
    check(path, logits, weights_prefix="state_dict.b.")


def test_an_empty_prefix_takes_the_names_without_one(model, averaged, logits, tmp_path):
    path = saved(model.state_dict() | under("teacher.", averaged.state_dict()), tmp_path)
    with pytest.raises(ValueError, match="under the prefixes '', 'teacher.'"):
        dsm_ext.from_timm(NAME, weights=path)
    check(path, logits, weights_prefix="")


def test_a_prefix_that_is_not_there(model, tmp_path):
    path = saved({"teacher": under("backbone.", model.state_dict())}, tmp_path)
    with pytest.raises(ValueError, match=r"no tensors with weights_prefix='encoder\.'.*'teacher\."):
        dsm_ext.from_timm(NAME, weights=path, weights_prefix="encoder.")
    with pytest.raises(TypeError, match="expected weights_prefix to be a string, got 3"):
        dsm_ext.from_timm(NAME, weights=path, weights_prefix=3)
    with pytest.raises(ValueError, match="weights_prefix goes with weights=FILE"):
        dsm_ext.from_timm(NAME, pretrained=True, weights_prefix="a.")


def test_names_that_become_the_same(model):
    state = under("module.", model.state_dict()) | {"norm.bias": torch.zeros(192)}
    assert find_state(state).tensors.keys() == model.state_dict().keys()
    state = under("a.", model.state_dict()) | {"a.module.norm.bias": torch.zeros(192)}
    with pytest.raises(ValueError, match=r"two tensors for 'norm\.bias': a\.norm\.bias and a\.mod"):
        find_state(state)


def test_what_stands_beside_is_named(model, tmp_path):
    state = under("backbone.", model.state_dict())
    state["fc.weight"], state["fc.bias"] = state.pop("backbone.head.weight"), torch.zeros(1000)
    del state["backbone.head.bias"]
    path = saved(state, tmp_path)
    with pytest.raises(ValueError, match=r"missing head\.weight, head\.bias") as error:
        dsm_ext.from_timm(NAME, weights=path)
    assert "num_classes=0" in str(error.value)
    assert "under 'backbone.' were used; the file also has fc.weight, fc.bias" in str(error.value)
    features = dsm_ext.from_timm(NAME, weights=path, num_classes=0)
    assert features(torch.zeros(1, 3, 224, 224)).shape == (1, 192)


@pytest.mark.parametrize(
    "content, found",
    [
        ({"a": 1}, r"a dict of 1 entries: 'a': 1$"),
        ({"epoch": 3, "args": {"lr": 0.1}, "log": [1.0] * 900},
         r"'epoch': 3; 'args': a dict of 1 entries \('lr'\); 'log': a list of 900$"),
        ([1, 2], r"but \[1, 2\]$"),
        (torch.zeros(3), r"but a Tensor of shape \[3\] and torch.float32$"),
        ({str(i): i for i in range(10**5)}, r"and 99994 more$"),
        ({"model": None, "state_dict": []}, r"'model': None; 'state_dict': \[\]$"),
    ],
)  # fmt: skip
def test_files_without_weights_say_what_they_hold(content, found, tmp_path):
    path = saved(content, tmp_path)
    with pytest.raises(ValueError, match="holds no state dict of tensors") as error:
        load_weights(path)
    assert error.match(found)
    assert len(str(error.value)) < 1000


def test_other_names_are_given_as_they_are(tmp_path):
    path = saved({"model": {"module.a": torch.ones(2), "steps": 3}}, tmp_path)
    assert load_weights(path).keys() == {"a"}
    path = saved({"net": {"a.b": torch.ones(2), "c": torch.ones(1)}}, tmp_path)
    assert load_weights(path, prefix="net.a.").keys() == {"b"}
    assert load_weights(path, prefix="net").keys() == {"a.b", "c"}


def test_dicts_in_themselves_are_read(model):
    content = {"state_dict": model.state_dict()}
    content["self"] = content
    assert find_state(content).tensors.keys() == model.state_dict().keys()


def test_a_file_of_averaged_weights_alone(tmp_path):
    torch.save({"model_ema": create("test_vit").state_dict()}, tmp_path / "x.pt")
    assert load_weights(tmp_path / "x.pt")
    with pytest.raises(ValueError, match="only averaged weights, under model_ema, and use_ema=F"):
        load_weights(tmp_path / "x.pt", use_ema=False)
