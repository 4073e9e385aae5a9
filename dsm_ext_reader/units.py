"""temporary"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Picture:
    key: str
    read: Callable[[], bytes]


class Unit(Protocol):
    @property
    def key(self) -> str: ...
    def pictures(self) -> Iterator[Picture]: ...
