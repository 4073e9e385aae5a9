"""The parts of a compiled model: modules with timm's names that share its parameters.

Layers are torch's own modules, so users can inspect, call and load them. The model itself does not
call them: it is one compiled call over the same parameters. A part that was replaced or has hooks
would therefore have no effect. ``changes`` finds such parts, so that the model can refuse them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from dsm_ext._native import Config

HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class Part(nn.Module):
    """A part that has no forward of its own, such as a block or its attention."""

    def forward(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError(
            "dsm_ext: this part is computed inside the model, which is one compiled call; for the "
            "tokens after a block call the model's forward_intermediates"
        )


class Known(NamedTuple):
    """A part as it was when the model last looked at it."""

    part: nn.Module
    kind: type
    eps: Any
    """The eps of a norm. None for other parts."""


def known_parts(root: nn.Module) -> dict[str, Known]:
    """The parts below a module, keyed by their names."""
    return {
        name: Known(part, type(part), vars(part).get("eps"))
        for name, part in root.named_modules(remove_duplicate=False)
        if name
    }


def head_names(config: Config) -> tuple[str, ...]:
    """The names of the model's classifiers."""
    return ("head", "head_dist") if config.distilled else ("head",)


def add_parts(root: nn.Module, parameters: Sequence[tuple[str, Tensor]], config: Config) -> None:
    """Register the parameters below ``root`` under their names, in the same modules as timm."""
    own: dict[str, dict[str, nn.Parameter]] = {}
    for name, tensor in parameters:
        path, _, leaf = name.rpartition(".")
        own.setdefault(path, {})[leaf] = nn.Parameter(tensor, requires_grad=False)
    for path, tensors in own.items():
        owner = root.get_submodule(path) if _has(root, path) else _add(root, path, tensors, config)
        for leaf, parameter in tensors.items():
            owner.register_parameter(leaf, parameter)
    for name in head_names(config):
        if name not in root._modules:
            root.add_module(name, nn.Identity())


def _has(root: nn.Module, path: str) -> bool:
    try:
        root.get_submodule(path)
    except AttributeError:
        return False
    return True


def _add(
    root: nn.Module, path: str, tensors: Mapping[str, nn.Parameter], config: Config
) -> nn.Module:
    parent, names = root, path.split(".")
    for name in names[:-1]:
        if name not in parent._modules:
            parent.add_module(name, nn.Sequential() if name == "blocks" else Part())
        parent = parent.get_submodule(name)
    parent.add_module(names[-1], _layer(tensors, config))
    return parent.get_submodule(names[-1])


def _layer(tensors: Mapping[str, nn.Parameter], config: Config) -> nn.Module:
    """Make torch's module for the tensors of one layer. It has no values yet."""
    if not tensors.keys() <= {"weight", "bias"}:
        return Part()
    weight, bias = tensors["weight"], "bias" in tensors
    if weight.ndim == 2:
        return nn.Linear(weight.shape[1], weight.shape[0], bias=bias, device="meta")
    if weight.ndim == 4:
        patch = config.patch_size
        return nn.Conv2d(
            config.in_chans, config.embed_dim, patch, stride=patch, bias=bias, device="meta"
        )
    if config.norm_layer == "rms_norm":
        return nn.RMSNorm(weight.shape[0], eps=config.eps, device="meta")
    return nn.LayerNorm(weight.shape[0], eps=config.eps, bias=bias, device="meta")


def changes(known: Mapping[str, Known], root: nn.Module) -> Iterator[tuple[str, str]]:
    """Find changes of a module tree that would have no effect on what the model computes.

    Args:
        known: the parts by name, as they were.

    Yields:
        The name of a part, and what was done to it. If a part was replaced, the parts inside it are
        not reported.
    """
    now: dict[str, nn.Module | None] = {}
    for path, module in root.named_modules(remove_duplicate=False):
        for name, part in module._modules.items():
            now[f"{path}.{name}" if path else name] = part
    outer: list[str] = []
    for name in sorted(known.keys() | now.keys(), key=lambda name: (name.count("."), name)):
        if any(name.startswith(f"{path}.") for path in outer):
            continue
        before = known.get(name)
        what = _difference(before and before.part, now.get(name))
        if what:
            outer.append(name)
            yield name, what
    for name, before in known.items():
        if now.get(name) is before.part and not any(name.startswith(f"{p}.") for p in outer):
            yield from ((name, what) for what in _intrusions(before))


def _difference(before: nn.Module | None, after: nn.Module | None) -> str:
    if before is after:
        return ""
    if before is None:
        return f"was added ({_kind(after)})"
    if after is None:
        return "was deleted"
    return f"was replaced by another {_kind(after)}"


def _kind(module: nn.Module | None) -> str:
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}"


def _intrusions(known: Known) -> Iterator[str]:
    """What was done to a part that is still in its place."""
    part = known.part
    if type(part) is not known.kind:
        yield f"became a {_kind(part)}"
    if vars(part).get("eps") != known.eps:
        yield f"has eps={part.eps!r}, but the model computes with {known.eps!r}"
    if any(getattr(part, hooks) for hooks in HOOKS):
        yield "has hooks, which are never called"
    for name, value in vars(part).items():
        if callable(value) and hasattr(type(part), name):
            yield f"has another {name}, which is never called"
