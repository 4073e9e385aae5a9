"""Build the compiled part with CMake. pyproject.toml has the metadata of the package."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """Configure, build and install into the folder of the package.

    Environment variables: CMAKE_ARGS has more arguments for CMake. DSM_EXT_BUILD_DIR names a build
    folder, which later calls reuse.
    """

    def build_extension(self, ext):
        packages = [Path(self.get_ext_fullpath(ext.name)).parent.resolve()]
        if self.editable_mode:  # setuptools copies only the extension
            packages.append(ROOT / "dsm_ext")
        build = Path(os.environ.get("DSM_EXT_BUILD_DIR", self.build_temp)).resolve()
        arguments = [
            "-DDSM_EXT_PYTHON=ON",
            f"-DPython_EXECUTABLE={sys.executable}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        if not (build / "CMakeCache.txt").exists():
            arguments = ["-G", "Ninja", *arguments]
        parts = ("python", "core")  # "core": the library, headers and CMake package
        install = ["cmake", "--install", str(build), "--component"]
        for command in (
            ["cmake", "-S", str(ROOT), "-B", str(build), *arguments],
            ["cmake", "--build", str(build), "--parallel", "--target", "_C"],
            *([*install, part, "--prefix", str(p)] for p in packages for part in parts),
        ):
            subprocess.run(command, check=True)


setup(
    ext_modules=[Extension("dsm_ext._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
