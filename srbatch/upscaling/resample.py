"""Separable resampling of a picture that comes and goes in bands of rows.

The weights are those of the convolution-based resizing that Pillow and libvips use: the kernel is
stretched by the factor when a picture is reduced, cut at the picture's edges and normalised, so the
result is antialiased and a flat picture stays flat.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray

Kernel = tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], float]
"""A function of the distance in pixels, and the distance beyond which it is 0."""


def _lanczos3(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys (1981) with a = -0.5: the one that reproduces a parabola."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


LANCZOS: Kernel = (_lanczos3, 3.0)
BICUBIC: Kernel = (_bicubic, 2.0)


def taps(length: int, target: int, kernel: Kernel) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """First source pixel and weights of each target pixel.

    Returns:
        ``first`` of shape (target,), rising, and ``weights`` of shape (target, taps) whose rows sum
        to 1; every tap lies inside the source.
    """
    function, radius = kernel
    factor = length / target
    stretch = max(factor, 1.0)
    count = min(ceil(2 * radius * stretch) + 1, length)
    centre = (np.arange(target) + 0.5) * factor
    first = np.floor(centre - radius * stretch + 0.5).astype(np.int64).clip(0, length - count)
    position = first[:, None] + np.arange(count) + 0.5
    weights = function((position - centre[:, None]) / stretch)
    return first, weights / weights.sum(axis=1, keepdims=True)


class BandResampler:
    """Resamples (C, rows, width) bands, pushed from top to bottom, to another size.

    Only the rows that later target rows still need are kept.
    """

    def __init__(
        self, size: tuple[int, int], target: tuple[int, int], kernel: Kernel, device: torch.device
    ) -> None:
        """``size`` and ``target`` are (height, width) in pixels."""
        self._row_first, row_weights = taps(size[0], target[0], kernel)
        column_first, column_weights = taps(size[1], target[1], kernel)
        # All that the device needs goes there now: a copy with each band would wait for what is queued.
        self._row_first_there = torch.from_numpy(self._row_first).to(device)
        self._row_weights = torch.from_numpy(row_weights.astype(np.float32)).to(device)
        self._column_first = torch.from_numpy(column_first).to(device)
        self._column_weights = torch.from_numpy(column_weights.astype(np.float32)).to(device)
        self._kept: torch.Tensor | None = None  # (C, rows, target width), from row self._top of the source
        self._top = 0
        self._next = 0  # the first target row that is still to come

    def push(self, band: torch.Tensor) -> torch.Tensor:
        """Take the next rows of the source, (C, n, width) float; return those of the target now complete.

        Returns:
            (C, m, target width), m may be 0.
        """
        new = self._across(band)
        kept = new if self._kept is None else torch.cat([self._kept, new], dim=1)
        bottom = self._top + kept.shape[1]
        taps_count = self._row_weights.shape[1]
        end = int(np.searchsorted(self._row_first, bottom - taps_count, side="right"))
        first = self._row_first_there[self._next : end] - self._top
        weights = self._row_weights[self._next : end]
        result = kept.new_zeros(kept.shape[0], max(end - self._next, 0), kept.shape[2])
        for tap in range(taps_count):
            result.addcmul_(kept.index_select(1, first + tap), weights[:, tap, None])
        self._next = max(end, self._next)
        needed = int(self._row_first[self._next]) if self._next < len(self._row_first) else bottom
        self._kept = kept[:, min(needed, bottom) - self._top :]
        self._top = min(needed, bottom)
        return result

    def _across(self, band: torch.Tensor) -> torch.Tensor:
        result = band.new_zeros(band.shape[0], band.shape[1], len(self._column_first))
        for tap in range(self._column_weights.shape[1]):
            result.addcmul_(band.index_select(2, self._column_first + tap), self._column_weights[:, tap])
        return result
