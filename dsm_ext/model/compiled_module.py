"""``CompiledModule``: how the compiled model behaves as an ``nn.Module``.

The compiled model holds the same tensors that are registered in the module, so it sees every
conversion, move or in-place change. Before each call the module compares its parts with a record of
them. If a parameter was replaced, the compiled model gets the new one. Changes that the compiled
model cannot follow are refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from dsm_ext._native import _C, Config, Schedule
from dsm_ext.error_text import described
from dsm_ext.model.module_tree import Known, add_parts, changes, head_names, known_parts
from dsm_ext.model.pretrained_cfg import UnknownCfg, fit_cfg, without_labels

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
NOT_TRACED = (
    "dsm_ext.VisionTransformer: the model is one compiled call that torch can neither trace, "
    "export nor transform; trace or export dsm_ext.reference.forward with ops=dsm_ext in its place"
)


# Users of timm and ToMe set these attributes on a model. The compiled model would ignore them.
_FIXED = {
    "img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads", "global_pool",
    "pool_include_prefix", "dynamic_img_size", "r", "prop_attn",
}  # fmt: skip


class CompiledModule(nn.Module):
    """The parts, parameters, conversions, copies and pickles of ``VisionTransformer``."""

    @classmethod
    def _of(cls, core: _C.VisionTransformer) -> Self:
        """Wrap a compiled model that already has its weights."""
        model = cls.__new__(cls)
        model._wrap(core)
        return model

    def _wrap(self, core: _C.VisionTransformer) -> None:
        super().__init__()
        self._core = core
        self._pretrained_cfg: dict[str, Any] | None = None
        self._model_args: dict[str, Any] = {}  # arguments for timm's create_model; `export` uses it
        add_parts(self, core.named_parameters(), core.config)
        self._share()
        self.eval()

    @property
    def config(self) -> Config:
        """The model's shape."""
        return self._shared_core().config

    @property
    def pretrained_cfg(self) -> Mapping[str, Any]:
        """How to prepare pictures for the model, and the names of its classes.

        The keys are timm's: ``input_size``, ``mean``, ``std``, ``interpolation``, ``crop_pct``,
        ``crop_mode``, ``label_names``, ``label_descriptions`` and others.
        ``timm.data.resolve_model_data_config(model)`` reads them. ``from_timm``, ``load``,
        ``from_transformers`` and ``from_open_clip`` set them, and you can assign them. If nothing
        is known, reading any key raises ValueError.

        Raises:
            ValueError: the assigned mapping lacks ``mean`` or ``std``, or has an unusable value of
                ``mean``, ``std``, ``crop_pct`` or ``crop_mode``.
            TypeError: the assigned value is not a mapping.
        """
        self._shared_core()  # if the user replaced the head, this drops the old labels
        return UnknownCfg() if self._pretrained_cfg is None else self._pretrained_cfg

    @pretrained_cfg.setter
    def pretrained_cfg(self, value: Mapping[str, Any] | None) -> None:
        self._pretrained_cfg = None if value is None else fit_cfg(value, self.config)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by a new one with random weights, like timm's method of this name.

        Args:
            num_classes: the number of classes. With 0 the model has no head and returns features.
            global_pool: ``token``, ``avg``, or "" for a model without a head. None keeps the
                pooling.

        Raises:
            ValueError: the model cannot have this number of classes or this pooling.
            TypeError: ``num_classes`` is not an integer.
            RuntimeError: the model is frozen.
        """
        self._check_not_frozen()
        self._take_changes()
        if isinstance(num_classes, bool):
            raise TypeError(
                "dsm_ext.VisionTransformer: expected num_classes to be a count, got a bool"
            )
        fields: dict[str, Any] = {"num_classes": operator.index(num_classes), "head_bias": True}
        if global_pool is not None:
            fields["global_pool"] = global_pool
        config = Config(**self.config.to_dict() | fields)
        if config.global_pool == "map" and "attn_pool" not in self._modules:
            raise ValueError(
                "dsm_ext.VisionTransformer: global_pool='map' asks for an attention pool, which "
                "has weights that this model lacks"
            )
        like = next(self.parameters())
        for name in head_names(config):
            head: nn.Module = nn.Identity()
            if config.num_classes > 0:
                head = nn.Linear(
                    config.embed_dim, config.num_classes, device=like.device, dtype=like.dtype
                ).requires_grad_(False)
            self.add_module(name, head)
        if config.global_pool != "map" and "attn_pool" in self._modules:
            del self.attn_pool
        self._make_core(config)
        if self._pretrained_cfg is not None:
            self._pretrained_cfg = without_labels(self._pretrained_cfg, config)

    def _share(self, check_finite: bool = False) -> None:
        parameters = list(self.named_parameters(remove_duplicate=False))
        self._core.load_parameters(parameters, check_finite)
        self._remember_tree()

    def _remember_tree(self) -> None:
        self._known = known_parts(self)
        self._tree = _C.ModuleTree([self, *(known.part for known in self._known.values())])

    def _make_core(self, config: Config) -> None:
        """Make a compiled model with another config from the parameters that are registered."""
        core = _C.VisionTransformer(config, self._core.schedule)
        core.cpu_path, core.cuda_graphs = self._core.cpu_path, self._core.cuda_graphs
        core.load_parameters(list(self.named_parameters(remove_duplicate=False)))
        if self._core.chosen_precision is not None:
            core.precision = self._core.chosen_precision
        self._core = core
        self._remember_tree()

    def _core_for(self, tensor: Tensor, name: str = "images") -> _C.VisionTransformer:
        """The compiled model, after it took over changes of the parts. Checks ``tensor``'s type."""
        if torch.compiler.is_exporting():
            raise NotImplementedError(NOT_TRACED)
        if type(tensor) is not Tensor:  # the cheapest check comes first
            _check_is_tensor(tensor, name)
        return self._core if self._tree.holds() else self._shared_core()

    def _shared_core(self) -> _C.VisionTransformer:
        if not self._tree.holds():
            self._take_changes()
        return self._core

    def _take_changes(self) -> None:
        """Give new parameters or a new head to the compiled model. Refuse all other changes."""
        heads = {name: self._modules.get(name) for name in head_names(self._core.config)}
        before, known = self._known, dict(self._known)
        if {type(head) for head in heads.values()} in ({nn.Linear}, {nn.Identity}):
            for name, head in heads.items():
                if head is not None and head is not known[name].part:
                    known[name] = Known(head, type(head), None)
        found = [f"{name} {what}" for name, what in changes(known, self)]
        if found:
            raise NotImplementedError(
                "dsm_ext.VisionTransformer: the model is one compiled call and cannot follow this "
                f"change of its parts: {'; '.join(found[:4])}"
                + (f"; and {len(found) - 4} more" if len(found) > 4 else "")
                + ". Undo it; or change timm's model and call dsm_ext.from_timm again; or load "
                "other weights into the parts that are there. Only head can be replaced, by an "
                "nn.Identity (for features) or an nn.Linear"
                + (", head_dist likewise, both together" if len(heads) > 1 else "")
            )
        first = next(iter(heads.values()))
        fields: dict[str, Any] = {"num_classes": 0, "head_bias": True}
        if isinstance(first, nn.Linear):
            fields["head_bias"] = first._parameters.get("bias") is not None
            fields["num_classes"] = len(first.weight) if first.weight.ndim else 0
        config = Config(**self._core.config.to_dict() | fields)
        if config == self._core.config:
            self._share(check_finite=True)
        else:
            self._check_not_frozen()
            self._make_core(config)
        others = any(head is not before[name].part for name, head in heads.items())
        if others and self._pretrained_cfg is not None:
            self._pretrained_cfg = without_labels(self._pretrained_cfg, config)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED:
            raise AttributeError(
                f"dsm_ext.VisionTransformer: {name} cannot be set: the compiled model is made for "
                "its config. Set schedule for other merging, use reset_classifier for another head "
                "or pooling, or call dsm_ext.from_timm again"
            )
        super().__setattr__(name, value)

    def __prepare_scriptable__(self) -> None:
        raise NotImplementedError(NOT_TRACED)  # torch.jit.script calls this method

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._check_not_frozen()
        self._shared_core()  # refuse a changed module tree before anything is converted
        weight = next(self.parameters())
        probe = fn(torch.empty(0, dtype=weight.dtype, device=weight.device))
        if probe.dtype not in DTYPES or probe.is_meta:  # refuse before anything is converted
            raise TypeError(
                "dsm_ext.VisionTransformer: expected float32, bfloat16 or float16 on a device with "
                f"memory, got {probe.dtype} on {probe.device}"
            )
        super()._apply(fn, recurse)
        self._share()
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        self._check_not_frozen()
        for name, _ in self.named_parameters():
            value = state_dict.get(prefix + name)
            if isinstance(value, Tensor) and not value.isfinite().all():
                raise ValueError(f"dsm_ext.VisionTransformer: NaN or infinity in {prefix}{name}")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self._check_not_frozen()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _check_not_frozen(self) -> None:
        if self._core.frozen:
            raise RuntimeError(
                "dsm_ext.VisionTransformer: the model is frozen: it has freed its weights"
            )

    # Copies and pickles hold the parameters. The compiled model is made again from them.

    def __getstate__(self) -> dict[str, Any]:
        self._check_not_frozen()
        core = self._shared_core()
        state = self.__dict__.copy()
        del state["_tree"], state["_known"]
        state["_core"] = (
            core.config, core.schedule, core.cpu_path, core.cuda_graphs, core.chosen_precision
        )  # fmt: skip
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        config, schedule, cpu_path, cuda_graphs, *precision = state["_core"]
        self._core = _C.VisionTransformer(config, schedule)
        self._core.cpu_path, self._core.cuda_graphs = cpu_path, cuda_graphs
        self._share()
        for name in filter(None, precision):  # older pickles have none
            self._core.precision = name


def _check_is_tensor(value: Any, name: str) -> None:
    if isinstance(value, torch.fx.Proxy):
        raise NotImplementedError(NOT_TRACED)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"dsm_ext.VisionTransformer: expected {name} to be a torch.Tensor with a batch "
            f"dimension, got {type(value).__module__}.{type(value).__qualname__}; arrays become "
            "one by torch.from_numpy, lists of tensors by torch.stack, pictures by a transform "
            "(dsm_ext.images.transform_for(model))"
        )


def to_schedule(schedule: Schedule | str, config: Config) -> Schedule:
    """Parse a schedule for a model if it is a string."""
    if isinstance(schedule, str):
        return Schedule.parse(schedule, config)
    if not isinstance(schedule, Schedule):
        raise TypeError(
            "dsm_ext: expected a Schedule or a string such as 'dsm:r=16', got "
            f"{described(schedule)}"
        )
    return schedule
