"""What ``import dsm_ext`` imports, and the messages of imports that fail."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from commands import ROOT, python

import dsm_ext
import dsm_ext_cli
from dsm_ext._native import check_module, load_error

PACKAGE = Path(dsm_ext.__file__).parent
LATE = ("timm", "torchvision", "transformers", "open_clip", "PIL", "tqdm.auto", "sklearn")


def printed(code, *arguments, path=ROOT, status=0):
    """What a process of Python prints, or the last line of stderr if it must fail."""
    done = python("-c", code, *arguments, path=path)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr.splitlines()[-1]


def test_importing_the_package_imports_torch_and_little_else():
    code = f"import sys, dsm_ext; print([m for m in {LATE} if m in sys.modules])"
    assert printed(code).strip() == "[]"


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
    assert printed(code, str(tmp_path)).strip() == "[]"


# The first imports of a program. Each runs in a fork of a process that has imported torch and timm
# but not dsm_ext, because these imports take seconds.
FIRST = [
    "import dsm_ext.timm_models.from_timm",
    "from dsm_ext.timm_models.from_timm import create_timm",
    "import dsm_ext.transformers_models.from_transformers",
    "import dsm_ext.open_clip_models.from_open_clip",
    "import dsm_ext.model.export, dsm_ext.timm_features",
    "from dsm_ext import pictures, reference",
    "from dsm_ext import *",
    "import dsm_ext; dsm_ext.visualize; dsm_ext.from_timm",
    "import importlib; importlib.import_module('dsm_ext.timm_models.from_timm')",
]
THEN = """
import dsm_ext
from dsm_ext import export, from_open_clip, from_timm, from_transformers, visualize
import types
for name in dsm_ext.__all__:
    assert not isinstance(getattr(dsm_ext, name), types.ModuleType), name
assert dsm_ext.from_timm is from_timm and callable(from_timm)
assert set(dsm_ext.__all__) <= set(dir(dsm_ext))
print(dsm_ext.pictures.sheet.__name__, dsm_ext.timm_features.config_of.__name__)
"""
FORKS = """
import json, os, sys, torch, timm, PIL.Image
firsts, then = json.loads(sys.argv[1])
for first in firsts:
    child = os.fork()
    if child == 0:
        assert "dsm_ext" not in sys.modules
        exec(first + then, {})
        sys.stdout.flush()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit("failed: " + first)
"""


def test_functions_stay_functions_in_every_order_of_imports():
    assert printed(
        FORKS, json.dumps([[f"{f}\n" for f in FIRST], THEN])
    ) == "sheet config_of\n" * len(FIRST)


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
    assert printed(code, *arguments).splitlines()[-1] == f"{status} []"


def test_the_command_line_may_be_called_in_every_way():
    from dsm_ext.cli import main

    assert main is dsm_ext_cli.main
    said = f"{dsm_ext_cli.version()}\n"
    for module in ("dsm_ext", "dsm_ext.cli", "dsm_ext_cli"):
        done = python("-m", module, "--version")
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def copied(folder):
    """A copy of the package, which a test may damage."""
    target = folder / "dsm_ext"
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("include", "__pycache__"))
    shutil.copytree(PACKAGE.parent / "dsm_ext_cli", folder / "dsm_ext_cli")
    return target, next(target.glob("_C.*.so"))


def test_the_module_of_another_python_is_named(tmp_path):
    package, module = copied(tmp_path)
    module.rename(package / "_C.cpython-312-x86_64-linux-gnu.so")
    said = printed("import dsm_ext", path=tmp_path, status=1)
    assert said.startswith("ImportError: dsm_ext ")
    assert "was built for Python 3.12 (_C.cpython-312-x86_64-linux-gnu.so)" in said
    assert "but Python {}.{} is running".format(*sys.version_info) in said
    assert f"{sys.executable} -m pip install --no-build-isolation" in said
    assert "circular" not in said


@pytest.mark.parametrize(
    "name, built",
    [
        ("_C.cpython-39-x86_64-linux-gnu.so", "Python 3.9 "),
        ("_C.cpython-314t-x86_64-linux-gnu.so", "Python 3.14 "),
        ("_C.pypy311-pp73-x86_64-linux-gnu.so", "another Python "),
    ],
)
def test_every_python_is_named_by_its_modules_name(name, built, tmp_path):
    (tmp_path / name).touch()
    with pytest.raises(ImportError) as error:
        check_module(tmp_path, "1", "source", [".cpython-311-x86_64-linux-gnu.so", ".so"])
    assert f"was built for {built}({name})" in str(error.value)


def test_modules_of_other_pythons_beside_the_right_one_do_no_harm(tmp_path):
    (tmp_path / "_C.cpython-312-x86_64-linux-gnu.so").touch()
    (tmp_path / "_C.cpython-311-x86_64-linux-gnu.so").touch()
    check_module(tmp_path, "1", "source", [".cpython-311-x86_64-linux-gnu.so", ".so"])
    with pytest.raises(ImportError, match=r"for Python 3\.11 .* and Python 3\.12 .*, but Python"):
        check_module(tmp_path, "1", "source", [".cpython-310-x86_64-linux-gnu.so"])


def test_a_missing_module_is_named(tmp_path):
    _, module = copied(tmp_path)
    module.unlink()
    said = printed("import dsm_ext", path=tmp_path, status=1)
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
    said = printed("import dsm_ext", path=tmp_path, status=1)
    assert "the compiled part of dsm_ext cannot be loaded: " in said
    assert ("libdsm_ext.so" if what != "no library at all" else module.name) in said
    assert "it was built for Python " in said and "is installed; build it again: " in said
    if what != "missing library":
        return
    done = python("-m", "dsm_ext_cli", "plan", "x", path=tmp_path)
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
    monkeypatch.setattr(dsm_ext_cli.build_version.importlib.util, "find_spec", lambda _: None)
    assert dsm_ext_cli.main(["--version"]) == 2
    assert "dsm_ext is not built" in capsys.readouterr().err
