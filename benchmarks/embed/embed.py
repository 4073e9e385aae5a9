"""Compares a C++ program with Python: start-up, memory, and the cost of the wrapper in a call.

    python -m benchmarks.embed.embed [--rounds N] [--json F]

Builds program/embed.cpp against the installed package and measures DeiT-S with random weights. One
process works at a time. This takes about 5 minutes on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import VisionTransformer

import dsm_ext
from benchmarks.common import RESULTS
from dsm_ext.cli.output import write_json
from dsm_ext.environment import environment
from dsm_ext.timing import summarize

HERE = Path(__file__).parent
NAME, SCHEDULE = "deit_small_patch16_224", "dsm:r=16"
TURN = 0.5  # seconds of calls


def build_program(folder: Path) -> Path:
    configure = ["cmake", "-S", str(HERE / "program"), "-B", str(folder)]
    configure += [
        f"-DCMAKE_PREFIX_PATH={dsm_ext.cmake_prefix_path}", "-DCMAKE_BUILD_TYPE=Release",
        f"-DDSM_EXT_TORCH_ROOT={Path(torch.__file__).parent}",
    ]  # fmt: skip
    for command in (configure, ["cmake", "--build", str(folder)]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "dsm_ext_embed"


def write_models(folder: Path) -> dict[str, Path]:
    """Exports DeiT-S, and a model so small that a call of it is nearly all overhead."""
    torch.manual_seed(0)
    small = timm.create_model(NAME)
    least = VisionTransformer(
        img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=1, num_classes=2
    )
    models = {"deit_small": (small, SCHEDULE), "least": (least, "dense")}
    for name, (model, schedule) in models.items():
        dsm_ext.export(dsm_ext.from_timm(model.eval(), schedule), folder / name, model)
    return {name: folder / name for name in models}


class Process:
    """A worker that has given its first logits."""

    def __init__(self, command: list[str]) -> None:
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        line = self._process.stdout.readline()
        self.startup = time.perf_counter() - begin
        if not line.startswith("ready"):
            raise RuntimeError(f"{command}: no logits")

    def seconds_a_call(self) -> float:
        self._process.stdin.write(f"{TURN}\n")
        self._process.stdin.flush()
        count, passed = self._process.stdout.readline().split()
        return float(passed) / int(count)

    def memory(self) -> dict[str, float]:
        """In MB: resident memory, its part that is pages of files, and the peak so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        names = {"resident": "VmRSS", "files": "RssFile", "most": "VmHWM"}
        return {name: int(fields[key].split()[0]) / 1024 for name, key in names.items()}

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", type=Path, default=RESULTS / "embed.json")
    args = parser.parse_args()
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = build_program(folder / "build")
        models = write_models(folder)
        python = [sys.executable, str(HERE / "worker.py")]

        def commands(model: str, count: int) -> dict[str, list[str]]:
            given = [str(models[model]), str(count)]
            return {
                "C++": [str(program), *given],
                "Python": [*python, "dsm_ext", *given],
                "timm": [*python, "timm", *given],
            }

        result: dict[str, Any] = {"model": NAME, "schedule": SCHEDULE, "threads": threads}
        result |= first_logits(commands("deit_small", threads), args.rounds)
        result["call"] = calls(commands("deit_small", threads), args.rounds)
        least = commands("least", 1)
        del least["timm"]
        result["overhead"] = calls(least, args.rounds)
    write_json(args.json, result | environment())


def first_logits(commands: dict[str, list[str]], rounds: int) -> dict[str, Any]:
    """Seconds from a process's start to its first logits, and its memory after more calls."""
    commands = dict(commands)
    commands |= {f"{name}, frozen": [*commands[name], "freeze"] for name in ("C++", "Python")}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    memory: dict[str, dict[str, float]] = {}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            process = Process(command)
            process.seconds_a_call()
            memory[name] = process.memory()
            process.stop()
            if turn > 0:  # the first turn reads the files from the disk
                seconds[name].append(process.startup)
    return {
        "startup": {name: summarize(values) for name, values in seconds.items()},
        "memory": memory,
    }


def calls(commands: dict[str, list[str]], rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of a call with one image. Every process has one turn in each round."""
    processes = {name: Process(command) for name, command in commands.items()}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, process in processes.items():
            took = process.seconds_a_call()
            if turn > 0:
                seconds[name].append(took)
    for process in processes.values():
        process.stop()
    ratios = [a / b for a, b in zip(seconds["Python"], seconds["C++"], strict=True)]
    found = {name: summarize(values) for name, values in seconds.items()}
    return found | {"Python to C++": summarize(ratios)}


if __name__ == "__main__":
    main()
