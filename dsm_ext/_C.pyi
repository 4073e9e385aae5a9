"""Types of the compiled module. The headers in cpp/include/dsm_ext document the same classes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

class Config:
    """The shape of a plain Vision Transformer, in timm's names. Its fields are read-only.

    Raises:
        ValueError: a field is out of range.
        TypeError: a field is unknown or has another type.
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
        """The number of classes. With 0 there is no head: ``forward`` returns pooled features."""
    @property
    def embed_dim(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def mlp_dim(self) -> int:
        """Hidden width of the MLP. With a gate, the width after it."""
    @property
    def class_token(self) -> bool: ...
    @property
    def distilled(self) -> bool: ...
    @property
    def reg_tokens(self) -> int:
        """The number of register tokens, which follow the class token."""
    @property
    def pos_embed(self) -> bool: ...
    @property
    def no_embed_class(self) -> bool:
        """Whether the position embedding has no rows for the prefix tokens."""
    @property
    def dynamic_img_size(self) -> bool:
        """Whether other image sizes are accepted. The position embedding is then resampled."""
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
        """Whether the outputs of attention and MLP have learned factors."""
    @property
    def qk_norm(self) -> bool:
        """Whether each head's queries and keys have a norm."""
    @property
    def scale_attn_norm(self) -> bool:
        """Whether there is a norm before the attention's projection."""
    @property
    def scale_mlp_norm(self) -> bool:
        """Whether there is a norm before the MLP's second layer."""
    @property
    def qkv_bias(self) -> bool: ...
    @property
    def proj_bias(self) -> bool:
        """Whether the attention's projection and the MLP's layers have a bias."""
    @property
    def patch_bias(self) -> bool:
        """Whether the patch embedding has a bias."""
    @property
    def embed_norm(self) -> bool:
        """Whether the patches have a norm before their positions are added (AIMv2)."""
    @property
    def pre_norm(self) -> bool:
        """Whether there is a norm before the blocks (CLIP)."""
    @property
    def final_norm(self) -> bool: ...
    @property
    def global_pool(self) -> str:
        """``token``, ``avg`` (weighted by size), ``map`` (timm's attention pool) or "" (none)."""
    @property
    def pool_include_prefix(self) -> bool:
        """Whether ``avg`` and ``map`` also pool the prefix tokens."""
    @property
    def fc_norm(self) -> bool:
        """Whether there is a norm after the pooling."""
    @property
    def head_bias(self) -> bool: ...
    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
    @property
    def prefix(self) -> int:
        """The number of prefix tokens: class, distillation and register tokens."""
    @property
    def tokens(self) -> int:
        """The number of tokens before any merging."""
    def to_dict(self) -> dict[str, Any]:
        """All fields by name, so that ``Config(**config.to_dict()) == config``."""

class Step:
    """One merge step of a block. ``Local`` and ``Global`` make it."""

    @property
    def r(self) -> int:
        """How many tokens to remove from an image."""
    @property
    def window(self) -> int:
        """The side of a window in patches. 0 for a global step."""
    def __hash__(self) -> int: ...

STAGES: tuple[str, ...]
"""The names of the stages of a profile, in the order of a forward."""

def Local(r: int, window: int) -> Step:
    """Make a step that removes ``r`` tokens from an image, in windows of ``window`` patches."""

def Global(r: int) -> Step:
    """Make a step that removes ``r`` tokens from the whole sequence."""

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
        """The multiply-adds of the whole block, as timm and the papers count them."""
    @property
    def multiply_adds_logits(self) -> int:
        """The multiply-adds for logits: the last block is computed for its pooled rows only."""

class Plan:
    """The token counts and multiply-adds of a schedule for one image of a model.

    ``str(plan)`` is a table. Like in the papers, matching is not counted; it adds less than 1 %.
    """

    @property
    def blocks(self) -> list[PlannedBlock]: ...
    @property
    def window_order(self) -> list[int]:
        """The patch at each place of window-major order. Empty if no step is local."""
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
        """The multiply-adds of the whole forward, as timm and the papers count them."""
    @property
    def multiply_adds_logits(self) -> int:
        """The multiply-adds that are needed for logits."""
    @property
    def tokens_dense(self) -> int: ...
    @property
    def tokens_out(self) -> int: ...
    @property
    def rule(self) -> MergeRule: ...

class MergeRule:
    """How every merge step of a schedule decides which tokens merge.

    Args:
        metric: what tokens are compared by. ``"keys"``: the mean of a block's keys over the heads.
        score: what ranks the pairs of tokens. ``"similarity"``: the cosine of their metrics. The
            pairs of the highest scores merge.

    Raises:
        ValueError: another name.
    """

    def __init__(self, metric: str = "keys", score: str = "similarity") -> None: ...
    @property
    def metric(self) -> str: ...
    @property
    def score(self) -> str: ...
    def __hash__(self) -> int: ...

class Schedule:
    """Which blocks merge how many tokens: a list with one entry for each block.

    An entry is ``None`` (dense), ``Local(r, window)``, ``Global(r)``, or a list of a local and a
    global step. All builders make such a list, so schedules that do the same are equal. All windows
    of a schedule have one size, and no local step follows a global one. If a sequence is too short
    to remove r tokens, half of its patches are removed. With ``proportional=False`` attention does
    not add the log sizes of the keys.

    Source: DSM, arXiv 2303.02331. For ``tome``, arXiv 2210.09461.

    Raises:
        ValueError: a count is out of range. The message says what was expected.
        TypeError: an entry has another type.
    """

    def __init__(
        self,
        blocks: Iterable[None | Step | Sequence[Step]],
        proportional: bool = True,
        rule: MergeRule = ...,
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
        """``skip`` dense blocks, ``local`` local ones, then global ones. Each removes ``r`` tokens.

        The defaults are the paper's: r = 16, skip 1 and local 6 for 12 blocks, and r = 8, skip 4
        and local 12 for 24 blocks.
        """
    @staticmethod
    def dfe(depth: int, r: int | None = None, skip: int | None = None) -> Schedule:
        """Delay without local steps: ``skip`` dense blocks, then global steps."""
    @staticmethod
    def tome(
        depth: int,
        r: SupportsIndex | tuple[int, float] | list[int] | None = None,
        inflection: float = 0.0,
    ) -> Schedule:
        """ToMe: a global step in every block.

        ``r`` is a count; or a pair (r, inflection), for counts that go linearly from
        r * (1 - inflection) to r * (1 + inflection); or a list or NumPy array with a count for each
        block. Blocks after the end of the list are dense.
        """
    @staticmethod
    def parse(text: str, depth: int) -> Schedule:
        """Parse a name with arguments, such as ``dsm:r=16,skip=2,local=5,window=7``.

        Other examples are ``dense``, ``dfe:r=16,skip=2``, ``tome:r=8,inflection=-0.5`` and
        ``tome:r=8/8/4``. Every name accepts ``proportional=false``.
        """
    @property
    def depth(self) -> int: ...
    @property
    def proportional(self) -> bool: ...
    def with_proportional(self, on: bool) -> Schedule: ...
    @property
    def rule(self) -> MergeRule: ...
    def plan(self, config: Config) -> Plan:
        """Compute the plan of this schedule for a model.

        A step removes fewer than r tokens if a window cannot give its share: a window of one patch
        has no pair and gives none.

        Raises:
            ValueError: the depths differ, or r is more than half of the image's patches. The
                message names the size of the image.
        """
    def to_dict(self) -> dict[str, Any]:
        """The schedule as lists, ints and bools, which JSON can hold."""
    @staticmethod
    def from_dict(dict: Mapping[str, Any]) -> Schedule: ...
    def __hash__(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, block: int) -> tuple[Step, ...]: ...

class ModuleTree:
    """A record of a tree of modules: its parts and parameters, and that no part has hooks.

    ``holds`` says whether the tree is still the same.

    Args:
        modules: the model, then all its parts. The model itself may have hooks and attributes.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None: ...
    def holds(self) -> bool: ...

class VisionTransformer:
    """The compiled model without Python's ``nn.Module`` around it."""

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

class Preprocessing:
    """How to prepare a picture for a model: timm's evaluation transform, by timm's names.

    Its fields are read-only. timm resizes with Pillow, which rounds between rows and columns. If
    Pillow resizes rows first, as all versions before 13 do, values differ from timm's by at most
    two of 256 levels. If it resizes columns first, as Pillow 13 may, about a tenth of the values
    differ, by up to ten levels.

    Args:
        size: height and width of the result.
        interpolation: "bicubic" or "bilinear", with antialiasing.
        crop_pct: the share of the scaled picture that the crop keeps.
        crop_mode: "center" scales the shorter side and crops the longer one. "squash" scales each
            side separately. "border" scales the longer side and fills with the mean colour.
        mean, std: for each channel, on a scale of 0 to 1.

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
        """Prepare a picture: [height, width, channels] uint8 to float32 [channels, h, w].

        Args:
            picture: on the CPU, as from ``torch.from_numpy(numpy.array(pil_image))``.

        Raises:
            ValueError: mean and std are unknown; the picture has another rank or number of
                channels, or is empty.
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
        """Whether mean and std are known. In ``model_info`` they are not if no file has them."""

class ModelInfo:
    """What the files of a model say beside its weights."""

    @property
    def architecture(self) -> str:
        """timm's name of the architecture, or ""."""
    @property
    def config(self) -> Config: ...
    @property
    def schedule(self) -> Schedule:
        """The exported schedule, or ``Schedule.dsm`` if there is none."""
    @property
    def preprocessing(self) -> Preprocessing:
        """Its ``known`` is False if the files do not say how pictures were normalised."""
    @property
    def labels(self) -> list[str]:
        """The names of the classes in their order. Empty if there are none."""
    @property
    def config_json(self) -> str:
        """The text of config.json."""

def model_info(path: str) -> ModelInfo:
    """The C++ library's ``model_info``. Raises ValueError, which names the file and the fault."""

def read_safetensors(path: str) -> list[tuple[str, Tensor]]:
    """The C++ library's reader. Raises ValueError, which names the file and the fault."""

def load_with_info(
    path: str,
    schedule: str | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device = ...,
    check_finite: bool = False,
) -> tuple[VisionTransformer, ModelInfo]:
    """The C++ library's ``load_with_info``. Raises ValueError as ``model_info`` does."""

class BuildInfo:
    """What the compiled part was built with, and how it runs here. ``str`` gives one line."""

    @property
    def version(self) -> str: ...
    @property
    def torch(self) -> str:
        """The torch version that it was compiled against."""
    @property
    def cuda(self) -> str:
        """The version of the CUDA compiler, or "" without CUDA kernels."""
    @property
    def compiler(self) -> str: ...
    @property
    def instruction_set(self) -> str:
        """The CPU fast path's instructions on this processor: "AVX-512", "AVX2" or "baseline"."""

def build_info() -> BuildInfo:
    """The versions, and the instruction set in use."""
