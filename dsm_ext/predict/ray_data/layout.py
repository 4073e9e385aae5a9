"""How many engines a cluster runs, and how much work a task has."""

from __future__ import annotations

from dataclasses import dataclass

import ray

UNIT = 64  # pictures in a unit of files
BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Layout:
    """How many engines there are, and what each one has.

    Args:
        workers: the number of engines, or the least and the most. None: as many as fit into the
            cluster as it is now.
        cpus, gpus: what Ray reserves for one engine. On the CPU, ``cpus`` counts the model's
            threads and decoding processes together.

    Raises:
        ValueError: no CPU and no GPU, or no engine.
    """

    workers: int | tuple[int, int] | None = None
    cpus: float = 2
    gpus: float = 0

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0 or not (self.cpus or self.gpus):
            raise ValueError(
                "dsm_ext.predict: expected CPUs or a GPU for a worker, got "
                f"cpus={self.cpus}, gpus={self.gpus}"
            )
        least, most = self.workers if isinstance(self.workers, tuple) else (self.workers,) * 2
        if least is not None and most is not None and not 1 <= least <= most:
            raise ValueError(f"dsm_ext.predict: expected 1 or more workers, got {self.workers}")

    def pool(self) -> tuple[int, int]:
        """The least and the most engines in the cluster as it is now.

        Raises:
            ValueError: no machine of the cluster has what one engine needs.
        """
        fit = 0
        largest: dict[str, float] = {}
        for node in ray.nodes():
            if node["Alive"]:
                has = node["Resources"]
                needs = {"CPU": self.cpus, "GPU": self.gpus}
                fit += min(int(has.get(name, 0) // need) for name, need in needs.items() if need)
                largest = {name: max(largest.get(name, 0), has.get(name, 0)) for name in needs}
        if isinstance(self.workers, tuple):  # an autoscaler may add machines
            return self.workers
        if not fit:
            raise ValueError(
                f"dsm_ext.predict: expected a machine with {self.cpus:g} CPUs and {self.gpus:g} "
                f"GPUs for a worker, got machines with up to {largest.get('CPU', 0):g} CPUs and "
                f"{largest.get('GPU', 0):g} GPUs"
            )
        return (self.workers,) * 2 if self.workers else (fit, fit)

    def units_per_task(self, workers: int, units: int, row_bytes: int) -> int:
        """How many units a task has.

        The driver spends about 5 ms on a task, so many workers need large tasks. A task that is
        lost is done again, so it should take seconds only. The aim is at most 50 tasks a second, at
        150 images/s for a worker on CPUs and 3,000 for one with a GPU.
        """
        most = max(64, workers) if self.gpus else max(8, workers // 20)
        most = min(most, BLOCK_BYTES // max(1, UNIT * row_bytes))
        return max(1, min(most, units // (workers * 4)))
