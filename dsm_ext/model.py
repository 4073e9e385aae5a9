"""The compiled model: what it computes."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, SupportsIndex, cast

import torch
from torch import Tensor

from dsm_ext._native import _C, Config, Plan, Schedule
from dsm_ext.described import described
from dsm_ext.module import CompiledModule, to_schedule
from dsm_ext.ops import unmerge


class Trace(NamedTuple):
    """What ``VisionTransformer.trace`` returns."""

    logits: Tensor
    """What ``forward`` gives."""
    source: Tensor
    """[B, gh * gw] int32: the index of the token that holds each patch at the end."""
    size: Tensor
    """[B, M] float32: how many patches each token stands for."""


class Outputs(NamedTuple):
    """What ``VisionTransformer.forward_with_features`` returns."""

    logits: Tensor
    """What ``forward`` gives."""
    pooled: Tensor
    """[B, C]: what the head takes."""
    features: Tensor
    """[B, M, C]: what ``forward_features`` gives."""
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


class VisionTransformer(CompiledModule):
    """A Vision Transformer with delayed spatial merging; ``from_timm`` makes one.

    The parameters bear timm's names, so ``state_dict`` is timm's. They are shared with the compiled
    model, which runs where they are (``to``) and in their dtype: float32, bfloat16 or float16;
    autocast does not change it. The model is for inference: nothing is recorded for its parameters,
    and images that require grad are refused. What takes images releases the GIL and may run in
    several threads.

    On the CPU in float32 the weights are packed by the first call, and again by the first one after
    they have changed. Changes that torch does not count (values written through ``.data`` or
    ``numpy()``, or by an optimizer with ``fused=True``) are not seen; after them, assign
    ``cpu_path`` again. ``cpu_path = "reference"`` or the environment
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

    The parts below the model (``blocks[3].attn.qkv``, ``norm``, ...) are torch's modules over the
    same parameters, to be looked at and loaded; the model computes by itself what they would. So at
    the next call it refuses parts that were replaced, added or deleted, and parts with hooks. The
    exception is ``head``: an ``nn.Identity`` in its place makes the model give features, an
    ``nn.Linear`` makes it another classifier.

    Images are [B, in_chans, height, width], contiguous or not; B may be 0. Height and width are the
    config's, or with ``dynamic_img_size`` any multiples of the patch size.

    Raises:
        ValueError: images of another rank, number of channels, size or device; weights that do not
            fit (each is named) or are not finite; a schedule that does not fit the model.
        TypeError: images that are no tensor, sparse, or of another dtype than the weights; a
            conversion to another dtype than the three.
        NotImplementedError: images that require grad; a call that torch traces, exports or
            transforms (``torch.jit.trace``, ``make_fx``, ``torch.vmap``, ...); a module tree that
            was changed, where the message names the part.
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
        core = _C.VisionTransformer(config, to_schedule(schedule, config))
        if weights is None:
            shapes = core.named_parameters()
            weights = {name: torch.empty_like(shape, device="cpu") for name, shape in shapes}
            core.load_parameters(list(weights.items()), check_finite=False)
        else:
            for name, tensor in weights.items():
                if not isinstance(tensor, Tensor):
                    raise TypeError(
                        f"dsm_ext.VisionTransformer: expected weights to be tensors, got {name} of "
                        f"{described(tensor)}"
                    )
            core.load_parameters(list(weights.items()))
        self._wrap(core)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, num_classes].

        Without a head (``num_classes=0``) what the pooling gives, [B, C], for any heads of one's
        own; with ``global_pool=""`` all tokens, [B, M, C]. Where the class token is pooled, the
        last block is computed for its row alone.
        """
        return self._core_for(images).forward(images)

    def forward_features(self, images: Tensor, dense: bool = False) -> Tensor:
        """The tokens that remain [B, M, C], prefix first, after the last norm.

        Args:
            dense: give each patch back the value of the token that holds it: [B, P + gh * gw, C],
                patches in the image's order, as timm's ``forward_features``.
        """
        return self._core_for(images).forward_features(images, dense)

    def forward_head(
        self, features: Tensor, pre_logits: bool = False, size: Tensor | None = None
    ) -> Tensor:
        """Pooling and head of what ``forward_features`` gives; together they are ``forward``.

        Args:
            features: [B, M, C], behind the last norm.
            pre_logits: stop in front of the head: [B, C].
            size: [B, M] float32, how many patches each token stands for, as ``trace`` gives it.
                Average and attention pooling take it into account. It may be left out where nothing
                is merged, or where each patch has its value again (``dense=True``).

        Raises:
            ValueError: other shapes, another device, or sizes that are needed.
            TypeError: another dtype.
            RuntimeError: the model is frozen and has let go of the weights that are needed.
        """
        if not isinstance(pre_logits, bool) or not (size is None or isinstance(size, Tensor)):
            raise TypeError(
                "dsm_ext.VisionTransformer: expected pre_logits to be a bool and size a "
                f"torch.Tensor, got {described(pre_logits)} and {described(size)}"
            )
        return self._core_for(features, "features").forward_head(features, size, pre_logits)

    def forward_with_features(self, images: Tensor) -> Outputs:
        """Logits, what the head takes, and the tokens behind the last norm, of one pass.

        Here the last block runs whole, with its merging.
        """
        return Outputs(*self._core_for(images).forward_with_features(images))

    def forward_intermediates(
        self, images: Tensor, blocks: Sequence[int], norm: bool = False
    ) -> list[Intermediate]:
        """The tokens behind each of some blocks. Blocks behind the last of them are not computed.

        Args:
            blocks: ascending indices in [0, depth), counted from the first block.
            norm: apply the last norm to the tokens.

        Raises:
            ValueError: other indices.
        """
        kept = self._core_for(images).forward_intermediates(images, list(blocks), norm)
        return [Intermediate(*block) for block in kept]

    def get_intermediate_layers(
        self,
        images: Tensor,
        n: SupportsIndex | Sequence[int] = 1,
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
        if isinstance(n, SupportsIndex) and not getattr(n, "ndim", 0):
            count = operator.index(n)
            if not 1 <= count <= depth:
                raise ValueError(
                    "dsm_ext.VisionTransformer: expected n to be indices of blocks in "
                    f"[0, {depth - 1}], or how many of the last, got {count}"
                )
            blocks = list(range(depth - count, depth))
        else:
            given = [operator.index(i) for i in cast(Iterable[SupportsIndex], n)]
            blocks = sorted({i + depth if i < 0 else i for i in given})
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
        return Trace(*self._core_for(images).trace(images))

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
        return self._core_for(images).profile(images)

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
    def schedule(self) -> Schedule:
        """Settable, to a schedule or a string; calls that have begun finish with the old one."""
        return self._core.schedule

    @schedule.setter
    def schedule(self, value: Schedule | str) -> None:
        self._core.schedule = to_schedule(value, self.config)

    @property
    def plan(self) -> Plan:
        """Token counts and multiply-adds of each block; ``print`` shows a table."""
        return self._shared_core().plan

    def extra_repr(self) -> str:
        return f"schedule={self.schedule!r}"

    @property
    def num_classes(self) -> int:
        return self.config.num_classes

    @property
    def num_features(self) -> int:
        return self.config.embed_dim
