"""Pixels to a device and back. On CUDA neither side waits for the other; elsewhere these are plain copies.

A copy is only then independent of the processor when its memory is pinned. torch keeps pinned blocks for
the next use and gives none out again before the copies that were queued on it are done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

Item = TypeVar("Item")

_PINNED_BYTES = 256 * 2**20
"""Of results that are on their way to the host, of one photo."""


def to_device(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """The array as a tensor on the device; later work on the current stream sees it whole."""
    # numpy calls an axis of one pixel contiguous whatever its stride, which torch refuses if it is negative.
    array = np.require(array, requirements="C")
    tensor = torch.from_numpy(array.copy() if min(array.strides, default=0) < 0 else array)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class HostCopy:
    """A tensor on its way to the host."""

    def __init__(self, tensor: torch.Tensor, stream: torch.cuda.Stream | None = None) -> None:
        """Queue the copy behind what the current stream has been given; on ``stream``, if there is one."""
        self._event: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._host = tensor.cpu()
            return
        current = torch.cuda.current_stream(tensor.device)
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        if stream is None:
            stream = current
        else:
            stream.wait_stream(current)
            tensor.record_stream(stream)  # its memory is not to be used again before the copy is done
        with torch.cuda.stream(stream):
            self._host.copy_(tensor, non_blocking=True)
            # Who waits for it sleeps: the codecs need the processor.
            self._event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch's has no types
            self._event.record(stream)

    @property
    def bytes(self) -> int:
        """Of the memory that it takes on the host."""
        return self._host.nbytes

    def wait(self) -> torch.Tensor:
        """The tensor, once it is there."""
        if self._event is not None:
            self._event.synchronize()
        return self._host


def fetched(tensors: Iterable[torch.Tensor], device: torch.device) -> Iterator[NDArray[Any]]:
    """Each tensor as an array, in their order.

    On CUDA they are copied on a stream of their own, and further ones are asked for before the first is
    there, so that the device is given its next work in time.
    """
    if device.type != "cuda":
        for tensor in tensors:
            yield tensor.cpu().numpy()
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's has no types
    copies: deque[HostCopy] = deque()
    pinned = 0
    for tensor in tensors:
        copies.append(HostCopy(tensor, stream))
        pinned += copies[-1].bytes
        while pinned > _PINNED_BYTES and len(copies) > 1:
            pinned -= copies[0].bytes
            yield copies.popleft().wait().numpy()
    while copies:
        yield copies.popleft().wait().numpy()


def one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items, each handed out when the next one has been begun."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting
