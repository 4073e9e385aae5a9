"""Types of the compiled module. The headers in cpp/include/dsm_ext document the same classes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, SupportsIndex, overload

import torch
from torch import Tensor, nn

class Config:
    """The shape of a Vision Transformer, in timm's names. Its fields are read-only.

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
        attn_only_layer_scale: bool = False,
        qk_norm: bool = False,
        scale_attn_norm: bool = False,
        scale_mlp_norm: bool = False,
        qkv_fused: bool = True,
        qkv_bias: bool = True,
        k_bias: bool = True,
        num_kv_heads: int = 0,
        num_full_attn_blocks: int = 0,
        proj_bias: bool = True,
        patch_bias: bool = True,
        embed_norm: bool = False,
        pre_norm: bool = False,
        rope_type: str = "",
        rope_temperature: float = 10000.0,
        rope_grid_offset: float = 0.0,
        rope_grid_indexing: str = "ij",
        rope_rotate_half: bool = False,
        ref_feat_shape: tuple[int, int] = (0, 0),
        final_norm: bool = True,
        global_pool: str = "token",
        pool_include_prefix: bool = False,
        attn_pool_num_heads: int = 0,
        attn_pool_mlp_dim: int = 0,
        fc_norm: bool = False,
        head_bias: bool = True,
    ) -> None: ...
    img_size: Final[tuple[int, int]]
    patch_size: Final[tuple[int, int]]
    in_chans: Final[int]
    num_classes: Final[int]
    """The number of classes. With 0 there is no head: ``forward`` returns pooled features."""
    embed_dim: Final[int]
    depth: Final[int]
    num_heads: Final[int]
    mlp_dim: Final[int]
    """Hidden width of the MLP. With a gate, the width after it."""
    class_token: Final[bool]
    distilled: Final[bool]
    reg_tokens: Final[int]
    """The number of register tokens, which follow the class token."""
    pos_embed: Final[bool]
    no_embed_class: Final[bool]
    """Whether the position embedding has no rows for the prefix tokens."""
    dynamic_img_size: Final[bool]
    """Whether other image sizes are accepted. The position embedding is then resampled."""
    block: Final[str]
    """``sequential`` (timm's ``Block``), ``parallel`` (``ParallelScalingBlock``) or ``eva``
    (``EvaBlock``)."""
    norm_layer: Final[str]
    """``layer_norm`` or ``rms_norm``."""
    eps: Final[float]
    mlp_layer: Final[str]
    """``mlp``, ``glu`` (timm's ``GluMlp``, gate first) or ``swiglu`` (``SwiGLU``)."""
    act_layer: Final[str]
    """``gelu`` (exact), ``gelu_tanh``, ``quick_gelu`` or ``silu``."""
    layer_scale: Final[bool]
    """Whether the outputs of attention and MLP have learned factors."""
    attn_only_layer_scale: Final[bool]
    """Whether only attention's output has these factors."""
    qk_norm: Final[bool]
    """Whether each head's queries and keys have a norm."""
    scale_attn_norm: Final[bool]
    """Whether there is a norm before the attention's projection."""
    scale_mlp_norm: Final[bool]
    """Whether there is a norm before the MLP's second layer."""
    qkv_fused: Final[bool]
    """Whether one layer makes queries, keys and values; otherwise three layers do."""
    qkv_bias: Final[bool]
    """Whether queries, keys and values have a bias."""
    k_bias: Final[bool]
    """With ``qkv_bias``: whether keys have one, too."""
    num_kv_heads: Final[int]
    """Heads of keys and values (grouped-query attention). 0: ``num_heads``."""
    num_full_attn_blocks: Final[int]
    """With ``num_kv_heads``: how many of the first and how many of the last blocks have
    ``num_heads`` heads of keys and values."""
    proj_bias: Final[bool]
    """Whether the attention's projection and the MLP's layers have a bias."""
    patch_bias: Final[bool]
    """Whether the patch embedding has a bias."""
    embed_norm: Final[bool]
    """Whether the patches have a norm before their positions are added (AIMv2)."""
    pre_norm: Final[bool]
    """Whether there is a norm before the blocks (CLIP)."""
    rope_type: Final[str]
    """The rotary position embedding, by timm's names: ``cat``, ``dinov3``, ``mixed`` (learned
    frequencies for each block and head) or "" (none)."""
    rope_temperature: Final[float]
    """The longest period is about this many times the shortest."""
    rope_grid_offset: Final[float]
    """Added to positions before they are scaled."""
    rope_grid_indexing: Final[str]
    """The order of the axes: ``ij`` (rows, columns) or ``xy`` (columns, rows)."""
    rope_rotate_half: Final[bool]
    """Whether channel i of a head turns with channel i + D / 2, not 2 i with 2 i + 1."""
    ref_feat_shape: Final[tuple[int, int]]
    """With ``cat``: positions are scaled as if the grid had this height and width. (0, 0): they are
    not scaled."""
    final_norm: Final[bool]
    global_pool: Final[str]
    """``token``, ``avg`` (weighted by size), ``map`` (timm's attention pool) or "" (none)."""
    pool_include_prefix: Final[bool]
    """Whether ``avg`` and ``map`` also pool the prefix tokens."""
    attn_pool_num_heads: Final[int]
    """Heads of the attention pool. 0: ``num_heads``."""
    attn_pool_mlp_dim: Final[int]
    """Hidden width of the attention pool's MLP. 0: ``mlp_dim``."""
    fc_norm: Final[bool]
    """Whether there is a norm after the pooling."""
    head_bias: Final[bool]
    grid: Final[tuple[int, int]]
    """Rows and columns of patches."""
    prefix: Final[int]
    """The number of prefix tokens: class, distillation and register tokens."""
    tokens: Final[int]
    """The number of tokens before any merging."""
    def to_dict(self) -> dict[str, Any]:
        """All fields by name, so that ``Config(**config.to_dict()) == config``."""

class Step:
    """One merge step of a block. ``Local`` and ``Global`` make it."""

    r: Final[int]
    """How many tokens to remove from an image."""
    window: Final[int]
    """The side of a window in patches. 0 for a global step."""
    def __hash__(self) -> int: ...

STAGES: tuple[str, ...]
"""The names of the stages of a profile, in the order of a forward."""

def Local(r: int, window: int) -> Step:
    """Make a step that removes ``r`` tokens from an image, in windows of ``window`` patches."""

def Global(r: int) -> Step:
    """Make a step that removes ``r`` tokens from the whole sequence."""

class PlannedBlock:
    kind: Final[str]
    """``dense``, ``local``, ``global`` or ``local+global``."""
    tokens_in: Final[int]
    tokens_out: Final[int]
    multiply_adds: Final[int]
    """The multiply-adds of the whole block, as timm and the papers count them."""
    multiply_adds_logits: Final[int]
    """The multiply-adds for logits: the last block is computed for its pooled rows only."""

class Plan:
    """The token counts and multiply-adds of a schedule for one image of a model.

    ``str(plan)`` is a table. Like in the papers, matching is not counted; it adds less than 1 %.
    """

    blocks: Final[list[PlannedBlock]]
    window_order: Final[list[int]]
    """The patch at each place of window-major order. Empty if no step is local."""
    multiply_adds_embed: Final[int]
    multiply_adds_head: Final[int]
    multiply_adds_dense: Final[int]
    multiply_adds_dense_logits: Final[int]
    multiply_adds: Final[int]
    """The multiply-adds of the whole forward, as timm and the papers count them."""
    multiply_adds_logits: Final[int]
    """The multiply-adds that are needed for logits."""
    tokens_dense: Final[int]
    tokens_out: Final[int]
    rule: Final[MergeRule]

class MergeRule:
    """How every merge step of a schedule decides which tokens merge.

    Args:
        metric: what tokens are compared by. ``"keys"``: the mean of a block's keys over the heads.
            ``"keys+tokens"``: these keys and, beside them, the tokens after attention's residual,
            each of unit length.
        protect: how strongly the tokens that the class token attends to are kept from merging. The
            pairs of the highest scores merge; the score of a token of A and its partner is
            ``similarity - protect * N * a``. N is the number of tokens, and a is the attention of
            the class token to the token of A, its mean over the heads. A model without a class
            token takes the mean of all queries, weighted by size.

    Raises:
        ValueError: another name, or ``protect`` is negative or not finite.
    """

    def __init__(self, metric: str = "keys", protect: float = 0.0) -> None: ...
    metric: Final[str]
    protect: Final[float]
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
    def guided(config: Config, speedup: float, rule: MergeRule | None = None) -> Schedule:
        """A schedule for a wanted saving, with nothing else to choose.

        Some blocks are dense; the counts of the others fall from block to block. The template was
        found on DeiT-T.

        Args:
            config: the model's config; the counts are for its image size.
            speedup: how many times fewer multiply-adds than the dense model's the plan shall have.
                The schedule comes as near to it as whole counts allow.
            rule: None takes ``MergeRule("keys+tokens", protect=0.3)``.

        Raises:
            ValueError: no schedule reaches ``speedup``. The message says what can be reached.
        """
    @overload
    @staticmethod
    def parse(text: str, config: Config) -> Schedule:
        """Parse a name with arguments, such as ``dsm:r=16,skip=2,local=5,window=7``.

        Other examples are ``dense``, ``dfe:r=16,skip=2``, ``tome:r=8,inflection=-0.5``,
        ``tome:r=8/8/4`` and ``guided:1.7``. ``list:0/16w7/8w7+4/8`` has an entry for each block, in
        which RwW is a local step in windows of side W and R a global step. Every name accepts
        ``proportional=false`` and the fields of a ``MergeRule``, such as
        ``metric=keys+tokens,protect=0.2``.

        Args:
            config: the model's config. A depth alone does for all names except ``guided``.
        """
    @overload
    @staticmethod
    def parse(text: str, depth: int) -> Schedule: ...
    depth: Final[int]
    proportional: Final[bool]
    def with_proportional(self, on: bool) -> Schedule: ...
    rule: Final[MergeRule]
    def with_rule(self, rule: MergeRule) -> Schedule: ...
    def plan(self, config: Config) -> Plan:
        """Compute the plan of this schedule for a model.

        A step removes at most half of the tokens of a group, so it may remove fewer than r.

        Raises:
            ValueError: the depths differ, or r is more than half of the image's patches.
        """
    def text(self) -> str:
        """A text from which ``parse`` makes this schedule: ``list:...``."""
    def to_dict(self) -> dict[str, Any]:
        """The schedule as lists, ints and bools, which JSON can hold."""
    @staticmethod
    def from_dict(dict: Mapping[str, Any]) -> Schedule: ...
    def __hash__(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, block: int) -> tuple[Step, ...]: ...

def has_precision(name: str) -> bool:
    """Whether this processor has the instructions of a precision, and torch uses them.

    Args:
        name: "float32", "bfloat16" or "int8".
    """

class ModuleTree:
    """A record of a model and its parts, with which ``holds`` finds changes of the tree."""

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
    def trace(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...
    def class_attention(self, images: Tensor, block: int) -> Tensor: ...
    def profile(self, images: Tensor) -> dict[str, Any]: ...
    def load_parameters(
        self, weights: Sequence[tuple[str, Tensor]], check_finite: bool = True
    ) -> None: ...
    def named_parameters(self) -> list[tuple[str, Tensor]]: ...
    config: Final[Config]
    plan: Final[Plan]
    def freeze(self) -> None: ...
    frozen: Final[bool]
    @property
    def cpu_path(self) -> str: ...
    @cpu_path.setter
    def cpu_path(self, value: str) -> None: ...
    @property
    def precision(self) -> str: ...
    @precision.setter
    def precision(self, value: str) -> None: ...
    chosen_precision: Final[str | None]
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
    size: Final[tuple[int, int]]
    interpolation: Final[str]
    crop_pct: Final[float]
    crop_mode: Final[str]
    mean: Final[tuple[float, ...]]
    std: Final[tuple[float, ...]]
    known: Final[bool]
    """Whether mean and std are known. In ``model_info`` they are not if no file has them."""

class ModelInfo:
    """What the files of a model say beside its weights."""

    architecture: Final[str]
    """timm's name of the architecture, or ""."""
    config: Final[Config]
    @property
    def schedule(self) -> Schedule:
        """The exported schedule, or ``Schedule.dsm`` if there is none."""
    preprocessing: Final[Preprocessing]
    """Its ``known`` is False if the files do not say how pictures were normalised."""
    labels: Final[list[str]]
    """The names of the classes in their order. Empty if there are none."""
    config_json: Final[str]
    """The text of config.json."""
    precision: Final[str | None]
    """The exported model's precision. None if the weights' dtype decides."""

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
    precision: str | None = None,
) -> tuple[VisionTransformer, ModelInfo]:
    """The C++ library's ``load_with_info``. Raises ValueError as ``model_info`` does."""

class BuildInfo:
    """What the compiled part was built with, and how it runs here. ``str`` gives one line."""

    version: Final[str]
    torch: Final[str]
    """The torch version that it was compiled against."""
    cuda: Final[str]
    """The version of the CUDA compiler, or "" without CUDA kernels."""
    compiler: Final[str]
    instruction_set: Final[str]
    """The CPU fast path's instructions on this processor: "AVX-512", "AVX2" or "baseline"."""

def build_info() -> BuildInfo:
    """The versions, and the instruction set in use."""
