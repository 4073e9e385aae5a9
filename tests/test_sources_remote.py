"""Sources in file systems that fsspec opens: in memory, and on a web server on this machine."""

import functools
import http.server
import threading
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from picture_sources import put, read
from test_sources_archives import member, packed

from dsm_ext_reader import units
from dsm_ext_reader.sources import Sources

fsspec = pytest.importorskip("fsspec")
URL = "memory://crate"


@pytest.fixture
def box(tmp_path, monkeypatch):
    """Writes files into the folder ``crate`` of fsspec's file system in memory."""
    monkeypatch.chdir(tmp_path)
    memory = fsspec.filesystem("memory")

    def write(**files):
        for name, content in files.items():
            memory.pipe(f"/crate/{name}", content)

    yield write
    memory.rm("/crate", recursive=True)


def pictures(box, *names):
    box(**{name: name.encode() for name in names})


def test_folders_and_patterns(box, capsys):
    names = [
        "a/1.jpg",
        "a/2.png",
        "a/10.jpg",
        "b/c d/3.jpg",
        "100%20.jpg",
        "#x[1].jpg",
        "\u00fc.jpg",
    ]
    pictures(box, *names, "a/.hidden.jpg", ".git/1.jpg", "__MACOSX/1.jpg", "n.txt")
    found = read(URL)
    assert found == {f"{URL}/{name}": name.encode() for name in names}
    assert read(f"{URL}/") == found and Sources([URL]).count() == 7
    assert "1 of 8 files (1 .txt)" in capsys.readouterr().err
    assert list(read(f"{URL}/a")) == [f"{URL}/a/{name}" for name in ("1.jpg", "2.png", "10.jpg")]
    assert list(read(f"{URL}/*/*.png")) == [f"{URL}/a/2.png"]
    assert list(read(f"{URL}/**/3.jpg")) == [f"{URL}/b/c d/3.jpg"]
    assert len(read("memory://crat*")) == 7
    assert read(f"{URL}/100%20.jpg") == {f"{URL}/100%20.jpg": b"100%20.jpg"}
    assert [len(unit.names) for unit in Sources([URL], unit=5).units()] == [5, 2]


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("memory://none", FileNotFoundError, "no such file or folder: memory://none"),
        (f"{URL}/x.csv", ValueError, "expected memory://crate/x.csv to be a folder, a picture"),
        (f"{URL}/*.tar", FileNotFoundError, r"no such file: memory://crate/\*\.tar"),
        (
            URL,
            FileNotFoundError,
            r"no pictures in memory://crate, .* 1 \.csv, 1 \.tgz; to read them",
        ),
    ],
)
def test_what_is_no_source(text, error, message, box):
    box(**{"x.csv": b"x", "x.tgz": b"x"})
    with pytest.raises(error, match=f"dsm_ext: {message}"):
        Sources([text])


def test_lists(box, tmp_path):
    put(tmp_path, "local.jpg")
    box(
        **{
            "1.jpg": b"one",
            "l/2.jpg": b"two",
            "l/list.txt": b"2.jpg\nmemory://crate/1.jpg\nno.jpg\n",
        }
    )
    found = read(f"{URL}/l/list.txt")
    assert found["2.jpg"] == b"two" and found[f"{URL}/1.jpg"] == b"one"
    assert found["no.jpg"] == "dsm_ext: no such file: no.jpg"
    (tmp_path / "l.txt").write_text(f"local.jpg\n{URL}/1.jpg\nnothing://x/y.jpg\nzip://a::{URL}/no")
    found = read("l.txt")
    assert found["local.jpg"] == b"local.jpg" and found[f"{URL}/1.jpg"] == b"one"
    assert "nothing://x" in found["nothing://x/y.jpg"]
    assert "no such file" in found[f"zip://a::{URL}/no"]


def test_tables(box, tmp_path):
    for name, columns in (
        ("b", {"image": [b"one", b"two"]}),
        ("p", {"path": ["1.jpg", f"{URL}/t/1.jpg"]}),
    ):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink, row_group_size=1)
        box(**{f"t/{name}.parquet": sink.getvalue().to_pybytes(), "t/1.jpg": b"picture"})
    found = read(f"{URL}/t/*.parquet")
    keys = [f"{URL}/t/b.parquet#0", f"{URL}/t/b.parquet#1", "1.jpg", f"{URL}/t/1.jpg"]
    assert list(found) == keys and found["1.jpg"] == found[keys[3]] == b"picture"
    assert [found[key] for key in keys[:2]] == [b"one", b"two"]
    assert Sources([f"{URL}/t/*.parquet"]).count() == 4


@pytest.mark.parametrize("ending, mode", [(".tar", "w:"), (".tar.gz", "w:gz"), (".tar.xz", "w:xz")])
def test_archives(ending, mode, box):
    members = [member(f"{i}.{end}", b"%d" % i * 3000) for i in range(9) for end in ("jpg", "json")]
    content = packed(*members, mode=mode)
    box(**{f"a{ending}": content, f"b{ending}": content[: len(content) // 2]})
    found = read(f"{URL}/*{ending}", unit=2)
    name = f"{URL}/a{ending}"
    for i in range(9):
        assert found.pop(f"{name}/{i}.jpg") == b"%d" % i * 3000
    assert "what follows is lost" in found.pop(f"{URL}/b{ending}")
    assert 0 < len(found) < 9 or mode == "w:xz"
    assert len(list(Sources([name]).units())) == 1 and Sources([name]).count() is None


def test_chains(box, tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as file:
        for name in ("in/1.jpg", "in/2.jpg", "in/x.txt", "3.jpg"):
            file.writestr(name, name)
    box(**{"z.zip": (tmp_path / "z.zip").read_bytes()})
    chain = f"::{URL}/z.zip"
    assert read(f"zip://in/1.jpg{chain}") == {f"zip://in/1.jpg{chain}": b"in/1.jpg"}
    two = {f"zip://in/{i}.jpg{chain}": b"in/%d.jpg" % i for i in (1, 2)}
    assert read(f"zip://in{chain}") == read(f"zip://in/*.jpg{chain}") == two
    box(**{"1.jpg": b"one"})
    cached = f"simplecache::{URL}/1.jpg"
    assert read(cached) == read(f"simplecache::{URL}/*.jpg") == {cached: b"one"}


@pytest.fixture
def gate(box, monkeypatch):
    """Lets a file open only while so many are being opened. Gives the paths of those opened."""
    memory = fsspec.get_filesystem_class("memory")
    real = memory._open

    def close(together):
        barrier = threading.Barrier(together)
        opened = []

        def gated(self, path, *args, **kwargs):
            opened.append(path)
            barrier.wait(30)
            return real(self, path, *args, **kwargs)

        monkeypatch.setattr(memory, "_open", gated)
        return opened

    return close


def test_pictures_are_read_at_the_same_time(box, gate):
    pictures(box, *(f"{i}.jpg" for i in range(32)))
    gate(units.AHEAD)
    (unit,) = Sources(["memory://crate"]).units()
    found = {picture.key: picture.read() for picture in unit.pictures()}
    assert found == {f"memory://crate/{i}.jpg": b"%d.jpg" % i for i in range(32)}
    late = list(unit.pictures())  # they may be read after the iterator has ended
    assert [picture.read() for picture in late] == list(found.values())


def test_closing_gives_up_what_has_not_begun(box, gate):
    pictures(box, *(f"{i}.jpg" for i in range(60)))
    opened = gate(1)
    (unit,) = Sources(["memory://crate"]).units()
    iterator = unit.pictures(lambda keys: [key.endswith("0.jpg") for key in keys])
    assert next(iterator).read() == b"1.jpg"
    iterator.close()
    assert len(opened) <= units.AHEAD + 2 and "/crate/0.jpg" not in opened
    for thread in threading.enumerate():
        if thread.name.startswith("dsm_ext read"):
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def server(tmp_path):
    """The address of a web server that gives the files of a folder."""
    pytest.importorskip("aiohttp", reason="fsspec reads https:// by aiohttp")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_web_servers(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "a/1.jpg", "a/b%20c.jpg")
    (tmp_path / "s.tar").write_bytes(packed(member("1.jpg"), member("2.jpg")))
    pq.write_table(pa.table({"url": [f"{server}/a/1.jpg", f"{server}/no.jpg"]}), "t.parquet")
    assert read(f"{server}/a/1.jpg") == {f"{server}/a/1.jpg": b"a/1.jpg"}
    assert list(read(f"{server}/s.tar")) == [f"{server}/s.tar/1.jpg", f"{server}/s.tar/2.jpg"]
    for table in ("t.parquet", f"{server}/t.parquet"):
        found = read(table)
        assert found[f"{server}/a/1.jpg"] == b"a/1.jpg"
        assert f"no such file: {server}/no.jpg" in found[f"{server}/no.jpg"]
    (tmp_path / "list.txt").write_text(f"{server}/a/b%2520c.jpg?size=3\n")
    assert read("list.txt") == {f"{server}/a/b%2520c.jpg?size=3": b"a/b%20c.jpg"}
    for url in (f"{server}/none.jpg", "http://127.0.0.1:9/x.jpg"):
        with pytest.raises(FileNotFoundError, match=f"no such file or folder: {url}"):
            Sources([url])
