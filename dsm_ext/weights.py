"""Reads the weights of a Vision Transformer from a file."""

from __future__ import annotations

import os

from torch import Tensor

from dsm_ext.checkpoints import State, find_state
from dsm_ext.weight_file import existing_file, fault, is_numpy_archive, read_weight_file


def load_weights(
    path: str | os.PathLike[str], *, prefix: str | None = None, use_ema: bool = True
) -> dict[str, Tensor]:
    """The tensors of a weight file, by name, on the CPU.

    The file is read once, from beginning to end, and not mapped into memory: it may be changed or
    deleted afterwards.

    Args:
        path: a safetensors file, or what ``torch.save`` wrote: a state dict, or the checkpoint of
            a training script that holds one. The content decides, not the name. Pickles are read
            with ``weights_only``; ``argparse.Namespace`` may be in them.
        prefix: take the tensors with this prefix, such as "teacher.backbone.", and take it off;
            dicts in dicts are written with dots. None finds it where one Vision Transformer is in
            the file. The prefixes of torch's wrappers ("module.", "_orig_mod.") are always taken
            off.
        use_ema: as timm, take "state_dict_ema" or "model_ema" where the file has it; False takes
            the weights that were not averaged.

    Raises:
        FileNotFoundError: no such file, or a folder.
        ValueError: the file cannot be read, or does not hold the weights of just one model; the
            message names the file and the fault.
        TypeError: an argument of another type.
    """
    return read_state(path, prefix=prefix, use_ema=use_ema).tensors


def read_state(
    path: str | os.PathLike[str], *, prefix: str | None = None, use_ema: bool = True
) -> State:
    """``load_weights``, and where in the file the tensors stood."""
    path = existing_file(path)
    if is_numpy_archive(path):
        raise fault(
            path,
            "it is an archive of NumPy arrays, which only dsm_ext.from_timm(NAME, weights=FILE) "
            "reads",
        )
    content = read_weight_file(path)
    try:
        return find_state(content, prefix=prefix, use_ema=use_ema)
    except (ValueError, TypeError) as error:
        raise type(error)(f"dsm_ext: {path}: {error}") from None
