"""`make gpu-report`, as far as it can be tested without a GPU."""

import copy
import json
import re
import subprocess
import sys

import pytest
import torch

from benchmarks import tables
from benchmarks.common import ROOT, module_command
from benchmarks.gpu import bench as gpu_bench
from benchmarks.gpu import process as gpu_process
from benchmarks.gpu import report as gpu_report
from benchmarks.gpu import subject as gpu_subject
from benchmarks.gpu import tables as gpu_tables
from benchmarks.gpu.tables import gpu


@pytest.fixture(scope="module")
def measured():
    """The result of the real benchmark, with a small model on the CPU in place of DeiT-S."""
    patch = pytest.MonkeyPatch()
    patch.setitem(gpu_bench.SIZES, "S", "test_vit")
    written = []
    row = ("S", 2)
    try:
        result = gpu_bench.run(
            [("S", 1), row], [("S", 3)],
            [("reference eager", row), ("timm tensorrt", row), ("timm compiled", ("B", 1))], [row],
            gpu_bench.Clock(1e6), torch.device("cpu"), torch.bfloat16, rounds=2,
            write=lambda r: written.append(len(r["rows"])), least=0.01,
        )  # fmt: skip
    finally:
        patch.undo()
    return result, written


def test_rows(measured):
    result, written = measured
    assert written == [1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    for row, batch in zip(result["rows"], (1, 2, 3), strict=True):
        assert row["batch"] == batch
        names = {"timm eager", "dsm_ext dense", "dsm_ext dsm", "reference eager"}
        assert row["images_per_second"].keys() == names
        assert row["host_seconds"] > 0
        assert row["stages"]["dsm"].keys() - row["stages"]["dense"].keys() == {"match", "merge"}
        assert row["gmacs"]["dsm"] < row["gmacs"]["dense"]
        assert row["failed"] == {}
    first, second, third = result["rows"]
    assert sum(second["kernels"].values()) == pytest.approx(1)
    assert "kernels" not in first
    assert 0 < second["error"]["dsm_ext"] <= 2 * second["error"]["timm"]
    assert first["peers"] == third["peers"] == {}
    rates = second["peers"]["reference eager"]["images_per_second"]
    assert rates.keys() == {"dsm_ext dense", "dsm_ext dsm", "reference eager"}
    assert "torch_tensorrt" in second["peers"]["timm tensorrt"]["failed"]
    assert {"machine", "versions", "commit"} <= result.keys()
    assert result["left_out"] == []


def test_peers_are_compiled_whole_for_one_batch(monkeypatch):
    seen = []

    def compile_it(model, mode, dynamic, fullgraph):
        assert fullgraph and not dynamic
        seen.append(mode)
        return model

    monkeypatch.setattr(torch, "compile", compile_it)
    subject = gpu_subject.Subject("test_vit", 1, torch.device("cpu"), torch.float32)
    names = ["timm compiled", "reference compiled", "reference graph"]
    rates = gpu_subject.beside_peers(subject, names, rounds=1, least=0.0)
    assert rates.keys() == {"dsm_ext dense", "dsm_ext dsm", *names}
    assert seen == ["max-autotune", "max-autotune", "reduce-overhead"]


def test_a_peer_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(gpu_process, "GRACE", 1.0)
    said = gpu_bench.in_a_process(
        "reference eager", ("S", 64), torch.device("cpu"), torch.float32, 9, seconds=1
    )
    assert said == {"failed": "not ready after 1 s"}


def test_what_the_memory_check_runs():
    assert gpu_report.call([*module_command("gpu.check_kernels"), "cpu"], 120)["status"] == 0


STEP = {"status": 0, "seconds": 1.0}
DEVICE = {"name": "a GPU", "driver": "1", "cuda": "13.0"}


def test_table(measured):
    rows = copy.deepcopy(measured[0]["rows"])
    rows[1] |= {"batch": 256, "kernels": {"void dsm_ext::cuda::match_kernel_impl<float>(": 0.25}}
    rows[1]["peers"]["timm compiled"] = {
        "images_per_second": {"dsm_ext dense": {"median": 3}, "dsm_ext dsm": {"median": 6},
                              "timm compiled": {"median": 2}},
        "graphs_left_out": 4,
    }  # fmt: skip
    rows[2]["failed"] = {"stages": "RuntimeError: why\nnot"}
    del rows[2]["stages"]
    result = {
        "device": DEVICE,
        "benchmark": {**measured[0], "step": STEP, "rows": rows, "left_out": ["L, 8"]},
        "tests": STEP | {"passed": 7, "failed": ["a::b"], "skipped": 1}, "memcheck": STEP,
        "racecheck": {"status": None, "output": "compute-sanitizer is not installed"},
    }  # fmt: skip
    table = gpu(result)
    assert table.startswith("|  | S, 1 | S, 3 | S, 256 |\n")
    assert "| dense, to timm compiled | – | – | 1.50 |" in table
    assert "| DSM, to timm compiled | – | – | 3.00 |" in table
    assert "| matching and merging, % of kernels' time | – | – | 25.0 |" in table
    assert "| DSM, to the reference compiled" not in table
    assert "| % of the time at 256 | S, dense | S, dsm |\n" in table
    (match,) = re.findall(r"^\| match \|  \| (.*) \|$", table, re.MULTILINE)
    assert 0 < float(match) < 100
    assert "a GPU, driver 1, CUDA 13.0" in table
    assert "7 passed, 1 failed; memcheck: no fault; racecheck: not run" in table
    assert "stages on S, 3: not" in table
    assert "timm compiled on S, 256: 4 parts without a CUDA graph" in table
    assert "no time for L, 8" in table


def test_the_table_is_drawn_between_its_markers(tmp_path):
    result = {"device": DEVICE, "tests": STEP | {"passed": 7, "failed": [], "skipped": 1}}
    (tmp_path / "gpu.json").write_text(json.dumps(result))
    drawn = tables.draw("a\n<!-- gpu -->\nold\n<!-- /gpu -->\nb\n", tmp_path)
    assert drawn == f"a\n<!-- gpu -->\n{gpu(result)}\n<!-- /gpu -->\nb\n"


def test_table_of_nearly_nothing():
    late = {"status": None, "seconds": 40.0, "output": ""}
    result = {
        "device": DEVICE, "benchmark": {"step": STEP | {"status": 1, "output": "a\nb: c\n"}},
        "tests": late, "memcheck": STEP | {"status": 9, "output": "x"},
        "racecheck": STEP | {"status": 255, "output": "Device not supported"},
    }  # fmt: skip
    caption = gpu(result).splitlines()[-1]
    assert gpu({"device": DEVICE}).endswith("the benchmark: not run.")
    assert "tests: not ready after 40 s; memcheck: faults; " in caption
    assert "racecheck: failed: Device not supported" in caption
    assert "the benchmark: failed: b: c" in caption
    result["racecheck"] = STEP | {"status": 9, "output": "==== Internal Sanitizer Error: why"}
    assert "racecheck: ended with an internal error of its own" in gpu(result)


def test_shares_are_of_kernels_with_the_names_that_we_give_them():
    sources = [p.read_text() for p in (ROOT / "cuda").glob("*.cuh")]
    for name in gpu_tables.MERGING:
        assert any(f"{name}_impl(" in source for source in sources)


def test_it_begins_before_the_package_is_built():
    """``-S`` leaves out every installed package."""
    command = [sys.executable, "-S", "-m", "benchmarks.gpu.report", "--help"]
    subprocess.run(command, cwd=ROOT, env={}, check=True, stdout=subprocess.DEVNULL)


def test_steps_say_what_failed(monkeypatch):
    monkeypatch.setattr(gpu_process, "GRACE", 1.0)
    python = sys.executable
    assert gpu_report.call([python, "-c", "print(1)"], 60)["status"] == 0
    failed = gpu_report.call([python, "-c", "print('why'); raise SystemExit(3)"], 60)
    assert (failed["status"], failed["output"]) == (3, "why\n")
    script = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, lambda *_: print("asked to end", flush=True))
subprocess.Popen(["sleep", "60"])
print("begun", flush=True)
while True: time.sleep(60)
"""
    late = gpu_report.call([python, "-c", script], 2)
    assert (late["status"], late["output"]) == (None, "begun\nasked to end\n")
    assert gpu_report.call(["no-such-command"], 5)["status"] == 127


def test_test_counts(tmp_path):
    file = tmp_path / "report.xml"
    file.write_text(
        '<testsuites><testsuite><testcase classname="t" name="a"/>'
        '<testcase classname="t" name="b"><failure/></testcase>'
        '<testcase classname="t" name="c"><skipped/></testcase></testsuite></testsuites>'
    )
    assert gpu_report.count(file) == {"passed": 1, "failed": ["t::b"], "skipped": 1}


def test_without_a_device_nothing_is_measured(monkeypatch, tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is present")
    monkeypatch.setattr(gpu_report, "build", lambda seconds: {"status": 0, "seconds": 0.0})
    monkeypatch.setattr(sys, "argv", ["gpu_report.py", "--json", str(tmp_path / "gpu.json")])
    assert gpu_report.main() == 1
    assert "no CUDA device is present" in capsys.readouterr().out
    assert not (tmp_path / "gpu.json").exists()
