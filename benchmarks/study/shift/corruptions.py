"""ImageNet-C's fifteen corruptions, on the pixels that a model sees.

Source: D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", arXiv 1903.12261. The package imagecorruptions makes them.
"""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.pool import Pool
from typing import Any

import numpy as np

# By ImageNet-C's four kinds.
KINDS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
NAMES = tuple(name for kind in KINDS.values() for name in kind)
SEVERITIES = (1, 3, 5)
_OWN_SEED = ("glass_blur", "impulse_noise")  # these do not draw from numpy's global generator

# From a picture [height, width, 3] uint8, a corruption's name, a severity from 1 to 5 and a seed
# to the corrupted picture of the same shape.
Corrupt = Callable[[np.ndarray, str, int, int], np.ndarray]


def check_package() -> None:
    """
    Raises:
        ImportError: the package that makes the corruptions is not installed.
    """
    if importlib.util.find_spec("imagecorruptions") is None:
        raise ImportError(
            "the corruptions of ImageNet-C need the package imagecorruptions-imaug, which is not "
            'installed; run: pip install "imagecorruptions-imaug>=1.1.5"'
        )


def corrupt(pixels: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Corrupt a picture by the package. The same seed gives the same picture.

    Args:
        pixels: [height, width, 3] uint8, 32 pixels or more on each side.
    """
    from imagecorruptions import corrupt as from_package

    np.random.seed(seed)
    own: dict[str, Any] = {"seed": seed} if name in _OWN_SEED else {}
    return from_package(pixels, severity=severity, corruption_name=name, **own)


class Corruptions:
    """Corrupts many pictures, in worker processes that start with the first of them.

    Args:
        corrupt: a function that can be pickled.
        workers: the number of processes; 0: this process does all.
    """

    def __init__(self, corrupt: Corrupt, workers: int) -> None:
        self.corrupt = corrupt
        self.workers = workers
        self._pool: Pool | None = None

    def __enter__(self) -> Corruptions:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()

    def __call__(self, pixels: np.ndarray, name: str, severity: int) -> np.ndarray:
        """Corrupt all pictures [n, height, width, 3] uint8. Each has a seed of its own."""
        jobs = [
            (one, name, severity, zlib.crc32(f"{name} {severity} {i}".encode()))
            for i, one in enumerate(pixels)
        ]
        if self.workers == 0:
            return np.stack([self.corrupt(*job) for job in jobs])
        if self._pool is None:
            # Spawned: a process that was forked from one with torch's threads can hang.
            self._pool = get_context("spawn").Pool(self.workers)
        return np.stack(self._pool.starmap(self.corrupt, jobs, chunksize=4))
