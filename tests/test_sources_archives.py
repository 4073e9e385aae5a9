"""Tar archives as sources: the formats, and archives that are damaged or made to harm."""

import gzip
import io
import os
import random
import subprocess
import tarfile

import pytest
from picture_sources import put, read

from dsm_ext_reader.keys import KeySet
from dsm_ext_reader.sources import Sources, tar

ENDINGS = {"": "w:", ".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def member(name, content=b"content", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def packed(*members, form=tarfile.PAX_FORMAT, mode="w:"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def write(content, name="a.tar"):
    with open(name, "wb") as file:
        file.write(content)
    return name


def changed(archive, at, value, checksum=True):
    """An archive with a field of its first header changed."""
    content = bytearray(archive)
    content[at : at + len(value)] = value
    if checksum:
        content[148:156] = b" " * 8
        content[148:156] = b"%06o\0 " % sum(content[:512])
    return bytes(content)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("ending", ENDINGS)
def test_formats(form, ending):
    """WebDataset's samples: several files of one name, among them pictures."""
    names = [f"{i:03}.{end}" for i in range(20) for end in ("jpg", "json", "seg.png", "cls")]
    names += ["./dot/x.jpg", "folder/\u00fc \u4e2d.jpg", "d" * 90 + "/" + "e" * 90 + ".jpg"]
    if form != tarfile.USTAR_FORMAT:
        names += ["long/" * 60 + "n.jpg", "new\nline.jpg"]
    members = [member(name, name.encode() * random.Random(1).randint(1, 90)) for name in names]
    members.insert(3, member("folder.jpg", b"", type=tarfile.DIRTYPE))
    table = write(packed(*members, form=form, mode=ENDINGS[ending]), f"a.tar{ending}")
    found = read(table, unit=7)
    expected = {
        f"{table}/{info.name.removeprefix('./')}": content
        for info, content in members
        if info.name.endswith(("jpg", "png")) and info.type != tarfile.DIRTYPE
    }
    assert found == expected and list(found) == list(expected)
    units = list(Sources([table], unit=7).units())
    assert len({unit.key for unit in units}) == len(units) == (1 if ending else -(-len(found) // 7))
    assert Sources([table]).count() == (None if ending else len(found))
    assert read(table, known=KeySet(list(found)[1:]).known) == dict([next(iter(found.items()))])
    assert read("*.tar*") == found


def test_zstd_and_wrong_endings():
    pa = pytest.importorskip("pyarrow")
    content = packed(member("1.jpg"))
    with pa.CompressedOutputStream("a.tar.zst", "zstd") as file:
        file.write(content)
    assert read("a.tar.zst") == {"a.tar.zst/1.jpg": b"content"}
    assert read(write(packed(member("1.jpg"), mode="w:gz"))) == {"a.tar/1.jpg": b"content"}
    assert read(write(content, "b.tgz")) == {"b.tgz/1.jpg": b"content"}
    bzip = write(packed(member("BZh.jpg"), form=tarfile.USTAR_FORMAT), "c.tar")
    assert read(bzip) == {"c.tar/BZh.jpg": b"content"}  # it begins like a bzip2 file


def test_gnu_tar(here):
    """Archives of the program that most people use: long names, links and sparse files."""
    put(here, "in/1.jpg", "in/" + "n" * 150 + ".jpg", "in/._1.jpg", "in/__MACOSX/1.jpg")
    os.link("in/1.jpg", "in/2.jpg")
    os.symlink("1.jpg", "in/3.jpg")
    with open("in/sparse.jpg", "wb") as file:
        for i in range(30):  # more holes than a header has room for
            file.seek(2**20 * i)
            file.write(b"x" * 4096)
    put(here, "in/z.jpg")
    for form in ("gnu", "posix", "oldgnu"):
        command = ["tar", "-cSf", "a.tar", f"--format={form}", "--sort=name", "-C", "in", "."]
        subprocess.run(command, check=True)
        found = read("a.tar")
        assert found.pop("a.tar/1.jpg") == b"in/1.jpg"
        assert found.pop("a.tar/z.jpg") == b"in/z.jpg"
        assert found.pop("a.tar/" + "n" * 150 + ".jpg").startswith(b"in/nnn")
        assert "a link to ./1.jpg: only what it leads to is read" in found.pop("a.tar/2.jpg")
        assert "a link to 1.jpg" in found.pop("a.tar/3.jpg")
        assert "a sparse file" in found.pop("a.tar/sparse.jpg") and not found


def test_names_are_only_names(here):
    """No name of a member leads to a file outside of the archive."""
    names = ["../../up.jpg", "/etc/abs.jpg", "a/../b.jpg", ".hidden.jpg", "._mac.jpg", "a/.b/c.jpg"]
    table = write(packed(*(member(name) for name in names)), "d.tar")
    before = sorted(os.listdir(here))
    assert list(read(table)) == ["d.tar/../../up.jpg", "d.tar//etc/abs.jpg", "d.tar/a/../b.jpg"]
    assert sorted(os.listdir(here)) == before
    bad = changed(packed(member("a.jpg"), form=tarfile.GNU_FORMAT), 0, b"\xff")
    assert list(read(write(bad))) == ["a.tar/\\xff.jpg"]


def test_archives_without_pictures():
    found = read(write(packed(member("1.json"), member("2.json"), member("x"))))
    assert found == {
        "a.tar": "dsm_ext: no pictures in a.tar, only other files: 2 .json, 1 no ending"
    }
    for content in (b"", bytes(10240)):
        assert read(write(content)) == {"a.tar": "dsm_ext: no pictures in a.tar"}
    packed_empty = write(packed(mode="w:gz"), "a.tgz")
    assert read(packed_empty) == {"a.tgz": "dsm_ext: no pictures in a.tgz"}
    found = read(write(b"no archive" * 1000))
    assert list(found) == ["a.tar"] and "a.tar is no tar archive" in found["a.tar"]
    found = read(write(packed(member("1.jpg", b""))))
    assert found == {"a.tar/1.jpg": "dsm_ext: a.tar/1.jpg is empty"}


def three(mode="w:"):
    contents = [random.Random(i).randbytes(5000) for i in range(3)]
    members = [member(f"{i}.jpg", content) for i, content in enumerate(contents)]
    return packed(*members, form=tarfile.GNU_FORMAT, mode=mode)


def test_archives_that_are_cut_short():
    whole, table = three(), "a.tar"
    expected = read(write(whole))
    for length in [*range(0, len(whole), 509), 512, 5632, 5632 + 512, 11_264, 16_895, 16_896]:
        found = read(write(whole[:length]))
        lost = found.pop("a.tar", "")
        assert found == {key: expected[key] for key in list(expected)[: len(found)]}
        reasons = ("no pictures", "is no tar archive", "what follows is lost")
        assert any(reason in lost for reason in reasons) == (length <= 16_896), length
    packed_tight = three("w:gz")
    expected = read(write(packed_tight, "a.tgz"))
    assert len(expected) == 3
    for length in range(0, len(packed_tight), 499):
        found = read(write(packed_tight[:length], "a.tgz"))
        assert found.pop("a.tgz") and length < len(packed_tight)
        assert found == {key: expected[key] for key in list(expected)[: len(found)]}
    units = list(Sources([write(whole)]).units())
    write(whole[:6000], table)  # it is cut short between finding and reading
    pictures = list(units[0].pictures())
    assert pictures[0].read() == read(write(whole))["a.tar/0.jpg"]
    write(whole[:6000], table)
    with pytest.raises(ValueError, match="a.tar/1.jpg is cut short: it has 0 of 5000 bytes"):
        pictures[1].read()


@pytest.mark.parametrize(
    "at, value",
    [
        (124, b"\xff" * 12),  # -1
        (124, b"\x80" + b"\xff" * 11),  # 2**88 - 1
        (124, b"\x80" + b"\0" * 3 + b"\x3f" + b"\xff" * 7),  # 2**62 - 1
        (124, b"77777777777\0"),  # 8 GiB
        (124, b"-0000000001\0"),
        (124, b"0x100000000\0"),
        (156, b"L"),  # a long name that takes in the next header
        (156, b"x"),
        (156, b"S"),
        (482, b"\1"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_headers_made_to_harm(at, value, ending):
    content = changed(three(), at, value)
    if ending:
        content = gzip.compress(content)
    found = read(write(content, f"a.tar{ending}"))
    assert len(found) <= 3 and all(key.startswith("a.tar") for key in found)


def test_a_text_that_is_too_long_is_not_read(here):
    """tarfile would read all of it into memory."""
    content = changed(packed(member("x", b"a" * 600)), 124, b"00010000000\0")  # 2 MiB
    content = changed(content, 156, b"x")
    found = read(write(content + bytes(2**21)))
    assert "expected at most 1048576" in found["a.tar"]


@pytest.mark.parametrize(
    "records",
    [b"", b"5 a=\n", b"99 path=x\n", b"0 path=x\n", b"9 path=x.jpg\n", b"\0" * 9, b"x" * 9],
)
def test_pax_records(records):
    content = changed(packed(member("x", records), form=tarfile.GNU_FORMAT), 156, b"x")
    content = content[: 512 + (512 if records else 0)] + packed(member("1.jpg"))
    found = read(write(content))
    assert found in ({"a.tar/1.jpg": b"content"}, {"a.tar": found.get("a.tar")})
    assert ("a.tar/1.jpg" in found) == (records in (b"", b"5 a=\n", b"\0" * 9))


def test_random_damage():
    """Whatever is damaged, nothing is raised, nothing hangs, and no picture is there twice."""
    rng = random.Random(0)
    for mode, name in (("w:", "a.tar"), ("w:gz", "a.tgz"), ("w:xz", "a.tar.xz")):
        whole = three(mode)
        for _ in range(40):
            content = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                content[rng.randrange(min(len(content), 1500))] = rng.randrange(256)
            read(write(bytes(content), name))


def test_huge_members_are_not_read(here, monkeypatch):
    monkeypatch.setattr(tar, "MOST", 4999)
    whole = packed(member("0.jpg", b"x" * 5000), member("1.jpg", b"y"))
    for content, name in ((whole, "a.tar"), (gzip.compress(whole), "a.tgz")):
        found = read(write(content, name))
        assert "it has 5000 bytes, expected at most 4999" in found[f"{name}/0.jpg"]
        assert found[f"{name}/1.jpg"] == b"y"
