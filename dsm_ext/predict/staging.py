"""Running batches on a GPU so that copies go on beside the computation.

The pixels of a batch are copied to pinned memory, then by a stream of its own to the device, while
the device computes the batch before. Another stream copies the results back, and they are read when
the next batch has been given to the device. So the device always has work, and the host waits only
for events of the batch that it reads.

Two slots of buffers are used in turn. A slot is filled again after its results were read, that is
after the event behind the last use of its buffers. So no stream has to wait for a buffer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

SLOTS = 2


class _Slot:
    """The buffers of one batch, and the events that order their uses."""

    def __init__(self) -> None:
        self.staged: Tensor | None = None
        """uint8 [b, height, width, channels] in pinned memory; ``pixels`` on the device."""
        self.pixels: Tensor | None = None
        self.results: dict[str, Tensor] = {}
        """Buffers in pinned memory for the outputs."""
        self.outputs: dict[str, Tensor] = {}
        """On the device. They stay alive until another stream has copied them."""
        self.count = 0
        self.copied, self.computed = torch.cuda.Event(), torch.cuda.Event()
        # While the host waits, decoding threads need the core: so the wait does not spin.
        self.done = torch.cuda.Event(blocking=True)


def staged(
    batches: Iterable[Tensor],
    compute: Callable[[Tensor], dict[str, Tensor]],
    device: torch.device,
) -> Iterator[dict[str, np.ndarray]]:
    """Compute batches one after another on a CUDA device.

    The result of a batch is yielded when the next batch has been given to the device.

    Args:
        batches: each uint8 [b, height, width, channels] on the CPU, pinned or not. The memory is
            read before the next batch is asked for, and may be used again then.
        compute: from pixels on the device to outputs on the device, each contiguous [b, ...]. It is
            called on the current stream and must not keep the pixels.

    Yields:
        The outputs of each batch in order, in memory of their own.
    """
    with torch.cuda.device(device):
        slots = [_Slot() for _ in range(SLOTS)]
        inward, outward = torch.cuda.Stream(), torch.cuda.Stream()
    running: deque[_Slot] = deque()
    try:
        for number, pixels in enumerate(batches):
            slot = slots[number % SLOTS]
            with torch.cuda.device(device):  # never held over a yield: the caller would see it
                running.append(slot)
                _start(slot, pixels, compute, inward, outward)
            if len(running) == SLOTS:
                yield _read(running.popleft())
        while running:
            yield _read(running.popleft())
    finally:
        for slot in running:  # the caller stopped early: buffers must outlive their copies
            slot.done.synchronize()


def _start(
    slot: _Slot,
    pixels: Tensor,
    compute: Callable[[Tensor], dict[str, Tensor]],
    inward: torch.cuda.Stream,
    outward: torch.cuda.Stream,
) -> None:
    slot.count = len(pixels)
    slot.staged = _pinned(slot.staged, pixels)
    slot.staged[: slot.count].copy_(pixels)
    current = torch.cuda.current_stream()
    with torch.cuda.stream(inward):
        if slot.pixels is None or len(slot.pixels) < slot.count:
            slot.pixels = torch.empty(pixels.shape, dtype=pixels.dtype, device=current.device)
        slot.pixels[: slot.count].copy_(slot.staged[: slot.count], non_blocking=True)
        slot.copied.record()
    slot.pixels.record_stream(current)  # an error may free the pixels while they are in use
    current.wait_event(slot.copied)
    slot.outputs = compute(slot.pixels[: slot.count])
    slot.computed.record(current)
    outward.wait_event(slot.computed)
    with torch.cuda.stream(outward):
        for name, output in slot.outputs.items():
            slot.results[name] = _pinned(slot.results.get(name), output)
            slot.results[name][: slot.count].copy_(output, non_blocking=True)
        slot.done.record()


def _pinned(buffer: Tensor | None, like: Tensor) -> Tensor:
    """A buffer in pinned memory that takes ``like``: the given one if it is large enough."""
    if buffer is not None and len(buffer) >= len(like):
        return buffer
    return torch.empty(like.shape, dtype=like.dtype, device="cpu", pin_memory=True)


def _read(slot: _Slot) -> dict[str, np.ndarray]:
    slot.done.synchronize()
    results = {name: slot.results[name][: slot.count].numpy().copy() for name in slot.outputs}
    slot.outputs = {}
    return results
