"""``VisionTransformer``: the compiled model, its calls and its settings."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex, cast

import torch
from torch import Tensor

from dsm_ext._native import _C, Config, Plan, Schedule
from dsm_ext.error_text import described
from dsm_ext.model.compiled_module import CompiledModule, to_schedule
from dsm_ext.model.outputs import Intermediate, Outputs, Trace
from dsm_ext.ops import unmerge


class VisionTransformer(CompiledModule):
    """A Vision Transformer with delayed spatial merging. ``from_timm`` makes one.

    **Weights.** The parameters have timm's names, so ``state_dict`` is timm's. The compiled model
    reads these same tensors: it runs on their device and in their dtype (float32, bfloat16 or
    float16), and autocast does not change the dtype. The model is for inference only: it computes
    no gradients and refuses images that require grad.

    **Images** are [B, in_chans, height, width], contiguous or not. B may be 0. Height and width are
    those of the config. With ``dynamic_img_size`` they are any multiples of the patch size.

    **Threads.** Every method that takes images releases the GIL. Several threads may call it at
    the same time.

    **CPU.** The model uses its fast path, in its ``precision``. The first call packs the weights,
    and the next call after a change of the weights packs them again. The model sees the changes
    that torch counts. It does not see values that were written through ``.data`` or ``numpy()`` or
    by an optimizer with ``fused=True``; after such a change assign ``cpu_path`` again. ``cpu_path =
    "aten"``, or the environment variable ``DSM_EXT_CPU=aten``, selects the ATen path instead.
    Weights that were made in inference mode always take the ATen path, because torch does not count
    their changes.

    **GPU.** The second call of a kind is recorded as a CUDA graph, and later calls of that kind
    replay the recording. Calls are of one kind if they have the same method, number and size of
    images, and the same weights in the same memory. A replay runs on the caller's stream, and
    replays run one after another. The model keeps up to 16 recordings. Together they hold the
    activations of one forward; each also holds its own patches and results. A recording keeps most
    of torch's settings as they were: after a change, for example of the attention kernels that
    torch may choose, assign ``cuda_graphs`` again. A change of TF32 needs no such step. CUDA does
    not allow other threads to wait for the whole device (``torch.cuda.synchronize()``) while one
    thread records. If other threads do so, set ``cuda_graphs = False``. No call waits for the GPU,
    except the first call with a schedule or an image size. To capture the model in a CUDA graph of
    your own, first make the same call once, and keep the schedule as long as you replay the graph.

    **Parts.** The parts of the model (``blocks[3].attn.qkv``, ``norm``, ...) are torch's modules
    over the same parameters. You can inspect them and load weights into them, but the model does
    not call them. Therefore the next call refuses parts that were replaced, added or deleted, and
    parts with hooks. Only ``head`` may be replaced: with an ``nn.Identity`` the model returns
    features, with an ``nn.Linear`` it becomes another classifier.

    Raises:
        ValueError: the images have another rank, number of channels, size or device; the weights
            do not fit or are not finite (the message names each); the schedule does not fit.
        TypeError: the images are not a tensor, are sparse, or have another dtype than the weights;
            or the model is converted to a dtype that it does not support.
        NotImplementedError: the images require grad; torch traces, exports or transforms the call
            (``torch.jit.trace``, ``make_fx``, ``torch.vmap``, ...); or a part was changed (the
            message names it).
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
            schedule: a ``Schedule``, or a string for ``Schedule.parse``.
            weights: tensors under timm's names. The model shares them and does not copy them. With
                None the weights are not initialised.
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
        """Return the logits [B, num_classes].

        Without a head (``num_classes=0``) return the pooled features [B, C], and with
        ``global_pool=""`` all tokens [B, M, C]. If the class token is pooled, the last block is
        computed for the class token's row only.
        """
        return self._core_for(images).forward(images)

    def forward_features(self, images: Tensor, dense: bool = False) -> Tensor:
        """Return the remaining tokens [B, M, C] after the last norm, prefix tokens first.

        Args:
            dense: give every patch the value of the token that holds it. The result is
                [B, P + gh * gw, C] with the patches in image order, as timm's ``forward_features``.
        """
        return self._core_for(images).forward_features(images, dense)

    def forward_head(
        self, features: Tensor, pre_logits: bool = False, size: Tensor | None = None
    ) -> Tensor:
        """Apply pooling and head to the result of ``forward_features``, as ``forward`` does.

        Args:
            features: [B, M, C], after the last norm.
            pre_logits: return the input of the head, [B, C].
            size: [B, M] float32, how many patches each token stands for, as ``trace`` returns it.
                Average and attention pooling need it, unless no tokens were merged or every patch
                has its own row again (``dense=True``).

        Raises:
            ValueError: a shape or device does not fit, or ``size`` is missing.
            TypeError: another dtype.
            RuntimeError: the model is frozen and no longer has the weights of head or pooling.
        """
        if not isinstance(pre_logits, bool) or not (size is None or isinstance(size, Tensor)):
            raise TypeError(
                "dsm_ext.VisionTransformer: expected pre_logits to be a bool and size a "
                f"torch.Tensor, got {described(pre_logits)} and {described(size)}"
            )
        return self._core_for(features, "features").forward_head(features, size, pre_logits)

    def forward_with_features(self, images: Tensor) -> Outputs:
        """Compute logits, the input of the head, and the tokens after the last norm in one pass.

        The last block runs for all tokens, with its merge steps.
        """
        return Outputs(*self._core_for(images).forward_with_features(images))

    def forward_intermediates(
        self, images: Tensor, blocks: Sequence[int], norm: bool = False
    ) -> list[Intermediate]:
        """Return the tokens after each of the given blocks. Later blocks are not computed.

        Args:
            blocks: ascending indices in [0, depth).
            norm: apply the last norm to the tokens.

        Raises:
            ValueError: the indices are out of range or not ascending.
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
        """Dense features after some blocks, like the method of this name in timm and DINOv2.

        Args:
            n: how many of the last blocks, or a list of block indices (negative: from the end).
            reshape: return [B, C, gh, gw] instead of [B, gh * gw, C].
            return_prefix_tokens: return pairs of the features and the prefix tokens [B, P, C], if
                the model has prefix tokens.
            norm: apply the last norm.

        Returns:
            For each block the features of all patches. A patch has the value of the token that
            holds it.

        Raises:
            ValueError: an index is out of range.
        """
        depth, prefix = self.config.depth, self.config.prefix
        if isinstance(n, SupportsIndex) and not getattr(n, "ndim", 0):
            count = operator.index(n)
            if not 1 <= count <= depth:
                raise ValueError(
                    "dsm_ext.VisionTransformer: expected n to be the number of last blocks, or "
                    f"indices of blocks in [0, {depth - 1}], got {count}"
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
        """Return the logits, which token holds each patch, and the tokens' sizes and locations.

        The last block runs for all tokens.
        """
        return Trace(*self._core_for(images).trace(images))

    def class_attention(self, images: Tensor, block: int = -1) -> Tensor:
        """What the model looks at: the class token's attention to each patch in one block.

        A token that stands for several patches shares its attention equally among them. A model
        without a class token takes the mean of all queries, weighted by size, in place of the class
        token's query. The attention of a head to all patches and prefix tokens adds up to 1.

        Args:
            block: the block's index; negative: from the end. Later blocks are not computed.

        Returns:
            [B, num_heads, gh, gw] float32.

        Raises:
            ValueError: the index is out of range.
        """
        return self._core_for(images).class_attention(images, block)

    def profile(self, images: Tensor) -> dict[str, Any]:
        """Measure where the time of one ``forward`` goes.

        On the CPU's fast path the seconds are summed over all threads. On the ATen path they are
        those of the calling thread. On a GPU they are GPU time: the operators run directly, without
        a CUDA graph. Except on the fast path, the stage ``merge`` also contains the norm after the
        merge, and the sizes and log sizes.

        Returns:
            ``wall``: seconds from start to end. ``threads``: the number of threads. ``blocks``: a
            dict from stage to seconds for each block. ``before`` and ``after``: the same for the
            work before the blocks and after them.

        Raises:
            ValueError: the batch is empty.
        """
        return self._core_for(images).profile(images)

    @property
    def cpu_path(self) -> str:
        """``fast`` or ``aten``: how the model runs on the CPU. Assigning packs again."""
        return self._core.cpu_path

    @cpu_path.setter
    def cpu_path(self, value: str) -> None:
        self._core.cpu_path = value

    @property
    def precision(self) -> str:
        """``float32``, ``bfloat16`` or ``int8``: the precision of products on the CPU's fast path.

        In each precision, norms, softmax, activations, merging and the tokens between two blocks
        are float32, and ``state_dict`` keeps the weights as they are. ``bfloat16`` rounds weights
        and activations to bfloat16. ``int8`` rounds the weights of the blocks to 8 bits with one
        scale for each output channel, and their activations to 8 bits with one scale and one
        zero for each token. No calibration is needed.

        Assign a name, or ``auto`` for the fastest precision that the processor has; the next call
        packs the weights. The default is ``bfloat16`` for bfloat16 weights on a processor that has
        bfloat16, and ``float32`` otherwise, also for float16 weights, which bfloat16 would round.
        On a GPU, and with ``cpu_path = "aten"``, the model computes in the dtype of its weights.

        Raises:
            ValueError: an unknown name.
            NotImplementedError: the processor lacks the instructions (AVX512_BF16 or AMX for
                ``bfloat16``, AVX512_VNNI or AMX for ``int8``), or the model does not run on the
                fast path. The message says which.
            RuntimeError: the model is frozen.
        """
        return self._core.precision

    @precision.setter
    def precision(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(
                f"dsm_ext.VisionTransformer: expected precision to be a string, got "
                f"{described(value)}"
            )
        self._shared_core().precision = value

    @property
    def cuda_graphs(self) -> bool:
        """Whether calls on a GPU are recorded and replayed. Assigning drops all recordings.

        The default is True, or False if the environment variable ``DSM_EXT_CUDA_GRAPHS`` was 0 when
        the model was made.
        """
        return self._core.cuda_graphs

    @cuda_graphs.setter
    def cuda_graphs(self, value: bool) -> None:
        self._core.cuda_graphs = value

    def freeze(self) -> VisionTransformer:
        """Pack the weights now and release the originals. In float32 this halves the memory.

        The model runs as before, on the CPU. Moving, converting, loading, saving or copying it
        raises ``RuntimeError``. The timm model that it was made from keeps its weights.

        Raises:
            NotImplementedError: the model does not run on the CPU's fast path.
        """
        self._shared_core().freeze()
        return self

    @property
    def schedule(self) -> Schedule:
        """The current schedule. Assign a ``Schedule`` or a string; running calls keep theirs."""
        return self._core.schedule

    @schedule.setter
    def schedule(self, value: Schedule | str) -> None:
        self._core.schedule = to_schedule(value, self.config)

    @property
    def plan(self) -> Plan:
        """Token counts and multiply-adds of each block. ``print`` shows them as a table."""
        return self._shared_core().plan

    def extra_repr(self) -> str:
        return f"schedule={self.schedule!r}"

    @property
    def num_classes(self) -> int:
        return self.config.num_classes

    @property
    def num_features(self) -> int:
        return self.config.embed_dim
