"""What somebody put on a picture: lettering and watermarks.

Every function takes `Pixels`, returns a new array of the same kind and draws from ``rng`` alone.
"""

from __future__ import annotations

from math import pi
from typing import Literal

import numpy as np
from pydantic import Field

from trainer.degradations import lettering
from trainer.degradations.bounds import Angles, Counts, Lengths, Pixels, Probability, Settings, Shares
from trainer.degradations.layers import (
    REFERENCE_PX,
    Canvas,
    Colour,
    Layer,
    Plane,
    composed,
    count_on,
    overlap,
)

Writing = Literal["date", "caption", "credit", "symbols"]

_BURNT_IN: tuple[Colour, ...] = (
    (1.0, 0.55, 0.1),
    (1.0, 0.35, 0.1),
    (1.0, 0.8, 0.2),
    (0.95, 0.2, 0.15),
    (0.6, 1, 0.3),
)
_WHITE: Colour = (1.0, 1.0, 1.0)
_BLACK: Colour = (0.0, 0.0, 0.0)


class Text(Settings):
    """Lines of lettering: date stamps, captions, credits, symbols."""

    lines: Counts = Field(default=(0.3, 1.3), description="Lines on 128 x 128 px; at least one.")
    size_px: Lengths = Field(default=(8, 36), description="Size of the font, on a logarithmic scale.")
    opacity: Shares = Field(default=(0.6, 1.0), description="Opacity of a line.")
    angle_deg: Angles = Field(default=(-12, 12), description="Rotation of those lines that are turned.")
    turned: Probability = Field(default=0.2, description="Share of lines that are not level.")
    outlined: Probability = Field(default=0.3, description="Share of lines with an outline or a shadow.")
    writing: tuple[Writing, ...] = Field(
        default=("date", "caption", "credit", "symbols"), min_length=1, description="Equally likely."
    )


class Watermark(Settings):
    """A name or a sign over the whole picture, half transparent, once or repeated."""

    opacity: Shares = Field(default=(0.1, 0.5), description="Opacity.")
    size_px: Lengths = Field(default=(10, 56), description="Size of the lettering, on a logarithmic scale.")
    angle_deg: Angles = Field(default=(-45, 45), description="Rotation of those that are turned.")
    turned: Probability = Field(default=0.6, description="Share that is not level.")
    repeated: Probability = Field(default=0.6, description="Share that is repeated over the picture.")
    logo: Probability = Field(default=0.4, description="Share that has a drawn sign instead of words alone.")
    embossed: Probability = Field(default=0.25, description="Share with a dark edge beside the light one.")
    crossed: Probability = Field(default=0.15, description="Share with two lines across the picture.")


def text(pixels: Pixels, rng: np.random.Generator, settings: Text) -> Pixels:
    """Write lines over the picture, some of which reach beyond its edges as those of a cropped photo do."""
    return composed(pixels, text_layers(pixels.shape[0], pixels.shape[1], rng, settings))


def text_layers(height: int, width: int, rng: np.random.Generator, settings: Text) -> list[Layer]:
    """One or two layers a line: its outline or shadow below, the letters above."""
    count = count_on(rng, settings.lines, height * width / REFERENCE_PX**2)
    return [layer for _ in range(count) for layer in _line(height, width, rng, settings)]


def _line(height: int, width: int, rng: np.random.Generator, settings: Text) -> list[Layer]:
    kind = settings.writing[int(rng.integers(len(settings.writing)))]
    line, font, colour = _written(kind, rng)
    size = _size(rng, settings.size_px)
    opacity = np.float32(rng.uniform(*settings.opacity))
    degrees = rng.uniform(*settings.angle_deg) if rng.random() < settings.turned else 0.0
    outlined = rng.random() < settings.outlined
    letters = lettering.turned(lettering.rendered(line, font, size), degrees)
    top, left = _anywhere(height, width, letters.shape, rng)
    above = Layer(top, left, letters * opacity, colour)
    if not outlined:
        return [above]
    below = _BLACK if sum(colour) > 1.2 else _WHITE
    thick = max(size // 14, 1)
    if rng.random() < 0.5:
        return [Layer(top + thick, left + thick, letters * opacity, below), above]
    outline = lettering.turned(lettering.rendered(line, font, size, stroke_px=thick), degrees)
    shift = [(larger - smaller) // 2 for larger, smaller in zip(outline.shape, letters.shape, strict=True)]
    return [Layer(top - shift[0], left - shift[1], outline * opacity, below), above]


def _written(kind: Writing, rng: np.random.Generator) -> tuple[str, str, Colour]:
    """(text, font, colour)."""
    if kind == "date":
        bright = _BURNT_IN[int(rng.integers(len(_BURNT_IN)))]
        return lettering.date_stamp(rng), _one(rng, lettering.DIGITAL), bright
    if kind == "symbols":
        return lettering.symbols(rng), _one(rng, lettering.SYMBOLIC), _ink(rng)
    phrase = lettering.credit(rng) if kind == "credit" else lettering.caption(rng)
    return phrase, _one(rng, lettering.LATIN), _ink(rng)


def _ink(rng: np.random.Generator) -> Colour:
    """White and black for the most part, as captions are."""
    kind = rng.random()
    if kind < 0.4:
        return _WHITE
    if kind < 0.65:
        return _BLACK
    if kind < 0.75:
        return (1.0, 0.95, 0.1)
    red, green, blue = rng.random(3)
    return (red, green, blue)


def watermark(pixels: Pixels, rng: np.random.Generator, settings: Watermark) -> Pixels:
    """Lay a half transparent name or sign over the picture."""
    return composed(pixels, watermark_layers(pixels.shape[0], pixels.shape[1], rng, settings))


def watermark_layers(height: int, width: int, rng: np.random.Generator, settings: Watermark) -> list[Layer]:
    """The sign as one layer over the whole picture, below it its dark edge where it is embossed."""
    opacity = np.float32(rng.uniform(*settings.opacity))
    degrees = rng.uniform(*settings.angle_deg) if rng.random() < settings.turned else 0.0
    sign = lettering.turned(_sign(rng, settings), degrees)
    colour = _WHITE if rng.random() < 0.75 else _BLACK if rng.random() < 0.5 else _ink(rng)
    if rng.random() < settings.repeated:
        places = _lattice(height, width, sign.shape, rng)
    else:
        places = [_anywhere(height, width, sign.shape, rng)]
    mask = np.zeros((height, width), np.float32)
    for top, left in places:
        _lay(mask, sign, top, left)
    if rng.random() < settings.crossed:
        np.maximum(mask, _cross(height, width, rng), out=mask)
    layers = [Layer(0, 0, mask * opacity, colour)]
    if rng.random() < settings.embossed:
        layers.insert(0, Layer(1, 1, mask * opacity, _WHITE if colour == _BLACK else _BLACK))
    return layers


def _sign(rng: np.random.Generator, settings: Watermark) -> Plane:
    """Opacity of the words or of the sign, level."""
    size = _size(rng, settings.size_px)
    words = lettering.rendered(lettering.stamp(rng), _one(rng, lettering.LATIN), size)
    if rng.random() >= settings.logo:
        return words
    badge = _badge(rng, max(round(1.6 * size), 8))
    if rng.random() < 0.4:
        return badge
    height = max(badge.shape[0], words.shape[0])
    sign = np.zeros((height, badge.shape[1] + size // 4 + words.shape[1]), np.float32)
    _lay(sign, badge, (height - badge.shape[0]) // 2, 0)
    _lay(sign, words, (height - words.shape[0]) // 2, sign.shape[1] - words.shape[1])
    return sign


def _badge(rng: np.random.Generator, side: int) -> Plane:
    """A ring or a polygon, as a line or filled, with a letter in it."""
    corners = int(rng.choice([3, 4, 5, 6, 40]))
    angles = np.linspace(0, 2 * pi, corners + 1) + rng.uniform(0, pi)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outline = (side * (0.5 + 0.45 * circle)).astype(np.float32)
    canvas = Canvas(side, side)
    filled = rng.random() < 0.4
    if filled:
        canvas.blot(outline, 1.0)
    else:
        ones = np.ones(corners, np.float32)
        canvas.stroke(outline, ones * np.float32(max(side / 14, 1)), ones)
    badge = canvas.layers(_WHITE)[0].alpha.copy()
    initial = lettering.word(rng)[0].upper()
    letter = lettering.rendered(initial, _one(rng, lettering.LATIN), max(side // 2, 6))
    ground = np.zeros_like(badge)
    _lay(ground, letter, (side - letter.shape[0]) // 2, (side - letter.shape[1]) // 2)
    return badge * (1 - ground) if filled else np.maximum(badge, ground)


def _cross(height: int, width: int, rng: np.random.Generator) -> Plane:
    """Two thin lines that cross somewhere in the picture, mirrored to each other."""
    canvas = Canvas(height, width)
    x, y, slope = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.4, 1.6)
    reach, thick = float(height + width), np.full(1, rng.uniform(0.7, 2.5), np.float32)
    for tilt in (slope, -slope):
        ends = np.array([[x - reach, y - tilt * reach], [x + reach, y + tilt * reach]], np.float32)
        canvas.stroke(ends, thick, np.ones(1, np.float32))
    return canvas.layers(_WHITE)[0].alpha


def _lattice(
    height: int, width: int, sign: tuple[int, ...], rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Corners of the signs that reach into the picture, in rows of which every other one may be shifted."""
    down = max(round(sign[0] * rng.uniform(1.1, 2.2)), 8)
    right = max(round(sign[1] * rng.uniform(1.05, 1.8)), 8)
    shift = round(right * rng.choice([0, 0.5]))
    top, left = int(rng.integers(-down, 1)), int(rng.integers(-right, 1))
    return [
        (y, x)
        for row, y in enumerate(range(top - sign[0], height, down))
        for x in range(left - sign[1] - shift * (row % 2), width, right)
    ]


def _anywhere(height: int, width: int, sign: tuple[int, ...], rng: np.random.Generator) -> tuple[int, int]:
    """Corner such that half of the sign's height and width are seen at least, or it fills the picture."""
    top, left = (
        round(rng.uniform(min(-part / 2, limit - part), max(limit - part / 2, 0)))
        for part, limit in zip(sign, (height, width), strict=True)
    )
    return top, left


def _lay(mask: Plane, sign: Plane, top: int, left: int) -> None:
    """Raise the mask to the sign where it lies on it."""
    inside, part = overlap((top, left), sign.shape, mask.shape)
    np.maximum(mask[inside], sign[part], out=mask[inside])


def _size(rng: np.random.Generator, bounds: tuple[float, float]) -> int:
    return max(round(float(np.exp(rng.uniform(*np.log(bounds))))), 1)


def _one(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[int(rng.integers(len(names)))]
