"""Fixed damage for measuring: the same constants in every report, the same pixels for the same seed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.degradations.bounds import Pixels
from trainer.degradations.holes import Holes, hole_places
from trainer.degradations.layers import Layer, composed, covered
from trainer.degradations.marks import Text, Watermark, text_layers, watermark_layers
from trainer.degradations.photographic import Jpeg, Noise, compressed, noise
from trainer.degradations.wear import Dust, Scratches, dust_layers, scratch_layers

Mask = NDArray[np.bool_]
_Strike = Callable[[Pixels, np.random.Generator], tuple[Pixels, Mask | None]]

KNOWN = (
    "jpeg:q10 (q1 to q100), jpeg:q10+4 (cropped by 1 to 15 px since), noise:25 and grain:25 (0 to 255),"
    " holes, text, watermark, scratches, dust"
)

_HOLE_GREY = np.float32(0.5)
_GRAIN_PX = 0.8


@dataclass(frozen=True, slots=True)
class Damage:
    """One way to damage a picture.

    Called with `Pixels` and a seed it gives the damaged picture and the mask (H, W) of the pixels that were
    damaged, or None where all are.
    """

    name: str
    description: str
    """All of its constants, for a report."""
    _strike: _Strike

    def __call__(self, pixels: Pixels, seed: int) -> tuple[Pixels, Mask | None]:
        return self._strike(pixels, np.random.default_rng(seed))


def parse_damage(text: str) -> Damage:
    """The damage that ``text`` names, such as "jpeg:q10", "jpeg:q10+4", "noise:25" or "holes".

    Raises:
        ValueError: it is not known; the message lists those that are.
    """
    if match := re.fullmatch(r"jpeg:q(\d{1,3})(?:\+(\d{1,2}))?", text):
        quality, cropped = int(match[1]), int(match[2] or 0)
        if 1 <= quality <= 100 and (match[2] is None or 1 <= cropped <= 15):
            return _jpeg(text, quality, cropped)
    elif match := re.fullmatch(r"(noise|grain):(\d{1,3}(?:\.\d+)?)", text):
        if float(match[2]) <= 255:
            return _noise(text, float(match[2]), in_grains=match[1] == "grain")
    elif text in _MARKS:
        return _MARKS[text]
    raise ValueError(f"{text!r} is no known damage: {KNOWN}")


def _jpeg(name: str, quality: int, cropped: int) -> Damage:
    fixed = Jpeg(quality=(quality, quality), subsampling=("4:2:0",))
    start = f"{cropped} px before the picture's corner" if cropped else "from the picture's corner"

    return Damage(
        name,
        f"JPEG by libjpeg at quality {quality}, chroma 4:2:0, blocks {start}",
        lambda pixels, rng: (compressed(pixels, (cropped, cropped), rng, fixed), None),
    )


def _noise(name: str, sigma: float, *, in_grains: bool) -> Damage:
    fixed = Noise(sigma=(sigma, sigma), grey=0, correlated=float(in_grains), grain_px=(_GRAIN_PX, _GRAIN_PX))
    grains = f", in grains: blurred by a Gaussian of {_GRAIN_PX} px before it is given that deviation"
    return Damage(
        name,
        f"normal noise of standard deviation {sigma:g}/255, independent in each channel"
        f"{grains if in_grains else ''}, clipped to [0, 1] and not rounded",
        lambda pixels, rng: (noise(pixels, rng, fixed), None),
    )


def _holed(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Mask]:
    fixed = Holes(share=(0.05, 0.05), size_px=(4, 16), shapes=("square",))
    height, width = pixels.shape[:2]
    mask = np.zeros((height, width), np.bool_)
    for rows, columns, shape in hole_places(height, width, rng, fixed):
        mask[rows, columns] |= shape
    return np.where(mask[..., None], _HOLE_GREY, pixels), mask


def _layered(draw: Callable[[int, int, np.random.Generator], list[Layer]]) -> _Strike:
    def damage(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Mask]:
        layers = draw(pixels.shape[0], pixels.shape[1], rng)
        return composed(pixels, layers), covered(pixels.shape[0], pixels.shape[1], layers)

    return damage


_TEXT = Text(
    lines=(1, 1),
    size_px=(20, 20),
    opacity=(1, 1),
    turned=0,
    outlined=0,
    writing=("caption", "credit", "date"),
)
_WATERMARK = Watermark(
    opacity=(0.35, 0.35),
    size_px=(28, 28),
    angle_deg=(30, 30),
    turned=1,
    repeated=1,
    logo=0,
    embossed=0,
    crossed=0,
)
_SCRATCHES = Scratches(
    count=(4, 4), width_px=(1.5, 1.5), length_px=(150, 150), opacity=(0.9, 0.9), bright=0.7, parallel=0
)
_DUST = Dust(
    count=(12, 12), radius_px=(0.6, 2.2), hairs=0.15, hair_px=(6, 45), opacity=(0.9, 0.9), bright=0.7
)

_MARKS = {
    one.name: one
    for one in (
        Damage(
            "holes",
            "squares of 4 to 16 px at random places, 5 % of the area in all (the last ones are"
            " smaller so as not to exceed it), filled with grey 0.5",
            _holed,
        ),
        Damage(
            "text",
            "level, opaque lines of captions, credits and dates, one on each 128 x 128 px and at least one,"
            " fonts of 20 px, in white, black, yellow or another random colour",
            _layered(lambda height, width, rng: text_layers(height, width, rng, _TEXT)),
        ),
        Damage(
            "watermark",
            "one name in letters of 28 px, turned by 30 degrees, repeated over the picture, opacity 0.35,"
            " white three times of four",
            _layered(lambda height, width, rng: watermark_layers(height, width, rng, _WATERMARK)),
        ),
        Damage(
            "scratches",
            "slightly curved, interrupted lines up to 1.5 px wide and 150 px long, 4 for each 128 px of the"
            " longer side, opacity up to 0.9, bright seven times of ten, else dark",
            _layered(lambda height, width, rng: scratch_layers(height, width, rng, _SCRATCHES)),
        ),
        Damage(
            "dust",
            "specks of 0.6 to 2.2 px radius, most of them small, and hairs of 6 to 45 px, three of twenty,"
            " 12 in all on 128 x 128 px, opacity 0.9, bright seven times of ten, else dark",
            _layered(lambda height, width, rng: dust_layers(height, width, rng, _DUST)),
        ),
    )
}
