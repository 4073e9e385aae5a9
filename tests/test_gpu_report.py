"""What `make gpu-report` does, as far as it can be seen without a GPU."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import gpu_bench
import gpu_report
from gpu_tables import gpu


def compile_modules_alone(model, mode, dynamic, fullgraph):
    """In place of torch.compile, which would take a minute."""
    assert fullgraph and not dynamic
    if not isinstance(model, torch.nn.Module):
        raise RuntimeError("no module\nbut a function")
    return model


@pytest.fixture(scope="module")
def measured():
    """The benchmark itself, on the CPU, of a small model under the name of another."""
    patch = pytest.MonkeyPatch()
    patch.setitem(gpu_bench.SIZES, "S", "test_vit")
    patch.setattr(torch, "compile", compile_modules_alone)
    written = []
    try:
        result = gpu_bench.run(
            [("S", 1), ("S", 2)], [("S", 2)], gpu_bench.Clock(1e6), torch.device("cpu"),
            torch.bfloat16, rounds=2, write=lambda r: written.append(len(r["rows"])), least=0.01,
        )  # fmt: skip
    finally:
        patch.undo()
    return result, written


def test_rows(measured):
    result, written = measured
    assert written == [1, 1, 2, 2, 2]
    for row, batch in zip(result["rows"], (1, 2), strict=True):
        assert row["batch"] == batch
        names = {"timm eager", "dsm_ext dense", "dsm_ext dsm", "reference eager"}
        names |= {"timm compiled"} if batch == 2 else set()
        assert row["images_per_second"].keys() == names
        assert row["host_seconds"] > 0
        assert row["stages"]["dsm"].keys() - row["stages"]["dense"].keys() == {"match", "merge"}
        assert sum(row["kernels"].values()) == pytest.approx(1)
        assert 0 <= row["merging_share"] < 1
        assert row["gmacs"]["dsm"] < row["gmacs"]["dense"]
    assert result["rows"][1]["failed"] == {
        "reference compiled": "RuntimeError: no module\nbut a function"
    }
    error = result["rows"][0]["error"]
    assert 0 < error["dsm_ext"] <= 2 * error["timm"]
    assert {"machine", "versions", "commit"} <= result.keys()
    assert result["left_out"] == []


def test_what_the_memory_check_runs():
    script = Path(gpu_report.__file__).parent / "gpu_check.py"
    assert gpu_report.call([sys.executable, str(script), "cpu"], 120)["status"] == 0


def test_what_there_is_no_time_for_is_listed():
    clock = gpu_bench.Clock(0)
    device = torch.device("cpu")
    result = gpu_bench.run(
        [("S", 1), ("L", 8)], [], clock, device, torch.float32, 1, lambda _: None
    )
    assert result["rows"] == []
    assert result["left_out"] == ["S, batch 1", "L, batch 8"]


def test_table(measured):
    step = {"status": 0, "seconds": 1.0}
    device = {"name": "a GPU", "driver": "1", "cuda": "13.0"}
    result = {
        "device": device, "benchmark": {"step": step, **measured[0], "left_out": ["L, batch 8"]},
        "tests": step | {"passed": 7, "failed": ["a::b"], "skipped": 1}, "memcheck": step,
        "racecheck": {"status": None, "output": "compute-sanitizer is not installed"},
    }  # fmt: skip
    table = gpu(result)
    assert table.startswith("|  | S, 1 | S, 2 | goal / least |\n")
    assert "| DSM to our dense, to the arithmetic saved |" in table
    assert re.search(r"^\| dense to timm compiled \| – \| \d\.\d\d \|", table, re.MULTILINE)
    assert "| DSM to its reference compiled" not in table
    assert "reference compiled failed on S, 2: RuntimeError: no module;" in table
    assert "| % of the time | S, 1, dense | S, 1, dsm | S, 2, dense | S, 2, dsm |\n" in table
    (match,) = re.findall(r"^\| match \|  \| (.*) \|  \| (.*) \|$", table, re.MULTILINE)
    assert all(0 < float(share) < 100 for share in match)
    assert "a GPU, driver 1, CUDA 13.0" in table
    assert "7 passed, 1 failed; memcheck: no fault; racecheck: not run" in table
    assert "no time for L, batch 8" in table


def test_shares_are_of_kernels_with_the_names_that_we_give_them():
    shares = {"void dsm_ext::cuda::match_kernel_impl<float>(...)": 0.2, "sgemm": 0.8}
    assert gpu_bench.merging_share(shares) == 0.2
    sources = [p.read_text() for p in (Path(__file__).parent.parent / "cuda").glob("*.cuh")]
    for name in ("match_kernel", "merge_kernel"):
        assert any(f"{name}_impl(" in source for source in sources)


def test_it_begins_before_the_package_is_built():
    script = Path(gpu_report.__file__)
    command = [sys.executable, "-S", str(script), "--help"]  # without what is installed
    subprocess.run(command, env={}, check=True, stdout=subprocess.DEVNULL)


def test_steps_find_what_python_did(monkeypatch, tmp_path):
    (tmp_path / "carried.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    script = "import carried, dsm_ext; print(dsm_ext.__file__)"
    assert gpu_report.call([sys.executable, "-c", script], 60)["status"] == 0


def test_steps_say_what_failed():
    python = sys.executable
    assert gpu_report.call([python, "-c", "print(1)"], 60)["status"] == 0
    failed = gpu_report.call([python, "-c", "print('why'); raise SystemExit(3)"], 60)
    assert (failed["status"], failed["output"]) == (3, "why\n")
    script = "import time; print('begun', flush=True); time.sleep(60)"
    late = gpu_report.call([python, "-c", script], 2)
    assert (late["status"], late["output"]) == (None, "begun\n")
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
