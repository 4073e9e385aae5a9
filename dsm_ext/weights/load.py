"""Reading the weights of a Vision Transformer from a file."""

from __future__ import annotations

import os

from torch import Tensor

from dsm_ext.weights.checkpoint import State, find_state
from dsm_ext.weights.weight_file import existing_file, fault, is_numpy_archive, read_weight_file


def load_weights(
    path: str | os.PathLike[str], *, prefix: str | None = None, use_ema: bool = True
) -> dict[str, Tensor]:
    """Read the tensors of a weight file, by name, to the CPU.

    The file is read completely and not mapped into memory: it may be changed or deleted afterwards.

    Args:
        path: a safetensors file, or a file of ``torch.save`` with a state dict or the checkpoint of
            a training script. The content decides, not the name. Pickles are read with
            ``weights_only``; they may contain ``argparse.Namespace``.
        prefix: take the tensors with this prefix, such as "teacher.backbone.", and remove it. Names
            of dicts in dicts are joined with dots. None finds the prefix if the file has one Vision
            Transformer. The prefixes of torch's wrappers ("module.", "_orig_mod.") are always
            removed.
        use_ema: prefer "state_dict_ema" or "model_ema", as timm does. False takes the weights that
            were not averaged.

    Raises:
        FileNotFoundError: the file does not exist, or is a folder.
        ValueError: the file cannot be read, or does not hold the weights of exactly one model. The
            message names the file and the fault.
        TypeError: an argument has another type.
    """
    return read_state(path, prefix=prefix, use_ema=use_ema).tensors


def read_state(
    path: str | os.PathLike[str], *, prefix: str | None = None, use_ema: bool = True
) -> State:
    """As ``load_weights``, but also say where in the file the tensors were."""
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
