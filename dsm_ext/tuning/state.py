"""The state of a search: what was measured, kept in a file from which a later run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from dsm_ext._native import Schedule
from dsm_ext.model import VisionTransformer
from dsm_ext.model.digest import digest
from dsm_ext.tuning.judge import Errors, Judge

VERSION = 1  # of the file; another template or search has another number


class State:
    """What a search measured, by schedule and half, and the table of block times.

    Args:
        path: the file. None keeps the state in memory alone.
        of: what the errors depend on, by name. A file of other values is refused.

    Raises:
        ValueError: the file is no state, or the state of another search. The message says what
            differs.
    """

    def __init__(self, path: Path | None, of: dict[str, Any]) -> None:
        self.path = path
        self.of = json.loads(json.dumps({"version": VERSION, **of}))
        self.times: dict[str, Any] | None = None
        self.errors: dict[str, dict[str, Errors]] = {"choosing": {}, "judging": {}}
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            value = json.loads(path.read_text())
            of = dict(value["of"])
            times = value["times"]
            errors = {
                half: {text: Errors(**one) for text, one in value[half].items()}
                for half in self.errors
            }
        except OSError as error:
            raise OSError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is not the state of a search: name another file for it"
            ) from error
        differing = [name for name in {**self.of, **of} if self.of.get(name) != of.get(name)]
        if differing:
            raise ValueError(
                f"{path} is the state of another search: it differs in {', '.join(differing)}; "
                "name another file, or delete this one to start anew"
            )
        self.times, self.errors = times, errors

    def save(self) -> None:
        """Write the file, if there is one. It is replaced at once."""
        if self.path is None:
            return
        halves = {
            half: {text: asdict(errors) for text, errors in known.items()}
            for half, known in self.errors.items()
        }
        text = json.dumps({"of": self.of, "times": self.times, **halves})
        part = self.path.with_name(self.path.name + ".part")
        try:
            part.write_text(text)
            part.replace(self.path)
        except OSError as error:
            raise OSError(f"{self.path} cannot be written: {error.strerror}") from error


class Known:
    """The errors of schedules on one half of the pictures, each measured once.

    Args:
        half: "choosing" or "judging".
    """

    def __init__(self, judge: Judge, state: State, half: str) -> None:
        self.judge, self.state = judge, state
        self.known = state.errors[half]

    def __len__(self) -> int:
        return len(self.judge)

    def errors(self, schedule: Schedule, enough: Callable[[Errors], bool] | None = None) -> Errors:
        """As ``Judge.errors``. Errors of a part of the pictures do only where they are enough."""
        text = schedule.text()
        errors = self.known.get(text)
        if errors is None or (
            len(errors.error) < len(self) and (enough is None or not enough(errors))
        ):
            errors = self.known[text] = self.judge.errors(schedule, enough)
            self.state.save()
        return errors


def fingerprint(model: VisionTransformer, images: Tensor) -> dict[str, Any]:
    """What tells a model and prepared pictures from others."""
    return {
        "model": model.config.to_dict(),
        "weights": digest(tensor for _, tensor in model.named_parameters()),
        "pictures": digest([images]),
    }
