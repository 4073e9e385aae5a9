"""The outputs of a ``Predictor``: which columns they are, and how the model computes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dsm_ext.error_text import described
from dsm_ext.model import VisionTransformer
from dsm_ext.model.class_names import class_names

NAMES = ("embedding", "logits", "top5", "tokens")
EMBEDDING_DTYPES = {"float32": torch.float32, "float16": torch.float16}


class Outputs:
    """Computes the wanted outputs with no more of the model than they need.

    Args:
        model: the model. If only features are wanted, it loses its head. So nobody else may use it.
        wanted: names of ``NAMES``.
        embedding_dtype: ``float32`` or ``float16``, of embeddings and tokens.

    Raises:
        ValueError: an unknown output or dtype; or an output that the model does not have.
    """

    def __init__(
        self, model: VisionTransformer, wanted: Sequence[str] | str, embedding_dtype: str
    ) -> None:
        self.wanted = _checked(wanted, model)
        if embedding_dtype not in EMBEDDING_DTYPES:
            raise ValueError(
                "dsm_ext.Predictor: expected embedding_dtype to be float32 or float16, got "
                f"{described(embedding_dtype)}"
            )
        config = model.config
        self.model = model
        self.class_names: list[str] | None = None
        """The readable names of the classes in their order. None if they are unknown."""
        if config.num_classes:
            self.class_names = class_names(model._pretrained_cfg, config.num_classes)
        self.columns = _columns(self, embedding_dtype)
        """The shape for one picture and the dtype of each column."""
        self._dtype = EMBEDDING_DTYPES[embedding_dtype]
        self._embeds, self._keeps = "embedding" in self.wanted, "tokens" in self.wanted
        self._classifies = bool({"logits", "top5"} & set(self.wanted))
        self._pools = self._embeds or (self._classifies and not config.distilled)
        # Two tokens make the logits of a distilled model, so they do not follow from its embedding.
        self._both = self._embeds and self._classifies and config.distilled and not self._keeps
        self._heads: list[tuple[Tensor, Tensor | None]] = []
        if self._classifies and (self._keeps or self._embeds) and not self._both:
            for name in ("head", "head_dist") if config.distilled else ("head",):
                head = model.get_submodule(name)
                bias = head._parameters.get("bias")
                weight = model.get_parameter(f"{name}.weight").detach().float()
                self._heads.append((weight, None if bias is None else bias.detach().float()))
        if config.num_classes and not self._keeps and (self._heads or not self._classifies):
            model.reset_classifier(0)
        self.releases_weights = not (self._keeps and self._pools and config.global_pool == "map")
        """Whether the model can be frozen: no output needs weights that a frozen model lacks."""

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the outputs, without waiting for the device.

        Args:
            images: [b, channels, height, width], normalised, in the dtype of the weights.

        Returns:
            The columns but for ``top5_name``, each [b, ...], on the device of the images.
        """
        if len(images) == 0:  # not every step of a model takes none
            return {
                name: images.new_empty((0, *shape), dtype=getattr(torch, dtype))
                for name, (shape, dtype) in self.columns.items()
                if dtype != "str"
            }
        model, columns = self.model, {}
        embedding: Tensor | None = None
        if self._keeps:
            tokens, source, size = model.forward_intermediates(
                images, [model.config.depth - 1], norm=True
            )[0]
            columns = {
                "tokens": tokens.to(self._dtype), "token_size": size, "token_source": source,
            }  # fmt: skip
            if self._pools:
                embedding = model.forward_head(tokens, pre_logits=True, size=size)
            logits = self._classified(tokens, embedding) if self._classifies else None
        elif self._both:
            logits, embedding, _, _ = model.forward_with_features(images)
        elif self._embeds:
            embedding = model(images)
            logits = self._classified(None, embedding) if self._classifies else None
        else:
            logits = model(images)
        if self._embeds:
            assert embedding is not None
            columns["embedding"] = embedding.to(self._dtype)
        if logits is not None:
            columns |= self._of_classes(logits.float())
        return {name: columns[name].contiguous() for name in self.columns if name in columns}

    def _classified(self, tokens: Tensor | None, embedding: Tensor | None) -> Tensor:
        """The logits in float32, from the heads' own inputs."""
        if len(self._heads) == 1:
            assert embedding is not None
            return F.linear(embedding.float(), *self._heads[0])
        assert tokens is not None
        first, second = (
            F.linear(tokens[:, i].float(), *head) for i, head in enumerate(self._heads)
        )
        return (first + second).div_(2)

    def _of_classes(self, logits: Tensor) -> dict[str, Tensor]:
        columns = {}
        if "logits" in self.wanted:
            columns["logits"] = logits
        if "top5" in self.wanted:
            likely = logits.topk(min(5, logits.shape[1]), dim=1).indices
            columns["top5_class"] = likely.to(torch.int32)
            columns["top5_score"] = logits.softmax(1).gather(1, likely)
        return columns


def _checked(wanted: Sequence[str] | str, model: VisionTransformer) -> list[str]:
    names = wanted.split(",") if isinstance(wanted, str) else list(wanted)
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise ValueError(
            f"dsm_ext.Predictor: expected outputs of {', '.join(NAMES)}, got "
            f"{described(unknown[0]) if unknown else 'none'}"
        )
    for name in names:
        if name in ("logits", "top5") and model.config.num_classes == 0:
            raise ValueError(
                f"dsm_ext.Predictor: expected a model with classes for the output {name}, got one "
                "that gives features: ask for embedding"
            )
        if name == "embedding" and model.config.global_pool == "":
            raise ValueError(
                "dsm_ext.Predictor: expected a model that pools its tokens for the output "
                "embedding, got global_pool='': ask for tokens"
            )
    return [name for name in NAMES if name in names]


def _columns(outputs: Outputs, embedding_dtype: str) -> dict[str, tuple[tuple[int, ...], str]]:
    config, plan = outputs.model.config, outputs.model.plan
    best = min(5, config.num_classes)
    (height, width), (ph, pw) = config.img_size, config.patch_size
    columns: dict[str, tuple[tuple[int, ...], str]] = {}
    for name in outputs.wanted:
        if name == "embedding":
            columns[name] = (config.embed_dim,), embedding_dtype
        elif name == "logits":
            columns[name] = (config.num_classes,), "float32"
        elif name == "top5":
            columns["top5_class"] = (best,), "int32"
            columns["top5_score"] = (best,), "float32"
            if outputs.class_names is not None:
                columns["top5_name"] = (best,), "str"
        else:
            columns["tokens"] = (plan.tokens_out, config.embed_dim), embedding_dtype
            columns["token_size"] = (plan.tokens_out,), "float32"
            columns["token_source"] = (height // ph * (width // pw),), "int32"
    return columns
