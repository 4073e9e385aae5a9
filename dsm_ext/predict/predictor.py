"""``Predictor``: one model that turns batches of pictures into columns."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dsm_ext._native import Schedule
from dsm_ext.error_text import described
from dsm_ext.images.transform import transform_for
from dsm_ext.model.digest import digest
from dsm_ext.predict.cells import image_column, prepare
from dsm_ext.predict.opening import open_model
from dsm_ext.predict.outputs import Outputs
from dsm_ext.predict.process import assigned_by_ray, device_for, set_threads
from dsm_ext.predict.staging import staged

ERROR = "error"


class Predictor:
    """Turns batches of pictures into embeddings, logits, classes or tokens.

    It is made to be an actor of Ray Data: the arguments can be pickled, and the model is loaded
    once, when the object is made::

        dataset.map_batches(
            dsm_ext.Predictor,
            fn_constructor_args=("folder",),
            fn_constructor_kwargs={"outputs": ("embedding", "top5")},
            batch_size=64, num_cpus=2, concurrency=4,
        )

    **Outputs.** Each is one column or several, with a row for each picture:

    - ``embedding``: ``embedding`` [C], the input of the model's head, in ``embedding_dtype``. The
      last block is then computed for the class token alone, if that is what the model pools.
    - ``logits``: ``logits`` [classes] float32.
    - ``top5``: ``top5_class`` [5] int32 and ``top5_score`` [5] float32, the most likely classes and
      their probabilities; and ``top5_name`` [5], their names, if the model's are known. A model of
      fewer classes has as many columns as classes.
    - ``tokens``: ``tokens`` [M, C] in ``embedding_dtype``, the tokens after the last norm, prefix
      tokens first; ``token_size`` [M] float32, how many patches each stands for; ``token_source``
      [gh * gw] int32, the token that holds each patch. M depends on the schedule alone: all
      pictures are scaled to the size of the model.

    Logits beside embeddings or tokens are computed from the head's input in float32.

    Args:
        model: a timm name, with ``weights`` or ``pretrained``; a folder of ``export``, of the model
            hub or of transformers; the model.safetensors of ``export``; or a model of timm's or
            dsm_ext's, which stays as it is.
        weights, pretrained: as for ``from_timm``.
        schedule: None takes that of the folder or the model, or "dsm" if there is none.
        precision: as for ``VisionTransformer.precision``. None takes that of the folder or model.
        outputs: the wanted outputs, or their names in one string separated by commas.
        embedding_dtype: ``float32`` or ``float16``. Values above 65504 become infinite in float16.
        device: None takes the GPU that Ray gave to this process, or else the CPU.
        dtype: of the weights: a dtype or its name. None keeps the file's or the model's.
        image_column: the column that holds the pictures. None takes ``bytes`` or ``image``.
        max_pixels: larger encoded pictures are errors. None leaves Pillow's limit alone, which is
            twice ``PIL.Image.MAX_IMAGE_PIXELS``.
        threads: torch's threads in this process. None takes as many as Ray gave CPUs to this
            actor, and elsewhere leaves torch as it is.
        options: further arguments of ``from_timm`` for a timm name, such as ``img_size``.

    On the CPU the model keeps packed weights alone, where it runs on the fast path.

    Raises:
        ValueError: a timm name has no weights; an unknown output, or one that the model does not
            have; nothing says how to prepare the model's pictures; or as ``from_timm`` and
            ``load``.
        FileNotFoundError: a folder or file does not exist.
        TypeError, NotImplementedError: as for ``from_timm`` and ``load``.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | nn.Module,
        *,
        weights: str | os.PathLike[str] | None = None,
        pretrained: bool = False,
        schedule: Schedule | str | None = None,
        precision: str | None = None,
        outputs: Sequence[str] | str = ("embedding",),
        embedding_dtype: str = "float32",
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        image_column: str | None = None,
        max_pixels: int | None = None,
        threads: int | None = None,
        **options: Any,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name != "self"}
        given = arguments.pop("options") | arguments
        self._again = None if isinstance(model, nn.Module) else partial(Predictor, **given)
        assigned = assigned_by_ray()
        set_threads(threads, assigned)
        self.device = device_for(device, assigned)
        opened = open_model(
            model,
            weights=weights,
            pretrained=pretrained,
            schedule=schedule,
            precision=precision,
            dtype=dtype,
            device=self.device,
            **options,
        )
        name = type(model).__name__ if isinstance(model, nn.Module) else Path(model).name
        self._identity = {
            "model": name,
            "weights": digest(parameter for _, parameter in opened.named_parameters()),
        }
        self._outputs = Outputs(opened, outputs, embedding_dtype)
        self._image_column, self._max_pixels = image_column, max_pixels
        own = self._outputs.model
        transform = transform_for(own)
        self._normalisation = {
            name: [float(value) for value in transform.config[name]] for name in ("mean", "std")
        }
        self.resizing = transform.resizing
        """How pictures are scaled and cropped to the model's size."""
        # A division by a number of the host would be a product with its reciprocal on a GPU. And
        # values that are moved there once cost no wait for the device later.
        self._constants = [
            value.to(self.device)
            for value in (
                torch.from_numpy(np.array([255], np.float32)),
                transform.mean,
                transform.std,
            )
        ]
        self._dtype = next(own.parameters()).dtype
        self._names = np.array(self.class_names or [], object)
        if self.device.type == "cpu" and self._outputs.releases_weights:
            with contextlib.suppress(NotImplementedError):  # it does not run on the fast path
                own.freeze()

    @property
    def size(self) -> tuple[int, int, int]:
        """The height, width and channels of the pixels that the model takes."""
        return self.resizing.height, self.resizing.width, self.resizing.channels

    @property
    def settings(self) -> dict[str, Any]:
        """All that the values of the columns depend on, as JSON has it."""
        return {
            **self._identity,
            "schedule": self.schedule.text(),
            "precision": self.precision,
            "dtype": str(self._dtype).removeprefix("torch."),
            "columns": {name: dtype for name, (_, dtype) in self.columns.items()},
            "preprocessing": {**asdict(self.resizing), **self._normalisation},
        }

    @property
    def columns(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        """The columns of the outputs: the shape for one picture, and NumPy's dtype or ``str``."""
        return self._outputs.columns

    @property
    def schedule(self) -> Schedule:
        """The model's schedule."""
        return self._outputs.model.schedule

    @property
    def precision(self) -> str:
        """The model's precision; ``auto`` is resolved."""
        return self._outputs.model.precision

    @property
    def class_names(self) -> list[str] | None:
        """The readable names of the classes in their order. None if they are unknown."""
        return self._outputs.class_names

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Predict the pictures of a batch.

        Args:
            batch: columns of equal length. The pictures are encoded files (bytes in an array of
                objects), or pixels: uint8 [b, h, w, c], or an array of objects [h, w] or [h, w, c]
                of any sizes, with c = 1, 3 or 4. An empty cell is None.

        Returns:
            The other columns of the batch as they are; ``error``, an array of strings: why a
            picture cannot be used, or ""; and the outputs. ``top5_name`` is an array of lists. A
            picture that cannot be used has NaN in outputs of floats, -1 in those of integers, and
            empty names. So all batches have columns of the same types, as Ray and Parquet need.

        Raises:
            ValueError: there is no column of pictures, or a column has the name of an output.
            TypeError: a picture is neither bytes nor pixels.
        """
        name = image_column(batch, self._image_column, (*self.columns, ERROR))
        pixels, errors = prepare(
            batch[name], self.resizing, self._max_pixels, torch.get_num_threads()
        )
        failed = np.array([error != "" for error in errors], bool)
        outputs = self.pixels(torch.from_numpy(pixels if not failed.all() else pixels[:0]))
        result: dict[str, Any] = {n: column for n, column in batch.items() if n != name}
        result[ERROR] = np.array(errors, np.str_)
        for column, (shape, dtype) in self.columns.items():
            values = outputs[column]
            if failed.any():
                if failed.all():
                    values = np.empty((len(failed), *shape), object if dtype == "str" else dtype)
                values[failed] = "" if dtype == "str" else -1 if "int" in dtype else np.nan
            result[column] = _lists(values) if dtype == "str" else values
        return result

    def pixels(self, pixels: Tensor) -> dict[str, np.ndarray]:
        """Predict decoded pictures of the model's size.

        Args:
            pixels: uint8 [b, height, width, channels] of ``size``, on the CPU. b may be 0.

        Returns:
            The columns of ``columns``, each [b, ...].

        Raises:
            ValueError, TypeError: another shape or dtype.
        """
        (result,) = self.stream([pixels])
        return result

    def stream(self, batches: Iterable[Tensor]) -> Iterator[dict[str, np.ndarray]]:
        """Predict batches one after another.

        On a GPU the next batch is copied while the device computes, and the result of a batch is
        yielded when the next one has been given to the device.

        Args:
            batches: as ``pixels`` takes them. A batch may be changed when the next one is asked
                for.

        Yields:
            For each batch what ``pixels`` returns, in order.

        Raises:
            As ``pixels``.
        """
        checked = map(self._checked, batches)
        if self.device.type == "cuda":
            results = staged(checked, self._compute, self.device)
        else:
            results = (_to_numpy(self._compute(pixels)) for pixels in checked)
        for columns in results:
            if "top5_name" in self.columns:
                columns["top5_name"] = self._names[columns["top5_class"]]
            yield columns

    def _checked(self, pixels: Tensor) -> Tensor:
        if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8:
            raise TypeError(
                "dsm_ext.Predictor: expected pixels to be a tensor of uint8, got "
                f"{described(pixels)}"
            )
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != self.size:
            raise ValueError(
                f"dsm_ext.Predictor: expected pixels [b, {', '.join(map(str, self.size))}], got "
                f"{list(pixels.shape)}"
            )
        return pixels

    def _compute(self, pixels: Tensor) -> dict[str, Tensor]:
        """The outputs of pixels, on their device, normalised as by ``Transform.normalise``."""
        images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        most, mean, std = self._constants
        images.div_(most).sub_(mean).div_(std)
        return self._outputs(images.to(self._dtype))

    def __reduce__(self) -> tuple[Callable[[], Predictor], tuple[()]]:
        if self._again is None:
            raise TypeError(
                "dsm_ext.Predictor: a predictor that was made from a model cannot be pickled: give "
                "other processes the class and its arguments, or make it from a folder"
            )
        return self._again, ()


def _to_numpy(columns: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in columns.items()}


def _lists(values: np.ndarray) -> np.ndarray:
    """An array of lists, one for each row. Ray and Arrow make a column of lists of it."""
    lists = np.empty(len(values), object)
    for row, value in enumerate(values.tolist()):
        lists[row] = value
    return lists
