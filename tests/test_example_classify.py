"""examples/cpp/classify gives the answers of ``dsm-ext classify``, and takes any JPEG file."""

import io
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from cmake_projects import example, run
from models import create
from pictures import TAKEN, taken
from PIL import Image

import dsm_ext
from dsm_ext.cli import main
from dsm_ext.images import find_images


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    if shutil.which("pkg-config") is None or subprocess.call(
        ["pkg-config", "--exists", "libturbojpeg"]
    ):
        pytest.skip("libturbojpeg's headers are not installed")
    return example("classify", tmp_path_factory.mktemp("classify") / "build")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    torch.manual_seed(0)  # the seed of every test is set later than a fixture of a module
    timm_model = create("vit_tiny_patch16_224", num_classes=20)
    # Each picture gets another answer: the patches matter much, and the head is not sure.
    timm_model.patch_embed.proj.weight.data.mul_(20)
    timm_model.head.weight.data.normal_(std=0.3)
    dsm_ext.export(dsm_ext.from_timm(timm_model), folder, timm_model)
    return folder


def test_answers_are_those_of_the_command(program, tmp_path, data, capsys):
    weights = data / "deit_tiny_patch16_224.safetensors"
    export = ["export", "deit_tiny_patch16_224", "--weights", str(weights), "-o"]
    assert main([*export, str(tmp_path / "model")]) == 0
    capsys.readouterr()
    pictures = list(map(str, find_images(data)[::10]))
    for i, path in enumerate(pictures):  # every second picture has an orientation tag
        exif = Image.Exif()
        exif[274] = 1 + i % 8
        if i % 2:
            pictures[i] = str(tmp_path / f"{i}.jpg")
            content = Path(path).read_bytes()
            Path(pictures[i]).write_bytes(tagged(content, exif.tobytes()))
    capsys.readouterr()
    assert main(["classify", str(tmp_path / "model"), *pictures]) == 0
    expected = capsys.readouterr().out.splitlines()
    done = run(program, tmp_path / "model", *pictures)
    assert done.returncode == 0, done.stderr
    assert set(pictures) <= set(expected)
    answers = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    merged = [line for line in expected if "%" in line]
    assert len(answers) == len(merged) == 5 * len(pictures)
    same = [m.endswith(a.strip()) for a, m in zip(answers, merged, strict=True)]
    # Pillow and the system may have different versions of the JPEG decoder.
    assert sum(same) >= 0.98 * len(same)


# Squares of 16 x 16 pixels of one colour: JPEG keeps them exactly, in each orientation.
SQUARES = np.random.default_rng(0).integers(0, 256, (7, 10, 1), dtype=np.uint8).repeat(3, 2)
PICTURE = Image.fromarray(SQUARES).resize((160, 112), Image.Resampling.NEAREST)


def jpeg(picture):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=100, subsampling=0)
    return file.getvalue()


def tagged(content, exif):
    """A JPEG file with an APP1 segment after its start marker."""
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]


def tags(order, orientation, kind=3, count=1):
    """An EXIF segment with two tags; ``order`` is "<" for little-endian or ">" for big-endian."""
    value = struct.pack(order + ("H2x" if kind == 3 else "I"), orientation)
    return (
        (b"Exif\0\0II*\0" if order == "<" else b"Exif\0\0MM\0*")
        + struct.pack(order + "IH", 8, 2)
        + struct.pack(order + "HHII", 0x0100, 4, 1, 6)
        + struct.pack(order + "HHI", 0x0112, kind, count)
        + value
        + b"\0\0\0\0"
    )


def answers(program, model, *contents, folder, status=0):
    """The text that the program prints for each file, and its lines on stderr."""
    files = [folder / f"{i}.jpg" for i in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    done = run(program, model, *files)
    assert done.returncode == status, done.stderr
    texts = done.stdout
    for file in files:
        texts = texts.replace(f"{file}\n", "\n")
    return texts.split("\n\n"), done.stderr.splitlines()


def test_pictures_are_turned_by_their_tag(program, model, tmp_path):
    straight = jpeg(PICTURE)
    turned = {o: jpeg(taken(PICTURE, o)) for o in TAKEN}
    (first, *plain), _ = answers(program, model, straight, *turned.values(), folder=tmp_path)
    first = first.strip()
    assert [text.strip() == first for text in plain] == [True] + [False] * 7
    for order in "<>":
        for kind in (3, 4):
            contents = [tagged(turned[o], tags(order, o, kind)) for o in TAKEN]
            texts, said = answers(program, model, *contents, folder=tmp_path)
            assert [text.strip() for text in texts] == [first] * 8
            assert said == []


def test_broken_tags_are_ignored(program, model, tmp_path):
    whole = tags("<", 6)
    contents = [jpeg(PICTURE)]
    contents += [tagged(contents[0], whole[:length]) for length in range(len(whole) - 12)]
    for broken in (
        *(tags("<", value) for value in (0, 9, 65535)),
        tags("<", 6, kind=2), tags("<", 6, count=0), tags(">", 0x10006, kind=4),
        b"Exif\0\0II*\0\xff\xff\xff\xff" + whole[14:],
        b"Exif\0\0II*\0" + struct.pack("<I", len(whole) - 6) + whole[14:],
        b"Exif\0\0II*\0" + struct.pack("<I", len(whole) - 8) + whole[14:-2] + b"\xff\xff",
        b"Exif\0\0II+\0" + whole[10:], b"Exif\0\0IM*\0" + whole[10:], b"EXIF\0\0" + whole[6:],
        whole[:14] + b"\xff\xff" + whole[16:28],  # says that it has more tags than it has
        b"http://ns.adobe.com/xap/1.0/\0tiff:Orientation",
    ):  # fmt: skip
        contents.append(tagged(contents[0], broken))
    texts, said = answers(program, model, *contents, folder=tmp_path)
    assert len(texts) == len(contents)
    assert {text.strip() for text in texts} == {texts[0].strip()}
    assert said == []


def test_the_first_exif_segment_counts(program, model, tmp_path):
    straight = jpeg(PICTURE)
    other = tagged(jpeg(taken(PICTURE, 6)), tags("<", 6))
    comment = (
        other[:2] + b"\xff\xfe\x00\x06abcd\xff\xff" + other[2:]
    )  # FF bytes between two segments
    texts, _ = answers(program, model, straight, other, comment, folder=tmp_path)
    assert len({text.strip() for text in texts}) == 1


def test_files_that_are_no_whole_pictures_are_named(program, model, tmp_path):
    content = tagged(jpeg(PICTURE), tags("<", 6))
    huge = bytearray(content)
    frame = content.index(b"\xff\xc0") + 5
    huge[frame : frame + 4] = b"\xff\xdc\xff\xdc"  # 65500 x 65500
    lengths = bytearray(content)
    lengths[4:6] = b"\xff\xff"
    cases = {
        b"": "not a JPEG file",
        b"\x89PNG\r\n\x1a\n": "not a JPEG file",
        content[:2]: "not a JPEG file",
        content[:40]: "",
        content[: len(content) // 2]: "cut short",
        content[:-2]: "cut short",
        bytes(huge): "65500 x 65500 pixels, more than",
        bytes(lengths): "",
        jpeg(PICTURE.convert("CMYK")): "its colours are CMYK",
    }
    texts, said = answers(program, model, jpeg(PICTURE), *cases, folder=tmp_path, status=1)
    assert len(texts) == 1 and len(said) == len(cases)
    for i, (line, text) in enumerate(zip(said, cases.values(), strict=True), 1):
        assert line.startswith(f"skipped: {tmp_path / f'{i}.jpg'}: ") and text in line
        assert len(line.split(": ", 2)[2]) > 3
