"""The version, the public names, the README's examples, and operators under torch.compile."""

import re
import subprocess
import sys

import pytest
import torch
from commands import ROOT

import dsm_ext
from dsm_ext._native import check_torch
from dsm_ext.cli import main


def test_one_version():
    assert dsm_ext.__version__ == (ROOT / "VERSION").read_text().strip()
    assert f"## [{dsm_ext.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_public_name_is_documented():
    for name in dsm_ext.__all__:
        assert hasattr(dsm_ext, name)
    stub = (ROOT / "dsm_ext" / "_C.pyi").read_text()
    for name in ("Config", "Step", "Plan", "PlannedBlock", "Schedule", "VisionTransformer"):
        members = {m for m in dir(getattr(dsm_ext._native._C, name)) if not m.startswith("_")}
        body = re.search(rf"class {name}:(.*?)(?=\nclass |\ndef |\Z)", stub, re.S).group(1)
        documented = re.findall(r"(?:def (?=[a-z])|\n    (?=\w+: Final))(\w+)", body)
        assert members == set(documented), name


def test_another_torch_is_refused_with_both_versions_and_a_command():
    check_torch("2.14.1+cu130", "2.14.0", "0.1.0", "source")
    with pytest.raises(
        ImportError, match=r"built for torch 2\.14\.0, but torch 2\.13\.1\+cpu is"
    ) as e:
        check_torch("2.13.1+cpu", "2.14.0", "0.1.0", "source")
    assert "pip install --no-build-isolation" in str(e.value)
    with pytest.raises(ImportError, match=r"needs torch 2\.11 or newer, but torch 2\.9\.0 is") as e:
        check_torch("2.9.0", "2.9.0", "0.1.0", "source")
    assert "pip install --upgrade 'torch>=2.11'" in str(e.value)


def test_build_info_says_what_was_built(capsys):
    info = dsm_ext.build_info()
    assert info.version == dsm_ext.__version__
    assert torch.__version__.startswith(info.torch)
    assert info.cuda == dsm_ext._native._build_info.CUDA
    assert info.instruction_set in ("AVX-512", "AVX2", "baseline")
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    said = capsys.readouterr().out.strip()
    assert str(info) == f"{said}, {info.instruction_set}"
    assert info.version in said and info.torch in said and info.compiler in said


def test_operators_compile_without_a_graph_break():
    def step(x, size):
        destination = dsm_ext.match(x, 4, prefix=1)
        merged, _ = dsm_ext.merge(x, size, destination, x.shape[1] - 4)
        return dsm_ext.unmerge(merged, destination)

    x, size = torch.randn(2, 21, 8), torch.ones(2, 21)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, size), step(x, size))


def test_the_readmes_python_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    code = "".join(b for b in blocks if "ray.data" not in b)  # test_predictor_ray.py runs that one
    names = {}
    exec(code.replace("pretrained=True", "pretrained=False"), names)
    assert names["logits"].shape == (8, 1000)
    assert names["source"].shape == (8, 196)
    assert "times fewer" in capsys.readouterr().out


def test_the_readmes_tables_are_drawn_from_results():
    command = [sys.executable, "-m", "benchmarks.tables", "--check"]
    assert subprocess.run(command, cwd=ROOT).returncode == 0


def test_cuda_tensors_are_refused_without_a_device():
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is present")
    with pytest.raises((RuntimeError, AssertionError), match="CUDA|NVIDIA"):
        dsm_ext.match(torch.zeros(1, 5, 2, device="cuda"), 1)


def test_cuda_operators_are_registered_where_they_were_built():
    if not dsm_ext._native._build_info.CUDA:
        pytest.skip("built without CUDA kernels")
    for name in ("match", "merge", "unmerge"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"dsm_ext::{name}", "CUDA")


def test_visualize_paints_means():
    image = torch.zeros(3, 4, 4)
    image[:, :, 2:] = 1
    apart = torch.tensor([0, 1, 0, 1])
    pixels = dsm_ext.visualize(image, apart, outline=(255, 0, 0)).load()
    assert pixels[0, 0] == (0, 0, 0)
    assert pixels[1, 0] == (255, 0, 0)
    assert pixels[3, 3] == (255, 255, 255)
    together = dsm_ext.visualize(image, torch.zeros(4, dtype=torch.int32)).load()
    assert {together[x, y] for x in range(4) for y in range(4)} == {(128, 128, 128)}
    assert dsm_ext.visualize(torch.rand(1, 8, 6), torch.arange(12), grid=(4, 3)).size == (6, 8)


@pytest.mark.parametrize(
    "image, source, grid, message",
    [
        (torch.zeros(4, 4), torch.zeros(4), None, "image to be"),
        (torch.zeros(2, 4, 4), torch.zeros(4), None, "image to be"),
        (torch.zeros(3, 4, 4), torch.zeros(5), None, "source to be"),
        (torch.zeros(3, 4, 4), torch.zeros(4), (2, 3), "source to be"),
        (torch.zeros(3, 1, 4), torch.zeros(16), None, "image at least 2 x 8"),
    ],
)
def test_visualize_refuses_what_does_not_fit(image, source, grid, message):
    with pytest.raises(ValueError, match=message):
        dsm_ext.visualize(image, source, grid)
