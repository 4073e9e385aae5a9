"""Reading the files of a transformers checkpoint: JSON, and tensors in one file or in shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dsm_ext.error_text import described, listed
from dsm_ext.weights import load_weights
from dsm_ext.weights.weight_file import existing_file, read_weight_file

_LONGEST_JSON = 64 << 20  # bytes: an index of hundreds of thousands of tensors


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"dsm_ext: no such file: {path}")
    size = path.stat().st_size
    if size > _LONGEST_JSON:
        raise ValueError(f"dsm_ext: {path} is not a JSON file of a checkpoint: it has {size} bytes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"dsm_ext: {path} is not a JSON file: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise ValueError(f"dsm_ext: {path} holds no JSON object, but {described(content)}")
    return content


def read_tensors(folder: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """Read the tensors of a folder, from one file or from shards.

    Args:
        folder: the folder.
        wanted: whether a tensor is needed, by its name. A shard without such a tensor is not read
            and may be missing.

    Raises:
        FileNotFoundError: there is no weight file, or a shard in the index is missing.
        ValueError: a file cannot be read, or an index names files outside the folder.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            state = _tensors(folder / name)
            return {name: tensor for name, tensor in state.items() if wanted(name)}
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index, wanted)
    raise FileNotFoundError(
        f"dsm_ext: no model.safetensors or pytorch_model.bin, nor an index of one, in {folder}"
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file. Their names keep the prefixes that ``load_weights`` removes."""
    content = read_weight_file(existing_file(path))
    if isinstance(content, Mapping) and all(isinstance(v, Tensor) for v in content.values()):
        return dict(content)
    return load_weights(path)


def _shards(index: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
        raise ValueError(
            f"dsm_ext: {index} has no weight_map from names to files, but {described(places)}"
        )
    places = {name: shard for name, shard in places.items() if wanted(name)}
    state: dict[str, Tensor] = {}
    for name in dict.fromkeys(places.values()):
        if Path(name).name != name or name == ".." or len(name) > 255:
            raise ValueError(f"dsm_ext: {index} names a file outside its folder: {described(name)}")
        shard = index.parent / name
        if not shard.is_file():
            raise FileNotFoundError(f"dsm_ext: no such file, though {index.name} names it: {shard}")
        state |= {name: tensor for name, tensor in _tensors(shard).items() if wanted(name)}
    lacking = sorted(places.keys() - state.keys())
    if lacking or not places:
        raise ValueError(
            f"dsm_ext: the files that {index} names lack {listed(lacking) or 'any tensor'}"
        )
    return state
