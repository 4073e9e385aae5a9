"""The command line with broken pipes, full disks, unknown devices, and no docstrings."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import ROOT, python, start
from models import create, prepared
from PIL import Image

import dsm_ext
from dsm_ext.cli import main
from dsm_ext_cli.run import _one_line

NAME = "vit_tiny_patch16_224"
FULL = Path("/dev/full")
QUICK = ["--batch", "1", "--rounds", "1", "--schedule", "dense", "--peers", ""]


def one_line(capsys, *arguments):
    """The one line that main prints to stderr for arguments that it must refuse with status 2."""
    try:
        status = main([str(a) for a in arguments])
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr()
    assert status == 2
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert said.err.startswith("dsm-ext")
    return said.err


# Arguments and PYTHONUNBUFFERED: with "1" Python writes at once, else when the command ends.
# Only "plan" imports torch, which takes seconds.
CALLS = [(a, u) for a in (["--help"], ["--version"], ["show", "-h"]) for u in ("", "1")]
CALLS += [(["plan", NAME], "")]


@pytest.mark.parametrize("arguments, unbuffered", CALLS)
def test_a_closed_pipe_is_a_silent_end(arguments, unbuffered):
    read, write = os.pipe()
    os.close(read)  # the reader has gone, like `head` after its lines
    done = start(*arguments, variables={"PYTHONUNBUFFERED": unbuffered}, stdout=write)
    os.close(write)
    _, said = done.communicate()
    assert said == ""
    assert done.returncode == 128 + 13  # the status by which a shell reports SIGPIPE


@pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")
@pytest.mark.parametrize("arguments, unbuffered", CALLS)
def test_a_full_disk_is_one_line(arguments, unbuffered):
    with FULL.open("w") as full:
        done = start(*arguments, variables={"PYTHONUNBUFFERED": unbuffered}, stdout=full)
        _, said = done.communicate()
    assert done.returncode == 2
    assert len(said.splitlines()) == 1
    assert "the output cannot be written: No space left on device" in said


def test_a_closed_output_is_no_fault():
    done = subprocess.run(
        f'"{sys.executable}" -m dsm_ext_cli --version >&-',
        shell=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, "")


COMMANDS = """
import json, sys
from dsm_ext_cli import main
for arguments in json.loads(sys.argv[1]):
    print("run", *arguments, flush=True)
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code or 0
    if status:
        sys.exit(f"{arguments}: {status}")
"""


def test_commands_run_without_docstrings(tmp_path):
    """``python -OO`` drops docstrings and assertions."""
    dsm_ext.export(dsm_ext.from_timm(prepared(), "tome:r=2"), tmp_path / "model")
    picture = tmp_path / "pictures" / "0" / "a.png"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (70, 50), (200, 40, 90)).save(picture)
    model, out = tmp_path / "model", tmp_path / "out"
    commands = [
        ["--help"],
        ["demo", "--help"],
        ["plan", NAME],
        ["classify", model, picture],
        ["show", model, picture, "-o", out],
        ["eval", model, "--images", tmp_path / "pictures"],
        ["export", model, "-o", out],
        ["bench", model, "--batch", "1", "--rounds", "1"],
    ]
    commands = [[str(word) for word in command] for command in commands]
    done = python("-OO", "-c", COMMANDS, json.dumps(commands), PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0, done.stderr
    printed = re.split(r"^run .*\n", done.stdout, flags=re.MULTILINE)
    assert [bool(text) for text in printed] == [False] + [True] * len(commands)


DEVICES = [
    ("garbage", "no such device: 'garbage'"),
    ("", "no such device: ''"),
    ("cuda:-1", "no such device: 'cuda:-1'"),
    ("cuda:x", "no such device: 'cuda:x'"),
    ("1", "no such device: '1'"),
    *((name, f"does not run on the device '{name}'") for name in
      ("xpu", "mps", "meta", "privateuseone", "hpu", "xla", "vulkan", "xpu:3")),
]  # fmt: skip


@pytest.mark.parametrize("device, message", DEVICES)
@pytest.mark.parametrize("command", ["bench", "classify", "show", "eval"])
def test_devices_that_dsm_ext_does_not_run_on_are_named(command, device, message, capsys, tmp_path):
    more = {
        "bench": [], "classify": ["x.png"], "show": ["x.png", "-o", tmp_path / "out"],
        "eval": ["--images", tmp_path],
    }  # fmt: skip
    said = one_line(capsys, command, NAME, *more[command], "--device", device)
    assert message in said and "cuda:N" in said


# An id that is "cuda" alone would make conftest.py skip the test where no GPU is.
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7", "cuda:999"], ids="device {}".format)
def test_cuda_without_a_device_is_named(device, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device is present" in one_line(capsys, "bench", NAME, "--device", device)


@pytest.mark.parametrize("device", ["cuda:2", "cuda:999"])
def test_a_cuda_device_too_many_is_named(device, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    said = one_line(capsys, "bench", NAME, "--device", device)
    assert f"no such device: '{device}'; the last of 2 is cuda:1" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["bench", NAME, "--threads", "0"], "--threads to be positive, got 0"),
        (["bench", NAME, "--threads", "99999999999"], "--threads to be a number of threads"),
        (["bench", NAME, "--threads", "two"], "--threads: invalid int value: 'two'"),
        (["bench", NAME, "--threads"], "--threads: expected one argument"),
        (["bench", NAME, "--batch", "0"], "--batch: expected positive integers"),
        (["bench", NAME, "--batch", "1,,2"], "--batch: expected positive integers"),
        (["bench", NAME, "--batch", ""], "--batch: expected positive integers"),
        (["bench", NAME, "--schedule", " ; "], "--schedule: expected a schedule, got none"),
        (["bench", NAME, "--img-size", "12x"], "--img-size: expected a side in pixels"),
        (["bench", NAME, "--img-size", "-4"], "--img-size: expected a side in pixels"),
        (["bench", NAME, "--img-size", "1x2x3"], "--img-size: expected a side in pixels"),
        (["bench", NAME, "--dtype", "int8"], "--dtype: invalid choice: 'int8'"),
        (["eval", NAME, "--images", ".", "--batch", "0"], "--batch to be positive, got 0"),
        (["export", NAME], "the following arguments are required: -o/--output"),
        (["plan"], "the following arguments are required: MODEL"),
        (["nothing"], "invalid choice: 'nothing'"),
        ([], "the following arguments are required: COMMAND"),
        (["demo", "--output", "x.nothing"], "--output to be a picture's name"),
        (["demo", "--output", "/"], "--output to be a picture's name"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, capsys):
    assert message in one_line(capsys, *arguments)


def test_outputs_that_cannot_be_written_are_named_before_any_work(capsys, tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    weights = ["--weights", "none.pt"]
    said = one_line(capsys, "bench", NAME, "--json", tmp_path)
    assert f"expected --json to be a file, got the folder {tmp_path}" in said
    said = one_line(capsys, "bench", NAME, "--json", file / "x.json")
    assert f"{file} is a file" in said
    said = one_line(capsys, "eval", NAME, *weights, "--images", tmp_path, "--json", tmp_path)
    assert "expected --json to be a file" in said
    said = one_line(capsys, "demo", "--output", file / "x.png")
    assert f"{file} is a file" in said
    folder = tmp_path / "model"
    dsm_ext.export(dsm_ext.from_timm(prepared(), "tome:r=2"), folder)
    said = one_line(capsys, "export", folder, "-o", file)
    assert f"expected --output to be a folder, got the file {file}" in said
    said = one_line(capsys, "show", folder, "x.png", "-o", file)
    assert f"expected --output to be a folder, got the file {file}" in said
    if Path("/proc/self").exists():
        said = one_line(capsys, "export", folder, "-o", "/proc/nothing")
        assert "--output /proc/nothing cannot be written: " in said
    assert file.read_text() == "kept"


@pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")
def test_results_go_into_devices_and_do_not_replace_them(capsys, tmp_path):
    assert main(["bench", NAME, *QUICK, "--json", str(FULL)]) == 2
    assert f"{FULL} cannot be written: No space left on device" in capsys.readouterr().err
    assert main(["bench", NAME, *QUICK, "--json", os.devnull]) == 0
    for device in (FULL, Path(os.devnull)):
        assert stat.S_ISCHR(device.stat().st_mode)
    result = tmp_path / "result.json"
    result.write_text("old")
    assert main(["bench", NAME, *QUICK, "--json", str(result)]) == 0
    assert result.read_text().startswith("{") and [*tmp_path.iterdir()] == [result]


def test_errors_of_torch_come_without_its_frames():
    error = RuntimeError("too\nlarge\nException raised from f at g.cpp:1 (most recent call first):")
    assert _one_line(error) == "too large"
    assert _one_line(MemoryError()) == "MemoryError"


def test_names_in_any_script_are_printed_on_any_terminal(tmp_path):
    model = create(NAME, depth=2, num_classes=2)
    model.pretrained_cfg = {
        **model.pretrained_cfg, "num_classes": 2, "label_names": ["a", "b"],
        "label_descriptions": {"a": "猫", "b": "chien, épagneul"},
    }  # fmt: skip
    dsm_ext.export(dsm_ext.from_timm(model, "dense"), tmp_path / "model", model)
    picture = tmp_path / "å.png"
    Image.new("RGB", (70, 50)).save(picture)
    variables = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = start("classify", tmp_path / "model", picture, variables=variables, stdout=-1)
    out, said = done.communicate()
    assert done.returncode == 0, said
    assert r"\u732b" in out and "chien" in out
