"""CMake projects that tests configure and compile, as a user without Python would."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from commands import ROOT

import dsm_ext

TORCH = Path(torch.__file__).parent.resolve()


def command(*arguments, **kwargs):
    """What a command prints; it must succeed."""
    done = subprocess.run([*map(str, arguments)], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def forget_where_it_was_built(package):
    """Make an installed package look for torch as if its build folder were on another machine."""
    config = next(package.rglob("dsm_extConfig.cmake"))
    text, count = re.subn(
        r'(dsm_ext_find_torch\("\$\{beside\}" )"[^"]*"', r'\1"/was/built/here"', config.read_text()
    )
    assert count == 1
    config.write_text(text)


def bare_environment(folder):
    """Variables without a Python environment: no Python on this PATH has torch."""
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
    """Configure a project that looks for our package in this prefix."""
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


def build_folder():
    """The build folder of the library, as ``make test`` names it, or None."""
    folder = ROOT / os.environ.get("DSM_EXT_BUILD_DIR", "unset")
    return folder if (folder / "CMakeCache.txt").is_file() else None


def example(name, folder):
    """The program of an example, which a user compiles as a project of its own.

    Compiling takes 15 s. So where ``make test`` has compiled the example with the library, the
    project is only configured here, and the program is taken from there.
    """
    source, program = ROOT / "examples" / "cpp" / name, f"dsm_ext_{name}"
    built = build_folder() and build_folder() / "examples" / "cpp" / name / program
    if built is None or not built.exists():
        compile_project(source, folder)
        return folder / program
    done = configure(source, folder, dsm_ext.cmake_prefix_path)
    assert done.returncode == 0, done.stderr
    return built


def run(program, *arguments, **kwargs):
    """Run a program without the variables of Python's environment."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LD_"))}
    return subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, env=clean, **kwargs
    )
