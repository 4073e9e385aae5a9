"""Options of the command line that change the shape of a timm model or select weights of a file."""

import json

import pytest
import torch
from commands import run
from models import create, randomize
from PIL import Image
from safetensors.torch import save_file
from timm.data import resolve_data_config
from timm.models import create_model

import dsm_ext

NAME = "vit_tiny_patch16_224"
SHAPE = {"img_size": (96, 64), "num_classes": 7, "in_chans": 1, "global_pool": "avg"}
OPTIONS = [
    "--img-size", "96x64", "--num-classes", "7", "--in-chans", "1", "--global-pool", "avg",
]  # fmt: skip


@pytest.fixture
def odd(tmp_path):
    """A file of weights, and its model: oblong images of one channel, seven classes."""
    model = create(NAME, **SHAPE)
    save_file(model.state_dict(), tmp_path / "odd.safetensors")
    return tmp_path / "odd.safetensors", model


@pytest.fixture
def picture(tmp_path):
    folder = tmp_path / "pictures" / "0"
    folder.mkdir(parents=True)
    Image.effect_noise((130, 90), 90).save(folder / "p.png")
    return folder / "p.png"


def test_every_command_takes_the_shape_of_a_name(odd, picture, tmp_path, capsys):
    weights, model = odd
    named = [NAME, "--weights", weights, *OPTIONS]
    plan = dsm_ext.from_timm(model, "tome:r=1").plan
    assert str(plan) in run(capsys, "plan", NAME, *OPTIONS, "--schedule", "tome:r=1").out

    out = run(capsys, "classify", *named, picture, "--schedule", "tome:r=1").out
    config = resolve_data_config({}, model=model)
    mean = sum(config["mean"]) / 3
    dsm_ext.export(dsm_ext.from_timm(model, "tome:r=1"), tmp_path / "model", model)
    by_folder = run(capsys, "classify", tmp_path / "model", picture).out
    shares = [float(line.split()[0]) for line in out.splitlines() if "%" in line]
    others = [float(line.split()[0]) for line in by_folder.splitlines() if "%" in line]
    assert shares == pytest.approx(others, abs=0.3)  # Pillow and our code resize differently
    assert dsm_ext.model_info(tmp_path / "model").preprocessing.mean == pytest.approx((mean,))

    run(capsys, "show", *named, picture, "-o", tmp_path / "out", "--schedule", "tome:r=1")
    assert (tmp_path / "out" / "sheet.png").exists()
    run(capsys, "eval", *named, "--images", tmp_path / "pictures", "--schedule", "tome:r=1")
    run(capsys, "export", *named, "-o", tmp_path / "exported", "--schedule", "tome:r=1")
    made = dsm_ext.from_timm(model, "dense")
    assert dsm_ext.model_info(tmp_path / "exported").config == made.config
    quick = ["--batch", "1", "--rounds", "1", "--schedule", "dense"]
    assert "timm dense" in run(capsys, "bench", *named, *quick).out
    assert "timm dense" in run(capsys, "bench", NAME, *OPTIONS, *quick).out


def test_no_classes_give_features(capsys, tmp_path, picture):
    model = create(NAME, num_classes=0)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    named = [NAME, "--weights", tmp_path / "w.safetensors", "--num-classes", 0]
    said = run(capsys, "classify", *named, picture, status=2).err
    assert f"{NAME} has no classifier" in said
    run(capsys, "export", *named, "-o", tmp_path / "model")
    assert dsm_ext.load(tmp_path / "model").config.num_classes == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--img-size", "8"],
        ["--num-classes", "-1"],
        ["--in-chans", "0"],
        ["--global-pool", "most"],
    ],
)
def test_shapes_that_cannot_be_are_one_line(options, capsys):
    for command in ("plan", "bench"):
        said = run(capsys, command, NAME, *options, status=2)
        assert said.out == "" and len(said.err.splitlines()) == 1


def test_channels_that_no_picture_has_are_named(tmp_path, picture, capsys):
    model = create(NAME, in_chans=4, num_classes=2)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    named = [NAME, "--weights", tmp_path / "w.safetensors", "--in-chans", 4, "--num-classes", 2]
    said = run(capsys, "classify", *named, picture, status=2).err
    assert "the model takes 4 channels, pictures have 1 or 3" in said


def test_a_part_of_a_file_and_its_average_are_chosen(tmp_path, picture, capsys):
    torch.manual_seed(1)
    plain, average = (randomize(create_model(NAME, num_classes=3)).state_dict() for _ in range(2))
    file = tmp_path / "checkpoint.pth"
    torch.save(
        {
            "state_dict": {f"student.{k}": v for k, v in plain.items()},
            "state_dict_ema": {f"student.{k}": v for k, v in average.items()},
        },
        file,
    )
    named = ["export", NAME, "--weights", file, "--num-classes", 3, "--weights-prefix", "student."]
    for options, state in (([], average), (["--no-ema"], plain)):
        run(capsys, *named, *options, "-o", tmp_path / "model")
        loaded = dsm_ext.load(tmp_path / "model").state_dict()
        assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["num_classes"] == 3
