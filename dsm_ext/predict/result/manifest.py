"""The manifest: what a result was made by and with, and how far it is."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dsm_ext._native import __version__
from dsm_ext.predict.result.shards import part_name
from dsm_ext.predict.result.stores import Store, plain_errors

MANIFEST = "_manifest.json"
FORMAT = 1


@dataclass
class Manifest:
    """The content of ``_manifest.json``.

    Args:
        settings: what the columns depend on: the model, its weights, the schedule and more.
        runs: one entry for each run, the latest last: ``start`` and ``end`` (UTC; null while it
            runs, or if it was killed), ``rows`` and ``errors`` that it wrote, ``ended_by_itself``
            (it came to the end of its pictures), and ``versions``. Until it ends also ``before``,
            the counts when it started.
        counts: ``rows``, ``errors`` (rows that have one) and ``shards`` of the folder.
        complete: whether the latest run came to the end of its pictures.
        versions: of the packages that the latest run used.
    """

    settings: dict[str, Any]
    runs: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict(rows=0, errors=0, shards=0))
    complete: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def begin_run(self, rows: int, errors: int) -> None:
        """Add a run, which starts now in a folder of these counts."""
        self.versions, self.complete = versions(), False
        self.runs.append(
            {
                "start": now(),
                "end": None,
                "rows": 0,
                "errors": 0,
                "ended_by_itself": False,
                "versions": self.versions,
                "before": {"rows": rows, "errors": errors},
            }
        )

    def count(self, rows: int, errors: int, shards: int) -> None:
        """Set the counts of the folder, and so of the latest run."""
        self.counts = {"rows": rows, "errors": errors, "shards": shards}
        run = self.runs[-1]
        before = run.get("before")
        if before is not None:
            run["rows"] = rows - before["rows"]
            run["errors"] = errors - before["errors"]

    def end_run(self, complete: bool) -> None:
        """End the latest run now. Count before."""
        self.complete = complete
        self.runs[-1].update(end=now(), ended_by_itself=complete)
        del self.runs[-1]["before"]

    def end_killed_run(self, rows: int, errors: int) -> None:
        """Count the latest run, if it did not end, from what the folder has."""
        if self.runs and "before" in self.runs[-1]:
            self.count(rows, errors, self.counts["shards"])
            del self.runs[-1]["before"]

    def write(self, store: Store) -> dict[str, Any]:
        """Write the file. It is replaced at once. Returns its content.

        Raises:
            OSError: it cannot be written. The message names it.
        """
        content = {"format": self.format, **asdict(self)}
        part = part_name(MANIFEST)
        file = store.create(part)
        try:
            with plain_errors(store.path(MANIFEST), "written"):
                file.write((json.dumps(content, indent=1) + "\n").encode())
        except BaseException:
            file.close()
            raise
        store.finish(file, part)
        store.rename(part, MANIFEST)
        return content


def read_manifest(store: Store) -> Manifest:
    """Read a folder's manifest.

    Raises:
        ValueError: the file is no manifest, or one of another format.
        OSError: it cannot be read.
    """
    path = store.path(MANIFEST)
    with store.open(MANIFEST) as file:
        text = file.read()
    try:
        content = json.loads(text)
        manifest = Manifest(**content)
        if manifest.format != FORMAT:
            raise ValueError(
                f"dsm_ext: expected {path} to have format {FORMAT}, got {manifest.format}: another "
                "version of dsm_ext wrote it; take another -o"
            )
        sums = [run["rows"] + run["errors"] for run in manifest.runs]
        sums += [manifest.counts[name] for name in ("rows", "errors", "shards")]
        manifest.settings.items(), sum(sums)
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"dsm_ext: {path} is no manifest of dsm-ext predict: take another -o"
        ) from error
    return manifest


def refuse_other_settings(folder: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: the settings differ. The message names each difference.
    """
    before, now = dict(_flat(old)), dict(_flat(new))
    differences = [
        f"{name} {_shown(before, name)}, now {_shown(now, name)}"
        for name in {**before, **now}
        if before.get(name, ...) != now.get(name, ...)
    ]
    if differences:
        raise ValueError(
            f"dsm_ext: {folder} was written with {'; '.join(differences)}: take another -o"
        )


@cache
def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a result may depend on."""
    found = {"dsm_ext": __version__, "python": platform.python_version()}
    for name in ("torch", "timm", "Pillow", "numpy", "pyarrow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, value


def _shown(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return "not given"
    value = settings[name]
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
