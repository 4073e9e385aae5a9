"""Loading weight files into timm's models, in the same way as timm."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.models import eva, vision_transformer
from timm.models.eva import Eva
from torch import Tensor, nn

from dsm_ext.error_text import described, listed
from dsm_ext.model import VisionTransformer
from dsm_ext.timm_models.config import config_of
from dsm_ext.transformers_models.weights import is_transformers
from dsm_ext.weights.checkpoint import State
from dsm_ext.weights.load import read_state
from dsm_ext.weights.weight_file import existing_file, is_numpy_archive

_POSITIONS = ("pos_embed", "positional_embedding")


def give_weights(
    model: Any,
    path: str | os.PathLike[str],
    *,
    name: str,
    prefix: str | None,
    use_ema: bool,
    resample: bool,
) -> Any:
    """Load a weight file into a supported timm model on the meta device.

    If the tensors have timm's names and shapes, they are taken and converted to float32, as timm's
    ``load_state_dict`` does. Otherwise timm's conversion (``checkpoint_filter_fn``) runs first.

    Args:
        name: timm's name of the model. Messages show it, and some conversions depend on it.
        resample: whether to resample position embeddings of another image size.

    Raises:
        FileNotFoundError, ValueError, TypeError: as ``load_weights``. ValueError also if the
            weights do not fit. The message names them and arguments that would make them fit.
    """
    path = existing_file(path)
    if is_numpy_archive(path):
        if prefix is not None:
            raise ValueError(f"dsm_ext: {path}: weights_prefix does not go with NumPy archives")
        return _give_numpy(model, path, name, resample)
    found = read_state(path, prefix=prefix, use_ema=use_ema)
    state = found.tensors
    own = model.state_dict()
    if not _fits(own, state):
        state = _converted(model, state, name)
        if not resample:
            _check_positions(model, found.tensors, path, name)
    for tensor_name, tensor in state.items():
        _check_tensor(tensor_name, tensor, path)
    if not _fits(own, state):
        raise _misfit(model, state, found, path, name)
    del found
    weights = {key: state.pop(key).to(torch.float32).contiguous() for key in own}
    model.load_state_dict(weights, assign=True)
    fill_buffers(model)
    return model


def fill_buffers(model: Any) -> None:
    """Compute the buffers of a model that was made on the meta device: those of rotary positions
    and of the keys' bias. No file has them."""
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_meta:
                module._buffers[name] = torch.empty_like(buffer, device="cpu")
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()


def _fits(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    return own.keys() == state.keys() and all(own[key].shape == state[key].shape for key in own)


def _converted(model: Any, state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Convert tensors to timm's names. If timm cannot, return them as they are."""
    if _patch_sizes(state) - {tuple(model.patch_embed.patch_size)}:
        return state  # from another model: timm would resample the patch embedding
    if isinstance(model, Eva):
        return _converted_by(eva.checkpoint_filter_fn, model, state)
    options: dict[str, Any] = {"adapt_layer_scale": True}
    if "flexi" in name or "radio" in name:  # timm resamples their positions in this way
        options |= {"interpolation": "bilinear", "antialias": False}
    aligned = getattr(vision_transformer, "_RADIO_ALIGN_CORNERS", ())
    if any(part in name for part in aligned):
        options["align_corners"] = True
    return _converted_by(partial(vision_transformer.checkpoint_filter_fn, **options), model, state)


def _converted_by(
    convert: Callable[..., dict[str, Tensor]], model: Any, state: dict[str, Tensor]
) -> dict[str, Tensor]:
    try:
        converted = convert(dict(state), model)
    except Exception:  # unknown names or shapes: the caller reports what does not fit
        return state
    if "head.bias" in converted and "head.bias" not in state and "head.weight" in converted:
        # timm adds a bias of zeros to a projection without one
        converted["head.bias"] = converted["head.bias"].to(converted["head.weight"].dtype)
    return converted


def _patch_sizes(state: Mapping[str, Tensor]) -> set[tuple[int, ...]]:
    ends = ("patch_embed.proj.weight", "visual.conv1.weight", "patchifier.proj.weight")
    return {tuple(t.shape[2:]) for n, t in state.items() if n.endswith(ends) and t.ndim == 4}


def _check_positions(model: Any, state: Mapping[str, Tensor], path: Path, name: str) -> None:
    rows = [
        tensor.shape[-2]
        for tensor_name, tensor in state.items()
        if tensor_name.rpartition(".")[2] in _POSITIONS and tensor.ndim > 1
    ]
    large = any(key.startswith("radio_model.") for key in state)  # timm always crops these
    if rows and not large:
        _check_rows(model, rows[0], path, name)


def _check_rows(model: Any, rows: int, path: Path, name: str) -> None:
    """Refuse positions for another image size than the model's, as timm does."""
    patches = math.prod(model.patch_embed.grid_size)
    if model.pos_embed is None or rows - patches in (0, 1, model.num_prefix_tokens):
        return
    height, width = model.patch_embed.img_size
    ours = height if height == width else (height, width)
    raise ValueError(
        f"dsm_ext.from_timm: {path} has {rows} positions, and {name} has {model.pos_embed.shape[1]}"
        f" for images of {height} x {width}: give {_size_of(model, rows)}, the size that the "
        f"weights are for, or img_size={ours} to have their positions resampled"
    )


def _size_of(model: Any, rows: int) -> str:
    ph, pw = model.patch_embed.patch_size
    for prefix in (0, model.num_prefix_tokens, 1):
        side = math.isqrt(max(rows - prefix, 0))
        if side * side == rows - prefix and side > 0:
            size = side * ph if ph == pw else (side * ph, side * pw)
            return f"img_size={size}"
    return "as img_size=(height, width)"


def _check_tensor(name: str, tensor: Tensor, path: Path) -> None:
    if not tensor.dtype.is_floating_point or tensor.is_quantized:
        raise TypeError(
            f"dsm_ext.from_timm: {path}: expected weights of a floating point dtype, got "
            f"{described(name)} of {tensor.dtype}"
        )
    if tensor.is_meta or tensor.layout != torch.strided:
        what = "no values (it was saved on the meta device)" if tensor.is_meta else tensor.layout
        raise ValueError(f"dsm_ext.from_timm: {path}: {described(name)} has {what}")


def _misfit(
    model: Any, state: Mapping[str, Tensor], found: State, path: Path, name: str
) -> Exception:
    """The compiled model's error, which names each tensor, with hints added."""
    weights = {key: tensor.to(torch.float32) for key, tensor in state.items()}
    try:
        VisionTransformer(config_of(model), "dense", weights)
    except ValueError as error:
        text = str(error)
    else:  # pragma: no cover
        text = "dsm_ext.from_timm: the weights do not fit the model"
    hints = list(_hints(model, state))
    if found.beside:
        hints.append(
            f"only the tensors under {described(found.prefix)} were used; the file also has "
            f"{listed(found.beside, 3)}"
        )
    return ValueError("; ".join([f"{text}; {path} as {name}", *hints]))


def _hints(model: Any, state: Mapping[str, Tensor]) -> Iterator[str]:
    own = model.state_dict()
    if is_transformers(state):
        yield "these are names of transformers: dsm_ext.from_transformers reads its folders"
        return
    head, head_here = state.get("head.weight"), own.get("head.weight")
    if head is not None and head.ndim == 2 and (head_here is None or len(head) != len(head_here)):
        yield f"the weights have {len(head)} classes: give num_classes={len(head)}"
    elif head is None and head_here is not None:
        yield "the weights have no classifier: give num_classes=0 for a model without one"
    patches = state.get("patch_embed.proj.weight")
    expected = own["patch_embed.proj.weight"]
    if patches is not None and patches.ndim == 4 and patches.shape[1] != expected.shape[1]:
        yield f"they take {patches.shape[1]} channels: give in_chans={patches.shape[1]}"
    for size in _patch_sizes(state) - {tuple(expected.shape[2:])}:
        yield (
            f"they are of a model with patches of {listed(map(str, size))} pixels, and this one's "
            f"are of {listed(map(str, expected.shape[2:]))}"
        )
    mean, mean_here = "fc_norm.weight" in state, "fc_norm.weight" in own
    if mean != mean_here:
        yield f"they seem to be of a model with global_pool={'avg' if mean else 'token'!r}"


@torch.no_grad()
def _give_numpy(model: Any, path: Path, name: str, resample: bool) -> Any:
    """Load JAX's archive with the model's own reader. Parameters that it does not set stay NaN."""
    if not resample:
        with np.load(path) as archive:
            keys = [key for key in archive.files if key.endswith("pos_embedding")]
            if keys and archive[keys[0]].ndim > 1:
                _check_rows(model, archive[keys[0]].shape[-2], path, name)
    model = model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.constant_(parameter, math.nan)
    try:
        model.load_pretrained(str(path))
    except Exception as error:  # the reader raises many types for unknown names and shapes
        raise ValueError(
            f"dsm_ext.from_timm: timm cannot read {path} as {name}: {type(error).__name__} "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    lacking = [key for key, tensor in model.state_dict().items() if tensor.isnan().any()]
    if lacking:
        hint = "; give the num_classes= that it has, or 0" if "head.weight" in lacking else ""
        raise ValueError(
            f"dsm_ext.from_timm: {path} as {name}: missing or NaN are {listed(lacking)}{hint}"
        )
    return model
