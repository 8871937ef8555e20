"""How large tiles and batches may be where nobody says: by the free memory of the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from srbatch.errors import NoRoom
from srbatch.upscaling import tiling
from srbatch.upscaling.hardware import free_bytes

_BYTES_PER_PX = 16_000
"""Memory that one input pixel of a tile takes at its peak in fp32 at x4 (measured with tiles of 512 px)."""
_BYTES_PER_PX_BY_BLOCKS = 3_600
"""The same where the network is run by blocks, in any precision: what is as large as a tile is in fp32."""
_MAX_TILE = {"cpu": 512, "mps": 512, "cuda": 512}
_MAX_BATCH = {"cpu": 1, "mps": 2, "cuda": 4}
_SHARE_OF_FREE_MEMORY = 0.4
"""For each lane."""
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Tiles:
    """The most pixels on a tile's side, and the most tiles sent at once."""

    tile: int
    batch: int

    def __str__(self) -> str:
        return f"tiles of {self.tile} px, {self.batch} at once"


def fitting(
    device: torch.device,
    *,
    by_blocks: bool,
    precision: str,
    largest: int,
    stride: int,
    smallest: int,
    tile: int | None,
    batch: int | None,
) -> Tiles:
    """Return what fits into the memory that is free now; ``tile`` and ``batch`` that are given stay.

    Args:
        by_blocks: the network is run by blocks, which take little memory.
        precision: as :func:`srbatch.upscaling.hardware.pick_precision` returns it.
        largest: of the network's heads.
        stride: sides are multiples of it.
        smallest: side of a tile that is not all overlap; it is returned even where it does not fit.
    """
    if by_blocks:
        at_x4 = float(_BYTES_PER_PX_BY_BLOCKS)
    else:
        at_x4 = _BYTES_PER_PX / (1 if precision == "fp32" else 2)
    per_px = at_x4 * max(largest / 4, 1) ** 2
    budget = free_bytes(device) * _SHARE_OF_FREE_MEMORY / per_px
    if tile is None:
        sizes = [n * stride for n in tiling.ladder(_MAX_TILE[device.type] // stride)]
        tile = max((n for n in sizes if n >= smallest and n**2 <= budget), default=smallest)
    return Tiles(tile, batch or max(1, min(_MAX_BATCH[device.type], int(budget / tile**2))))


class StripMemory:
    """How high tiles may be for the width of a photo: a row of them, enlarged, is in memory at once.

    Of most photos that is less than a tile takes in the network; of a panorama it may be gigabytes.
    """

    def __init__(self, device: torch.device, *, margins: tiling.Margins, smallest: int) -> None:
        """Look at what is free now.

        Args:
            device: where the strip is.
            margins: what tiles share; of the row above that is kept beside the strip.
            smallest: rows of a tile that is not all overlap.
        """
        self._device, self._free = device, free_bytes(device)
        self._margins, self._smallest = margins, smallest

    def highest(self, width: int, colours: int, head: int) -> int:
        """The most rows of a tile.

        Args:
            width: of the photo, in pixels.
            colours: channels that go through the network.
            head: the factor of the enlargement.
        """
        stride, row = self._margins.stride, _strip_bytes(1, width, colours, head)
        rows = int(self._free * _SHARE_OF_FREE_MEMORY / row) - self._margins.overlap
        return max(rows // stride * stride, self._smallest)

    def check(self, width: int, colours: int, head: int) -> None:
        """See whether the lowest strip fits, so that the system need not end us for it; as :meth:`highest`.

        Raises:
            NoRoom: not even into all of the memory that is free.
        """
        needed = _strip_bytes(self._smallest + self._margins.overlap, width, colours, head)
        if needed > self._free:
            self._free = free_bytes(self._device)  # a watcher may have begun when memory was short
        if needed > self._free:
            raise NoRoom(
                f"{width} px across take {needed / 1e9:.1f} GB of memory, even in the lowest tiles,"
                " more than is free; let other programs end, or cut the photo into narrower ones"
            )


def _strip_bytes(rows: int, width: int, colours: int, head: int) -> int:
    return rows * width * colours * head**2 * _FLOAT_BYTES
