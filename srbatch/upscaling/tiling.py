"""How a photo is cut into tiles and put together again: pure arithmetic.

An axis of the photo is padded by mirroring to a multiple of the network's stride and cut into equal
tiles. Their origins are multiples of the stride, so that a strided encoder sees the same phase in
each, and are spread as evenly as that allows. Where two tiles meet, each loses a *halo*, the rim in
which its pixels depend on what lies outside it, and what is left of the overlap is a raised-cosine
*ramp* from the one to the other. Weights are normalised per axis when the plan is made; the weight
of a pixel is the outer product of the two axes', so the weights of all tiles sum to 1 everywhere and
no buffer of weights is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Margins:
    """What tiles lose and blend where they have neighbours, and where they may begin, in input pixels."""

    halo: int
    """What each such side of a tile throws away."""
    ramp: int
    """What two neighbours blend at least, between their halos."""
    stride: int
    """The network's; sides and origins of tiles are multiples of it."""

    @property
    def overlap(self) -> int:
        """The least that neighbours share: two halos and the ramp, rounded up to the stride."""
        return ceil((2 * self.halo + self.ramp) / self.stride) * self.stride


def rise(depth: NDArray[np.float64], ramp: float) -> NDArray[np.float64]:
    """The raised cosine of a ramp: 0 up to depth 0, 1 from ``ramp`` on; a step where that is 0."""
    t = np.clip(depth / max(ramp, 1e-9), 0.0, 1.0)
    return np.sin(t * (np.pi / 2)) ** 2


@dataclass(frozen=True)
class Axis:
    """One axis of a photo cut into equal, overlapping tiles. All lengths are pixels of the input grid."""

    length: int
    """Of the photo."""
    padded: int
    """Of the photo with its mirrored padding behind; a multiple of the stride."""
    tile: int
    halo: int
    origins: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.origins)

    def source(self, index: int) -> NDArray[np.intp]:
        """The photo's pixel behind each pixel of a tile, shape (tile,), mirrored beyond the photo's end."""
        start = self.origins[index]
        return mirrored(np.arange(start, start + self.tile), self.length)

    def weights(self, scale: int) -> list[NDArray[np.float32]]:
        """For each tile the weights of its output pixels, shape (tile * scale,); they sum to 1 everywhere."""
        raw = [self._ramp(index, scale) for index in range(len(self))]
        total = np.zeros(self.padded * scale)
        for origin, weight in zip(self.origins, raw, strict=True):
            total[origin * scale : (origin + self.tile) * scale] += weight
        return [
            (weight / total[origin * scale : (origin + self.tile) * scale]).astype(np.float32)
            for origin, weight in zip(self.origins, raw, strict=True)
        ]

    def _ramp(self, index: int, scale: int) -> NDArray[np.float64]:
        position = (np.arange(self.tile * scale) + 0.5) / scale
        weight = np.ones(self.tile * scale)
        if index > 0:
            weight *= rise(position - self.halo, self.overlaps[index - 1] - 2 * self.halo)
        if index < len(self) - 1:
            weight *= rise(self.tile - position - self.halo, self.overlaps[index] - 2 * self.halo)
        return weight

    @cached_property
    def overlaps(self) -> tuple[int, ...]:
        """Pixels that each tile shares with the next."""
        return tuple(a + self.tile - b for a, b in pairwise(self.origins))


@dataclass(frozen=True)
class Plan:
    """A photo cut along both axes; every tile is ``rows.tile`` x ``columns.tile`` pixels."""

    rows: Axis
    columns: Axis

    @property
    def tiles(self) -> int:
        """How many tiles there are."""
        return len(self.rows) * len(self.columns)

    @property
    def work_px(self) -> int:
        """Pixels that the network sees; over the photo's own pixels, what overlap and padding cost."""
        return self.tiles * self.rows.tile * self.columns.tile


def plan(height: int, width: int, *, tile: int, margins: Margins, highest: int | None = None) -> Plan:
    """Cut a photo of height x width pixels into tiles of at most ``tile`` pixels a side.

    Args:
        height: of the photo, in pixels.
        width: of the photo, in pixels.
        tile: the most pixels on a side.
        margins: what tiles share.
        highest: the most rows of a tile, where they are to be fewer than ``tile``.

    Raises:
        ValueError: a tile this small would be all overlap, or the photo is empty.
    """
    rows = tile if highest is None else min(tile, highest)
    return Plan(cut_axis(height, rows, margins), cut_axis(width, tile, margins))


def cut_axis(length: int, tile: int, margins: Margins) -> Axis:
    """Cut one axis: the fewest pixels of work among the tile sizes of the ladder; raises as :func:`plan`."""
    if length < 1:
        raise ValueError("a photo has at least one pixel")
    halo, stride = margins.halo, margins.stride
    if tile // stride * stride <= margins.overlap:
        raise ValueError(f"a tile needs more than {margins.overlap} px a side, got {tile}")
    overlap = margins.overlap // stride  # in strides from here on
    length_s = ceil(length / stride)
    sizes = ladder(tile // stride)
    whole = next((size for size in sizes if size >= length_s), None)
    if whole is not None:
        return Axis(length, whole * stride, whole * stride, halo, (0,))
    counts = {size: ceil((length_s - overlap) / (size - overlap)) for size in sizes if size > overlap}
    size = min(counts, key=lambda s: (counts[s] * s, -s))
    # floor() moves neighbours at most ceil((length - size) / (count - 1)) apart, which count keeps within
    # size - overlap: the overlap is never less than asked.
    steps = counts[size] - 1
    origins = tuple(i * (length_s - size) // steps * stride for i in range(counts[size]))
    return Axis(length, length_s * stride, size * stride, halo, origins)


def ladder(largest: int) -> list[int]:
    """Tile sizes in strides, 1 to ``largest``, each at most a third above the one before it from 3 on.

    A short list, so that an archive of many sizes meets the device with few shapes.
    """
    sizes = [1, 2]
    step = 1
    while sizes[-1] + step <= largest:
        sizes.append(sizes[-1] + step)
        if sizes[-1] == 8 * step:
            step *= 2
    return sorted({*(size for size in sizes if size < largest), largest})


def mirrored(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Fold positions beyond a line of ``length`` pixels back into it, as often as needed.

    The last pixel is not repeated (as in numpy's ``reflect``); a line of one pixel repeats that.
    """
    period = max(2 * length - 2, 1)
    folded = index % period
    return np.minimum(folded, period - folded) if length > 1 else folded
