"""C++ projects that use the installed package give the logits of Python, without Python."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from cmake_projects import (
    TORCH,
    build_folder,
    command,
    compile_project,
    configure,
    example,
    forget_where_it_was_built,
    run,
)
from commands import ROOT
from features import build
from models import create, images_for
from safetensors.torch import save_file
from tolerance import assert_close

import dsm_ext


def installed_by_pip(folder):
    """The package as pip unpacks a wheel, beside torch; the place of its build is gone."""
    variables = os.environ | {"DSM_EXT_BUILD_DIR": str(build_folder())}
    pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps"]
    command(*pip, "--target", folder / "site", ROOT, env=variables)
    forget_where_it_was_built(folder / "site" / "dsm_ext")
    (folder / "site" / "torch").symlink_to(TORCH)
    return folder / "site" / "dsm_ext"


def installed_by_cmake(folder):
    prefix = folder / "prefix"
    command("cmake", "--install", build_folder(), "--component", "core", "--prefix", prefix)
    return prefix


@pytest.fixture(scope="module", params=["pip", "cmake"])
def consumer(request, tmp_path_factory):
    """A program that was compiled against the package as pip or CMake installs it.

    Without a build folder pip would have to compile the library. The program is then compiled
    against the package in this checkout.
    """
    folder = tmp_path_factory.mktemp("consumer")
    if build_folder() is None and request.param == "cmake":
        pytest.skip("DSM_EXT_BUILD_DIR, as `make test` sets it, names no build folder")
    elif build_folder() is None:
        prefix = dsm_ext.cmake_prefix_path
    else:
        prefix = installed_by_pip(folder) if request.param == "pip" else installed_by_cmake(folder)
    compile_project(ROOT / "tests" / "cmake_consumer", folder / "build", prefix)
    return folder / "build" / "consumer"


@pytest.mark.parametrize("name", ["everything", "parallel blocks", "registers"])
def test_logits_are_those_of_python(consumer, name, tmp_path):
    model = build(name)
    images = images_for(model, 2)
    fast = dsm_ext.from_timm(model, "dsm:r=8,skip=1,local=2")
    dsm_ext.export(fast, tmp_path)
    save_file({"images": images}, tmp_path / "images.safetensors")
    done = run(consumer, tmp_path, tmp_path / "images.safetensors")
    assert done.returncode == 0, done.stderr
    logits = torch.tensor([float(line) for line in done.stdout.split()]).view(2, -1)
    assert_close(logits, fast(images), scale=0.1 * fast(images).abs().max().item())  # 1e-6


def test_faults_are_named(consumer, tmp_path):
    done = run(consumer, tmp_path, "none")
    assert done.returncode == 1
    assert done.stderr == f"dsm_ext: {tmp_path}/config.json: no such file\n"


def test_the_readmes_program_and_its_cmake_lines(tmp_path):
    readme = (ROOT / "README.md").read_text()
    for language, name in (("cpp", "main.cpp"), ("cmake", "CMakeLists.txt")):
        block = re.search(rf"```{language}\n(.*?)```", readme, re.DOTALL)[1]
        assert len(block.splitlines()) <= 10
        (tmp_path / name).write_text(block)
    compile_project(tmp_path, tmp_path / "build")
    model = create("vit_tiny_patch16_224")
    dsm_ext.export(dsm_ext.from_timm(model), tmp_path / "folder")
    done = run(tmp_path / "build" / "example", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 0 <= int(done.stdout.split()[0]) < 1000


def test_example_serve_threads(tmp_path):
    program = example("serve_threads", tmp_path / "build")
    dsm_ext.export(dsm_ext.from_timm(create("vit_tiny_patch16_224", depth=6)), tmp_path / "model")
    done = run(program, tmp_path / "model", 3, 30)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"30 requests by 3 threads: [\d.]+ images/s, 0 wrong\n", done.stdout)
    none = run(program, tmp_path / "model", 0)
    assert (none.returncode, none.stderr[:6]) == (2, "usage:")


def test_as_a_subproject_it_brings_the_library_alone(tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.26)\n"
        "project(outer LANGUAGES CXX)\n"
        f"add_subdirectory({ROOT} dsm_ext)\n"
        f"add_executable(consumer {ROOT}/tests/cmake_consumer/main.cpp)\n"
        "target_link_libraries(consumer PRIVATE dsm_ext::dsm_ext)\n"
    )
    found = (f"-DDSM_EXT_TORCH_ROOT={TORCH}", f"-DPython_EXECUTABLE={sys.executable}")
    done = configure(tmp_path, tmp_path / "build", "", "-DDSM_EXT_CUDA=OFF", *found)
    assert done.returncode == 0, done.stderr
    targets = command("ninja", "-C", tmp_path / "build", "-t", "targets", "all")
    made = {Path(line.split(":")[0]).name for line in targets.splitlines() if "LINKER" in line}
    assert made == {"consumer", "libdsm_ext.so"}
    assert not (tmp_path / "build" / "dsm_ext" / "cmake_install.cmake").read_text().count("EXPORT")


def test_symbols_are_hidden_but_for_the_api():
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed")
    library = Path(dsm_ext.cmake_prefix_path) / "lib" / "libdsm_ext.so"
    found = command("nm", "--dynamic", "--defined-only", "--demangle", library).splitlines()
    names = [line.split(maxsplit=2)[2] for line in found]
    ours = [name for name in names if "dsm_ext::" in name]
    # Templates of other libraries make weak symbols that have the names of our classes in them.
    foreign = [
        line for line, name in zip(found, names, strict=True)
        if name not in ours and line.split()[1] not in "VWu"
    ]  # fmt: skip
    assert foreign == []
    assert any("dsm_ext::load(" in name for name in ours)
    hidden = ("dsm_ext::Block::", "dsm_ext::cpu::Forward", "dsm_ext::parse_json")
    assert not [name for name in ours if name.startswith(hidden)]
