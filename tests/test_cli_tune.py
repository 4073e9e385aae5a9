"""``dsm-ext tune``, and the chart that it and ``dsm-ext eval`` draw."""

import importlib.util
import json

import pytest
from commands import run
from pictures import picture_folder
from PIL import Image

import dsm_ext
from dsm_ext.cli import main
from dsm_ext.timing import time_in_turn
from dsm_ext.tuning.cost import BlockTimes

QUICK = ["--speedup", 1.4, "--minutes", 1]


@pytest.fixture(autouse=True)
def short_timing(monkeypatch):
    """One short round for every timing, because these tests look at no time."""

    def once(calls, images, rounds=1, least=0.0):
        return time_in_turn(calls, images, rounds=1, least=0.0)

    for module in ("dsm_ext.tuning.cost", "dsm_ext.cli.evaluate"):
        monkeypatch.setattr(f"{module}.time_in_turn", once)


@pytest.fixture
def model(small_named_model):
    return small_named_model


@pytest.fixture
def pictures(tmp_path):
    return picture_folder(tmp_path / "pictures", 20)


@pytest.fixture
def drawn(tmp_path):
    """The file of a chart, with a function that gives the size of the picture in it."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    file = tmp_path / "charts" / "chart.png"

    def size():
        with Image.open(file) as image:
            image.load()
            return image.size

    return file, size


def test_the_schedule_alone_is_on_stdout_and_export_takes_it(capsys, model, pictures, tmp_path):
    file = tmp_path / "result" / "tuned.json"
    output = run(
        capsys, "tune", "any", "--images", pictures, *QUICK, "--json", file, "--schedule", "dfe:r=9"
    )
    text = output.out.strip()
    assert output.out == text + "\n" and text.startswith("list:")
    lines = output.err.splitlines()
    assert "any: 1.4 times fewer multiply-adds; 10 pictures chose, 10 judge" in lines
    names = {line.split()[0] for line in lines if line}
    assert {"dense", "ToMe", "DFE", "DSM", "guided", "dfe:r=9"} <= names
    assert "is returned" in lines[-1]
    value = json.loads(file.read_text())
    assert value["text"] == text and value["pictures"] == [10, 10]
    assert {"machine", "versions", "commit", "rows", "parameters"} <= value.keys()

    run(capsys, "export", "any", "--schedule", text, "-o", tmp_path / "folder")
    assert dsm_ext.load(tmp_path / "folder").schedule.text() == text


def test_pictures_that_cannot_be_read_are_named_and_counted(capsys, model, pictures):
    (pictures / "7.png").write_bytes(b"no picture")
    said = run(capsys, "tune", "any", "--images", pictures, *QUICK).err
    assert "7.png cannot be decoded" in said
    assert "1 of 20 pictures could not be read" in said
    assert "10 pictures chose, 9 judge" in said


def test_a_part_of_many_pictures_can_be_used(capsys, model, pictures):
    said = run(capsys, "tune", "any", "--images", pictures, *QUICK, "--pictures", 16).err
    assert "16 of the 20 pictures" in said and "8 pictures chose, 8 judge" in said


def test_a_search_goes_on_from_its_state(capsys, model, pictures, tmp_path):
    command = ["tune", "any", "--images", pictures, *QUICK, "--state", tmp_path / "a" / "state"]
    first = run(capsys, *command).out
    assert run(capsys, *command).out == first
    said = run(capsys, *command, "--seed", 1, status=2).err
    assert "is the state of another search: it differs in seed" in said


def test_a_latency_says_how_good_the_table_of_times_is(capsys, model, pictures, monkeypatch):
    def measure(model, images, progress):
        tokens = {n: n * 1e-5 for n in (1, 400)}
        names = ["attention", "mlp", "attention last", "mlp last"]
        return BlockTimes(model.config, 1e-3, 1.0, 0.0123, {name: tokens for name in names})

    monkeypatch.setattr("dsm_ext.tuning.tune.measure_block_times", measure)
    said = run(capsys, "tune", "any", "--images", pictures, "--latency", 13, "--batch", 2).err
    assert "any: at most 13 ms a forward" in said
    assert "on whole forwards its largest error is 1.2 %" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--speedup", 50], "the largest that a schedule reaches for this model"),
        (["--gmacs", 50], "below the dense model's"),
        (["--images", "none"], "no such folder: none"),
        (["--batch", 0], "expected batch to be positive"),
        (["--pictures", 1], "expected --pictures to be at least 2"),
        (["--schedule", "tome:r=150"], "expected r of block 0"),
        (["--minutes", -1], "expected minutes to be positive"),
        (["--json", "."], "expected --json to be a file"),
    ],
)
def test_bad_input_is_one_line(capsys, model, pictures, arguments, message):
    output = run(capsys, "tune", "any", "--images", pictures, *arguments, status=2)
    assert message in output.err and output.out == ""
    assert len(output.err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["--images", "x", "--speedup", "2", "--gmacs", "1"]])
def test_usage_errors(arguments):
    with pytest.raises(SystemExit) as error:
        main(["tune", "any", *arguments])
    assert error.value.code == 2


def test_tune_draws_its_methods_at_three_budgets(capsys, model, pictures, drawn, tmp_path):
    file, size = drawn
    result = tmp_path / "tuned.json"
    run(
        capsys, "tune", "any", "--images", pictures, *QUICK, "--chart", file, "--json", result
    )  # fmt: skip
    assert size()[0] > 1000
    points = json.loads(result.read_text())["points"]
    count = {name: sum(p["series"] == name for p in points) for name in ("dense", "ToMe", "guided")}
    assert count == {"dense": 1, "ToMe": 3, "guided": 3}
    assert sum(point["chosen"] for point in points) == 1
    assert all(point["milliseconds"] > 0 for point in points)


def test_eval_draws_the_same_chart(capsys, model, pictures, drawn, tmp_path):
    file, size = drawn
    for i, path in enumerate(sorted(pictures.iterdir())[:4]):
        (tmp_path / "labelled" / str(i)).mkdir(parents=True)
        path.rename(tmp_path / "labelled" / str(i) / "x.png")
    result = tmp_path / "eval.json"
    run(
        capsys, "eval", "any", "--images", tmp_path / "labelled", "--schedule",
        "tome:r=8 tome:r=16 guided:1.3", "--chart", file, "--json", result,
    )  # fmt: skip
    assert size()[0] > 1000
    rates = [row["images_per_second"]["median"] for row in json.loads(result.read_text())["rows"]]
    assert len(rates) == 4 and all(rate > 0 for rate in rates)


@pytest.mark.parametrize("command", ["tune", "eval"])
def test_a_chart_needs_matplotlib_and_a_pictures_name(
    capsys, model, pictures, tmp_path, monkeypatch, command
):
    command = [command, "any", "--images", pictures, "--chart"]
    real = importlib.util.find_spec
    if real("matplotlib") is not None:
        said = run(capsys, *command, tmp_path / "chart.txt", status=2).err
        assert "expected --chart to end in .png, .pdf, .svg" in said
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else real(name)
    )
    said = run(capsys, *command, tmp_path / "chart.png", status=2).err
    assert '--chart needs matplotlib: pip install "dsm_ext[charts]"' in said
