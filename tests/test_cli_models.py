"""A command takes a timm name, a folder or an exported file, and prints names of classes."""

import json

import pytest
import torch
from commands import run
from models import create, small
from PIL import Image
from safetensors.torch import load_file, save_file

import dsm_ext
from dsm_ext.cli.classify import beside, short_names

NAME = "vit_tiny_patch16_224"
QUICK = ["--batch", "1", "--rounds", "1"]


@pytest.fixture
def exported(tmp_path):
    """An exported folder with a schedule; its config names an architecture of timm."""
    model = create(NAME, depth=3, num_classes=4, in_chans=1, img_size=96)
    dsm_ext.export(dsm_ext.from_timm(model, "tome:r=3"), tmp_path / "model", model)
    return tmp_path / "model"


@pytest.fixture
def foreign(tmp_path):
    """An exported folder whose config names no architecture of timm."""
    dsm_ext.export(dsm_ext.from_timm(small(), "dsm:r=2,local=1"), tmp_path / "foreign")
    return tmp_path / "foreign"


@pytest.fixture
def pictures(tmp_path):
    for i in range(3):
        folder = tmp_path / "pictures" / str(i)
        folder.mkdir(parents=True)
        Image.effect_noise((70 + i, 50), 90).save(folder / f"{i}.png")
    return tmp_path / "pictures"


@pytest.mark.parametrize("part", ["", "model.safetensors"])
def test_every_command_takes_a_folder_and_an_exported_file(part, exported, pictures, capsys):
    path = exported / part
    files = sorted(pictures.rglob("*.png"))
    model = dsm_ext.load(exported)

    out = run(capsys, "plan", path).out
    assert str(model.plan) in out and f"{path}, exported" in out
    assert run(capsys, "plan", path, "--schedule", "dense").out.endswith("1.00 times fewer\n")

    out = run(capsys, "classify", path, *files).out
    assert out.count("%") == 3 * 4 * 2

    output = exported.parent / "shown"
    run(capsys, "show", path, *files, "-o", output, "--schedule", "dense tome:r=3")
    assert (output / "sheet.png").exists() and (output / "0-tome_r=3.png").exists()
    run(capsys, "show", path, files[0], "-o", output)
    assert (output / "0-exported.png").exists()

    result = exported.parent / "result.json"
    run(capsys, "eval", path, "--images", pictures, "--json", result)
    rows = json.loads(result.read_text())["rows"]
    assert [row["schedule"] for row in rows] == ["dense", "exported"]
    assert rows[1]["gmacs"] == model.plan.multiply_adds / 1e9
    assert rows[0]["pictures"] == 3

    run(capsys, "bench", path, *QUICK, "--json", result)
    rows = json.loads(result.read_text())["results"]
    assert [(row["peer"], row["schedule"]) for row in rows] == [
        ("timm", "dense"), ("dsm_ext", "dense"), ("reference", "dense"),
        ("dsm_ext", "exported"), ("reference", "exported"),
    ]  # fmt: skip
    assert rows[3]["gmacs"] == model.plan.multiply_adds / 1e9
    run(capsys, "bench", path, *QUICK, "--profile", "--json", result)
    shown = [row["schedule"] for row in json.loads(result.read_text())["results"]]
    assert shown == ["dense", "exported"]

    again = exported.parent / "again"
    run(capsys, "export", path, "-o", again)
    assert (again / "config.json").read_bytes() == (exported / "config.json").read_bytes()
    weights = load_file(again / "model.safetensors")
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    run(capsys, "export", path, "--schedule", "dsm:r=1", "-o", again)
    assert dsm_ext.load(again).schedule == dsm_ext.Schedule.parse("dsm:r=1", 3)


def test_eval_of_a_folder_is_that_of_its_timm_name(exported, pictures, capsys):
    """The preprocessing of the folder gives the same answers as that of timm."""
    path = exported.parent / "three"
    model = create(NAME, num_classes=3)
    dsm_ext.export(dsm_ext.from_timm(model, "dense"), path, model)
    classified = run(capsys, "classify", path, *sorted(pictures.rglob("*.png"))).out
    assert classified.count("%") == 3 * 3 * 2
    image = dsm_ext.model_info(path).preprocessing(torch.full((60, 60, 3), 90, dtype=torch.uint8))
    Image.new("RGB", (60, 60), (90, 90, 90)).save(pictures / "grey.png")
    first = run(capsys, "classify", path, pictures / "grey.png").out.splitlines()[2]
    logits = dsm_ext.load(path)(image[None]).softmax(1)[0]
    assert first.split()[0] == f"{100 * logits.max():.1f}"
    assert first.split()[2] == str(int(logits.argmax()))


@pytest.mark.parametrize(
    "given, names",
    [
        (["--weights", "x.pt"], ["--weights"]),
        (["--pretrained"], ["--pretrained"]),
        (["--img-size", "64"], ["--img-size"]),
        (["--num-classes", "0"], ["--num-classes"]),
        (["--in-chans", "3", "--global-pool", ""], ["--in-chans", "--global-pool"]),
        (["--weights-prefix", "a.", "--no-ema"], ["--weights-prefix", "--no-ema"]),
    ],
)
@pytest.mark.parametrize("part", ["", "model.safetensors"])
def test_arguments_of_names_are_refused_beside_a_folder(part, given, names, exported, capsys):
    for command in (["classify", exported / part, "x.png"], ["bench", exported / part]):
        said = run(capsys, *command, *given, status=2).err
        assert f"drop {', '.join(names)}, which go with a timm name" in said
        assert ("file" if part else "folder") + " with its own weights" in said


def test_arguments_of_weight_files_are_refused_without_one(capsys):
    for option in (["--no-ema"], ["--weights-prefix", "a."]):
        said = run(capsys, "classify", NAME, "x.png", "--pretrained", *option, status=2).err
        assert f"{option[0]} goes with --weights FILE" in said
        assert option[0] in run(capsys, "bench", NAME, *option, status=2).err


def test_peers_of_a_folder_that_timm_does_not_know(foreign, capsys):
    for peers in ("timm", "reference", "timm,reference"):
        said = run(capsys, "bench", foreign, *QUICK, "--peers", peers, status=2).err
        assert f"--peers {peers} needs timm's model, but {foreign} names no architecture" in said
    out = run(capsys, "bench", foreign, *QUICK).out
    assert "without peers: " in out and "dsm_ext exported" in out and "timm dense" not in out
    assert "dsm_ext dense" in run(capsys, "bench", foreign, *QUICK, "--peers", "").out
    run(capsys, "export", foreign, "-o", foreign.parent / "again")
    assert dsm_ext.load(foreign.parent / "again").schedule == dsm_ext.load(foreign).schedule


def test_peers_of_a_folder_whose_architecture_has_another_shape(exported, capsys):
    file = exported / "config.json"
    content = json.loads(file.read_text())
    content["model_args"]["depth"] = 2
    file.write_text(json.dumps(content))
    said = run(capsys, "bench", exported, *QUICK, "--peers", "timm", status=2).err
    assert f"{exported} and timm's {NAME} differ in depth 3 and 2" in said


def test_what_is_no_model_is_named(tmp_path, capsys):
    text = tmp_path / "model.txt"
    text.write_text("no model")
    said = run(capsys, "plan", text, status=2).err
    assert "expected a timm name, a folder, or the model.safetensors of" in said
    for missing in (tmp_path / "none", "none.safetensors", "some/where"):
        assert f"no such folder or file: {missing}" in run(capsys, "plan", missing, status=2).err
    (tmp_path / "empty").mkdir()
    assert "config.json" in run(capsys, "plan", tmp_path / "empty", status=2).err
    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    said = run(capsys, "plan", tmp_path / "bare.safetensors", status=2).err
    assert "no config" in said


def test_a_folder_that_bears_the_name_of_a_model_is_in_nobodys_way(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir()
    assert "dsm" in run(capsys, "plan", NAME).out
    model = create(NAME, depth=2)
    dsm_ext.export(dsm_ext.from_timm(model, "dense"), tmp_path / NAME, model)
    assert run(capsys, "plan", NAME).out.count("dense") > 2


LONG = ["dragonfly, darning needle, devil's darning needle, sewing needle, snake feeder", "x" * 300,
        "crane, bird", "crane, machine", "two\nlines, of it", ", odd"]  # fmt: skip


def test_the_first_name_of_a_class_is_shown_where_it_is_the_only_such(
    tmp_path, monkeypatch, capsys
):
    assert short_names(LONG) == [
        "dragonfly", "x" * 300, "crane, bird", "crane, machine", "two lines", ", odd",
    ]  # fmt: skip
    model = create(NAME, depth=2, num_classes=len(LONG))
    labels = {"num_classes": len(LONG), "label_names": LONG}
    model.pretrained_cfg = {**model.pretrained_cfg, **labels}
    dsm_ext.export(dsm_ext.from_timm(model, "tome:r=2"), tmp_path / "model", model)
    Image.new("RGB", (70, 50)).save(tmp_path / "p.png")
    for columns in (None, 40, 80, 1000):
        if columns is None:
            monkeypatch.delenv("COLUMNS", raising=False)
        else:
            monkeypatch.setenv("COLUMNS", str(columns))
        out = run(capsys, "classify", tmp_path / "model", tmp_path / "p.png").out
        lines = out.splitlines()[1:]
        assert out.count("%") == 10
        assert max(map(len, lines)) <= (columns or 80)
        assert ("x" * 300 in out) == (columns == 1000)


@pytest.mark.parametrize(
    "width, expected",
    [
        (40, "  abcdefgh    ABCDEFGHIJKL"),
        (26, "  abcdefgh    ABCDEFGHIJKL"),
        (25, "  abcdefgh    ABCDEFGH..."),
        (20, "  abcd...    ABCD..."),
        (3, "  a    A"),
    ],
)
def test_columns_fit_the_terminal(width, expected):
    assert beside(width, ["abcdefgh"], ["ABCDEFGHIJKL"]) == expected
