"""The keys of pictures: the text that names a picture in a result, and sets of many keys."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

DIGEST = np.dtype("S16")  # 128 bits: among 1e9 keys, two alike have a probability of 1.5e-21
RECENT = 1 << 15  # keys that are kept in a Python set, which takes about 110 bytes a key


def key_of(path: str | bytes | os.PathLike) -> str:
    r"""The key of a picture: its path as given, as text that UTF-8 can hold.

    A file name is bytes, which need not be UTF-8. If a path has a backslash or bytes that are not
    UTF-8, its backslashes are doubled and the other bytes are written as ``\xNN``. So two paths
    never have the same key.
    """
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:  # text with a lone surrogate, which no file name decodes to
        name = os.fspath(path).encode("utf-8", "surrogatepass")  # type: ignore[union-attr]
    return name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def digests(keys: Iterable[str]) -> np.ndarray:
    """The 128-bit digests of keys: [n] of dtype ``S16``, which NumPy compares and sorts."""
    joined = b"".join(
        blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest() for key in keys
    )
    return np.frombuffer(joined, DIGEST)


class KeySet:
    """A set of keys that takes 16 bytes a key: it holds digests in sorted arrays.

    Recent keys are in a Python set until there are ``RECENT`` of them. They then become a sorted
    array, and arrays of similar length are merged, so that there are few. An array is never changed
    in place: copies share it, and it may be read-only memory. A set of keys can be pickled. It may
    be used by one thread at a time.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._arrays: list[np.ndarray] = []  # sorted, each at least twice as long as the next
        self._recent: set[bytes] = set()
        self.add(keys if isinstance(keys, Sequence) else list(keys))

    def __len__(self) -> int:
        return sum(map(len, self._arrays)) + len(self._recent)

    def add(self, keys: Sequence[str]) -> np.ndarray:
        """Add keys.

        Returns:
            bool [n]: True where the key is new, so False where an earlier call or an earlier place
            of ``keys`` had it.
        """
        given = digests(keys)
        new = ~self._in_arrays(given)
        data = given.tobytes()
        for i in np.flatnonzero(new):
            digest = data[16 * i : 16 * i + 16]
            if digest in self._recent:
                new[i] = False
            else:
                self._recent.add(digest)
        if len(self._recent) >= RECENT:
            self._merge()
        return new

    def known(self, keys: Sequence[str]) -> np.ndarray:
        """bool [n]: True where the set has the key."""
        given = digests(keys)
        found = self._in_arrays(given)
        data = given.tobytes()
        for i in np.flatnonzero(~found):
            found[i] = data[16 * i : 16 * i + 16] in self._recent
        return found

    def copy(self) -> KeySet:
        """A set of the same keys. It shares memory with this one until keys are added."""
        copied = KeySet()
        copied._arrays, copied._recent = list(self._arrays), set(self._recent)
        return copied

    def __getstate__(self) -> dict[str, np.ndarray]:
        return {"digests": _sorted([*self._arrays, _array(self._recent)])}

    def __setstate__(self, state: dict[str, np.ndarray]) -> None:
        array = state["digests"]
        self._arrays, self._recent = [array] if len(array) else [], set()

    def _in_arrays(self, given: np.ndarray) -> np.ndarray:
        found = np.zeros(len(given), bool)
        for array in self._arrays:
            places = np.searchsorted(array, given).clip(max=len(array) - 1)
            found |= array[places] == given
        return found

    def _merge(self) -> None:
        """Turn the recent keys into an array, and merge it with arrays that are not much longer."""
        merging = [_sorted([_array(self._recent)])]
        self._recent = set()
        while self._arrays and len(self._arrays[-1]) < 2 * sum(map(len, merging)):
            merging.append(self._arrays.pop())
        self._arrays.append(_sorted(merging) if len(merging) > 1 else merging[0])


def _array(recent: set[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(recent), DIGEST)


def _sorted(arrays: Sequence[np.ndarray]) -> np.ndarray:
    joined = np.concatenate(arrays)
    joined.sort(kind="stable")  # this merges runs that are sorted already
    return joined
