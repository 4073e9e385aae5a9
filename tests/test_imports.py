"""What is imported when, and what an import that fails says."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dsm_ext
import dsm_ext_cli
from dsm_ext._native import check_module, load_error

PACKAGE = Path(dsm_ext.__file__).parent
LATE = ("timm", "torchvision", "transformers", "PIL", "tqdm.auto", "sklearn")


def python(code, *arguments, path=PACKAGE.parent, status=0):
    """What a Python of its own prints, or its last line on stderr where it must fail."""
    variables = os.environ | {"PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=variables,
        cwd=path,
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr.splitlines()[-1]


def test_importing_the_package_imports_torch_and_little_else():
    code = f"import sys, dsm_ext; print([m for m in {LATE} if m in sys.modules])"
    assert python(code).strip() == "[]"


def test_loading_a_folder_needs_neither_timm_nor_pillow(tmp_path):
    config = dsm_ext.Config(img_size=(56, 56), embed_dim=64, depth=2, num_heads=2, mlp_dim=128)
    model = dsm_ext.VisionTransformer(config, "dense")
    for parameter in model.parameters():
        parameter.data.normal_()
    dsm_ext.export(model, tmp_path)
    code = (
        "import sys, torch, dsm_ext\n"
        "model = dsm_ext.load(sys.argv[1], 'tome:r=2')\n"
        "assert model(torch.zeros(1, 3, 56, 56)).shape == (1, 1000)\n"
        "dsm_ext.model_info(sys.argv[1])\n"
        f"print([m for m in {LATE} if m in sys.modules])"
    )
    assert python(code, str(tmp_path)).strip() == "[]"


@pytest.mark.parametrize(
    "first",
    [
        "import dsm_ext.timm_models.from_timm",
        "from dsm_ext.timm_models.from_timm import create_timm",
        "import dsm_ext.transformers_models.from_transformers",
        "import dsm_ext.model.export, dsm_ext.timm_features",
        "from dsm_ext import pictures, reference",
        "from dsm_ext import *",
        "import dsm_ext; dsm_ext.visualize; import dsm_ext.timm_models.from_timm",
        "import importlib; importlib.import_module('dsm_ext.timm_models.from_timm')",
    ],
)
def test_functions_stay_functions_in_every_order_of_imports(first):
    code = (
        f"{first}\n"
        "import dsm_ext\n"
        "from dsm_ext import export, from_timm, from_transformers, visualize\n"
        "import types\n"
        "for name in dsm_ext.__all__:\n"
        "    assert not isinstance(getattr(dsm_ext, name), types.ModuleType), name\n"
        "assert dsm_ext.from_timm is from_timm and callable(from_timm)\n"
        "assert set(dsm_ext.__all__) <= set(dir(dsm_ext))\n"
        "print(dsm_ext.pictures.sheet.__name__, dsm_ext.timm_features.config_of.__name__)"
    )
    assert python(code) == "sheet config_of\n"


def test_unknown_names_are_refused_as_usual():
    with pytest.raises(AttributeError, match="module 'dsm_ext' has no attribute 'nothing'"):
        dsm_ext.nothing  # noqa: B018
    with pytest.raises(ImportError, match="nothing"):
        from dsm_ext import nothing  # noqa: F401


HELP = [["--help"], ["--version"], *([name, "--help"] for name in dsm_ext_cli.COMMANDS)]
WRONG = [[], ["nothing"], ["plan"], ["plan", "x", "--schedule"], ["bench", "x", "--batch", "0"]]


@pytest.mark.parametrize("arguments", HELP + WRONG)
def test_help_version_and_wrong_arguments_do_not_wait_for_torch(arguments):
    code = (
        "import sys\n"
        "from dsm_ext_cli import main\n"
        "try:\n"
        "    status = main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    status = end.code or 0\n"
        "late = [m for m in ('dsm_ext', 'torch', 'numpy', 'PIL', 'timm') if m in sys.modules]\n"
        "print(status, late)"
    )
    status = 0 if arguments in HELP else 2
    assert python(code, *arguments).splitlines()[-1] == f"{status} []"


def test_the_command_line_may_be_called_in_every_way():
    from dsm_ext.cli import main

    assert main is dsm_ext_cli.main
    said = f"{dsm_ext_cli.version()}\n"
    for module in ("dsm_ext", "dsm_ext.cli", "dsm_ext_cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--version"],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def copied(folder):
    """The package in a folder of its own, to be spoilt."""
    target = folder / "dsm_ext"
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("include", "__pycache__"))
    shutil.copytree(PACKAGE.parent / "dsm_ext_cli", folder / "dsm_ext_cli")
    return target, next(target.glob("_C.*.so"))


@pytest.mark.parametrize(
    "name, built",
    [
        ("_C.cpython-312-x86_64-linux-gnu.so", "Python 3.12 "),
        ("_C.cpython-39-x86_64-linux-gnu.so", "Python 3.9 "),
        ("_C.cpython-314t-x86_64-linux-gnu.so", "Python 3.14 "),
        ("_C.pypy311-pp73-x86_64-linux-gnu.so", "another Python "),
    ],
)
def test_the_module_of_another_python_is_named(name, built, tmp_path):
    package, module = copied(tmp_path)
    module.rename(package / name)
    said = python("import dsm_ext", path=tmp_path, status=1)
    assert said.startswith("ImportError: dsm_ext ")
    assert f"was built for {built}({name})" in said
    assert "but Python {}.{} is running".format(*sys.version_info) in said
    assert f"{sys.executable} -m pip install --no-build-isolation" in said
    assert "circular" not in said


def test_modules_of_other_pythons_beside_the_right_one_do_no_harm(tmp_path):
    (tmp_path / "_C.cpython-312-x86_64-linux-gnu.so").touch()
    (tmp_path / "_C.cpython-311-x86_64-linux-gnu.so").touch()
    check_module(tmp_path, "1", "source", [".cpython-311-x86_64-linux-gnu.so", ".so"])
    with pytest.raises(ImportError, match=r"for Python 3\.11 .* and Python 3\.12 .*, but Python"):
        check_module(tmp_path, "1", "source", [".cpython-310-x86_64-linux-gnu.so"])


def test_a_missing_module_is_named(tmp_path):
    _, module = copied(tmp_path)
    module.unlink()
    said = python("import dsm_ext", path=tmp_path, status=1)
    assert "is not built: its compiled part, _C." in said and "pip install" in said


@pytest.mark.parametrize("what", ["missing library", "no library at all", "cut short"])
def test_a_library_that_cannot_be_loaded_is_explained(what, tmp_path):
    package, module = copied(tmp_path)
    library = package / "lib" / "libdsm_ext.so"
    if what == "missing library":
        library.unlink()
    elif what == "no library at all":
        module.write_bytes(b"text")
    else:
        library.write_bytes(library.read_bytes()[:50])
    said = python("import dsm_ext", path=tmp_path, status=1)
    assert "the compiled part of dsm_ext cannot be loaded: " in said
    assert ("libdsm_ext.so" if what != "no library at all" else module.name) in said
    assert "it was built for Python " in said and "is installed; build it again: " in said
    done = subprocess.run(
        [sys.executable, "-m", "dsm_ext_cli", "plan", "x"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "cannot be loaded" in done.stderr


def test_a_torch_without_cuda_is_named_where_one_with_it_was_built_for():
    error = ImportError("libtorch_cuda.so: cannot open shared object file")
    said = load_error(error, "2.14.1+cpu", None, "Python 3.11.7 and torch 2.14.1, for CUDA 13")
    assert "libtorch_cuda.so: cannot open" in said
    assert "built for Python 3.11.7 and torch 2.14.1, for CUDA 13" in said
    assert "and torch 2.14.1+cpu, without CUDA, is installed" in said
    assert "for CUDA 12.6, is" in load_error(error, "2.14.1+cu126", "12.6", "torch")


def test_a_package_that_is_not_built_is_named_by_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert dsm_ext_cli.main(["--version"]) == 2
    assert "dsm_ext is not built" in capsys.readouterr().err
