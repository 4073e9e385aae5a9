"""What ``find_package(dsm_ext)`` finds, and what it says when it finds nothing."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from cmake_projects import TORCH, configure, forget_where_it_was_built

import dsm_ext

VERSION = ".".join(torch.__version__.split("+")[0].split(".")[:3])
HEAD = "cmake_minimum_required(VERSION 3.26)\nproject(consumer LANGUAGES CXX)\n"
REPORT = """
message(STATUS "found=${dsm_ext_FOUND} root=${dsm_ext_TORCH_ROOT}")
message(STATUS "why=${dsm_ext_NOT_FOUND_MESSAGE}")
if(TARGET dsm_ext::dsm_ext)
  message(STATUS "target")
endif()
"""


def find(folder, prefix, text, *arguments, head=HEAD):
    """Configure a project of these lines. Gives the finished process, and all that it said."""
    source = folder / "source"
    source.mkdir(exist_ok=True)
    (source / "CMakeLists.txt").write_text(head + text)
    done = configure(source, folder / "build", prefix, *arguments)
    return done, " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def package(tmp_path):
    """The package moved elsewhere, as pip unpacks a wheel; the place of its build is gone."""
    site = tmp_path / "site packages"
    for part in ("lib", "include"):
        shutil.copytree(Path(dsm_ext.cmake_prefix_path) / part, site / "dsm_ext" / part)
    forget_where_it_was_built(site / "dsm_ext")
    return site / "dsm_ext"


def fake_torch(folder, version, libraries=True):
    """A torch of this version for CMake, with the headers and libraries of the real one."""
    file = folder / "share" / "cmake" / "Torch" / "TorchConfigVersion.cmake"
    file.parent.mkdir(parents=True)
    file.write_text(f'set(PACKAGE_VERSION "{version}")\n')
    if libraries:
        (folder / "lib").symlink_to(TORCH / "lib")
        (folder / "include").symlink_to(TORCH / "include")
    return folder


def test_torch_beside_the_package_is_found_without_python(package, tmp_path):
    (package.parent / "torch").symlink_to(TORCH)
    done, said = find(tmp_path, package, "find_package(dsm_ext CONFIG REQUIRED)" + REPORT)
    assert done.returncode == 0, said
    assert f"found=1 root={TORCH}" in said.replace("found=TRUE", "found=1")
    assert "target" in said


def test_torch_where_the_library_was_built_is_found_without_python(tmp_path):
    done, said = find(
        tmp_path, dsm_ext.cmake_prefix_path, "find_package(dsm_ext CONFIG REQUIRED)" + REPORT
    )
    assert done.returncode == 0, said
    assert f"root={TORCH}" in said


def test_torch_beside_the_package_goes_before_where_it_was_built(tmp_path, package):
    beside = fake_torch(package.parent / "torch", VERSION)
    config = next(package.rglob("dsm_extConfig.cmake"))
    config.write_text(config.read_text().replace("/was/built/here", str(TORCH)))
    done, said = find(tmp_path, package, "find_package(dsm_ext CONFIG REQUIRED)" + REPORT)
    assert f"root={beside.resolve()}" in said


def test_python_is_asked_last(tmp_path, package):
    done, said = find(
        tmp_path, package, "find_package(dsm_ext CONFIG REQUIRED)" + REPORT,
        f"-DPython_EXECUTABLE={sys.executable}",
    )  # fmt: skip
    assert done.returncode == 0, said
    assert f"root={TORCH}" in said


def test_a_given_root_goes_before_all_guesses(tmp_path, package):
    (package.parent / "torch").symlink_to(TORCH)
    given = fake_torch(tmp_path / "given", VERSION)
    done, said = find(
        tmp_path, package, "find_package(dsm_ext CONFIG REQUIRED)" + REPORT,
        f"-DDSM_EXT_TORCH_ROOT={given}",
    )  # fmt: skip
    assert done.returncode == 0, said
    assert f"root={given}" in said


BAD_ROOTS = [
    ("9.9.0", True, "was built for torch", "torch 9.9.0 was found"),
    ("2.3.1", True, "needs torch 2.11 or newer", "found 2.3.1"),
    (VERSION, False, "no libtorch in", "is missing"),
    (None, False, "no libtorch in", "TorchConfigVersion.cmake is missing"),
]


@pytest.mark.parametrize("version, libraries, first, second", BAD_ROOTS)
@pytest.mark.parametrize("how", ["QUIET", "REQUIRED", ""])
def test_a_wrong_torch_is_a_reason_and_no_error(
    how, version, libraries, first, second, tmp_path, package
):
    (package.parent / "torch").symlink_to(TORCH)  # must not be taken in place of the given root
    root = tmp_path / "given"
    if version:
        fake_torch(root, version, libraries)
    done, said = find(
        tmp_path, package, f"find_package(dsm_ext CONFIG {how})" + REPORT,
        f"-DDSM_EXT_TORCH_ROOT={root}",
    )  # fmt: skip
    assert first in said and second in said
    assert (done.returncode == 0) == (how != "REQUIRED")
    if how != "REQUIRED":
        assert re.search(r"found=(0|FALSE) ", said)
        assert "-- target" not in said
    if how == "QUIET":
        assert done.stderr == ""


def test_no_torch_at_all_is_a_reason_and_no_error(tmp_path, package):
    done, said = find(tmp_path, package, "find_package(dsm_ext CONFIG QUIET)" + REPORT)
    assert done.returncode == 0, said
    assert re.search(r"found=(0|FALSE) ", said) and "needs torch 2.11 or newer" in said
    assert done.stderr == ""


def test_a_project_without_cxx_is_told(tmp_path):
    head = "cmake_minimum_required(VERSION 3.26)\nproject(consumer LANGUAGES C)\n"
    prefix = dsm_ext.cmake_prefix_path
    done, said = find(tmp_path, prefix, "find_package(dsm_ext QUIET)" + REPORT, head=head)
    assert done.returncode == 0, said
    assert "LANGUAGES CXX" in said and "-- target" not in said


def test_components(tmp_path):
    prefix = dsm_ext.cmake_prefix_path
    text = "find_package(dsm_ext CONFIG QUIET COMPONENTS python)" + REPORT
    done, said = find(tmp_path, prefix, text)
    assert done.returncode == 0, said
    assert "dsm_ext has no components, and python was asked for" in said
    assert "-- target" not in said
    text = (
        "find_package(dsm_ext CONFIG REQUIRED OPTIONAL_COMPONENTS cuda)\n"
        'message(STATUS "cuda=${dsm_ext_cuda_FOUND}")' + REPORT
    )
    done, said = find(tmp_path, prefix, text)
    assert done.returncode == 0, said
    assert "cuda=FALSE" in said and "-- target" in said


def test_it_may_be_found_often_and_anywhere(tmp_path):
    """Twice in one folder, and again in two folders below it."""
    below = "find_package(dsm_ext CONFIG REQUIRED)\nfind_package(dsm_ext CONFIG REQUIRED)\n"
    for name in ("left", "right"):
        folder = tmp_path / "source" / name
        folder.mkdir(parents=True)
        (folder / "CMakeLists.txt").write_text(
            below + f"add_library({name} SHARED empty.cpp)\n"
            f"target_link_libraries({name} dsm_ext::dsm_ext)\n" + REPORT
        )
        (folder / "empty.cpp").write_text("")
    sides = "add_subdirectory(left)\nadd_subdirectory(right)\n"
    done, said = find(tmp_path, dsm_ext.cmake_prefix_path, sides + below + REPORT)
    assert done.returncode == 0, said
    assert said.count("-- target") == 3


def test_a_second_call_may_name_another_torch(tmp_path, package):
    """The next call must not take a guess that failed for the user's choice."""
    fake_torch(package.parent / "torch", "9.9.0")
    text = (
        "find_package(dsm_ext CONFIG QUIET)\n"
        + REPORT
        + f"set(DSM_EXT_TORCH_ROOT {TORCH})\nfind_package(dsm_ext CONFIG QUIET)\n"
        + REPORT
    )
    done, said = find(tmp_path, package, text)
    assert done.returncode == 0, said
    assert "torch 9.9.0 was found" in said
    assert said.count("-- target") == 1 and f"root={TORCH}" in said
