"""What a part of the study has measured, kept in a file from which a later run goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Kept:
    """Values by their keys. Each is measured once and written at once.

    Args:
        path: the file. None keeps the values in memory alone.
        of: what the values depend on, such as the model and the pictures. A file of other values is
            replaced, because it can be measured again.
    """

    def __init__(self, path: Path | None, of: dict[str, Any]) -> None:
        self.path = path
        self.of = json.loads(json.dumps(of))
        self.values: dict[str, Any] = {}
        self.seconds = 0.0
        """The time that all runs together spent in measuring."""
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text())
            of, values, seconds = content["of"], content["values"], content["seconds"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} does not hold results of the study: name another --state, or delete it"
            ) from error
        if of == self.of:
            self.values, self.seconds = values, seconds
        else:
            differing = [name for name in {**of, **self.of} if of.get(name) != self.of.get(name)]
            print(f"{path} belongs to another {', '.join(differing)}: it is measured anew")

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        """The value of a key. It is measured if it is not known.

        Args:
            measure: gives a value that JSON can hold. It must not call ``get``.
        """
        if key not in self.values:
            start = time.perf_counter()
            # through JSON, so that a later run, which reads it, has the same value
            self.values[key] = json.loads(json.dumps(measure()))
            self.seconds += time.perf_counter() - start
            self._write()
        return self.values[key]

    def _write(self) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        content = {"of": self.of, "seconds": self.seconds, "values": self.values}
        part.write_text(json.dumps(content))
        part.replace(self.path)
