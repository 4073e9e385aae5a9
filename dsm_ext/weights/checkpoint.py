"""Finding the state dict of a Vision Transformer in a training script's checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from dsm_ext.error_text import described, listed
from dsm_ext.weights.places import WRAPPERS, Place, dotted, find_places, with_prefix

EMA = ("state_dict_ema", "model_ema")  # averaged weights, of timm and DeiT. timm prefers them
_UNWRAPPED = ("state_dict", "model")
_DEEPEST = 6


class State(NamedTuple):
    """A state dict, and where it was in the checkpoint."""

    tensors: dict[str, Tensor]
    """Tensors by their names, without the prefix and without wrappers' prefixes."""
    prefix: str
    """The prefix that the names had."""
    beside: list[str]
    """The names of tensors with other prefixes."""


def find_state(content: Any, *, prefix: str | None = None, use_ema: bool = True) -> State:
    """Find the state dict of the one Vision Transformer in a checkpoint.

    Like timm, this prefers the dict under "state_dict_ema" or "model_ema", then the one under
    "state_dict" or "model". The name of the patch embedding shows the prefix of the names. The
    prefixes of torch's wrappers ("module.", "_orig_mod.") are removed everywhere. If no name is
    that of a patch embedding, all tensors are returned.

    Args:
        content: the content of the file.
        prefix: the prefix of the names, such as "teacher.backbone.". Names of dicts in dicts are
            joined with dots. None finds the prefix if there is only one Vision Transformer.
        use_ema: prefer averaged weights.

    Raises:
        ValueError: there are no tensors; none has the prefix; or there are several Vision
            Transformers (the message names their prefixes).
        TypeError: the prefix is not a string.
    """
    if prefix is not None and not isinstance(prefix, str):
        raise TypeError(f"expected weights_prefix to be a string, got {described(prefix)}")
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds no state dict of tensors, but {described(content)}")
    path, scope = _timm_takes(content, use_ema)
    dicts = dict(_dicts(scope, path, use_ema))
    places = every = find_places(dicts)
    if prefix is not None:
        places = with_prefix(every, prefix, path)
        if not places:  # look outside the dict that timm would take
            dicts |= dict(_dicts(content, "", use_ema))
            every = find_places(dicts)
            places = with_prefix(every, prefix, path)
        if not places:
            return _all_with_prefix(dicts, prefix, path, every, content)
    if len(places) > 1:
        fitting = listed((repr(place.prefix.removeprefix(path)) for place in places), 8)
        raise ValueError(
            f"it holds {len(places)} Vision Transformers, under the prefixes {fitting}: choose one "
            "by weights_prefix="
        )
    if places:
        return _taken(dicts[places[0].path], places[0], every)
    if path not in dicts:
        averaged = [key for key in EMA if isinstance(content.get(key), Mapping)]
        if averaged and not use_ema:
            raise ValueError(
                f"it holds only averaged weights, under {listed(averaged)}, and use_ema=False "
                "leaves them out"
            )
        raise ValueError(f"it holds no state dict of tensors, but {_overview(content)}")
    return State(_cleaned(dicts[path], ""), path, [])


def _timm_takes(content: Mapping[Any, Any], use_ema: bool) -> tuple[str, Mapping[Any, Any]]:
    path = ""
    for _ in range(_DEEPEST):
        for key in (*(EMA if use_ema else ()), *_UNWRAPPED):
            inner = content.get(key)
            if isinstance(inner, Mapping) and any(_dicts(inner, "", use_ema)):
                path, content = f"{path}{key}.", inner
                break
        else:
            break
    return path, content


def _dicts(
    content: Mapping[Any, Any], path: str, use_ema: bool, depth: int = 0
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield each dict that directly holds tensors, with its path."""
    tensors = {key: v for key, v in content.items() if isinstance(key, str) and _is_tensor(v)}
    if tensors:
        yield path, tensors
    for key, inner in content.items():
        if isinstance(inner, Mapping) and depth < _DEEPEST and (use_ema or key not in EMA):
            yield from _dicts(inner, f"{path}{key}.", use_ema, depth + 1)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _taken(names: Mapping[str, Tensor], place: Place, every: list[Place]) -> State:
    root, add = place.root, ""
    start = root
    if place.kind == "tower":  # timm's conversion also needs the projection beside the trunk
        root = root[: root.rindex("visual.")]
        start = root + "visual."
    elif place.kind == "clip":
        add = "visual."  # timm converts names that begin so
    others = tuple(
        other.root
        for other in every
        if other.path == place.path and other.root != place.root and other.root.startswith(start)
    )
    inside = {
        name: tensor
        for name, tensor in names.items()
        if name.startswith(start) and not name.startswith(others)
    }
    beside = [name for name in names if name not in inside]
    tensors = {add + name: tensor for name, tensor in _cleaned(inside, root).items()}
    return State(tensors, place.prefix, beside)


def _all_with_prefix(
    dicts: Mapping[str, dict[str, Tensor]],
    prefix: str,
    path: str,
    places: list[Place],
    content: Mapping[Any, Any],
) -> State:
    """The tensors with a prefix, if none of them is a patch embedding."""
    wanted = dotted(prefix)
    for where, names in dicts.items():
        for start in dict.fromkeys((where.removeprefix(path), where)):
            if start.startswith(wanted):
                return State(_cleaned(names, ""), where, [])
            root = wanted.removeprefix(start) if wanted.startswith(start) else None
            inside = {n: t for n, t in names.items() if root is not None and n.startswith(root)}
            if inside and root is not None:
                beside = [name for name in names if name not in inside]
                return State(_cleaned(inside, root), where + root, beside)
    there = listed((repr(place.prefix.removeprefix(path)) for place in places), 8)
    raise ValueError(
        f"it has no tensors with weights_prefix={described(prefix)}; "
        + (f"there is a Vision Transformer under {there}" if there else _overview(content))
    )


def _cleaned(tensors: Mapping[str, Tensor], root: str) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in tensors.items():
        short = WRAPPERS.sub("", name[len(root) :])
        if short in out:
            raise ValueError(
                f"it holds two tensors for {described(short)}: {origin[short]} and {name}: choose "
                "one by weights_prefix="
            )
        out[short], origin[short] = tensor.detach(), name
    return out


def _overview(content: Mapping[Any, Any]) -> str:
    """The first keys of a checkpoint and their values, described."""
    entries = (f"{described(key)}: {described(value)}" for key, value in content.items())
    shown = [entry for entry, _ in zip(entries, range(6), strict=False)]
    more = len(content) - len(shown)
    kind = f"a {type(content).__name__} of {len(content)} entries"
    return f"{kind}: {'; '.join(shown)}" + (f"; and {more} more" if more > 0 else "")
