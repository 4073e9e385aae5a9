"""``from_transformers``: compiled models made from Hugging Face transformers' checkpoints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from dsm_ext._native import Schedule
from dsm_ext.model import VisionTransformer
from dsm_ext.timm_models.from_timm import from_timm
from dsm_ext.transformers_models.files import read_json
from dsm_ext.transformers_models.kinds import WITH_TEXT, image_model
from dsm_ext.transformers_models.preprocessing import read_pretrained_cfg


def from_transformers(
    folder: str | os.PathLike[str],
    schedule: Schedule | str = "dsm",
    *,
    dynamic_img_size: bool | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    precision: str | None = None,
) -> VisionTransformer:
    """Make a compiled model from a transformers checkpoint. transformers is not needed.

    The weights are the same, only under timm's names. If the checkpoint has no classifier, the
    model returns one token [B, C]: the class token after the last norm, the token that SigLIP pools
    by attention, or, for models with neither, the mean of the patches after the last norm.
    ``pretrained_cfg`` is known if the folder has preprocessor_config.json. The names of the classes
    are those in config.json's ``id2label``.

    Of a model of images and text, only the image model is taken. LLaVA takes the tokens of an
    earlier block (``vision_feature_layer``): ``forward_intermediates`` returns them.

    Args:
        folder: a folder of the hub or of ``save_pretrained``: config.json, and model.safetensors or
            pytorch_model.bin. Supported are ViT, DeiT, MAE's encoder, I-JEPA, DINOv2 with or
            without registers, DINOv3, AIMv2, and the image models of CLIP, SigLIP, SigLIP 2, LLaVA,
            LLaVA-NeXT, LLaVA-OneVision, VipLLaVA and PaliGemma. A model of timm is taken as it is,
            alone (``timm_wrapper``) or in PerceptionLM. The files are read completely: they may be
            changed or deleted afterwards.
        schedule: a ``Schedule``, or a string such as ``"dsm:r=16,skip=2,local=5,window=7"``.
        dynamic_img_size: take images of every size that the patch size divides. The position
            embedding is resampled as in timm. SigLIP 2 resamples it in another way, so its images
            have the size that needs no resampling.
        dtype: float32, bfloat16 or float16. None keeps the checkpoint's.
        device: None is the CPU.
        precision: as for ``from_timm``.

    Raises:
        NotImplementedError: another kind of model, an unsupported feature, or a precision in which
            the model cannot run here. The message names it.
        ValueError: a file cannot be read; a value in config.json has another type or is out of
            range (the message names its key); or the weights or the schedule do not fit.
        FileNotFoundError: the folder does not exist or lacks a file.
    """
    from dsm_ext.transformers_models.weights import load_transformers

    architecture, state = load_transformers(folder)
    if dynamic_img_size and _is_naflex(read_json(Path(folder) / "config.json")):
        raise NotImplementedError(
            "dsm_ext: transformers' siglip2_vision_model with dynamic_img_size is not supported "
            "(NaFlex): it resamples its positions in another way than timm"
        )
    with torch.device("meta"):
        model = architecture.build()
    model.load_state_dict(state, assign=True)
    fast = from_timm(model, schedule, dynamic_img_size=dynamic_img_size, dtype=dtype, device=device)
    if precision is not None:
        fast.precision = precision
    fast.pretrained_cfg = read_pretrained_cfg(Path(folder), fast.config.num_classes)
    return fast


def _is_naflex(config: dict[str, Any]) -> bool:
    """Whether the image model is SigLIP 2, which takes images of many sizes."""
    whole = config["model_type"]
    return whole.startswith("siglip2") or (
        whole in WITH_TEXT and image_model(config)[0] == "siglip2_vision_model"
    )
