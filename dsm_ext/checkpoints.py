"""Finds a Vision Transformer's state dict in what training saved."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from dsm_ext.described import described, listed

EMA = ("state_dict_ema", "model_ema")  # timm's and DeiT's; timm takes them before the others
_UNWRAPPED = ("state_dict", "model")
# Of torch.compile, data parallelism and activation checkpointing; no layer has such a name.
_WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
_PATCHES = "patch_embed.proj.weight"
# Of other projects' Vision Transformers, whose names timm converts.
_FOREIGN_PATCHES = (
    "preprocessor.patchifier.proj.weight",
    "radio_model.model.patch_generator.embedder.weight",
    "beit3.vision_embed.proj.weight",
)
_DEEPEST = 6


class State(NamedTuple):
    """A state dict, and where it was found."""

    tensors: dict[str, Tensor]
    """By the names behind the prefix, without those of wrappers."""
    prefix: str
    """What stood before the names."""
    beside: list[str]
    """The names of tensors with other prefixes."""


class _Place(NamedTuple):
    """A Vision Transformer in a dict of tensors."""

    path: str  # of the dict, from the checkpoint's beginning
    root: str  # before the tensors' names in it
    kind: str  # timm, tower (one of timm's in OpenCLIP's), clip, or foreign

    @property
    def prefix(self) -> str:
        return self.path + self.root


def find_state(content: Any, *, prefix: str | None = None, use_ema: bool = True) -> State:
    """The state dict of the one Vision Transformer in a checkpoint.

    As timm does, what stands under "state_dict_ema" or "model_ema" is taken before that under
    "state_dict" or "model". There the patch embedding's name shows which prefix the names have; the
    prefixes of torch's wrappers ("module.", "_orig_mod.") are taken off wherever they stand.
    Where no name is that of a patch embedding, the tensors are given as they are.

    Args:
        content: what the file holds.
        prefix: of the names to take, such as "teacher.backbone."; dicts in dicts are written with
            dots. None finds the only one there is.
        use_ema: take the averaged weights where there are any.

    Raises:
        ValueError: there are no tensors, or none with the prefix, or several Vision Transformers,
            whose prefixes are named.
        TypeError: a prefix that is not a string.
    """
    if prefix is not None and not isinstance(prefix, str):
        raise TypeError(f"expected weights_prefix to be a string, got {described(prefix)}")
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds no state dict of tensors, but {described(content)}")
    path, scope = _timm_takes(content, use_ema)
    dicts = dict(_dicts(scope, path, use_ema))
    places = every = _places(dicts)
    if prefix is not None:
        places = _with_prefix(every, prefix, path)
        if not places:  # beside what timm takes
            dicts |= dict(_dicts(content, "", use_ema))
            every = _places(dicts)
            places = _with_prefix(every, prefix, path)
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
                f"it holds averaged weights alone, under {listed(averaged)}, and use_ema=False "
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
    """The dicts that hold tensors themselves, by their path."""
    tensors = {key: v for key, v in content.items() if isinstance(key, str) and _is_tensor(v)}
    if tensors:
        yield path, tensors
    for key, inner in content.items():
        if isinstance(inner, Mapping) and depth < _DEEPEST and (use_ema or key not in EMA):
            yield from _dicts(inner, f"{path}{key}.", use_ema, depth + 1)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _places(dicts: Mapping[str, Mapping[str, Tensor]]) -> list[_Place]:
    return [place for path, names in dicts.items() for place in _places_in(path, names)]


def _places_in(path: str, names: Mapping[str, Tensor]) -> Iterator[_Place]:
    clean = {_WRAPPERS.sub("", name) for name in names}
    for name in names:
        for end, kind in ((_PATCHES, "timm"), ("conv1.weight", "clip")):
            root = _before(name, end)
            if root is None:
                continue
            short = _WRAPPERS.sub("", root)
            if kind == "clip" and f"{short}class_embedding" not in clean:
                continue  # a convolution of something else
            if kind == "timm" and short.endswith("visual.trunk."):
                kind = "tower"
            yield _Place(path, root, kind)
        for end in _FOREIGN_PATCHES:
            root = _before(name, end)
            if root is not None:
                yield _Place(path, root, "foreign")


def _before(name: str, end: str) -> str | None:
    """What stands before the last parts of a name, wrappers left out of the comparison."""
    short = _WRAPPERS.sub("", name)
    if short != end and not short.endswith("." + end):
        return None
    first = end.partition(".")[0] + "."
    return name[: ("." + name).rindex("." + first)]


def _with_prefix(places: list[_Place], prefix: str, path: str) -> list[_Place]:
    """Those of just that prefix, from the checkpoint's beginning or from what timm takes; else
    those whose prefix begins so."""
    wanted = _WRAPPERS.sub("", _dotted(prefix))

    def prefixes(place: _Place) -> set[str]:
        whole = place.prefix
        forms = {whole, whole.removeprefix(path)}
        return forms | {_WRAPPERS.sub("", form) for form in forms}

    raw = [place for place in places if _dotted(prefix) in prefixes(place)]
    exact = raw or [place for place in places if wanted in prefixes(place)]
    if exact or not prefix:
        return exact
    return [p for p in places if any(form.startswith(wanted) for form in prefixes(p))]


def _dotted(prefix: str) -> str:
    return prefix if not prefix or prefix.endswith(".") else prefix + "."


def _taken(names: Mapping[str, Tensor], place: _Place, every: list[_Place]) -> State:
    root, add = place.root, ""
    start = root
    if (
        place.kind == "tower"
    ):  # timm's conversion wants what stands beside the trunk, the projection
        root = root[: root.rindex("visual.")]
        start = root + "visual."
    elif place.kind == "clip":
        add = "visual."  # as in the files whose names timm converts
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
    places: list[_Place],
    content: Mapping[Any, Any],
) -> State:
    """Tensors with a prefix, among them no patch embedding."""
    wanted = _dotted(prefix)
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
        short = _WRAPPERS.sub("", name[len(root) :])
        if short in out:
            raise ValueError(
                f"it holds two tensors for {described(short)}: {origin[short]} and {name}: choose "
                "one by weights_prefix="
            )
        out[short], origin[short] = tensor.detach(), name
    return out


def _overview(content: Mapping[Any, Any]) -> str:
    """The keys of a checkpoint and what is under them."""
    entries = (f"{described(key)}: {described(value)}" for key, value in content.items())
    shown = [entry for entry, _ in zip(entries, range(6), strict=False)]
    more = len(content) - len(shown)
    kind = f"a {type(content).__name__} of {len(content)} entries"
    return f"{kind}: {'; '.join(shown)}" + (f"; and {more} more" if more > 0 else "")
