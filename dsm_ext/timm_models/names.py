"""Whether a text is the name of one of timm's models or the path of a model."""

from __future__ import annotations

from pathlib import Path

from dsm_ext.model.load import CONFIG


def is_timm(name: str) -> bool:
    """Whether timm has a model of this name, with or without a tag."""
    import timm

    return timm.is_model(name.split(".")[0])


def path_named(text: str) -> Path | None:
    """The folder or file that a text names. None if the text is a timm name.

    Raises:
        FileNotFoundError: the text looks like a path, but nothing is there.
    """
    path = Path(text)
    if path.is_dir() and not (path / CONFIG).exists() and is_timm(text):
        return None  # a folder that has the same name as the timm model
    if path.exists():
        return path
    if ":" not in text and (len(path.parts) > 1 or path.suffix == ".safetensors"):
        raise FileNotFoundError(f"no such folder or file: {text} (and no timm model has that name)")
    return None
