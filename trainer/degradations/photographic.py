"""What a camera, a scanner and a file format do to a picture: blur, noise, compression.

Every function takes `Pixels`, returns a new array of the same kind and draws from ``rng`` alone. Whether a
degradation strikes at all is decided by `trainer.degradations.degrade.degrade`; called directly, each one
always does.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from math import ceil
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from trainer.degradations.bounds import (
    Lengths,
    Levels,
    PhotonCounts,
    Pixels,
    Probability,
    Qualities,
    Settings,
)
from trainer.degradations.reduction import clipped, convolved, filtered, weighted

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, on gamma-encoded values; the weights of JPEG's own luma."""


class Blur(Settings):
    """A soft lens, a missed focus or a moved camera; one of them at a time."""

    sigma_px: Lengths = Field(default=(0.3, 1.2), description="Standard deviation of the Gaussian.")
    anisotropic: Probability = Field(default=0.3, description="Share of Gaussians that are ellipses.")
    defocus: Probability = Field(default=0.0, description="Share that is an even disc instead.")
    defocus_radius_px: Lengths = Field(default=(0.7, 1.5), description="Radius of the disc.")
    motion: Probability = Field(default=0.0, description="Share that is a straight streak instead.")
    motion_px: Lengths = Field(default=(1.5, 4.0), description="Length of the streak.")

    @model_validator(mode="after")
    def _shares(self) -> Blur:
        if self.defocus + self.motion > 1:
            raise ValueError(
                f"defocus {self.defocus:g} and motion {self.motion:g} are shares of all blurs: 1 at most"
            )
        return self


class Grain(Settings):
    """What both kinds of noise share: how far neighbouring pixels have it in common."""

    correlated: Probability = Field(
        default=0.0,
        description="Share whose grain is larger than a pixel, as that of film, of a sensor with colour"
        " filters, and of whatever was enlarged or softened later.",
    )
    grain_px: Lengths = Field(
        default=(0.4, 1.3), description="Standard deviation of the Gaussian that such grain is blurred with."
    )


class Noise(Grain):
    """Normal noise, as a sensor's read-out adds it."""

    sigma: Levels = Field(default=(0.0, 8.0), description="Standard deviation in levels of 255.")
    grey: Probability = Field(default=0.3, description="Share whose noise is equal in the channels.")


class Poisson(Grain):
    """Noise whose variance grows with the brightness, as that of few photons."""

    strongest_at_low: ClassVar[frozenset[str]] = frozenset({"photons"})

    photons: PhotonCounts = Field(default=(200.0, 4000.0), description="Photons that make a white pixel.")


class Jpeg(Settings):
    """JPEG compression by libjpeg."""

    strongest_at_low: ClassVar[frozenset[str]] = frozenset({"quality"})

    quality: Qualities = Field(default=(30, 100), description="libjpeg's quality.")
    drawn: Literal["evenly", "log-uniformly"] = Field(
        default="evenly",
        description="Whether all qualities are as likely, or as many lie between 10 and 20 as between 20 and"
        " 40: what a step of the quality costs grows about so towards the low end.",
    )
    subsampling: tuple[Literal["4:2:0", "4:4:4"], ...] = Field(
        default=("4:2:0", "4:4:4"),
        min_length=1,
        description="Chroma; all as likely, and what is named twice twice as likely.",
    )
    double: Probability = Field(default=0.0, description="Share saved before on another grid.")
    cropped: Probability = Field(
        default=0.0, description="Share cropped since, so that its blocks begin anywhere."
    )


class Grey(Settings):
    """A black-and-white picture: three equal channels."""


def blur(pixels: Pixels, rng: np.random.Generator, settings: Blur) -> Pixels:
    """Blur with a kernel that sums to 1; a flat picture stays flat, also at its edges, which are mirrored."""
    kind = rng.random()
    angle = rng.uniform(0, np.pi)
    if kind < settings.defocus:
        return clipped(convolved(pixels, _disc(rng.uniform(*settings.defocus_radius_px))))
    if kind < settings.defocus + settings.motion:
        return clipped(convolved(pixels, _streak(rng.uniform(*settings.motion_px), angle)))
    along = rng.uniform(*settings.sigma_px)
    if rng.random() < settings.anisotropic:
        across = rng.uniform(settings.sigma_px[0], along)
        return clipped(convolved(pixels, _ellipse(along, across, angle)))
    taps = _gaussian(along)
    return clipped(filtered(pixels, taps, -(len(taps) // 2), 1))


def noise(pixels: Pixels, rng: np.random.Generator, settings: Noise) -> Pixels:
    """Add normal noise of one standard deviation over the whole picture."""
    sigma = np.float32(rng.uniform(*settings.sigma) / 255)
    channels = 1 if rng.random() < settings.grey else 3
    return clipped(pixels + sigma * _grain((*pixels.shape[:2], channels), rng, settings))


def poisson(pixels: Pixels, rng: np.random.Generator, settings: Poisson) -> Pixels:
    """Add noise with variance ``value / photons``, the count of photons drawn on a logarithmic scale.

    A normal distribution of the same variance stands for Poisson's, which it approaches well above ten
    photons (the signal-dependent part of the model of Foi et al., "Practical Poissonian-Gaussian noise
    modeling and fitting", 2008), at a fifth of the time. It is applied to the encoded values: on linear
    light the gamma would make it almost even again, which is what `noise` adds.
    """
    low, high = np.log(settings.photons)
    photons = np.float32(np.exp(rng.uniform(low, high)))
    return clipped(pixels + np.sqrt(pixels / photons) * _grain(pixels.shape, rng, settings))


def _grain(shape: tuple[int, ...], rng: np.random.Generator, settings: Grain) -> NDArray[np.float32]:
    """Normal noise of standard deviation 1, (H, W, C), with the correlation that is drawn."""
    white = rng.standard_normal(shape, dtype=np.float32)
    # Where it never strikes nothing is drawn: the same seed goes on giving the same pictures.
    if not settings.correlated or rng.random() >= settings.correlated:
        return white
    taps = _gaussian(rng.uniform(*settings.grain_px))
    # The variance of a sum of independent values is that of one times the sum of the squared weights.
    return filtered(white, taps / np.linalg.norm(taps), -(len(taps) // 2), 1)


def jpeg(pixels: Pixels, rng: np.random.Generator, settings: Jpeg) -> Pixels:
    """Compress and decompress, rounding to 8 bits before and after.

    The 8 x 8 blocks of the last compression start at the picture's corner, as they do in a file. With the
    probability ``double`` the picture was compressed once before with its corner inside of a block, 1 to
    7 pixels from the block's sides, as in a picture that was cropped between two savings. With the
    probability ``cropped`` the last blocks start 0 to 15 pixels before the corner (of halved chroma they have
    16), as in a picture that was cropped and then saved without loss, or with too little to leave blocks of
    its own. A network that is always shown the blocks in one place takes others for the picture.
    """
    if rng.random() < settings.double:
        pixels = compressed(pixels, rng.integers(1, 8, 2), rng, settings)
    is_cropped = settings.cropped > 0 and rng.random() < settings.cropped
    before = rng.integers(0, 16, 2) if is_cropped else (0, 0)
    return compressed(pixels, before, rng, settings)


def compressed(pixels: Pixels, before: Iterable[int], rng: np.random.Generator, settings: Jpeg) -> Pixels:
    """Compress once; the first block starts ``before`` the picture by so many rows and columns."""
    top, left = (int(n) for n in before)
    framed = np.pad(_levels(pixels), ((top, 0), (left, 0), (0, 0)), mode="edge")
    quality = _quality(rng, settings)
    subsampling = settings.subsampling[int(rng.integers(len(settings.subsampling)))]
    file = io.BytesIO()
    Image.fromarray(framed).save(file, "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(file) as picture:
        return np.asarray(picture)[top:, left:].astype(np.float32) / np.float32(255)


def _quality(rng: np.random.Generator, settings: Jpeg) -> int:
    low, high = settings.quality
    if settings.drawn == "evenly":
        return int(rng.integers(low, high + 1))
    return min(int(low * ((high + 1) / low) ** rng.random()), high)


def grey(pixels: Pixels, rng: np.random.Generator, settings: Grey) -> Pixels:
    """Every channel replaced by the luma of ITU-R BT.601. Nothing is drawn from ``rng``."""
    luma = weighted(lambda channel: pixels[..., channel], np.array(LUMA))
    return np.repeat(clipped(luma)[..., None], 3, axis=2)


def _gaussian(sigma: float) -> NDArray[np.float64]:
    """Taps of a Gaussian up to three standard deviations, an odd number of them; their sum is 1."""
    reach = ceil(3 * sigma)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(taps / taps.sum())


def _levels(pixels: Pixels) -> NDArray[np.uint8]:
    return (pixels * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _offsets(radius: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    steps = np.arange(-radius, radius + 1, dtype=np.float64)
    return steps[:, None], steps[None, :]


def _ellipse(along: float, across: float, angle: float) -> NDArray[np.float64]:
    y, x = _offsets(ceil(3 * along))
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.asarray(np.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2)))


def _disc(radius: float) -> NDArray[np.float64]:
    y, x = _offsets(ceil(radius))
    return np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)


def _streak(length: float, angle: float) -> NDArray[np.float64]:
    y, x = _offsets(ceil(length / 2))
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.asarray(np.clip(length / 2 + 0.5 - np.abs(u), 0, 1) * np.clip(1 - np.abs(v), 0, 1))
