"""Models from Hugging Face transformers' checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from dsm_ext._native import Schedule
from dsm_ext.from_timm import from_timm
from dsm_ext.model import VisionTransformer
from dsm_ext.transformers_preprocessing import read_pretrained_cfg


def from_transformers(
    folder: str | os.PathLike[str],
    schedule: Schedule | str = "dsm",
    *,
    dynamic_img_size: bool | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> VisionTransformer:
    """A compiled model with the weights of a transformers checkpoint; transformers is not needed.

    The weights get timm's names, an exact renaming. Where the checkpoint has no classifier, the
    model gives the class token behind the last norm, [B, C]. ``pretrained_cfg`` is known where the
    folder has preprocessor_config.json; the names of the classes are config.json's ``id2label``.

    Args:
        folder: config.json beside model.safetensors or pytorch_model.bin, as the hub lays it out
            and ``save_pretrained`` writes it: ViT, DeiT, DINOv2 with or without registers, CLIP's
            vision half. Its files are read at once and not mapped into memory: they may be changed
            or deleted afterwards.
        schedule: a ``Schedule``, or a string such as ``"dsm:r=16,skip=2,local=5,window=7"``.
        dynamic_img_size: take images of any size that the patch size divides.
        dtype: float32, bfloat16 or float16; None keeps the checkpoint's.
        device: None is the CPU.

    Raises:
        NotImplementedError: another kind of model, or a feature that is not supported, by name.
        ValueError: a file cannot be read; a value in config.json is of another type or out of
            range, named by its key; the weights or the schedule do not fit.
        FileNotFoundError: no such folder, or a file that it lacks.
    """
    from dsm_ext.transformers_weights import load_transformers

    architecture, state = load_transformers(folder)
    with torch.device("meta"):
        model = architecture.build()
    model.load_state_dict(state, assign=True)
    fast = from_timm(model, schedule, dynamic_img_size=dynamic_img_size, dtype=dtype, device=device)
    fast.pretrained_cfg = read_pretrained_cfg(Path(folder), fast.config.num_classes)
    return fast
