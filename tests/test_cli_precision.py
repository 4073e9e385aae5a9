"""``--precision`` of the commands: one, several, the exported one, and those that are refused."""

import json

import pytest
from commands import run
from models import create
from PIL import Image

import dsm_ext
from dsm_ext._native import _C
from dsm_ext_cli.argument_types import PRECISIONS

NAME = "vit_tiny_patch16_224"
QUICK = ["--batch", "1", "--rounds", "1", "--schedule", "dense"]
LOW = [name for name in PRECISIONS[1:-1] if _C.has_precision(name)]
needs_low = pytest.mark.skipif(not LOW, reason="the processor has no precision but float32")


@pytest.fixture
def exported(tmp_path):
    model = create(NAME, depth=3, num_classes=4, img_size=96)
    dsm_ext.export(dsm_ext.from_timm(model, "tome:r=3"), tmp_path / "model", model)
    return tmp_path / "model"


@pytest.fixture
def pictures(tmp_path):
    for i in range(3):
        folder = tmp_path / "pictures" / str(i)
        folder.mkdir(parents=True)
        Image.effect_noise((70 + i, 50), 90).save(folder / f"{i}.png")
    return tmp_path / "pictures"


def precisions_of(file):
    return [row["precision"] for row in json.loads(file.read_text())["results"]]


@needs_low
def test_bench_compares_precisions(exported, tmp_path, capsys):
    result = tmp_path / "bench.json"
    asked = ["--precision", ",".join([*LOW, "float32"]), "--json", result]
    out = run(capsys, "bench", exported, *QUICK, *asked, "--peers", "timm").out
    assert precisions_of(result) == ["float32", *LOW, "float32"]
    assert "timm dense float32" in out and f"dsm_ext dense {LOW[0]}" in out
    run(capsys, "bench", exported, *QUICK, *asked, "--profile")
    assert precisions_of(result) == [*LOW, "float32"]
    auto = dsm_ext.load(exported, precision="auto").precision
    asked[1] = f"auto,{auto}"
    run(capsys, "bench", exported, *QUICK, *asked, "--peers", "")
    assert precisions_of(result) == [auto]


@needs_low
def test_eval_compares_every_precision_with_dense_float32(exported, pictures, tmp_path, capsys):
    result = tmp_path / "eval.json"
    asked = ["--images", pictures, "--json", result, "--schedule", "tome:r=3"]
    run(capsys, "eval", exported, *asked, "--precision", LOW[-1])
    rows = json.loads(result.read_text())["rows"]
    assert [(row["schedule"], row["precision"]) for row in rows] == [
        ("dense", "float32"), ("dense", LOW[-1]), ("tome:r=3", LOW[-1]),
    ]  # fmt: skip
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-9)
    assert 1e-9 < rows[1]["kl"] < 0.05


@needs_low
def test_export_keeps_the_precision(exported, pictures, tmp_path, capsys):
    run(capsys, "export", exported, "--precision", LOW[-1], "-o", tmp_path / "again")
    assert dsm_ext.load(tmp_path / "again").precision == LOW[-1]
    files = sorted(pictures.rglob("*.png"))
    shares = [
        run(capsys, "classify", folder, *files, *precision).out
        for folder, precision in (
            (exported, ["--precision", LOW[-1]]),
            (tmp_path / "again", []),
            (tmp_path / "again", ["--precision", LOW[-1]]),
        )
    ]
    assert shares[0] == shares[1] == shares[2]
    output = ["-o", tmp_path / "shown", "--precision", LOW[-1]]
    run(capsys, "show", exported, files[0], *output)
    assert (tmp_path / "shown" / "sheet.png").exists()


def test_unknown_precisions_are_refused(exported, capsys):
    for command in (["bench"], ["classify", "x.png"], ["eval", "--images", "x"]):
        for wrong in ("int4", "", "int8,,float32", "Int8"):
            with pytest.raises(SystemExit) as end:
                run(capsys, command[0], exported, *command[1:], "--precision", wrong)
            assert end.value.code == 2
            assert "--precision: expected a precision of float32, bfl" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(capsys, "classify", exported, "x.png", "--precision", "int8,float32")
    assert "got 'int8,float32'" in capsys.readouterr().err


def test_a_precision_that_the_model_cannot_run_is_refused(exported, monkeypatch, capsys):
    monkeypatch.setenv("DSM_EXT_CPU", "aten")
    said = run(capsys, "bench", exported, *QUICK, "--precision", "int8", status=2).err
    assert "cpu_path is aten" in said or "needs a processor with" in said


def test_the_names_are_the_librarys():
    with pytest.raises(ValueError, match=f"to be {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}"):
        dsm_ext.from_timm(create(NAME, depth=1, img_size=32)).precision = "float64"
