"""Converting transformers' vision checkpoints to timm's names. transformers is not needed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsm_ext.error_text import listed
from dsm_ext.transformers_models import timm_wrapper
from dsm_ext.transformers_models.architecture import Architecture, architecture_of
from dsm_ext.transformers_models.config import VisionConfig, bias_of, contradictions, read_config
from dsm_ext.transformers_models.files import read_json, read_tensors
from dsm_ext.transformers_models.names import renamed, wanted

# The parts that are concatenated to one tensor of timm.
_PARTS = {"attn.qkv": ("q", "k", "v"), "mlp.fc1": ("gate", "up")}


def is_transformers(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a vision model of transformers, supported or not."""
    patches = re.compile(r"([\w.]+\.)?embeddings\.patch_embed(ding)?(s(\.projection)?)?\.weight")
    return any(patches.fullmatch(name) for name in state)


def load_transformers(path: str | os.PathLike[str]) -> tuple[Architecture, dict[str, Tensor]]:
    """Read a folder of the model hub and convert it with ``to_timm``.

    Args:
        path: a folder with config.json and either model.safetensors or pytorch_model.bin. The
            latter is one file, or an index (model.safetensors.index.json) with its shards. Pickles
            are read with ``weights_only``. No file is mapped into memory.

    Raises:
        FileNotFoundError: the folder does not exist or lacks a file.
        ValueError: a file cannot be read; or as ``to_timm``.
        NotImplementedError: as ``to_timm``.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"dsm_ext: no such folder: {path}")
    config = read_json(path / "config.json")
    whole = config.get("model_type")
    # These calls raise before the weights, which may be large, are read.
    if whole in timm_wrapper.KINDS:
        timm_wrapper.read_arguments(config)
        state = read_tensors(path, lambda name: timm_wrapper.image_part(name) is not None)
    else:
        read_config(config)
        state = read_tensors(path, lambda name: wanted(str(whole), name))
    return to_timm(state, config)


def to_timm(
    state: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[Architecture, dict[str, Tensor]]:
    """Convert a checkpoint of transformers to the timm model that computes the same.

    The tensors get timm's names, and queries, keys and values are concatenated. The model pools by
    the class token. SigLIP pools by attention. Models with neither pool by the mean of the patches.
    Without a head the model returns the pooled token [B, C]; token and mean are taken after the
    last norm.

    - DeiT with a teacher becomes timm's distilled model. DeiT without one has a head on the class
      token only, and its distillation token becomes a register token.
    - DINOv2's registers have no position. The position of the class token is added to this token,
      because timm's model does not add it.
    - DINOv3 becomes timm's ``Eva``. Biases that the config switches off and timm's model has are
      zeros.
    - CLIP's projection becomes a head with a bias of zeros, as in timm.
    - SigLIP 2 becomes a model for square images of ``num_patches`` patches.
    - MAE is its encoder without masking.
    - ``timm_wrapper`` is timm's model as it is, also inside ``perception_lm``.
    - Left out are text models, MAE's decoder, mask tokens, and the poolers of ViT and DeiT. Of
      LLaVA and its kin only the image model is taken.

    Args:
        state: the tensors by transformers' names, as in its files or its models.
        config: config.json, of one of the model_types in ``KINDS`` and ``WITH_TEXT`` of ``kinds``,
            or in ``timm_wrapper.KINDS``.

    Returns:
        The timm model's class and arguments, and the tensors by timm's names.

    Raises:
        NotImplementedError: another model_type; a key that is missing or has a value that timm's
            model does not compute; or a head on the patches. The message names it.
        ValueError: a value has another type or is out of range (the message names its key); or the
            tensors do not fit the config. Then the message names missing tensors by timm's names,
            unexpected and misshapen ones by the checkpoint's names, and the keys that contradict
            them.
    """
    if isinstance(config, Mapping) and config.get("model_type") in timm_wrapper.KINDS:
        return timm_wrapper.wrapped_to_timm(state, config)
    checked = read_config(config)
    kind, classifier = checked.kind, checked.traits.classifier
    if not classifier and "classifier.weight" in state:
        raise NotImplementedError(
            f"dsm_ext: transformers' {kind} with a classifier on the mean of the patches is not "
            "supported; without the classifier's tensors the backbone is converted"
        )
    given, names = renamed(checked, config["model_type"], state)
    architecture = architecture_of(checked, state, given)
    with torch.device("meta"):
        timm_state = architecture.build().state_dict()
    shapes = {name: list(tensor.shape) for name, tensor in timm_state.items()}
    class_position = kind == "dinov2_with_registers"
    if class_position:
        shapes["pos_embed"][1] += 1  # the row of the class token, which is added to it below
    try:
        out = _gathered(checked, given, names, shapes)
    except ValueError as error:
        notes = "; ".join(dict.fromkeys(contradictions(checked, given)))
        raise ValueError(f"{error}; {notes}" if notes else str(error)) from None
    if class_position:
        out["cls_token"] = out["cls_token"] + out["pos_embed"][:, :1]
        out["pos_embed"] = out["pos_embed"][:, 1:]
    return architecture, out


def _gathered(
    config: VisionConfig,
    given: dict[str, Tensor],
    names: dict[str, str],
    shapes: dict[str, list[int]],
) -> dict[str, Tensor]:
    """Check the shapes of all tensors and concatenate their parts."""
    out, used = {}, set()
    missing, misshapen = [], []
    for target, shape in shapes.items():
        place, _, leaf = target.rpartition(".")
        split = [f"{place}.{part}.{leaf}" for part in _PARTS.get(place.split(".", 2)[-1], ())]
        parts = split if any(part in given for part in split) else [target]
        expected = [shape[0] // len(parts), *shape[1:]]
        zeros = {part for part in parts if _is_zero(config, part, given)}
        for part in parts:
            if part in zeros:
                continue
            if part not in given:
                missing.append(part)
            elif list(given[part].shape) != expected:
                got = list(given[part].shape)
                misshapen.append(f"{names.get(part, part)} {got} (expected {expected})")
            used.add(part)
        if not missing and not misshapen:
            patches = given["patch_embed.proj.weight"]
            tensors = [patches.new_zeros(expected) if p in zeros else given[p] for p in parts]
            out[target] = tensors[0] if parts == [target] else torch.cat(tensors)
    unexpected = dict.fromkeys(name for new, name in names.items() if new not in used)
    kinds = (("missing (by timm's names)", missing), ("unexpected", unexpected))
    faults = [
        f"{fault} {listed(found)}" for fault, found in (*kinds, ("misshapen", misshapen)) if found
    ]
    if faults:
        raise ValueError(
            f"dsm_ext: the tensors are not those of transformers' {config.kind} with this config: "
            f"{'; '.join(faults)}"
        )
    return out


def _is_zero(config: VisionConfig, part: str, given: Mapping[str, Tensor]) -> bool:
    """Whether timm's model has a bias that transformers' model lacks, so that it must be zero."""
    if part == "head.bias":  # CLIP's projection has none
        return config.kind == "clip_vision_model" and "head.weight" in given
    layer = bias_of(part)
    return layer != "" and layer not in config.biases
