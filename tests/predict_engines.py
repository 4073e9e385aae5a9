"""Engines without a model, for tests of what distributes units. Workers of Ray import this file."""

import os
import time
from dataclasses import dataclass

import numpy as np

from dsm_ext.predict.result.columns import schema, to_arrow

SCHEMA = schema({"embedding": ([4], "float16")})


@dataclass(frozen=True)
class Numbers:
    """A unit of pictures that are called by consecutive numbers."""

    start: int
    count: int

    @property
    def keys(self):
        return [f"{self.start + i:06}.png" for i in range(self.count)]


def embedding_of(key):
    return np.arange(4, dtype=np.float16) + int(key[:6]) % 1000


class Numbered:
    """Gives each number an embedding that shows it. Every 100th has an error.

    Args:
        settings: ``seconds`` that a picture takes; ``fails_at``: "constructor", "run", or a path
            that the first call of ``run`` makes.
    """

    def __init__(self, settings, done):
        self.seconds, self.fails_at = settings.get("seconds", 0), settings.get("fails_at")
        self.done = done
        if self.fails_at == "constructor":
            raise ValueError("dsm_ext: expected a model, got none")

    def run(self, units):
        if self.fails_at == "run":
            raise ValueError("dsm_ext: expected a picture, got none")
        if self.fails_at and not os.path.exists(self.fails_at):
            open(self.fails_at, "x").close()
            raise OSError("AWS Error SLOW_DOWN during PutObject operation: busy")
        for unit in units:
            known = np.zeros(unit.count, bool) if self.done is None else self.done.known(unit.keys)
            keys = [key for key, skip in zip(unit.keys, known, strict=True) if not skip]
            time.sleep(self.seconds * len(keys))
            errors = ["broken" if int(key[:6]) % 100 == 99 else None for key in keys]
            values = [embedding_of(key) for key in keys]
            columns = {"embedding": np.array(values, np.float16).reshape(-1, 4)}
            yield to_arrow(keys, columns, SCHEMA, errors)

    def close(self):
        pass
