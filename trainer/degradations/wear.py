"""What the years do to a print or a film: scratches, dust and folds.

Every function takes `Pixels`, returns a new array of the same kind and draws from ``rng`` alone.
"""

from __future__ import annotations

from math import pi

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from trainer.degradations.bounds import Counts, Lengths, Pixels, Probability, Settings, Shares
from trainer.degradations.layers import (
    REFERENCE_PX,
    Canvas,
    Colour,
    Layer,
    Plane,
    composed,
    count_on,
    uneven,
    wander,
)


class Scratches(Settings):
    """Thin lines where the emulsion is gone or dirt is caught: long, slightly curved, interrupted."""

    count: Counts = Field(default=(1, 6), description="Scratches that cross a picture of 128 x 128 px.")
    width_px: Lengths = Field(default=(0.4, 1.8), description="Width at the widest.")
    length_px: Lengths = Field(default=(20, 300), description="Length, on a logarithmic scale.")
    opacity: Shares = Field(default=(0.35, 1.0), description="Opacity at the strongest.")
    bright: Probability = Field(default=0.7, description="Share that shows white paper; the others are dark.")
    parallel: Probability = Field(
        default=0.5, description="Share of pictures with all scratches along one direction."
    )


class Dust(Settings):
    """Specks and hairs that lay on the print or on the scanner's glass."""

    count: Counts = Field(default=(3, 25), description="Specks and hairs on 128 x 128 px.")
    radius_px: Lengths = Field(default=(0.4, 2.2), description="Radius of a speck; most are small.")
    hairs: Probability = Field(default=0.15, description="Share that is a hair instead of a speck.")
    hair_px: Lengths = Field(default=(6, 45), description="Length of a hair.")
    opacity: Shares = Field(default=(0.4, 1.0), description="Opacity of each.")
    bright: Probability = Field(default=0.7, description="Share that is white, as dust on a negative prints.")


class Folds(Settings):
    """A crease right across the picture: the coating cracked to the white paper, one flank in shade."""

    count: Counts = Field(default=(1, 2), description="Creases in the crop, whatever its size.")
    width_px: Lengths = Field(default=(0.6, 2.4), description="Width of the cracked ridge.")
    shade_px: Lengths = Field(default=(4, 24), description="How far the shading reaches to each side.")
    shade: Shares = Field(default=(0.04, 0.2), description="Change of brightness next to the ridge.")
    cracked: Shares = Field(default=(0.3, 1.0), description="Share of the ridge where the coating is gone.")


def scratches(pixels: Pixels, rng: np.random.Generator, settings: Scratches) -> Pixels:
    """Lay scratches over the picture."""
    return composed(pixels, scratch_layers(pixels.shape[0], pixels.shape[1], rng, settings))


def scratch_layers(height: int, width: int, rng: np.random.Generator, settings: Scratches) -> list[Layer]:
    """The dark scratches as one layer, the bright ones as another."""
    dark, bright = Canvas(height, width), Canvas(height, width)
    common = rng.normal(pi / 2, 0.06) if rng.random() < 0.7 else rng.uniform(0, pi)
    aligned = rng.random() < settings.parallel
    for _ in range(count_on(rng, settings.count, max(height, width) / REFERENCE_PX)):
        canvas = bright if rng.random() < settings.bright else dark
        heading = rng.normal(common, 0.04) if aligned else rng.uniform(0, pi)
        length = np.exp(rng.uniform(*np.log(settings.length_px)))
        # Begun up to half its length before a point of the picture, so that it crosses it.
        back = rng.uniform(0, length)
        x = rng.uniform(0, width) - back * np.cos(heading)
        y = rng.uniform(0, height) - back * np.sin(heading)
        line = wander(rng, (x, y), heading, length, bend=0.05 if aligned else 0.35)
        pieces = len(line) - 1
        # Some run through, others break off many times.
        strength = np.clip(2 * uneven(rng, pieces, 6) + rng.uniform(-0.7, 0.8), 0, 1) * _tapered(pieces)
        widths = rng.uniform(*settings.width_px) * (0.5 + 0.5 * uneven(rng, pieces, 5))
        canvas.stroke(line, widths, strength * np.float32(rng.uniform(*settings.opacity)))
    return dark.layers(_dirt(rng)) + bright.layers(_paper(rng))


def dust(pixels: Pixels, rng: np.random.Generator, settings: Dust) -> Pixels:
    """Strew specks and hairs over the picture."""
    return composed(pixels, dust_layers(pixels.shape[0], pixels.shape[1], rng, settings))


def dust_layers(height: int, width: int, rng: np.random.Generator, settings: Dust) -> list[Layer]:
    """The dark specks and hairs as one layer, the bright ones as another."""
    dark, bright = Canvas(height, width), Canvas(height, width)
    for _ in range(count_on(rng, settings.count, height * width / REFERENCE_PX**2)):
        canvas = bright if rng.random() < settings.bright else dark
        where = (rng.uniform(0, width), rng.uniform(0, height))
        opacity = rng.uniform(*settings.opacity)
        if rng.random() < settings.hairs:
            hair = wander(rng, where, rng.uniform(0, 2 * pi), rng.uniform(*settings.hair_px), bend=1.4)
            thin = np.full(len(hair) - 1, rng.uniform(0.4, 1.0), np.float32)
            canvas.stroke(hair, thin, np.full(len(hair) - 1, opacity, np.float32))
        else:
            canvas.blot(_speck(rng, where, settings.radius_px), opacity)
    return dark.layers(_dirt(rng)) + bright.layers(_paper(rng))


def folds(pixels: Pixels, rng: np.random.Generator, settings: Folds) -> Pixels:
    """Crease the picture."""
    result = pixels
    for _ in range(count_on(rng, settings.count, 1.0)):
        result = _folded(result, rng, settings)
    return result


def _folded(pixels: Pixels, rng: np.random.Generator, settings: Folds) -> Pixels:
    height, width = pixels.shape[:2]
    # Prints are folded along their sides or get a dog-eared corner, more often than anything between.
    angle = rng.normal(rng.choice([0, pi / 2]), 0.05) if rng.random() < 0.6 else rng.uniform(0, pi)
    across, along = _crease(height, width, rng, angle)
    ridge_px, reach_px = rng.uniform(*settings.width_px), rng.uniform(*settings.shade_px)
    slope = np.exp(-np.abs(across) / np.float32(reach_px)) * np.float32(rng.uniform(*settings.shade))
    # One flank turns to the light and the other away; which one is chance.
    flank = np.tanh(across * np.float32(rng.choice([-1, 1]) / ridge_px))
    shaded = pixels * (1 + slope * flank)[..., None]
    alpha = _cracks(across, along, rng, ridge_px, rng.uniform(*settings.cracked))
    return composed(shaded, [Layer(0, 0, alpha, _paper(rng))])


def _crease(height: int, width: int, rng: np.random.Generator, angle: float) -> tuple[Plane, Plane]:
    """Signed distance of each pixel from a slightly wavy line through the picture; its place along it."""
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32(rng.uniform(0, width))
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(rng.uniform(0, height))
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = x * cosine + y * sine
    reach = height + width
    waves = (uneven(rng, 2 * reach, 24) - 0.5) * 3 + (uneven(rng, 2 * reach, 3) - 0.5)
    return y * cosine - x * sine + waves[(along + reach).astype(np.int64)], along


def _cracks(
    across: Plane, along: Plane, rng: np.random.Generator, ridge_px: float, share: float
) -> NDArray[np.float32]:
    """Opacity of the bare paper: a ragged, interrupted line with flakes broken off beside it."""
    reach = sum(across.shape)
    place = (along + reach).astype(np.int64)
    # Long stretches hold or break as a whole, short gaps are strewn within.
    broken = 0.65 * uneven(rng, 2 * reach, 30) + 0.35 * uneven(rng, 2 * reach, 4)
    open_ = np.clip(6 * (broken - (1 - np.float32(share))) + 0.5, 0, 1)
    half = ridge_px / 2 * (0.3 + uneven(rng, 2 * reach, 11))
    ragged = half[place] - np.abs(across) + (_grain(across.shape, rng, 3) - 0.5) * np.float32(ridge_px)
    line = np.clip(ragged + 0.5, 0, 1) * open_[place]
    near = np.exp(-np.abs(across) / np.float32(2 * ridge_px))
    flakes = np.clip(8 * (_grain(across.shape, rng, 4) * near - 0.5), 0, 1) * open_[place]
    return np.asarray(np.maximum(line, flakes), np.float32)


def _grain(shape: tuple[int, ...], rng: np.random.Generator, size_px: int) -> Plane:
    """Random values, about [0, 1], that change smoothly over ``size_px``."""
    height, width = shape
    coarse = rng.random((height // size_px + 2, width // size_px + 2), dtype=np.float32)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32)


def _tapered(pieces: int) -> Plane:
    """1, falling to 0 over the last pieces at both ends."""
    place = np.arange(pieces) + 0.5
    return np.asarray(np.clip(np.minimum(place, pieces - place) / 3, 0, 1), np.float32)


def _speck(rng: np.random.Generator, where: tuple[float, float], radius_px: tuple[float, float]) -> Plane:
    """Outline of an irregular blot."""
    low, high = radius_px
    radius = low + (high - low) * rng.random() ** 3
    angles = np.linspace(0, 2 * pi, 9, endpoint=False) + rng.uniform(0, pi)
    radii = radius * rng.uniform(0.55, 1.3, 9)
    stretch = rng.uniform(0.5, 1.0)
    outline = np.stack([np.cos(angles) * radii, np.sin(angles) * radii * stretch], axis=1)
    return np.asarray(outline + np.array(where), np.float32)


def _paper(rng: np.random.Generator) -> Colour:
    """Bare paper or clear film: nearly white, a little warm."""
    light = rng.uniform(0.82, 1.0)
    return (light, light * rng.uniform(0.95, 1.0), light * rng.uniform(0.86, 1.0))


def _dirt(rng: np.random.Generator) -> Colour:
    """Dirt in a groove: nearly black, a little warm."""
    dark = rng.uniform(0.02, 0.2)
    return (dark, dark * rng.uniform(0.8, 1.0), dark * rng.uniform(0.6, 1.0))
