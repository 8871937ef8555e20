"""Making a picture smaller, and the weighted sums behind that and behind every blur.

Sums are written out tap by tap instead of as matrix products: they are as fast at these sizes, start no
threads beside those of the training, and add up in one order whatever the machine's number of cores.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import floor

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from srbatch.upscaling import resample
from trainer.degradations.bounds import Pixels

_NEGLIGIBLE = 1e-4
"""A tap below this share moves no pixel by more than a fortieth of a level of 255."""

_KERNELS: dict[str, resample.Kernel] = {
    "bicubic": resample.BICUBIC,
    "bilinear": (lambda x: np.maximum(1 - np.abs(x), 0), 1.0),
    "area": (lambda x: (np.abs(x) < 0.5).astype(np.float64), 0.5),
    "lanczos3": resample.LANCZOS,
}


class Kernel(BaseModel):
    """How often each kernel makes the small picture; the weights need not sum to 1.

    All are antialiased, that is stretched by the factor; picking every n-th pixel is not offered, because
    no camera, scanner or program that people use does it.

    Raises:
        pydantic.ValidationError: a weight is below 0 or all are 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bicubic: float = Field(default=1.0, ge=0, description="Keys' cubic with a = -0.5, as MATLAB's imresize.")
    bilinear: float = Field(default=0.0, ge=0, description="Triangle over two of the large pixels.")
    area: float = Field(default=0.0, ge=0, description="Mean of the pixels that the large one covers.")
    lanczos3: float = Field(default=0.0, ge=0, description="Windowed sinc over six of the large pixels.")

    @model_validator(mode="after")
    def _some_weight(self) -> Kernel:
        if not any(weight for _, weight in self):
            raise ValueError("every weight is 0; give at least one kernel a weight above 0")
        return self


def bicubic_downsample(pixels: Pixels, factor: int) -> Pixels:
    """The picture reduced as the super-resolution benchmarks reduce it: MATLAB's ``imresize(x, 1/factor)``.

    Cubic with a = -0.5, stretched by the factor, edges mirrored with the edge pixel repeated; values are
    clipped to [0, 1] but not rounded.

    Returns:
        (H / factor, W / factor, 3).

    Raises:
        ValueError: the factor is below 1 or does not divide both sides.
    """
    return _reduced(pixels, factor, "bicubic")


def downsample(pixels: Pixels, factor: int, rng: np.random.Generator, settings: Kernel) -> Pixels:
    """The picture reduced with one of the kernels.

    Returns:
        (H / factor, W / factor, 3).

    Raises:
        ValueError: the factor is below 1 or does not divide both sides.
    """
    names, weights = zip(*settings, strict=True)
    total = np.cumsum(weights)
    return _reduced(pixels, factor, names[int(np.searchsorted(total, rng.random() * total[-1], "right"))])


def _reduced(pixels: Pixels, factor: int, kernel: str) -> Pixels:
    height, width = pixels.shape[:2]
    if factor < 1 or height % factor or width % factor:
        raise ValueError(
            f"a picture of {width} x {height} px is not reduced by {factor}: it must divide both"
        )
    if factor == 1:
        return pixels.copy()
    taps, first = _taps(kernel, factor)
    return clipped(filtered(pixels, taps, first, factor))


@lru_cache(maxsize=64)
def _taps(kernel: str, factor: int) -> tuple[NDArray[np.float64], int]:
    """Weights of the small picture's first pixel, as of every other, and the source pixel of the first."""
    function, radius = _KERNELS[kernel]
    first = floor(factor / 2 - radius * factor)
    position = (np.arange(first, factor - first) + 0.5) / factor - 0.5
    taps = function(position)
    return taps / taps.sum(), first


def filtered(pixels: Pixels, taps: NDArray[np.float64], first: int, step: int) -> Pixels:
    """Filter rows, then columns, with edges mirrored.

    Pixel i of the result is the weighted sum of the source's from ``i * step + first`` on.

    Returns:
        (H / step, W / step, 3), not clipped.
    """
    height, width = pixels.shape[0] // step, pixels.shape[1] // step
    rows = pixels.take(_mirror(pixels.shape[0], first, len(taps) - step + first), axis=0)
    rows = weighted(lambda tap: rows[tap : tap + height * step : step], taps)
    columns = rows.take(_mirror(pixels.shape[1], first, len(taps) - step + first), axis=1)
    return weighted(lambda tap: columns[:, tap : tap + width * step : step], taps)


def weighted(shifted: Callable[[int], Pixels], taps: NDArray[np.float64]) -> Pixels:
    """Sum over the taps of ``shifted(tap) * weight``; no taps of weight 0 are asked for."""
    kept = [(tap, np.float32(weight)) for tap, weight in enumerate(taps) if weight]
    result = shifted(kept[0][0]) * kept[0][1]
    for tap, weight in kept[1:]:
        result += shifted(tap) * weight
    return result


@lru_cache(maxsize=256)
def _mirror(length: int, first: int, beyond: int) -> NDArray[np.int64]:
    """Where pixels from ``first`` to ``beyond`` past the end come from: 2 1 0 | 0 1 2 | 2 1 0 and so on."""
    place = np.arange(first, length + beyond) % (2 * length)
    return np.where(place < length, place, 2 * length - 1 - place)


def convolved(pixels: Pixels, kernel: NDArray[np.float64]) -> Pixels:
    """Filter with a kernel (n, n), n odd, that is symmetric about its centre and need not be normalised.

    Edges are mirrored; the result is not clipped.
    """
    height, width = pixels.shape[:2]
    radius = kernel.shape[0] // 2
    framed = pixels.take(_mirror(height, -radius, radius), axis=0).take(
        _mirror(width, -radius, radius), axis=1
    )
    kernel = np.where(kernel < _NEGLIGIBLE * kernel.sum(), 0, kernel)
    kernel = kernel / kernel.sum()
    side = kernel.shape[0]

    def shifted(tap: int) -> Pixels:
        y, x = divmod(tap, side)
        return framed[y : y + height, x : x + width]

    return weighted(shifted, kernel.ravel())


def clipped(pixels: Pixels) -> Pixels:
    """The same array, cut to [0, 1] in place."""
    return np.clip(pixels, 0, 1, out=pixels)
