"""The commands of ``dsm-ext`` and what each prints."""

import json

import pytest
from commands import run
from models import create
from PIL import Image
from safetensors.torch import save_file

import dsm_ext
from dsm_ext import digits
from dsm_ext.cli import main
from dsm_ext.images import label_images

NAME = "vit_tiny_patch16_224"


@pytest.fixture
def weights(vit_tiny_file):
    return vit_tiny_file


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, wordnet in enumerate(["n01440764", "n01484850", "n01494475"]):
        Image.new("RGB", (250, 200), (80 * i, 40, 90)).save(folder / f"{wordnet}_x.JPEG")
    return folder


def test_plan(capsys):
    out = run(capsys, "plan", "deit_small_patch16_224", "--schedule", "dsm:r=16").out
    assert "2.644 GMACs against 4.599 dense: 1.74 times fewer" in out
    assert out.count(" local ") == 6


def test_classify(capsys, weights, pictures):
    files = sorted(pictures.iterdir())
    out = run(capsys, "classify", NAME, "--weights", weights, *files).out
    assert len(out.splitlines()) == 3 * 7
    assert "dense" in out.splitlines()[1]


def test_classify_names_what_cannot_be_decoded(capsys, weights, pictures):
    (pictures / "broken.png").write_bytes(b"no picture")
    output = run(
        capsys, "classify", NAME, "--weights", weights, *sorted(pictures.iterdir()),
        pictures / "none.png", status=1,
    )  # fmt: skip
    assert "broken.png cannot be decoded" in output.err
    assert "no such picture" in output.err
    assert "2 of 5 pictures could not be used" in output.err
    assert len(output.out.splitlines()) == 3 * 7


def test_eval(capsys, weights, pictures, tmp_path):
    (pictures / "n01440764_broken.JPEG").write_bytes(b"no picture")
    result = tmp_path / "out" / "result.json"
    output = run(
        capsys, "eval", NAME, "--weights", weights, "--images", pictures, "--schedule",
        "dsm tome:r=8", "--batch", 2, "--json", result,
    )  # fmt: skip
    assert "broken.JPEG cannot be decoded" in output.err
    assert "3 pictures, 1 skipped" in output.out
    value = json.loads(result.read_text())
    assert value["skipped"] == 1
    assert [row["schedule"] for row in value["rows"]] == ["dense", "dsm", "tome:r=8"]
    dense = value["rows"][0]
    assert dense["agreement"] == 100
    assert dense["kl"] == pytest.approx(0, abs=1e-9)
    assert dense["pictures"] == 3
    assert {"machine", "versions", "commit"} <= value.keys()


def test_eval_reads_folders(capsys, weights, pictures):
    for i, file in enumerate(sorted(pictures.iterdir())):
        folder = pictures / f"class {i}"
        folder.mkdir()
        file.rename(folder / "picture.jpg")
    assert "3 pictures" in run(
        capsys, "eval", NAME, "--weights", weights, "--images", pictures
    ).out  # fmt: skip


def test_labels_follow_the_models_classes(tmp_path):
    paths = []
    for name in ("n01484850", "n01440764"):
        (tmp_path / name).mkdir()
        paths.append(tmp_path / name / "picture.png")
    assert label_images(paths, tmp_path, 1000) == [2, 0]
    assert label_images(paths, tmp_path, 10) == [1, 0]
    with pytest.raises(ValueError, match="has 2 folders, the model 1 classes"):
        label_images(paths, tmp_path, 1)


def test_bench(capsys, tmp_path):
    result = tmp_path / "bench.json"
    out = run(
        capsys, "bench", NAME, "--batch", "1,2", "--schedule", "dense dsm:r=16", "--rounds", 2,
        "--json", result,
    ).out  # fmt: skip
    assert "batch 2" in out
    rows = json.loads(result.read_text())["results"]
    assert [(r["peer"], r["schedule"]) for r in rows[:5]] == [
        ("timm", "dense"),
        ("dsm_ext", "dense"),
        ("reference", "dense"),
        ("dsm_ext", "dsm:r=16"),
        ("reference", "dsm:r=16"),
    ]
    for row in rows:
        rate = row["images_per_second"]
        assert 0 < rate["q1"] <= rate["median"] <= rate["q3"]


def test_bench_profile(capsys, tmp_path):
    result = tmp_path / "profile.json"
    out = run(
        capsys, "bench", NAME, "--profile", "--batch", 2, "--schedule", "dense dsm:r=16",
        "--rounds", 2, "--json", result,
    ).out  # fmt: skip
    assert "matching and merging 0.0 %" in out
    dense, merged = json.loads(result.read_text())["results"]
    assert dense["merging_share"] == 0 < merged["merging_share"] < 1
    profile = merged["profile"]
    assert len(profile["blocks"]) == len(profile["tokens"]) == 12
    table = out[out.rindex("block ") :].splitlines()
    assert table[0].split() == [
        "block", "tokens", "embed", "norm1", "qkv", "match", "attention", "proj", "merge", "norm2",
        "fc1", "fc2", "head", "all",
    ]  # fmt: skip
    assert [line.split()[0] for line in table[1:17]] == [
        "before", *map(str, range(12)), "after", "all", "%",
    ]  # fmt: skip
    shares = [float(cell) for cell in table[16].split()[1:-1]]
    assert sum(shares) == pytest.approx(float(table[16].split()[-1]), abs=1)


def test_bench_profile_by_operators(capsys, monkeypatch):
    monkeypatch.setenv("DSM_EXT_CPU", "aten")
    out = run(capsys, "bench", NAME, "--profile", "--dtype", "bfloat16", "--batch", 1).out
    assert "ms on 1 thread," in out


def test_demo(capsys, tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    images, labels = digits.load_digits("test")  # the first 60 are enough here
    monkeypatch.setattr(digits, "load_digits", lambda part: (images[:60], labels[:60]))
    picture = tmp_path / "demo.png"
    out = run(capsys, "demo", "--output", picture, "--rounds", 1).out
    for name in ("timm, dense", "dsm_ext, dense", "dsm_ext, ToMe", "dsm_ext, DFE", "dsm_ext, DSM"):
        line = next(line for line in out.splitlines() if line.startswith(name))
        assert float(line.split()[2]) > 95
    assert "deit_small_patch16_224" in out.splitlines()[-1]
    with Image.open(picture) as image:
        assert image.size[0] > 600


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["plan", "no_such_model"], "timm has no model named 'no_such_model'"),
        (["plan", "vit_small_patch16_18x2_224"], "ParallelThingsBlock"),
        (["plan", "resnet18"], "ResNet"),
        (["plan", NAME, "--schedule", "dsm:r=x"], "expected r to be a number"),
        (["plan", NAME, "--schedule", "dsm:r=120"], "expected r of block 1 to be in"),
        (["classify", NAME, "x.png"], "expected --weights FILE or --pretrained"),
        (["classify", NAME, "x.png", "--weights", "none.pt"], "no such weight file: none.pt"),
        (["eval", NAME, "--images", "none", "--weights", "none.pt"], "no such folder: none"),
        (["bench", NAME, "--peers", "tensorrt"], "any of timm, reference, got 'tensorrt'"),
        (["bench", NAME, "--threads", "0"], "--threads to be positive"),
        (["bench", NAME, "--device", "nothing"], "no such device"),
        (["bench", NAME, "--rounds", "0"], "--rounds to be positive"),
        (["demo", "--rounds", "0"], "--rounds to be positive"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, message):
    output = run(capsys, *arguments, status=2)
    assert message in output.err
    assert len(output.err.splitlines()) == 1
    assert output.out == ""


def test_models_without_a_classifier_are_refused_where_one_is_asked_for(capsys, pictures, tmp_path):
    name = "vit_small_patch14_dinov2"
    save_file(create(name).state_dict(), tmp_path / "model.safetensors")
    files = sorted(pictures.iterdir())
    for command in (["classify", name, *files], ["eval", name, "--images", pictures]):
        output = run(capsys, *command, "--weights", tmp_path / "model.safetensors", status=2)
        assert f"{name} has no classifier" in output.err


def test_eval_refuses_what_has_no_pictures_or_labels(capsys, weights, pictures, tmp_path):
    (tmp_path / "empty").mkdir()
    command = ["eval", NAME, "--weights", weights, "--images"]
    assert "no pictures in" in run(capsys, *command, tmp_path / "empty", status=2).err
    Image.new("RGB", (9, 9)).save(pictures / "unlabelled.png")
    assert "no label for" in run(capsys, *command, pictures, status=2).err
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "n01440764.png").write_bytes(b"x")
    assert "none of the 1 pictures" in run(capsys, *command, tmp_path / "bad", status=2).err


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["bench", NAME, "--batch", "0"]])
def test_usage_errors(arguments):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2


@pytest.mark.parametrize("channels, status", [(1, 0), (3, 0), (4, 2)])
def test_classify_by_a_folder(channels, status, tmp_path, capsys):
    model = create(NAME, in_chans=channels, num_classes=4)
    dsm_ext.export(dsm_ext.from_timm(model, "dsm:r=2"), tmp_path / "model", model)
    picture = tmp_path / "picture.png"
    Image.effect_noise((70, 50), 90).save(picture)
    assert main(["classify", str(tmp_path / "model"), str(picture)]) == status
    said = capsys.readouterr()
    if status:
        assert "takes 4 channels" in said.err
    else:
        assert said.out.count("%") == 8  # four classes, dense and merged
    assert main(["classify", str(tmp_path / "model"), "--pretrained", str(picture)]) == 2


def test_classify_passes_over_a_picture_that_cannot_be_scaled(tmp_path, capsys):
    model = create(NAME, num_classes=4)
    dsm_ext.export(dsm_ext.from_timm(model, "dsm:r=2"), tmp_path / "model", model)
    line, picture = tmp_path / "line.png", tmp_path / "picture.png"
    Image.new("RGB", (10_000, 1)).save(line)
    Image.new("RGB", (50, 60)).save(picture)
    assert main(["classify", str(tmp_path / "model"), str(line), str(picture)]) == 1
    said = capsys.readouterr()
    assert f"skipped: {line}: dsm_ext.Preprocessing: a picture of 1 x 10000" in said.err
    assert said.out.startswith(str(picture))
