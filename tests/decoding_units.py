"""Units of pictures that do not behave, for tests of the processes that read them."""

import io
import os
import signal
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dsm_ext_reader.units import Picture


def level_of(number):
    """The grey level of a numbered picture."""
    return number * 7 % 251


def content(number):
    file = io.BytesIO()
    Image.new("L", (9, 9), level_of(number)).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True)
class Numbered:
    """Pictures of one grey level each. ``acts`` has an action for some of their numbers."""

    first: int
    end: int
    acts: tuple = ()
    key: str = "numbered"

    def pictures(self, known=None):
        acts = dict(self.acts)
        for number in range(self.first, self.end):
            if known is not None and known([str(number)])[0]:
                continue
            act = acts.get(number)
            if act == "hang in the list":
                time.sleep(1000)
            yield Picture(str(number), lambda number=number, act=act: read(number, act))


def read(number, act):
    if act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "exit":
        os._exit(3)
    if act == "hang":
        time.sleep(1000)
    if isinstance(act, float):
        time.sleep(act)
    if act == "damaged":
        return b"damaged"
    if act == "missing":
        raise FileNotFoundError("no such file")
    return content(number)


def check(rows, numbers, errors=()):
    """Every key once, with the pixels of its picture or the expected start of its error."""
    errors = dict(errors)
    assert sorted(int(key) for key, _, _ in rows) == sorted(numbers)
    for key, error, pixels in rows:
        expected = errors.get(int(key))
        if expected is None:
            assert error is None
            assert np.all(pixels == level_of(int(key)))
        else:
            assert expected in error and pixels is None
