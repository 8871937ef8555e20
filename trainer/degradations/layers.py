"""Marks that lie on a picture: where, how opaque, of which colour; and how curved lines are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainer.degradations.bounds import Pixels

Plane = NDArray[np.float32]
"""(h, w)."""
Colour = tuple[float, float, float]
"""RGB in [0, 1]."""

REFERENCE_PX = 128
"""Settings count marks on a picture of this side, so that crops of any size look cut from the same photo."""

_FINE = 4
"""Lines are drawn this many times larger and reduced: smooth edges, and widths in fractions of a pixel."""


class Layer(NamedTuple):
    """One colour laid over a part of a picture; it may reach beyond the picture's edges."""

    top: int
    left: int
    alpha: Plane
    """Opacity in [0, 1]; 0 leaves the picture as it is."""
    colour: Colour


def composed(pixels: Pixels, layers: Sequence[Layer]) -> Pixels:
    """A new picture with the layers laid over it in their order."""
    result = pixels.copy()
    for layer in layers:
        inside, part = overlap(layer[:2], layer.alpha.shape, pixels.shape[:2])
        view = result[inside]
        view += layer.alpha[part][..., None] * (np.array(layer.colour, np.float32) - view)
    return np.clip(result, 0, 1, out=result)


def covered(height: int, width: int, layers: Sequence[Layer]) -> NDArray[np.bool_]:
    """(height, width), true where any layer changes the picture."""
    mask = np.zeros((height, width), np.bool_)
    for layer in layers:
        inside, part = overlap(layer[:2], layer.alpha.shape, (height, width))
        mask[inside] |= layer.alpha[part] > 0
    return mask


def overlap(
    corner: tuple[int, int], part: tuple[int, ...], whole: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a part (h, w) with its corner at (top, left) lies in the whole (H, W), and what of it lies there.

    The part may reach beyond any edge; where it lies outside altogether, all slices are empty.
    """
    inside, seen = [], []
    for start, length, limit in zip(corner, part, whole, strict=True):
        low = min(max(start, 0), limit)
        high = max(min(start + length, limit), low)
        inside.append(slice(low, high))
        seen.append(slice(low - start, high - start) if high > low else slice(0, 0))
    return (inside[0], inside[1]), (seen[0], seen[1])


class Canvas:
    """An opacity mask of a picture's size on which lines and blots are drawn, with smooth edges.

    Coordinates and widths are in pixels of the picture, x to the right and y down.
    """

    def __init__(self, height: int, width: int) -> None:
        self._image = Image.new("L", (width * _FINE, height * _FINE))
        self._draw = ImageDraw.Draw(self._image)
        self._touched = False

    def stroke(self, points: Plane, widths: Plane, opacities: Plane) -> None:
        """A line through ``points`` (n, 2); each of its n - 1 pieces has a width and an opacity in [0, 1]."""
        corners = (points * _FINE).round().astype(np.int64).tolist()
        thick = np.maximum(widths * _FINE, 1).round().astype(np.int64).tolist()
        fills = (opacities * 255).round().astype(np.int64).tolist()
        for start, end, width, fill in zip(corners, corners[1:], thick, fills, strict=False):
            if fill:
                self._draw.line((*start, *end), fill=fill, width=width)
        self._touched = True

    def blot(self, outline: Plane, opacity: float) -> None:
        """A filled polygon, ``outline`` (n, 2)."""
        self._draw.polygon((outline * _FINE).ravel().tolist(), fill=round(opacity * 255))
        self._touched = True

    def layers(self, colour: Colour) -> list[Layer]:
        """What was drawn, as one layer; none where nothing was."""
        if not self._touched:
            return []
        alpha = np.asarray(self._image.reduce(_FINE), np.float32) / np.float32(255)
        return [Layer(0, 0, alpha, colour)]


def wander(
    rng: np.random.Generator, start: tuple[float, float], heading: float, length_px: float, bend: float
) -> Plane:
    """A smooth line (n, 2) of x and y from ``start``.

    ``bend`` is how far its heading turns on the way, in radians, by one standard deviation: in one sense
    over the whole length, and a third as much again to and fro.
    """
    pieces = max(round(length_px / 4), 2)
    turn = np.linspace(0, rng.normal(0, bend), pieces)
    turn += (uneven(rng, pieces, 12) - 0.5) * (2 / 3 * bend)
    step = length_px / pieces
    steps = step * np.stack([np.cos(heading + turn), np.sin(heading + turn)], axis=1)
    points = np.concatenate([[start], np.array(start) + np.cumsum(steps, axis=0)])
    return points.astype(np.float32)


def uneven(rng: np.random.Generator, count: int, every: int) -> Plane:
    """(count,) values in [0, 1) that change smoothly, with a new random value at every ``every``-th."""
    knots = rng.random(count // every + 2)
    return np.interp(np.arange(count) / every, np.arange(len(knots)), knots).astype(np.float32)


def count_on(rng: np.random.Generator, bounds: tuple[float, float], references: float) -> int:
    """How many marks a picture as large as so many reference pictures gets: at least one."""
    return max(round(rng.uniform(*bounds) * references), 1)
