"""Parts of a picture that are gone, to be filled from what is around them.

`holes` takes `Pixels`, returns a new array of the same kind and draws from ``rng`` alone.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from trainer.degradations.bounds import Lengths, Pixels, Settings, Shares
from trainer.degradations.layers import overlap

Fill = Literal["black", "white", "mean", "colour", "noise"]
Shape = Literal["rectangle", "square", "ellipse"]


class Holes(Settings):
    """Parts that are gone: every pixel in them is replaced."""

    share: Shares = Field(
        default=(0.01, 0.1), description="Share of the area; never more than the high bound."
    )
    size_px: Lengths = Field(default=(4, 32), description="Side of a rectangle, diameter of an ellipse.")
    shapes: tuple[Shape, ...] = Field(
        default=("rectangle", "ellipse"), min_length=1, description="All as likely."
    )
    fills: tuple[Fill, ...] = Field(
        default=("black", "white", "mean", "colour", "noise"),
        min_length=1,
        description="What is there instead, equally likely; mean is the picture's mean colour.",
    )

    @field_validator("share")
    @classmethod
    def _some_left(cls, share: tuple[float, float]) -> tuple[float, float]:
        # Beyond, most new holes would fall into old ones, and there is little left to restore from.
        if share[1] > 0.5:
            raise ValueError(f"holes of {share[1]:g} of the area: at most 0.5")
        return share


def holes(pixels: Pixels, rng: np.random.Generator, settings: Holes) -> Pixels:
    """Cut holes into the picture; see `hole_places` for their area."""
    height, width = pixels.shape[:2]
    result = pixels.copy()
    mean = pixels.mean(axis=(0, 1))
    for rows, columns, shape in hole_places(height, width, rng, settings):
        view = result[rows, columns]
        view[shape] = _filling(settings.fills[int(rng.integers(len(settings.fills)))], view[shape], mean, rng)
    return result


def hole_places(
    height: int, width: int, rng: np.random.Generator, settings: Holes
) -> list[tuple[slice, slice, NDArray[np.bool_]]]:
    """Rows, columns and shape of each hole.

    Holes are added until they cover a share of the area drawn within the bounds. A hole that could go above
    the high bound is made smaller; where not even the smallest has room the picture gets fewer, or none.
    """
    lowest, largest = max(round(settings.size_px[0]), 1), round(settings.size_px[1])
    gone = np.zeros((height, width), np.bool_)
    wanted = rng.uniform(*settings.share) * gone.size
    places = []
    covered = 0
    while covered < wanted:
        longest = min(largest, int(sqrt(settings.share[1] * gone.size - covered)))
        if longest < lowest:
            break
        kind = settings.shapes[int(rng.integers(len(settings.shapes)))]
        height_px, width_px = (int(side) for side in rng.integers(lowest, longest + 1, 2))
        shape = _outline(kind, height_px, height_px if kind == "square" else width_px)
        top, left = (
            int(rng.integers(-(s // 2), n - s // 2)) for s, n in zip(shape.shape, gone.shape, strict=True)
        )
        inside, part = overlap((top, left), shape.shape, gone.shape)
        shape = shape[part]
        covered += int(shape.sum() - gone[inside][shape].sum())
        gone[inside] |= shape
        places.append((*inside, shape))
    return places


def _outline(shape: Shape, height: int, width: int) -> NDArray[np.bool_]:
    if shape != "ellipse":
        return np.ones((height, width), np.bool_)
    y = (np.arange(height) + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    return np.asarray(y[:, None] ** 2 + x[None, :] ** 2 <= 0.25)


def _filling(
    fill: Fill, gone: NDArray[np.float32], mean: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """What replaces the ``gone`` pixels (n, 3); broadcasts to them."""
    if fill == "noise":
        return rng.random(gone.shape, dtype=np.float32)
    if fill == "colour":
        return rng.random(3, dtype=np.float32)
    if fill == "mean":
        return mean
    return np.full(3, fill == "white", np.float32)
