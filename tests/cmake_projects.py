"""CMake projects that tests configure and compile, as a user without Python would."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import dsm_ext


def command(*arguments, **kwargs):
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bare_environment(folder):
    """One without an activated Python environment: no Python on the PATH has torch."""
    tools = folder / "tools"
    if not tools.exists():
        tools.mkdir(parents=True)
        for tool in ("cmake", "ninja"):
            (tools / tool).symlink_to(shutil.which(tool))
    compilers = [p for p in ("/usr/local/bin", "/usr/bin", "/bin") if Path(p).is_dir()]
    dropped = ("PYTHON", "LD_", "VIRTUAL_ENV", "CONDA")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    return kept | {"PATH": os.pathsep.join([str(tools), *compilers])}


def configure(source, folder, prefix, *arguments):
    for tool in ("cmake", "ninja"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    return subprocess.run(
        [
            *("cmake", "-G", "Ninja", "-S", str(source), "-B", str(folder)),
            *(f"-DCMAKE_PREFIX_PATH={prefix}", *arguments),
        ],
        capture_output=True,
        text=True,
        env=bare_environment(Path(folder).parent),
    )


def compile_project(source, folder, prefix=dsm_ext.cmake_prefix_path):
    done = configure(source, folder, prefix)
    assert done.returncode == 0, done.stderr
    command("cmake", "--build", folder)


def run(program, *arguments, **kwargs):
    """With nothing of Python's environment."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LD_"))}
    return subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, env=clean, **kwargs
    )
