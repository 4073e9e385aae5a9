"""Sharpness-aware minimisation, and the training script that offers it."""

import copy
from dataclasses import replace

import pytest
import torch
from timm.layers import PatchDropout

from dsm_ext import digits
from tools import train_digits
from tools.sam import Sam
from tools.train_digits import Recipe, train

TINY = {"img_size": 56, "patch_size": 14, "in_chans": 1, "num_classes": 10}
TINY |= {"embed_dim": 8, "depth": 2, "num_heads": 2}


@pytest.fixture
def data(monkeypatch):
    """Eight digits, and a model of 16 patches."""
    monkeypatch.setattr(digits, "ARCHITECTURE", TINY)
    images, labels = digits.load_digits("train")
    return images[:8], labels[:8]


def recipe(**changes):
    return replace(Recipe(epochs=2, batch=4, dropping=((0.9, 0.5), (1.0, 0.0))), **changes)


def test_a_step_on_a_quadratic_is_the_one_computed_by_hand():
    # L = (3 x^2 + y^2) / 2 over two parameters: its gradient is (3 x, y).
    x, y = torch.tensor([1.0], requires_grad=True), torch.tensor([4.0], requires_grad=True)
    optimizer = torch.optim.SGD([{"params": [x]}, {"params": [y]}], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = ((3 * x**2 + y**2) / 2).sum()
        loss.backward()
        return loss

    loss = Sam(optimizer, rho=0.5).step(closure)
    assert loss.item() == 9.5
    # The gradient (3, 4) has length 5, so the worst neighbour is (1 + 0.3, 4 + 0.4), and the
    # gradient there is (3.9, 4.4). The step starts at (1, 4).
    assert x.item() == pytest.approx(1 - 0.39)
    assert y.item() == pytest.approx(4 - 0.44)


def test_a_gradient_of_zero_moves_nothing():
    x = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.1)

    def closure():
        loss = (x**2).sum()
        loss.backward()
        return loss

    Sam(optimizer, rho=0.5).step(closure)
    assert x.item() == 0


def test_a_radius_of_zero_is_refused():
    with pytest.raises(ValueError, match="expected rho to be positive, got 0"):
        Sam(torch.optim.SGD([torch.zeros(1)], lr=1), rho=0)


def test_both_gradients_see_the_same_patches(data, monkeypatch):
    seen = []
    forward = PatchDropout.forward

    def recorded(self, x):
        out = forward(self, x)
        equal = (out[:, 1:, None] == x[:, None, 1:]).all(-1)  # [B, patches seen, patches]
        seen.append(equal.int().argmax(-1))
        return out

    monkeypatch.setattr(PatchDropout, "forward", recorded)
    train(recipe(optimizer="sam", epochs=1, batch=8), *data)
    first, second = seen
    assert first.shape == (8, 8)
    assert torch.equal(first.sort(1).values, second.sort(1).values)
    assert (first[0] != first[1]).any()  # each digit loses its own


@pytest.mark.parametrize("optimizer", train_digits.OPTIMIZERS)
def test_the_same_seed_gives_the_same_model(data, optimizer):
    own = recipe(optimizer=optimizer)
    first, again = train(own, *data).state_dict(), train(own, *data).state_dict()
    other = train(replace(own, seed=1), *data).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_sam_takes_another_way_than_adamw(data):
    weights = [train(recipe(optimizer=o), *data).head.weight for o in train_digits.OPTIMIZERS]
    assert not torch.equal(*weights)


@pytest.mark.parametrize("optimizer", train_digits.OPTIMIZERS)
def test_a_stopped_training_goes_on_to_the_same_model(data, optimizer):
    own = recipe(optimizer=optimizer, epochs=3)
    saved = []
    whole = train(own, *data, lambda epoch: saved.append(copy.deepcopy(epoch.snapshot())))
    assert [one["epochs"] for one in saved] == [1, 2, 3]
    went_on = train(own, *data, snapshot=saved[0])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, went_on.state_dict()[name]), name


def test_a_training_that_cannot_be_is_refused(data):
    with pytest.raises(ValueError, match="expected optimizer in .*, got 'sgd'"):
        train(recipe(optimizer="sgd"), *data)
    with pytest.raises(ValueError, match="expected at least 9 images, got 8"):
        train(recipe(batch=9), *data)


def test_the_command_writes_a_model(data, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(digits, "load_digits", lambda split: data)
    output = tmp_path / "folder" / "sam.safetensors"
    arguments = ["--optimizer", "sam", "--epochs", "1", "--batch", "8"]
    monkeypatch.setattr("sys.argv", ["train_digits", *arguments, "--output", str(output)])
    train_digits.main()
    assert "epoch   1  loss" in capsys.readouterr().out
    monkeypatch.setattr(digits, "WEIGHTS", output)
    assert digits.create_model().head.weight.shape == (10, 8)

    monkeypatch.setattr("sys.argv", ["train_digits", *arguments])
    with pytest.raises(SystemExit):
        train_digits.main()
    assert "--optimizer sam needs --output" in capsys.readouterr().err
