"""Types of the compiled module; the headers in cpp/include/dsm_ext document the same classes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

class Config:
    """The shape of a plain Vision Transformer, in timm's names. Its fields can be read, not set.

    Raises:
        ValueError: a field is out of range.
        TypeError: a field of another type, or unknown.
    """

    def __init__(
        self,
        *,
        img_size: tuple[int, int] = (224, 224),
        patch_size: tuple[int, int] = (16, 16),
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_dim: int = 3072,
        class_token: bool = True,
        distilled: bool = False,
        reg_tokens: int = 0,
        pos_embed: bool = True,
        no_embed_class: bool = False,
        dynamic_img_size: bool = False,
        block: str = "sequential",
        norm_layer: str = "layer_norm",
        eps: float = 1e-6,
        mlp_layer: str = "mlp",
        act_layer: str = "gelu",
        layer_scale: bool = False,
        qk_norm: bool = False,
        scale_attn_norm: bool = False,
        scale_mlp_norm: bool = False,
        qkv_bias: bool = True,
        proj_bias: bool = True,
        patch_bias: bool = True,
        embed_norm: bool = False,
        pre_norm: bool = False,
        final_norm: bool = True,
        global_pool: str = "token",
        pool_include_prefix: bool = False,
        fc_norm: bool = False,
        head_bias: bool = True,
    ) -> None: ...
    @property
    def img_size(self) -> tuple[int, int]: ...
    @property
    def patch_size(self) -> tuple[int, int]: ...
    @property
    def in_chans(self) -> int: ...
    @property
    def num_classes(self) -> int:
        """0: no head, and ``forward`` gives what the pooling gives."""
    @property
    def embed_dim(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def mlp_dim(self) -> int:
        """Hidden width of the MLP, behind the gate where there is one."""
    @property
    def class_token(self) -> bool: ...
    @property
    def distilled(self) -> bool: ...
    @property
    def reg_tokens(self) -> int:
        """Register tokens, after the class token."""
    @property
    def pos_embed(self) -> bool: ...
    @property
    def no_embed_class(self) -> bool:
        """The position embedding has no rows for the prefix tokens."""
    @property
    def dynamic_img_size(self) -> bool:
        """Other image sizes are taken, the position embedding resampled."""
    @property
    def block(self) -> str:
        """``sequential`` (timm's ``Block``) or ``parallel`` (``ParallelScalingBlock``)."""
    @property
    def norm_layer(self) -> str:
        """``layer_norm`` or ``rms_norm``."""
    @property
    def eps(self) -> float: ...
    @property
    def mlp_layer(self) -> str:
        """``mlp``, ``glu`` (timm's ``GluMlp``, gate first) or ``swiglu`` (``SwiGLU``)."""
    @property
    def act_layer(self) -> str:
        """``gelu`` (exact), ``gelu_tanh``, ``quick_gelu`` or ``silu``."""
    @property
    def layer_scale(self) -> bool:
        """Learned factors on the outputs of attention and MLP."""
    @property
    def qk_norm(self) -> bool:
        """A norm on each head's queries and keys."""
    @property
    def scale_attn_norm(self) -> bool:
        """A norm in front of the attention's projection."""
    @property
    def scale_mlp_norm(self) -> bool:
        """A norm in front of the MLP's second layer."""
    @property
    def qkv_bias(self) -> bool: ...
    @property
    def proj_bias(self) -> bool:
        """Of the attention's projection and of the MLP's layers."""
    @property
    def patch_bias(self) -> bool:
        """Of the patch embedding."""
    @property
    def embed_norm(self) -> bool:
        """A norm on the patches, before their positions (AIMv2)."""
    @property
    def pre_norm(self) -> bool:
        """A norm in front of the blocks (CLIP)."""
    @property
    def final_norm(self) -> bool: ...
    @property
    def global_pool(self) -> str:
        """``token``, ``avg`` (weighted by size), ``map`` (timm's attention pool) or empty: none."""
    @property
    def pool_include_prefix(self) -> bool:
        """``avg`` and ``map`` pool the prefix tokens too."""
    @property
    def fc_norm(self) -> bool:
        """A norm behind the pooling."""
    @property
    def head_bias(self) -> bool: ...
    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
    @property
    def prefix(self) -> int:
        """Tokens in front of the grid's: class, distillation and register tokens."""
    @property
    def tokens(self) -> int:
        """Tokens before any merging."""
    def to_dict(self) -> dict[str, Any]:
        """All fields by name: ``Config(**config.to_dict())`` is equal."""

class Step:
    """One merge step of a block; made by ``Local`` and ``Global``."""

    @property
    def r(self) -> int:
        """Tokens to remove from an image."""
    @property
    def window(self) -> int:
        """Side of a window in patches; 0 for a global step."""
    def __hash__(self) -> int: ...

def Local(r: int, window: int) -> Step:
    """A step that removes ``r`` tokens from an image in windows of ``window`` patches a side."""

def Global(r: int) -> Step:
    """A step that removes ``r`` tokens from the whole sequence."""

class PlannedBlock:
    @property
    def kind(self) -> str:
        """``dense``, ``local``, ``global`` or ``local+global``."""
    @property
    def tokens_in(self) -> int: ...
    @property
    def tokens_out(self) -> int: ...
    @property
    def multiply_adds(self) -> int:
        """Of the whole block, as timm and the papers count."""
    @property
    def multiply_adds_logits(self) -> int:
        """Of what logits need: the last block for its pooled rows alone."""

class Plan:
    """A schedule laid out for a model: token counts and multiply-adds, for one image.

    ``str(plan)`` is a table. Matching is left out, as in the papers; it adds under 1 %.
    """

    @property
    def blocks(self) -> list[PlannedBlock]: ...
    @property
    def window_order(self) -> list[int]:
        """The patch at each window-major place; empty where no step is local."""
    @property
    def multiply_adds_embed(self) -> int: ...
    @property
    def multiply_adds_head(self) -> int: ...
    @property
    def multiply_adds_dense(self) -> int: ...
    @property
    def multiply_adds_dense_logits(self) -> int: ...
    @property
    def multiply_adds(self) -> int:
        """Of the whole forward, as timm and the papers count."""
    @property
    def multiply_adds_logits(self) -> int:
        """Of what is done for logits."""
    @property
    def tokens_dense(self) -> int: ...
    @property
    def tokens_out(self) -> int: ...

class Schedule:
    """Which blocks merge how many tokens: a list with one entry a block.

    An entry is ``None`` (dense), ``Local(r, window)``, ``Global(r)``, or a local and a global step
    in a list. All builders give the same plain list, so schedules that do the same are equal.
    Windows keep one size through a schedule, and no local step follows a global one. Where a
    sequence has shrunk so far that fewer than r tokens can be removed, half of its patches are.
    With ``proportional=False`` attention does not add the logarithm of a key's size.

    Source: DSM, arXiv 2303.02331; for ``tome``, arXiv 2210.09461.

    Raises:
        ValueError: a count is out of range; the message says what was expected.
        TypeError: an entry is something else.
    """

    def __init__(
        self, blocks: Iterable[None | Step | Sequence[Step]], proportional: bool = True
    ) -> None: ...
    @staticmethod
    def dense(depth: int) -> Schedule:
        """No merging."""
    @staticmethod
    def dsm(
        depth: int,
        r: int | None = None,
        skip: int | None = None,
        local: int | None = None,
        window: int = 7,
    ) -> Schedule:
        """``skip`` dense blocks, ``local`` local ones, then global ones; each removes ``r`` tokens.

        Left out, they follow the paper: r = 16, skip 1 and local 6 for 12 blocks, r = 8, skip 4 and
        local 12 for 24.
        """
    @staticmethod
    def dfe(depth: int, r: int | None = None, skip: int | None = None) -> Schedule:
        """Delay only: ``skip`` dense blocks, then global steps."""
    @staticmethod
    def tome(
        depth: int,
        r: SupportsIndex | tuple[int, float] | list[int] | None = None,
        inflection: float = 0.0,
    ) -> Schedule:
        """ToMe: a global step in every block.

        ``r`` is a count; a pair (r, inflection), where r goes linearly from r * (1 - inflection) to
        r * (1 + inflection); or a list (an array of numpy's) with a count for each block, dense
        beyond its end.
        """
    @staticmethod
    def parse(text: str, depth: int) -> Schedule:
        """A name and its arguments, such as ``dsm:r=16,skip=2,local=5,window=7``.

        Also ``dense``, ``dfe:r=16,skip=2``, ``tome:r=8,inflection=-0.5`` and ``tome:r=8/8/4``; each
        takes ``proportional=false``.
        """
    @property
    def depth(self) -> int: ...
    @property
    def proportional(self) -> bool: ...
    def with_proportional(self, on: bool) -> Schedule: ...
    def plan(self, config: Config) -> Plan:
        """The schedule laid out for a model's shape.

        A step gives what it can: windows of one patch, which have no pair, give nothing.

        Raises:
            ValueError: the depths differ, or r is more than half of the patches of the picture,
                whose size is then named.
        """
    def to_dict(self) -> dict[str, Any]:
        """Lists, ints and bools alone: fit for JSON."""
    @staticmethod
    def from_dict(dict: Mapping[str, Any]) -> Schedule: ...
    def __hash__(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, block: int) -> tuple[Step, ...]: ...

class ModuleTree:
    """Whether a tree of modules still has the parts, parameters and no hooks, as when it was made.

    Args:
        modules: the model, which may have hooks and attributes of its own, then all its parts.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None: ...
    def holds(self) -> bool: ...

class VisionTransformer:
    """The compiled model, without Python's ``nn.Module`` around it."""

    def __init__(self, config: Config, schedule: Schedule) -> None: ...
    def forward(self, images: Tensor) -> Tensor: ...
    def forward_features(self, images: Tensor, dense: bool = False) -> Tensor: ...
    def forward_intermediates(
        self, images: Tensor, blocks: Sequence[int], norm: bool = False
    ) -> list[tuple[Tensor, Tensor, Tensor]]: ...
    def forward_head(
        self, features: Tensor, size: Tensor | None = None, pre_logits: bool = False
    ) -> Tensor: ...
    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...
    def trace(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...
    def profile(self, images: Tensor) -> dict[str, Any]: ...
    def load_parameters(
        self, weights: Sequence[tuple[str, Tensor]], check_finite: bool = True
    ) -> None: ...
    def named_parameters(self) -> list[tuple[str, Tensor]]: ...
    @property
    def config(self) -> Config: ...
    @property
    def plan(self) -> Plan: ...
    def freeze(self) -> None: ...
    @property
    def frozen(self) -> bool: ...
    @property
    def cpu_path(self) -> str: ...
    @cpu_path.setter
    def cpu_path(self, value: str) -> None: ...
    @property
    def cuda_graphs(self) -> bool: ...
    @cuda_graphs.setter
    def cuda_graphs(self, value: bool) -> None: ...
    @property
    def schedule(self) -> Schedule: ...
    @schedule.setter
    def schedule(self, value: Schedule) -> None: ...

class PackedLinear:
    """Part of the CPU's fast path, for tests and benchmarks: [M, K] to [M, N], float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None: ...
    def forward(self, x: Tensor, gelu: bool = False) -> Tensor: ...

def attention(qkv: Tensor, size: Tensor | None = None) -> Tensor:
    """Likewise: [B, N, 3, H, D] to [B, N, H * D], with the logarithms of ``size`` [B, N] added."""

class Preprocessing:
    """What a model wants done to a picture: timm's evaluation transform, by timm's names.

    Its fields can be read, not set. timm resizes with Pillow: where that takes rows first, as it
    always did before version 13, no value is more than two of the 256 levels away; where Pillow 13
    takes columns first, some tenth of the values differ, seen by up to ten levels.

    Args:
        size: height and width of the result.
        interpolation: "bicubic" or "bilinear", with antialiasing.
        crop_pct: the share of the scaled picture that the crop keeps.
        crop_mode: "center" scales the shorter side and cuts the longer one, "squash" scales each
            side by itself, "border" scales the longer side and fills up with the mean colour.
        mean, std: of each channel, on a scale of 0 to 1.

    Raises:
        ValueError: a field is out of range.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (224, 224),
        interpolation: str = "bicubic",
        crop_pct: float = 0.875,
        crop_mode: str = "center",
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None: ...
    def __call__(self, picture: Tensor) -> Tensor:
        """A picture [height, width, channels] uint8 on the CPU, as
        ``torch.from_numpy(numpy.array(pil_image))`` gives it, to float32 [channels, h, w].

        Raises:
            ValueError: mean and std are not known; another rank or number of channels, or an empty
                picture.
            TypeError: another dtype.
        """
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def interpolation(self) -> str: ...
    @property
    def crop_pct(self) -> float: ...
    @property
    def crop_mode(self) -> str: ...
    @property
    def mean(self) -> tuple[float, ...]: ...
    @property
    def std(self) -> tuple[float, ...]: ...
    @property
    def known(self) -> bool:
        """Whether mean and std are known; ``model_info`` may find that the files do not say."""

class ModelInfo:
    """What stands beside a model's weights."""

    @property
    def architecture(self) -> str:
        """timm's name, or ""."""
    @property
    def config(self) -> Config: ...
    @property
    def schedule(self) -> Schedule:
        """The one that was exported, else ``Schedule.dsm``."""
    @property
    def preprocessing(self) -> Preprocessing:
        """Its ``known`` is false where the files do not say how pictures were normalised."""
    @property
    def labels(self) -> list[str]:
        """Of the classes, in their order; empty where none are given."""
    @property
    def config_json(self) -> str:
        """config.json as it stands."""

def model_info(path: str) -> ModelInfo:
    """The C++ library's ``model_info``. Raises ValueError naming the file and the fault."""

def read_safetensors(path: str) -> list[tuple[str, Tensor]]:
    """The C++ library's reader. Raises ValueError naming the file and the fault."""

def load_with_info(
    path: str,
    schedule: str | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device = ...,
    check_finite: bool = False,
) -> tuple[VisionTransformer, ModelInfo]:
    """The C++ library's ``load_with_info``. Raises ValueError naming the file and the fault."""

class BuildInfo:
    """What the compiled part is, and how it runs here; ``str`` gives it in one line."""

    @property
    def version(self) -> str: ...
    @property
    def torch(self) -> str:
        """The torch that it was compiled against."""
    @property
    def cuda(self) -> str:
        """The CUDA compiler of its kernels, or ""."""
    @property
    def compiler(self) -> str: ...
    @property
    def instruction_set(self) -> str:
        """Of the CPU's fast path on this processor: "AVX-512", "AVX2" or "baseline"."""

def build_info() -> BuildInfo:
    """Versions, CUDA or not, and the instruction set in use."""
