"""Photos as arrays of integers: what they hold, and how they become floats on a device and come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from srbatch.upscaling import transfer
from srbatch.upscaling.resample import BICUBIC, BandResampler

Pixels = NDArray[Any]
"""Integers, uint8 or uint16, of shape (H, W, C)."""


_ROWS_AT_ONCE = 256


def largest_level(pixels: Pixels, bits: int | None) -> int:
    """What stands for 1.0 in a result of that many bits, or of the photo's own where it is None."""
    return 2**bits - 1 if bits else int(np.iinfo(pixels.dtype).max)


def colour_channels(pixels: Pixels) -> int:
    """Channels without alpha."""
    channels: int = pixels.shape[2]
    return channels - (channels + 1) % 2


def is_neutral(pixels: Pixels) -> bool:
    """Whether a photo in RGB has no colours: its three channels are one."""
    return pixels.shape[2] >= 3 and all(
        np.array_equal(rows[:, :, 0], rows[:, :, channel])
        for rows in (pixels[top : top + _ROWS_AT_ONCE] for top in range(0, len(pixels), _ROWS_AT_ONCE))
        for channel in (1, 2)
    )


def as_grey(neutral: Pixels) -> Pixels:
    """One channel in place of three that are equal; alpha stays. A view."""
    return neutral[:, :, :1] if neutral.shape[2] == 3 else neutral[:, :, ::3]


def as_rgb(grey: Pixels) -> Pixels:
    """Three equal channels in place of one; alpha stays. Ready to be written to a file."""
    return np.ascontiguousarray(grey[:, :, [0, 0, 0, *range(1, grey.shape[2])]])


def enlargement(pixels: Pixels, size: tuple[int, int]) -> float:
    """How many times as large (height, width) is, on the side where it is more."""
    height: int = pixels.shape[0]
    width: int = pixels.shape[1]
    return max(size[0] / height, size[1] / width)


def cut_tile(pixels: Pixels, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Pixels:
    """The tile of these rows and columns; what is not mirrored is a view, a hundred times as fast."""
    for axis, places in enumerate((rows, columns)):
        first, count = int(places[0]), len(places)
        if (places == np.arange(first, first + count)).all():
            pixels = pixels[(slice(None),) * axis + (slice(first, first + count),)]
        else:
            pixels = pixels.take(places, axis)
    return pixels


def to_floats(pixels: Pixels, device: torch.device) -> torch.Tensor:
    """Integers of any shape to fp32 in [0, 1] on the device; they cross the bus as integers."""
    levels = np.iinfo(pixels.dtype).max
    return transfer.to_device(pixels, device).float() / levels


def to_integers(rows: torch.Tensor, levels: int) -> torch.Tensor:
    """(C, rows, W) floats to (rows, W, C) integers, rounded once."""
    dtype = torch.uint8 if levels == 255 else torch.uint16
    return (rows.clamp(0, 1) * levels).round_().to(dtype).permute(1, 2, 0).contiguous()


class AlphaRows:
    """The enlarged alpha channel, given out in as many rows at a time as are wanted."""

    def __init__(self, alpha: Pixels, size: tuple[int, int], device: torch.device) -> None:
        self._alpha = alpha  # (H, W, 1)
        self._device = device
        self._resampler = BandResampler(alpha.shape[:2], size, BICUBIC, device)
        self._ready = torch.empty(1, 0, size[1], device=device)
        self._row = 0

    def take(self, count: int) -> torch.Tensor:
        """The next rows, (1, count, width), in [0, 1] but for the kernel's overshoot."""
        while self._ready.shape[1] < count:
            rows = self._alpha[self._row : self._row + 256]
            self._row += len(rows)
            band = to_floats(rows, self._device).permute(2, 0, 1)
            self._ready = torch.cat([self._ready, self._resampler.push(band)], dim=1)
        result, self._ready = self._ready[:, :count], self._ready[:, count:]
        return result
