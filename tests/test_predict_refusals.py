"""What ``dsm-ext predict`` refuses, and results that others hold or that a disk has no room for."""

import os
import signal

import pytest
from commands import run
from predict_runs import finished_rows, manifest, many_pictures, rows, write_picture
from test_cli_errors import one_line

PICTURES = 4000


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few") / "pictures"
    for i in range(3):
        write_picture(folder / f"{i}.png", i)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return many_pictures(tmp_path_factory.mktemp("many") / "pictures", PICTURES, different=300)


@pytest.fixture
def command(tiny_folder, pictures, tmp_path):
    return ["predict", tiny_folder, "--images", pictures, "-o", tmp_path / "out"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--batch", "0"], "expected --batch to be positive, got 0"),
        (["--workers", "0"], "expected --workers to be positive, got 0"),
        (["--decoders", "0"], "expected --decoders to be positive, got 0"),
        (["--decoders", "-1"], "expected --decoders to be positive, got -1"),
        (["--threads", "0"], "expected --threads to be positive, got 0"),
        (["--timeout", "0"], "expected --timeout to be positive, got 0"),
        (["--timeout", "nan"], "expected --timeout to be positive, got nan"),
        (["--timeout", "soon"], "--timeout: invalid float value: 'soon'"),
        (["--max-pixels", "-1"], "expected --max-pixels to be 0 or more, got -1"),
        (["--shard-seconds", "-1"], "expected --shard-seconds to be 0 or more, got -1"),
        (["--output", "embeddings"], "expected outputs of embedding, logits, top5, tokens, got"),
        (["--output", ""], "expected outputs of embedding, logits, top5, tokens, got ''"),
        (["--precision", "int4"], "int4"),
        (["--schedule", "tome:r=99"], "expected r of block 0 to be in [0, 8]"),
        (["--device", "nothing"], "no such device: 'nothing'"),
        (["--weights", "x.pt"], "drop --weights, which go with a timm name"),
        (["--images", "nowhere"], "no such file or folder: nowhere"),
        (["--images", "nowhere/*.png"], "no such folder: nowhere"),
        (["--images", __file__], "to be a folder, a picture, a list (.txt, .lst), a Parquet"),
        (["--images", "/dev/null"], "it is a device"),
        (["--images", "nothing://bucket/x"], "nothing://bucket/ cannot be opened"),
        (["--images"], "--images: expected at least one argument"),
        (["-o", "nothing://bucket/x"], "nothing://bucket/x cannot be opened"),
        (["-o", "/dev/null"], "/dev/null"),
        (["--json", "/"], "expected --json to be a file, got the folder /"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, command, capsys):
    assert message in one_line(capsys, *command, *arguments)
    assert not command[-1].exists()


def test_models_and_sources_that_cannot_be_used(tiny_folder, pictures, tmp_path, capsys):
    rest = ["--images", pictures, "-o", tmp_path / "out"]
    said = one_line(capsys, "predict", "vit_tiny_patch16_224", *rest)
    assert "weights" in said
    assert "no such" in one_line(capsys, "predict", tmp_path / "none", *rest)
    assert "nothing" in one_line(capsys, "predict", "nothing_patch16_224", *rest)
    (tmp_path / "empty").mkdir()
    command = ["predict", tiny_folder, "-o", tmp_path / "out", "--images"]
    assert "no pictures in" in one_line(capsys, *command, tmp_path / "empty")
    (tmp_path / "table.parquet").write_bytes(b"no table")
    assert "is no Parquet file" in one_line(capsys, *command, tmp_path / "table.parquet")
    assert not (tmp_path / "out").exists()


def test_other_settings_are_named(command, pictures, capsys):
    run(capsys, *command)
    before = rows(command[-1])
    for arguments, difference in [
        (["--schedule", "dense"], "schedule list:r=3/3, now list:r=0/0"),
        (["--float16"], "columns.embedding float32, now float16"),
        (["--output", "logits"], "columns.embedding float32, now not given; columns.logits not"),
        (["--dtype", "bfloat16"], "dtype float32, now bfloat16"),
        (["--max-pixels", "5"], "max_pixels 179000000, now 5"),
    ]:
        said = one_line(capsys, *command, *arguments)
        assert f"{command[-1]} was written with " in said and difference in said
        assert said.endswith(": take another -o\n")
    assert rows(command[-1]) == before


def test_results_in_odd_places(tiny_folder, pictures, tmp_path, capsys, monkeypatch):
    inside = many_pictures(tmp_path / "pictures", 40)
    command = ["predict", tiny_folder, "--images"]
    for expected in ("40 pictures, in", "nothing was left to do"):
        said = run(capsys, *command, inside, "-o", inside / "out")
        assert said.out.startswith(expected)
    assert "as their endings are not those of pictures: 3 of 43 files" in said.err
    run(capsys, *command, inside, "-o", inside / "out" / "deeper")
    file = tmp_path / "file"
    file.write_text("kept")
    for out in (file, file / "below"):
        said = one_line(capsys, *command, inside, "-o", out)
        assert f"{out} cannot be created: " in said
    assert file.read_text() == "kept"
    said = one_line(capsys, *command, inside, "-o", inside)
    assert "has other files, such as 00000.jpg" in said
    monkeypatch.chdir(tmp_path)
    run(capsys, *command, "pictures", "-o", "new/folder/")
    assert min(rows("new/folder")) == "pictures/00000.jpg"
    run(capsys, *command, "pictures", "-o", f"file://{tmp_path}/by%20url")
    assert rows("by url").keys() == rows("new/folder").keys()


def test_two_runs_at_once_and_a_full_disk(launcher, tiny_folder, many, tmp_path, capsys):
    out, said = tmp_path / "out", tmp_path / "said"
    command = [
        *("predict", tiny_folder, "--images", many, "-o", out, "--batch", 1),
        *("--output", "tokens"),
    ]
    first = launcher.start(said, *command, "--shard-seconds", 0.2)
    first.wait_for_rows(out)
    assert f"another run writes to {out} (process {first.pid} on " in one_line(capsys, *command)
    assert first.status() is None
    os.kill(first.pid, signal.SIGTERM)
    assert first.wait() == 130
    kept = finished_rows(out)
    assert 0 < kept < PICTURES

    full = launcher.start(said, *command, "--batch", 64, largest_file=210_000)
    assert full.wait() == 2
    first_line, second_line = full.said().splitlines()
    assert first_line == f"dsm_ext: {out} keeps {kept} rows; the same command goes on after them"
    assert second_line.startswith(f"dsm-ext predict: error: dsm_ext: {out}/part-")
    assert second_line.endswith(" cannot be written: File too large")
    assert finished_rows(out) == manifest(out)["counts"]["rows"] == kept
    full.wait_for_children()

    assert run(capsys, *command, "--batch", 64).out.startswith(f"{PICTURES - kept} pictures, in ")
    assert len(rows(out)) == PICTURES
    assert not list(out.glob("*.part"))


def test_a_process_with_a_model_is_killed(tiny_folder):
    from dsm_ext.predict.engine import EngineSettings
    from dsm_ext.predict.engine_processes import EngineProcesses

    engines = EngineProcesses(EngineSettings({"model": str(tiny_folder)}), 2, None)
    try:
        os.kill(engines._children[1].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="was ended by SIGKILL; perhaps the memory is not"):
            list(engines.run([]))
    finally:
        engines.close()
