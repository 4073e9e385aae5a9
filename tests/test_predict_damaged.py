"""A thousand damaged and odd pictures: each is a row or is named as ignored, and nothing hangs."""

import os

import pytest
import torch
from damaged_pictures import colours, encoded, slow, write_damaged, write_names, write_odd
from PIL import Image
from predict_runs import manifest, rows
from tolerance import assert_close

import dsm_ext
from dsm_ext.images import read_image, transform_for
from dsm_ext_reader.decoding import decode

DAMAGED = 1000
LIMIT = 1_000_000  # pixels


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder, and what is expected of the odd pictures and of the odd names."""
    folder = tmp_path_factory.mktemp("made") / "pictures"
    folder.mkdir()
    write_damaged(folder / "damaged", DAMAGED)
    return folder, write_odd(folder / "odd"), write_names(folder / "names")


@pytest.fixture(scope="module")
def command(tiny_folder, made, tmp_path_factory):
    out = tmp_path_factory.mktemp("result") / "out"
    return [
        *("predict", tiny_folder, "--images", made[0], "-o", out, "--max-pixels", LIMIT),
        *("--timeout", 20),
    ]


@pytest.fixture(scope="module")
def result(launcher, command, tmp_path_factory):
    """The rows by their paths below the folder, and what the command said."""
    run = launcher.start(tmp_path_factory.mktemp("said") / "said", *command)
    assert run.wait(120) == 0, run.said()
    folder, out = command[3], command[5]
    return {key[len(f"{folder}/") :]: row for key, row in rows(out).items()}, run.said()


def assert_embeds(row, image, model):
    assert row["error"] is None, row["error"]
    embedding = model.forward_head(model.forward_features(image.unsqueeze(0)), pre_logits=True)
    assert_close(torch.tensor(row["embedding"]), embedding[0])


def test_every_picture_is_a_row_or_is_named(made, result):
    folder, odd, names = made
    found, said = result
    expected = {f"odd/{name}" for name in odd} | {f"names/{key}" for key in names}
    expected |= {f"damaged/{path.name}" for path in (folder / "damaged").iterdir()}
    assert found.keys() == expected
    *ignored, first, second = said.splitlines()
    assert ignored == [
        f"dsm_ext: {folder}/names/back.jpg is a link that leads back to {folder}: it is not "
        "followed",
        f"dsm_ext: ignored in {folder}, as they are not files: 1 pipe",
    ]
    errors = sum(row["error"] is not None for row in found.values())
    assert first.startswith(f"{len(found)} pictures, {errors} of them with an error, in ")
    assert f": {len(found)} rows, {errors} with an error, in " in second
    for row in found.values():
        assert (row["embedding"] is None) == (row["error"] is not None)


@pytest.mark.filterwarnings("ignore")  # of Pillow about the pictures
def test_damaged_pictures(made, result, tiny_folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # the command has a limit of its own
    found, _ = result
    model = dsm_ext.load(tiny_folder)
    transform = transform_for(model)
    errors = dict.fromkeys(("cut", "bits", "renamed", "empty", "noise"), 0)
    for path in sorted((made[0] / "damaged").iterdir()):
        row = found[f"damaged/{path.name}"]
        try:
            pixels = decode(path.read_bytes(), transform.resizing, LIMIT)
        except ValueError as error:
            assert row["error"].endswith(str(error).removeprefix("the file ")), row["error"]
            assert "0x" not in row["error"] and "\n" not in row["error"]
            errors[path.stem[5:]] += 1
            continue
        assert_embeds(row, transform.normalise(torch.from_numpy(pixels[None]))[0], model)
    tenth = DAMAGED // 10
    assert errors["empty"] == tenth and errors["noise"] >= tenth - 2
    assert errors["renamed"] == 0  # the content says what it is
    assert 2 * tenth < errors["cut"] <= 3 * tenth
    assert tenth // 2 < errors["bits"] < 4 * tenth


def test_odd_pictures(made, result, tiny_folder):
    folder, odd, _ = made
    found, _ = result
    model = dsm_ext.load(tiny_folder)
    transform = transform_for(model)
    for name, expected in odd.items():
        row = found[f"odd/{name}"]
        if expected is None:
            assert_embeds(row, transform(read_image(folder / "odd" / name)), model)
        elif isinstance(expected, str):
            assert (row["error"] or "").startswith(expected)
        else:
            assert_embeds(row, transform(expected), model)
    assert found["odd/line.png"]["error"] and found["odd/bomb.png"]["error"]


def test_odd_names(made, result, tiny_folder):
    model = dsm_ext.load(tiny_folder)
    image = transform_for(model)(colours())
    for key, error in made[2].items():
        row = result[0][f"names/{key}"]
        if error is None:
            assert_embeds(row, image, model)
        else:
            assert error in row["error"]


def test_errors_that_were_mended_are_done_anew(made, result, command, launcher, tmp_path):
    found, _ = result
    failed = [key for key, row in found.items() if row["error"] and key.startswith("damaged/")]
    mended = failed[::7]
    for key in mended:
        (made[0] / key).write_bytes(encoded(colours(7), "png"))
    run = launcher.start(tmp_path / "said", *command)
    assert run.wait() == 0 and "nothing was left to do" in run.said()
    run = launcher.start(tmp_path / "said", *command, "--retry-errors")
    assert run.wait(60) == 0, run.said()
    folder, out = command[3], command[5]
    errors = sum(row["error"] is not None for row in found.values())
    assert run.said().startswith(
        f"dsm_ext: rows taken out of {out} to do pictures with an error anew: {errors}\n"
    )
    after = {key[len(f"{folder}/") :]: row for key, row in rows(out).items()}
    assert after.keys() == found.keys()
    for key, row in after.items():
        if key in mended:
            assert row["error"] is None and row["embedding"] == after[mended[0]]["embedding"]
        else:
            assert row == found[key] | {"key": row["key"]}
    assert manifest(out)["counts"]["errors"] == errors - len(mended)


def test_a_picture_that_takes_too_long(launcher, tiny_folder, tmp_path):
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    (folder / "10.jpg").write_bytes(slow(60_000))
    for i in (*range(10), *range(11, 40)):
        (folder / f"{i}.png").write_bytes(encoded(colours(i), "png"))
    run = launcher.start(
        *(tmp_path / "said", "predict", tiny_folder, "--images", folder, "-o", out),
        *("--timeout", 2, "--decoders", 1),
    )
    assert run.wait() == 0, run.said()
    errors = {key: row["error"] for key, row in rows(out).items()}
    assert errors.pop(f"{folder}/10.jpg") == "reading it took longer than 2 s"
    assert len(errors) == 39 and set(errors.values()) == {None}
    assert run.said().startswith("40 pictures, 1 of them with an error, in ")


def test_what_a_list_names_is_never_opened_if_it_is_no_file(made, launcher, tiny_folder, tmp_path):
    names = made[0] / "names"
    listed = ["/dev/zero", names / "pipe.jpg", names / "folder.jpg", names / "none.png", ""]
    odd = tmp_path / "list.txt"
    odd.write_bytes(b"\n".join([*map(os.fsencode, listed), b"a\0b.png", b"\xff" * 300, b"\r"]))
    out = tmp_path / "out"
    run = launcher.start(
        *(tmp_path / "said", "predict", tiny_folder, "--images", odd, "-o", out, "--timeout", 20)
    )
    assert run.wait() == 0, run.said()
    errors = {key: row["error"] for key, row in rows(out).items()}
    for key, error in {
        "/dev/zero": "to be a file, got a device", f"{names}/pipe.jpg": "got a pipe",
        f"{names}/folder.jpg": "got a folder", f"{names}/none.png": "no such file",
        "a\0b.png": "null byte", r"\xff" * 300: "File name too long",
    }.items():  # fmt: skip
        assert error in errors.pop(key)
    assert errors == {}
