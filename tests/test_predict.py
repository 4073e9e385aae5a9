"""``dsm-ext predict`` gives each picture the model's own outputs, from every kind of source."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from commands import run
from hub_folders import write_hub
from models import create
from predict_runs import manifest, rows, write_picture
from test_precision import low
from tolerance import assert_close

import dsm_ext
from dsm_ext.images import read_image, transform_for

NAMES = ["a.png", "b/c 1.jpg", "b/d/é.webp", "b/d/file2.bmp", "b/d/file10.png", "e.tif"]
ALL = "embedding,logits,top5,tokens"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """37 pictures of several formats and sizes, too small to be decoded at a reduced size."""
    folder = tmp_path_factory.mktemp("pictures") / "pictures"
    for i, name in enumerate([*NAMES, *(f"many/{i}.png" for i in range(31))]):
        write_picture(folder / name, i, (40 + i, 44))
    (folder / "b" / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def keys(pictures):
    found = pictures.rglob("*.*")
    return {str(path) for path in found if path.suffix != ".txt" and path.name[0] != "."}


def expected(model, paths):
    """The model's outputs for the pictures, by its own methods. One picture at a time."""
    transform = transform_for(model)
    result = {}
    for path in paths:
        image = transform(read_image(path)).unsqueeze(0).to(next(model.parameters()).dtype)
        features = model.forward_features(image)
        logits = model(image)
        _, source, size, _ = model.trace(image)
        best = logits.float().softmax(1).topk(5)
        result[path] = {
            "embedding": model.forward_head(features, pre_logits=True, size=size),
            "logits": logits, "top5_class": best.indices, "top5_score": best.values,
            "tokens": features, "token_size": size, "token_source": source,
        }  # fmt: skip
    return result


def check(found, wanted, names):
    """The rows are those of the pictures, each with these outputs."""
    assert found.keys() == wanted.keys()
    for key, row in found.items():
        assert row.pop("error") is None and row.pop("key") == key
        assert list(row) == names
        for name, value in row.items():
            value = torch.tensor(value, dtype=wanted[key][name].dtype).unsqueeze(0)
            if name in ("top5_class", "token_source"):
                assert torch.equal(value, wanted[key][name].to(value.dtype))
            else:
                assert_close(value, wanted[key][name])


def test_all_outputs_are_the_models_own(tiny_folder, pictures, keys, tmp_path, capsys):
    out, summary = tmp_path / "out", tmp_path / "summary.json"
    command = ["predict", tiny_folder, "--images", pictures, "-o", out, "--output", ALL]
    said = run(capsys, *command, "--batch", 8, "--json", summary)
    assert said.out.startswith("37 pictures, in ")
    assert said.out.endswith(f"\n{out}: 37 rows, 0 with an error, in 1 files\n")
    ignored = "as their endings are not those of pictures: 1 of 38 files (1 .txt)"
    assert said.err == f"dsm_ext: ignored in {pictures}, {ignored}\n"
    model = dsm_ext.load(tiny_folder)
    names = ["embedding", "logits", "top5_class", "top5_score", "tokens"]
    check(rows(out), expected(model, keys), [*names, "token_size", "token_source"])
    result = json.loads(summary.read_text())
    assert (result["rows"], result["errors"]) == (37, 0)
    assert result["manifest"] == manifest(out)
    assert result["images_per_second"] == pytest.approx(37 / result["seconds"])
    settings = result["manifest"]["settings"]
    assert (settings["schedule"], settings["precision"]) == (model.schedule.text(), "float32")

    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    again = run(capsys, *command).out
    assert again == f"nothing was left to do\n{out}: 37 rows, 0 with an error, in 1 files\n"
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")} == before


@pytest.fixture(scope="module")
def embeddings(tiny_folder, keys):
    return expected(dsm_ext.load(tiny_folder), keys)


@pytest.mark.parametrize("batch", [1, 36, 1000])
def test_the_batch_size_does_not_matter(batch, tiny_folder, pictures, embeddings, tmp_path, capsys):
    out = tmp_path / "out"
    run(capsys, "predict", tiny_folder, "--images", pictures, "-o", out, "--batch", batch)
    check(rows(out), embeddings, ["embedding"])


@pytest.mark.parametrize("precision", [low("int8"), low("bfloat16")])
def test_precisions(precision, tiny_folder, pictures, keys, tmp_path, capsys):
    out = tmp_path / "out"
    run(
        capsys, "predict", tiny_folder, "--images", pictures, "-o", out, "--precision", precision,
        "--output", "embedding,logits",
    )  # fmt: skip
    model = dsm_ext.load(tiny_folder, precision=precision)
    check(rows(out), expected(model, keys), ["embedding", "logits"])
    assert manifest(out)["settings"]["precision"] == precision


def test_weights_in_bfloat16_and_embeddings_in_float16(
    tiny_folder, pictures, keys, tmp_path, capsys
):
    out = tmp_path / "out"
    run(
        capsys, "predict", tiny_folder, "--images", pictures, "-o", out, "--dtype", "bfloat16",
        "--device", "cpu", "--float16", "--schedule", "dense",
    )  # fmt: skip
    assert pq.read_schema(next(out.glob("*.parquet"))).field("embedding").type == pa.list_(
        pa.float16(), 64
    )
    wanted = expected(dsm_ext.load(tiny_folder, "dense", dtype=torch.bfloat16), keys)
    for key, row in rows(out).items():
        # float16 holds what bfloat16 does, between 6e-5 and 65504.
        values = torch.from_numpy(np.array(row["embedding"], np.float32))
        assert torch.allclose(values, wanted[key]["embedding"][0].float(), rtol=0, atol=1e-7)


def test_a_hub_folder(pictures, keys, tmp_path, capsys):
    model = create("vit_wee_patch16_reg1_gap_256", img_size=64, depth=2, num_classes=10)
    folder, out = write_hub(tmp_path / "hub", model), tmp_path / "out"
    command = ["predict", folder, "--images", pictures, "-o", out, "--schedule", "tome:r=2"]
    run(capsys, *command)
    check(rows(out), expected(dsm_ext.from_timm(model, "tome:r=2"), keys), ["embedding"])


def write_sources(folder, pictures):
    """The pictures once more, as a list, as two tables and as an archive."""
    paths = [str(path) for path in sorted(pictures.rglob("*.png")) if path.name[0] != "."]
    (folder / "list.txt").write_text("\n".join(paths))
    table = pa.table({"path": paths, "label": [1] * len(paths)})
    pq.write_table(table, folder / "paths.parquet", row_group_size=10)
    content = [Path(path).read_bytes() for path in paths]
    pq.write_table(pa.table({"id": paths, "png": content}), folder / "bytes.parquet")
    with tarfile.open(folder / "pictures.tar", "w") as archive:
        for path in paths:
            archive.add(path, path[1:])
    return paths


def test_sources(tiny_folder, pictures, embeddings, tmp_path, capsys):
    paths = write_sources(tmp_path, pictures)
    archive = tmp_path / "pictures.tar"
    for number, (sources, prefix) in enumerate(
        [
            ([f"{pictures}/**/*.png"], ""),
            ([tmp_path / "list.txt"], ""),
            ([tmp_path / "paths.parquet", "--image-column", "path"], ""),
            ([tmp_path / "bytes.parquet", "--key-column", "id"], ""),
            ([archive], archive),
            # Sources that overlap: a picture has one row.
            ([tmp_path / "list.txt", pictures / "many", tmp_path / "paths.parquet"], ""),
        ]
    ):
        out = tmp_path / f"out{number}"
        run(capsys, "predict", tiny_folder, "--images", *sources, "-o", out)
        wanted = {f"{prefix}{path}": embeddings[path] for path in paths}
        check(rows(out), wanted, ["embedding"])
    out = tmp_path / "out"
    run(capsys, "predict", tiny_folder, "--images", tmp_path / "bytes.parquet", "-o", out)
    assert rows(out).keys() == {f"{tmp_path}/bytes.parquet#{i}" for i in range(len(paths))}
