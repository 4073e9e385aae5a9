"""The compiled model as an ``nn.Module``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dsm_ext._native import _C, Config, Plan, Schedule
from dsm_ext.ops import unmerge

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Trace(NamedTuple):
    """What ``VisionTransformer.trace`` returns."""

    logits: Tensor
    """What ``forward`` gives."""
    source: Tensor
    """[B, gh * gw] int32: the index of the token that holds each patch at the end."""
    size: Tensor
    """[B, M] float32: how many patches each token stands for."""


class Intermediate(NamedTuple):
    """The tokens behind a block."""

    tokens: Tensor
    """[B, M, C], prefix first, in the model's dtype."""
    source: Tensor
    """[B, gh * gw] int32: the index of the token that holds each patch."""
    size: Tensor
    """[B, M] float32: how many patches each token stands for."""


class VisionTransformer(nn.Module):
    """A Vision Transformer with delayed spatial merging; ``from_timm`` makes one.

    The parameters bear timm's names, so ``state_dict`` is timm's. They are shared with the compiled
    model, which runs where they are (``to``) and in their dtype: float32, bfloat16 or float16;
    autocast does not change it. The model is for inference: nothing is recorded for its parameters,
    and images that require grad are refused. What takes images releases the GIL and may run in
    several threads.

    On the CPU in float32 the weights are packed by the first call, and again by the first one after
    they have changed. Changes that torch does not count (through ``.data`` or ``numpy()``) are not
    seen; after them, assign ``cpu_path`` again. ``cpu_path = "reference"`` or the environment
    variable ``DSM_EXT_CPU=reference`` runs ATen's operators instead; weights that were made in
    inference mode, whose changes torch does not count either, always do.

    On a GPU what the second call like an earlier one does is recorded as a CUDA graph (the same
    number and size of images, the same method, the same weights in the same place), and later ones
    replay it, on any stream, one behind the other. Up to 16 recordings are kept; together they
    hold a forward's activations, each its patches and results besides. CUDA forbids other threads
    to wait for the whole device (``torch.cuda.synchronize()``) while one records: where they do,
    turn it off (``cuda_graphs``). No call waits for the GPU, but the first of a schedule or image
    size. In a graph that the caller captures the model must have been called so before, and must
    keep its schedule.

    Images are [B, in_chans, height, width], contiguous or not; B may be 0. Height and width are the
    config's, or with ``dynamic_img_size`` any multiples of the patch size.

    Raises:
        ValueError: images of another rank, number of channels, size or device; weights that do not
            fit (each is named) or are not finite; a schedule that does not fit the model.
        TypeError: images of another dtype than the weights; a conversion to another dtype than
            the three.
        NotImplementedError: images that require grad.
    """

    def __init__(
        self,
        config: Config,
        schedule: Schedule | str = "dsm",
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        """
        Args:
            config: the model's shape.
            schedule: a schedule, or a string that ``Schedule.parse`` takes.
            weights: tensors by timm's names, shared, not copied; None leaves them uninitialised.
        """
        core = _C.VisionTransformer(config, _schedule(schedule, config))
        if weights is None:
            shapes = core.named_parameters()
            weights = {name: torch.empty_like(shape, device="cpu") for name, shape in shapes}
            core.load_parameters(list(weights.items()), check_finite=False)
        else:
            core.load_parameters(list(weights.items()))
        self._wrap(core)

    @classmethod
    def _of(cls, core: _C.VisionTransformer) -> VisionTransformer:
        """The module of a compiled model that has its weights."""
        model = cls.__new__(cls)
        model._wrap(core)
        return model

    def _wrap(self, core: _C.VisionTransformer) -> None:
        super().__init__()
        self._core = core
        for name, tensor in core.named_parameters():
            parent: nn.Module = self
            *path, leaf = name.split(".")
            for part in path:
                if part not in parent._modules:
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            parent.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
        self._share()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, num_classes].

        Without a head (``num_classes=0``) what the pooling gives, [B, C], for any heads of one's
        own; with ``global_pool=""`` all tokens, [B, M, C]. Where the class token is pooled, the
        last block is computed for its row alone.
        """
        return self._shared_core().forward(images)

    def forward_features(self, images: Tensor, dense: bool = False) -> Tensor:
        """The tokens that remain [B, M, C], prefix first, after the last norm.

        Args:
            dense: give each patch back the value of the token that holds it: [B, P + gh * gw, C],
                patches in the image's order, as timm's ``forward_features``.
        """
        return self._shared_core().forward_features(images, dense)

    def forward_intermediates(
        self, images: Tensor, blocks: Sequence[int], norm: bool = False
    ) -> list[Intermediate]:
        """The tokens behind each of some blocks. Blocks behind the last of them are not computed.

        Args:
            blocks: ascending indices in [0, depth).
            norm: apply the last norm to the tokens.

        Raises:
            ValueError: other indices.
        """
        kept = self._shared_core().forward_intermediates(images, list(blocks), norm)
        return [Intermediate(*block) for block in kept]

    def get_intermediate_layers(
        self,
        images: Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_prefix_tokens: bool = False,
        norm: bool = False,
    ) -> list[Any]:
        """Dense features behind some blocks, as timm's and DINOv2's method of that name.

        Args:
            n: the last n blocks, or indices, negative ones from the end.
            reshape: give [B, C, gh, gw] in place of [B, gh * gw, C].
            return_prefix_tokens: where there are prefix tokens, give pairs, the second of them
                these [B, P, C].
            norm: apply the last norm.

        Returns:
            For each block the features of the patches, each of which has the value of the token
            that holds it.

        Raises:
            ValueError: indices out of range.
        """
        depth, prefix = self.config.depth, self.config.prefix
        if isinstance(n, int):
            blocks = list(range(depth - n, depth))
        else:
            blocks = sorted({i + depth if i < 0 else i for i in n})
        layers: list[Any] = []
        for tokens, source, _ in self.forward_intermediates(images, blocks, norm):
            patches = unmerge(tokens, source)
            if reshape:
                ph, pw = self.config.patch_size
                grid = (images.shape[2] // ph, images.shape[3] // pw)
                patches = patches.transpose(1, 2).unflatten(2, grid).contiguous()
            pairs = return_prefix_tokens and prefix > 0
            layers.append((patches, tokens[:, :prefix]) if pairs else patches)
        return layers

    def trace(self, images: Tensor) -> Trace:
        """Logits, and where each patch went. Here the last block runs whole, with its merging."""
        return Trace(*self._shared_core().trace(images))

    def profile(self, images: Tensor) -> dict[str, Any]:
        """Where the time of one ``forward`` goes.

        On the CPU's fast path it is the time of its threads; elsewhere that of one, or on a GPU
        its own, where the operators run one right behind the other, without a graph. There
        ``merge`` has the norm behind it, the sizes and their logarithms in it.

        Returns:
            ``wall``: seconds from beginning to end; ``threads``; ``blocks``: for each block the
            seconds that all threads together spent, by stage; ``before`` and ``after``: the same
            for what precedes the blocks and what follows.

        Raises:
            ValueError: no images.
        """
        return self._shared_core().profile(images)

    @property
    def cpu_path(self) -> str:
        """How a float32 model runs on the CPU: ``fast``, or ``reference``, by ATen's operators."""
        return self._core.cpu_path

    @cpu_path.setter
    def cpu_path(self, value: str) -> None:
        self._core.cpu_path = value

    @property
    def cuda_graphs(self) -> bool:
        """Whether forwards on a GPU are recorded and replayed as CUDA graphs.

        True unless the environment variable ``DSM_EXT_CUDA_GRAPHS`` was 0 when the model was made.
        Assigning forgets what was recorded: do that after a change of torch's settings, such as
        TF32's, which a recording keeps as they were.
        """
        return self._core.cuda_graphs

    @cuda_graphs.setter
    def cuda_graphs(self, value: bool) -> None:
        self._core.cuda_graphs = value

    def freeze(self) -> VisionTransformer:
        """Packs the weights now and lets go of the originals: half of the memory.

        The model runs as before, on the CPU. It can no longer be moved, converted, loaded, saved or
        copied; each raises ``RuntimeError``. A timm model that it came from keeps its own weights.

        Raises:
            NotImplementedError: the model does not run on the CPU's fast path.
        """
        self._shared_core().freeze()
        return self

    @property
    def config(self) -> Config:
        return self._core.config

    @property
    def schedule(self) -> Schedule:
        """Settable, to a schedule or a string; calls that have begun finish with the old one."""
        return self._core.schedule

    @schedule.setter
    def schedule(self, value: Schedule | str) -> None:
        self._core.schedule = _schedule(value, self.config)

    @property
    def plan(self) -> Plan:
        """Token counts and multiply-adds of each block; ``print`` shows a table."""
        return self._core.plan

    def extra_repr(self) -> str:
        return f"schedule={self.schedule!r}"

    # The core holds the very tensors that are registered here, so what moves, converts or fills
    # them in place reaches it; where one was replaced by another, the next call hands it over.

    def _share(self, check_finite: bool = False) -> None:
        parameters = dict(self.named_parameters())
        self._core.load_parameters(list(parameters.items()), check_finite)
        places = [(name.rpartition("."), parameter) for name, parameter in parameters.items()]
        self._links = _C.Links(
            [
                (self.get_submodule(owner)._parameters, leaf, parameter)
                for (owner, _, leaf), parameter in places
            ]
        )

    def _shared_core(self) -> _C.VisionTransformer:
        if torch.compiler.is_exporting():
            raise NotImplementedError(
                "dsm_ext.VisionTransformer: the model is one compiled call that torch.export "
                "cannot look into; export dsm_ext.reference.forward with ops=dsm_ext in its place"
            )
        if not self._links.hold():
            self._share(check_finite=True)
        return self._core

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> VisionTransformer:
        self._check_not_frozen()
        weight = next(self.parameters())
        probe = fn(torch.empty(0, dtype=weight.dtype, device=weight.device))
        if probe.dtype not in DTYPES or probe.is_meta:  # before anything has changed
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
                "dsm_ext.VisionTransformer: the model is frozen: it has let go of its weights"
            )

    # Copies and pickles carry the parameters; the core is made again from them.

    def __getstate__(self) -> dict[str, Any]:
        self._check_not_frozen()
        state = self.__dict__.copy()
        del state["_links"]
        state["_core"] = (self.config, self.schedule, self.cpu_path, self.cuda_graphs)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        config, schedule, cpu_path, cuda_graphs = state["_core"]
        self._core = _C.VisionTransformer(config, schedule)
        self._core.cpu_path = cpu_path
        self._core.cuda_graphs = cuda_graphs
        self._share()


def _schedule(schedule: Schedule | str, config: Config) -> Schedule:
    if isinstance(schedule, str):
        return Schedule.parse(schedule, config.depth)
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"dsm_ext: expected a Schedule or a string such as 'dsm:r=16', got {schedule!r}"
        )
    return schedule
