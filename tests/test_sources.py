"""Folders, patterns, lists and single pictures as sources: what they give, and their keys."""

import os
import socket
import time

import numpy as np
import pytest
from picture_sources import put, read

from dsm_ext_reader.keys import KeySet
from dsm_ext_reader.sources import Sources


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The current folder, which keys of relative paths do not have."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", ["pics", "pics/", "./pics", ".//pics/.", "./pics/*", "pics/**"])
def test_a_folder_has_the_same_keys_however_it_is_written(text, here):
    put(here, "pics/10.jpg", "pics/2.jpg", "pics/a/b/x y.PNG", "pics/.hidden/1.jpg")
    assert list(read(text)) == ["pics/2.jpg", "pics/10.jpg", "pics/a/b/x y.PNG"]
    assert read(text)["pics/2.jpg"] == b"pics/2.jpg"
    assert Sources([text]).count() == 3


def test_keys_begin_as_the_source(here):
    put(here, "pics/1.jpg")
    assert list(read(here / "pics")) == [f"{here}/pics/1.jpg"]
    assert list(read(".")) == list(read("*")) == ["pics/1.jpg"]
    assert list(read("pics/1.jpg")) == list(read("./pics//1.jpg")) == ["pics/1.jpg"]
    os.chdir(here / "pics")
    assert list(read("../pics")) == ["../pics/1.jpg"]
    assert list(read((here / "pics" / "1.jpg").as_uri())) == [f"file://{here}/pics/1.jpg"]


def test_units_are_small_and_the_same_each_time(here):
    put(here, *(f"pics/{i}.jpg" for i in range(150)))
    sources = Sources(["pics"])
    units = list(sources.units())
    assert [len(unit.names) for unit in units] == [64, 64, 22]
    assert units == list(sources.units()) == list(Sources(["pics"]).units())
    assert len({unit.key for unit in units}) == 3
    assert [len(unit.names) for unit in Sources(["pics"], unit=100).units()] == [100, 50]


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("*.jpg", ["top.jpg", "x.jpg/in.png"]),  # a folder may be named like a picture
        ("**/*.jpg", ["a/1.jpg", "a/deep/3.jpg", "b/1.jpg", "top.jpg", "x.jpg/in.png"]),
        ("[ab]", ["a/1.jpg", "a/2.png", "a/deep/3.jpg", "b/1.jpg"]),
        ("*/?.jpg", ["a/1.jpg", "b/1.jpg"]),
        ("a/**/*.jpg", ["a/1.jpg", "a/deep/3.jpg"]),
        ("**/deep", ["a/deep/3.jpg"]),
        ("**/**/2*", ["a/2.png"]),
        ("[!a]/*", ["b/1.jpg"]),
    ],
)
def test_patterns(pattern, expected, here):
    put(here, "a/1.jpg", "a/2.png", "a/deep/3.jpg", "b/1.jpg", "top.jpg", "x.jpg/in.png", "n.txt")
    assert sorted(read(pattern)) == expected
    assert sorted(read(f"{here}/{pattern}")) == [f"{here}/{name}" for name in expected]
    assert Sources([pattern]).count() == len(expected)


def test_a_pattern_lists_only_folders_that_may_match(here, monkeypatch):
    put(here, "a/in/1.jpg", "b/in/2.jpg", "a/out/3.jpg")
    listed = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(os.fspath(path)) or real(path))
    assert list(read("a*/in")) == ["a/in/1.jpg"]
    assert not any("b" in os.path.relpath(path) or "out" in path for path in listed)


def test_a_name_that_looks_like_a_pattern_is_a_name(here):
    put(here, "a[1].jpg", "a1.jpg", "d*/1.jpg", "d2/2.jpg")
    assert list(read("a[1].jpg")) == ["a[1].jpg"]
    assert list(read("d*")) == ["d*/1.jpg"]


def test_odd_names(here):
    os.makedirs("pics")
    names = [b"new\nline.jpg", b"\xff\xfe.jpg", b"back\\slash.jpg", "\u00fc \u4e2d.jpg".encode()]
    names += [b"s3:", b" .jpg", b"-o.jpg", b"#%20?.jpg", b"\\xff\\xfe.jpg"]
    for name in names:
        with open(b"pics/" + name, "wb") as file:
            file.write(name)
    found = read("pics")
    assert set(found.values()) == set(names) - {b"s3:"}
    assert found["pics/\\xff\\xfe.jpg"] == b"\xff\xfe.jpg"
    assert found["pics/\\\\xff\\\\xfe.jpg"] == b"\\xff\\xfe.jpg"
    assert found["pics/new\nline.jpg"] == b"new\nline.jpg"
    os.makedirs("s3:/bucket")
    put(here, "s3:/bucket/1.jpg")
    assert list(read("s3:/bucket")) == ["s3:/bucket/1.jpg"]


def test_what_is_no_picture_is_counted(here, capfd):
    put(here, "pics/1.jpg", "pics/a.txt", "pics/b.txt")
    os.mkfifo("pics/pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("pics/socket.jpg")
        os.symlink("/dev/zero", "pics/zero.jpg")
        os.symlink("..", "pics/loop")
        os.symlink("none", "pics/broken.jpg")
        os.symlink("self.jpg", "pics/self.jpg")
        sources = Sources(["pics"])
        assert sources.count() == 3
        assert capfd.readouterr().err == ""  # only `units` tells
        found = read("pics")
    assert found.pop("pics/1.jpg") == b"pics/1.jpg"
    assert found["pics/broken.jpg"] == "dsm_ext: no such file: pics/broken.jpg"
    assert "Too many levels of symbolic links" in found["pics/self.jpg"] and len(found) == 2
    said = capfd.readouterr().err
    assert "2 of 5 files (2 .txt)" in said and "1 device, 1 pipe, 1 socket" in said
    assert "leads back" in said


def test_what_cannot_be_listed_is_one_picture(here, monkeypatch):
    put(here, "pics/a/1.jpg", "pics/b/2.jpg")
    real = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("pics/a"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = read("pics")
    assert list(found) == ["pics/b/2.jpg", "pics/a"]
    assert found["pics/a"] == f"dsm_ext: {here}/pics/a cannot be listed: Permission denied"
    with pytest.raises(PermissionError, match="cannot be listed"):
        Sources(["pics/a"])


def test_files_that_are_none_are_never_opened(here):
    put(here, "1.jpg")
    os.mkfifo("pipe.jpg")
    os.makedirs("folder.jpg")
    with open("list.txt", "w") as file:
        file.write("pipe.jpg\nfolder.jpg\n/dev/zero\nnone.jpg\n1.jpg\n1.jpg/x\na\0b\n")
    open("empty.jpg", "w").close()
    with open("huge.jpg", "wb") as file:
        file.truncate(2**40)
    found = read("list.txt", "empty.jpg", "huge.jpg")
    assert found["pipe.jpg"] == "dsm_ext: expected pipe.jpg to be a file, got a pipe"
    assert "got a folder" in found["folder.jpg"] and "got a device" in found["/dev/zero"]
    assert found["none.jpg"] == "dsm_ext: no such file: none.jpg"
    assert found["1.jpg"] == b"1.jpg"
    assert "Not a directory" in found["1.jpg/x"] and "null byte" in found["a\0b"]
    assert found["empty.jpg"] == "dsm_ext: empty.jpg is empty"
    assert "huge.jpg is too large for a picture" in found["huge.jpg"]


def test_lists(here):
    put(here, "a/1.jpg", "b c.jpg", "noending", " lead.jpg")
    with open("list.txt", "wb") as file:
        file.write(b"\xef\xbb\xbfa/1.jpg\r\n\r\n  \nb c.jpg\r\nnoending\n lead.jpg\n\xff.jpg")
    found = read("list.txt")
    assert list(found) == ["a/1.jpg", "b c.jpg", "noending", " lead.jpg", "\\xff.jpg"]
    assert [found[name] for name in ("b c.jpg", " lead.jpg")] == [b"b c.jpg", b" lead.jpg"]
    assert Sources(["list.txt"]).count() == 5
    with open("l.lst", "w") as file:
        file.write(f"{here}/a/1.jpg\n{(here / 'b c.jpg').as_uri()}\nfile:nothing\nfile://host/x\n")
    found = read("l.lst")
    assert found[f"{here}/a/1.jpg"] == b"a/1.jpg"
    assert found[f"file://{here}/b%20c.jpg"] == b"b c.jpg"
    assert found["file:nothing"] == "dsm_ext: no such file: file:nothing"
    assert "expected an absolute path after file://" in found["file://host/x"]


def test_a_list_without_lines_ends(here):
    with open("list.txt", "wb") as file:
        file.write(b"1.jpg\n" + b"x" * 2**20)
    found = read("list.txt")
    assert list(found) == ["1.jpg", "list.txt"]
    assert "no list of paths: its line 2" in found["list.txt"]
    assert Sources(["list.txt"]).count() is None
    os.unlink("list.txt")
    open("list.txt", "w").close()
    sources = Sources(["list.txt"])
    assert read("list.txt") == {} and sources.count() == 0
    os.unlink("list.txt")
    (unit,) = sources.units()
    assert [picture.key for picture in unit.pictures()] == ["list.txt"]


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("none", FileNotFoundError, "no such file or folder: none"),
        ("none.jpg", FileNotFoundError, "no such file or folder: none.jpg"),
        ("none/*.jpg", FileNotFoundError, "no such folder: none"),
        ("files/*.gif", FileNotFoundError, r"no pictures in files/\*\.gif"),
        ("files/*.parquet", FileNotFoundError, r"no such file: files/\*\.parquet"),
        ("files", FileNotFoundError, r"no pictures in files, only other files: 1 \.csv"),
        ("tars", FileNotFoundError, r"1 \.tar; to read them, give 'tars/\*\*/\*\.tar'"),
        ("files/x.csv", ValueError, "expected files/x.csv to be a folder, a picture, a list"),
        ("pipe.jpg", ValueError, "which its ending tells: it is a pipe"),
        ("", ValueError, "got an empty text"),
        ("a\0b", ValueError, "null byte"),
        ("nothing://x/y", ValueError, "nothing://x/.* cannot be opened"),
    ],
)
def test_what_is_no_source_is_refused_at_once(text, error, message, here):
    put(here, "files/x.csv", "tars/deep/x.tar")
    os.mkfifo("pipe.jpg")
    with pytest.raises(error, match=f"dsm_ext: .*{message}"):
        Sources([text])


def test_wrong_arguments():
    for texts in ([], "pics"):
        with pytest.raises(ValueError, match="expected one or more sources"):
            Sources(texts)
    with pytest.raises(ValueError, match="expected a unit of at least one picture, got 0"):
        Sources(["."], unit=0)


def test_known_pictures_are_left_out(here):
    put(here, *(f"pics/{i}.jpg" for i in range(5)))
    known = KeySet(["pics/1.jpg", "pics/3.jpg"])
    assert list(read("pics", known=known.known)) == ["pics/0.jpg", "pics/2.jpg", "pics/4.jpg"]
    assert read("pics", known=lambda keys: np.ones(len(keys), bool)) == {}


def test_many_files_are_found_while_the_folder_is_read(here):
    for folder in range(20):
        os.makedirs(f"pics/{folder}")
        for i in range(500):
            open(f"pics/{folder}/{i}.jpg", "w").close()
    started = time.monotonic()
    units = Sources(["pics"]).units()
    first = next(units)
    assert first.names[:3] == ("0/0.jpg", "0/1.jpg", "0/2.jpg")
    names = [name for unit in [first, *units] for name in unit.names]
    assert len(set(names)) == 10_000 and names[-1] == "19/499.jpg"
    assert time.monotonic() - started < 30  # it takes 0.1 s; no test may depend on less
