"""Which file system a path or a URL belongs to."""

import builtins
import os
from pathlib import Path

import pytest
from pyarrow import fs

from dsm_ext_reader.filesystems import is_url, open_filesystem


@pytest.mark.parametrize("name", ["a b%20#?.txt", "a:b", "s3:x", "a::b", "line\nbreak", "über"])
def test_a_local_path_stays_one(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    for given in (name, str(tmp_path / name), tmp_path / name, os.fsencode(tmp_path / name)):
        filesystem, path = open_filesystem(given)
        assert isinstance(filesystem, fs.LocalFileSystem) and not is_url(given)
        with filesystem.open_input_file(path) as file:
            assert file.read().decode() == name
    url = (tmp_path / name).as_uri()
    filesystem, path = open_filesystem(url)
    assert is_url(url) and path == str(tmp_path / name)


def test_a_path_object_with_a_colon_is_no_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_filesystem(b"s3://bucket/x")[1] == f"{tmp_path}/s3://bucket/x"
    assert open_filesystem(Path("s3://bucket/x"))[1] == f"{tmp_path}/s3:/bucket/x"


def test_pyarrows_schemes_keep_odd_characters():
    options = "?endpoint_override=localhost:9&scheme=http&region=us-east-1"
    filesystem, path = open_filesystem(f"s3://key:secret@bucket/a b/%20#[1]?.jpg{options}")
    assert isinstance(filesystem, fs.S3FileSystem) and filesystem.region == "us-east-1"
    assert path == "bucket/a b/%20#[1]?.jpg"
    assert open_filesystem(f"s3://key:secret@bucket/x{options}")[0] is filesystem
    assert open_filesystem(f"s3://key:secret@bucket{options}")[1] == "bucket"
    filesystem, path = open_filesystem("abfs://box@account.dfs.core.windows.net/a/b.jpg")
    assert filesystem.type_name == "abfs" and path == "box/a/b.jpg"
    filesystem, path = open_filesystem("gs://anonymous@bucket/a/b.jpg")
    assert filesystem.type_name == "gcs" and path == "bucket/a/b.jpg"


def test_fsspec_opens_the_others():
    fsspec = pytest.importorskip("fsspec")
    filesystem, path = open_filesystem("memory://box/a b.txt")
    with filesystem.open_output_stream(path) as file:
        file.write(b"content")
    assert fsspec.filesystem("memory").cat("/box/a b.txt") == b"content"
    chained, path = open_filesystem("simplecache::memory://box/a b.txt")
    with chained.open_input_file(path) as file:
        assert file.read() == b"content"
    with pytest.raises(FileNotFoundError, match="zip://a::memory://box/no.zip cannot be opened"):
        open_filesystem("zip://a::memory://box/no.zip")


def test_what_is_wrong_with_a_url():
    pytest.importorskip("fsspec")
    with pytest.raises(ValueError, match="xyz://a cannot be opened: Protocol not known: xyz"):
        open_filesystem("xyz://a")
    with pytest.raises(ValueError, match="expected an absolute path after file://"):
        open_filesystem("file://folder/x")
    with pytest.raises(ValueError, match=r"s3://\.\.\.@b/x\?no=1 cannot be opened: .*'no'"):
        open_filesystem("s3://key:secret@b/x?no=1")


def test_a_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def without(*missing):
        def imported(name, *arguments, **named):
            if name.split(".")[0] in missing:
                raise ImportError(f"No module named {name}")
            return real(name, *arguments, **named)

        monkeypatch.setattr(builtins, "__import__", imported)

    without("fsspec")
    with pytest.raises(ImportError, match=r"memory://a cannot be opened: .*pip install fsspec"):
        open_filesystem("memory://a")
    monkeypatch.undo()
    without("paramiko")
    with pytest.raises(ImportError, match=r"sftp://host/a cannot be opened: .*paramiko"):
        open_filesystem("sftp://host/a")
