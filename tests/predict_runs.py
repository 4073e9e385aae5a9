"""Runs of ``dsm-ext predict``: their pictures and rows, and processes that tests may kill."""

import contextlib
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset
from commands import ROOT
from PIL import Image


def write_picture(path, seed=0, size=(50, 40), **options):
    """Write a picture of soft colours."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize(size).save(path, **options)


def many_pictures(folder, count, different=40):
    """Fill a folder with links to some small pictures."""
    for i in range(different):
        write_picture(folder / f"{i:05}.jpg", i)
    for i in range(different, count):
        os.link(folder / f"{i % different:05}.jpg", folder / f"{i:05}.jpg")
    return folder


def rows(out):
    """{key: the row as a dict of Python's values}. No key is there twice."""
    table = pyarrow.dataset.dataset(str(out), format="parquet").to_table()
    keys = table.column("key").to_pylist()
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, table.to_pylist(), strict=True))


def finished_rows(out):
    """How many rows finished shards have, also while a run goes on."""
    shards = [str(path) for path in Path(out).glob("*.parquet")]
    return pyarrow.dataset.dataset(shards, format="parquet").count_rows() if shards else 0


def manifest(out):
    return json.loads((Path(out) / "_manifest.json").read_text())


def wait_for(condition, seconds=20):
    """Wait until a condition is true, and return its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.01)
    return value


class Launcher:
    """Starts ``dsm-ext`` in processes that tests may kill, each the leader of a group of its own.

    They are forks of one process that has imported everything and started nothing, because the
    imports take seconds. Otherwise they are as a shell would start them.
    """

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def _ask(self, **question):
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, said, *arguments, largest_file=None):
        """Start a command whose output goes into the file ``said``. Gives a ``Started``.

        ``largest_file``: bytes at which a file cannot grow, as on a full disk.
        """
        pid = self._ask(arguments=[*map(str, arguments)], said=str(said), largest_file=largest_file)
        return Started(self, pid, Path(said))

    def status(self, pid):
        return self._ask(pid=pid)

    def close(self):
        self._process.kill()
        self._process.communicate()


class Started:
    """A command that a launcher has started."""

    def __init__(self, launcher, pid, said):
        self._launcher, self.pid, self._said = launcher, pid, said
        self._status = None

    def status(self):
        """The exit status, -N after signal N, None while it runs."""
        if self._status is None:
            self._status = self._launcher.status(self.pid)
        return self._status

    def wait(self, seconds=30):
        """Wait until the command has ended. Gives the exit status."""
        wait_for(lambda: self.status() is not None, seconds)
        return self.status()

    def wait_for_rows(self, out, kept=0, seconds=60):
        """Wait until finished shards have more rows than these, or the command has ended."""
        wait_for(lambda: self.status() is not None or finished_rows(out) > kept, seconds)

    def wait_for_children(self):
        """Wait until no process of the command is left."""
        wait_for(lambda: not _processes_of(self.pid), 5)

    def said(self):
        return self._said.read_text()


def _processes_of(group):
    """The processes of a group that run, by /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def _serve():
    for name in ("dsm_ext.cli.predict", "timm.data", "pandas"):  # pyarrow imports the last
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from dsm_ext_cli import main

    for line in sys.stdin:
        question = json.loads(line)
        if "pid" in question:
            pid, status = os.waitpid(question["pid"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            if limit := question["largest_file"]:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            said = os.open(question["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for number, fd in enumerate((os.open(os.devnull, os.O_RDONLY), said, said)):
                os.dup2(fd, number)
            # Those that Python has opened may have been files, and now be a terminal.
            sys.stdout, sys.stderr = (os.fdopen(fd, "w", 1, closefd=False) for fd in (1, 2))
            sys.exit(main(question["arguments"]))
        os.setpgid(pid, pid)  # whoever is first
        print(pid, flush=True)


if __name__ == "__main__":
    _serve()
