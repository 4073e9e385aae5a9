"""``dsm-ext analyze``: what it prints and writes, and how it refuses."""

import json

import pytest
from commands import run
from models import prepared
from pictures import picture_folder
from PIL import Image

import dsm_ext
from dsm_ext.cli import main


@pytest.fixture
def model(small_named_model):
    return small_named_model


@pytest.fixture
def pictures(tmp_path):
    return picture_folder(tmp_path / "pictures", 6)


def test_tables_and_a_suggestion_are_printed_and_written(capsys, model, pictures, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    file, chart = tmp_path / "new" / "analysis.json", tmp_path / "new" / "chart.png"
    command = ["analyze", "any", "--images", pictures, "--speedup", 1.2, "--pictures", 4]
    output = run(capsys, *command, "--json", file, "--chart", chart)
    assert "4 of the 6 pictures" in output.err
    lines = output.out.splitlines()
    assert lines[0] == "any: 4 pictures, 14 x 14 patches; one step merges 16 tokens"
    assert [line.split()[0] for line in lines[2:6]] == ["0", "1", "2", "3"]
    assert "KL, alone" in lines[1] and "as dense %" in lines[1]
    assert lines[7] == "delays at 1.2 times fewer multiply-adds"
    assert lines[-1].startswith("suggested skip: ")
    value = json.loads(file.read_text())
    assert len(value["blocks"]) == 4 and value["pictures"] == 4
    assert {"machine", "versions", "commit", "delays", "verdict"} <= value.keys()
    with Image.open(chart) as image:
        assert image.width > 1000
    text = lines[-1].split("as in ")[1].split(" ")[0]
    assert text == value["text"]
    model = dsm_ext.from_timm(model, text)
    assert model.plan.multiply_adds_dense / model.plan.multiply_adds >= 1.2


def test_an_exported_folder_without_a_head(capsys, tmp_path, pictures):
    source = prepared(num_classes=0)
    dsm_ext.export(dsm_ext.from_timm(source, "dsm:r=8"), tmp_path / "model", source)
    command = ["analyze", tmp_path / "model", "--images", pictures, "--speedup", 1.2, "--r", 5]
    said = run(capsys, *command).out
    assert "one step merges 5 tokens" in said and "1 - cosine, alone" in said
    assert "as dense %" not in said
    assert "the model has no head, so pooled features are compared by their cosine" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--pictures", 1], "expected --pictures to be at least 2, got 1"),
        (["--r", 99], "expected r to be in [1, 98], got 99"),
        (["--speedup", 50], "the largest that a step in every block reaches"),
        (["--images", "none"], "no such folder: none"),
        (["--json", "."], "expected --json to be a file"),
        (["--device", "tpu"], "no such device"),
    ],
)
def test_bad_input_is_one_line(capsys, model, pictures, arguments, message):
    output = run(capsys, "analyze", "any", "--images", pictures, *arguments, status=2)
    assert message in output.err and output.out == ""
    assert len(output.err.splitlines()) == 1


def test_pictures_are_needed():
    with pytest.raises(SystemExit) as error:
        main(["analyze", "any"])
    assert error.value.code == 2
