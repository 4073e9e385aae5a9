"""Reads weight files."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def load_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a weight file, by name, on the CPU.

    Args:
        path: .safetensors, or a .pt or .pth state dict, alone or under "state_dict" or "model", as
            timm's and DeiT's training scripts write it. Pickles are read with ``weights_only``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ending, or the file cannot be read as what its ending says; the message
            names the file and the fault.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"dsm_ext: no such weight file: {path}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"dsm_ext: {path} is not a safetensors file: {error}") from error
    if path.suffix not in (".pt", ".pth"):
        raise ValueError(f"dsm_ext: expected a .safetensors, .pt or .pth file, got {path}")
    return _load_pickle(path)


def _load_pickle(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling foreign bytes runs into
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"dsm_ext: {path} is not a file of weights alone: {first}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"dsm_ext: {path} holds no state dict of tensors")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}
