"""A sheet that shows what a training run will see, to be looked at before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from srbatch.outputs.commit import destination_error, whole
from trainer.data import to_integers
from trainer.degradations.bounds import Pixels
from trainer.degradations.degrade import Degradations, apply, degrade
from trainer.degradations.reduction import downsample

_CELL_PX = 256
"""Side of a cell; pictures are enlarged by the whole factor that fits best, so that pixels stay squares."""
_GAP_PX, _LABEL_PX = 8, 20
_FONT_PX = 13
_HEADINGS = ("reduced", "reduced and degraded: the input", "target")


def write_sheet(
    crops: Sequence[Pixels], settings: Degradations, out: Path, *, factor: int, seed: int
) -> None:
    """Write a PNG with a row for each crop, and a last block of each kind alone at its strongest.

    A row holds the reduced crop, the same degraded (what the network is given), and the crop itself (what it
    should give), all enlarged to one size without smoothing.

    Args:
        crops: targets, `Pixels` of any sizes that ``factor`` divides.
        factor: how much smaller the network's input is; 1 where it restores only.
        seed: crop i gets the same degradations in every sheet with this seed.

    Raises:
        ValueError: there is no crop, or the factor does not divide one.
        DestinationError: the file cannot be written.
    """
    if not crops:
        raise ValueError("a sheet needs at least one crop; no photo was given")
    headings = [*_HEADINGS[:2], f"{_HEADINGS[2]}, x{factor}"]
    rows = [_pair(crop, settings, np.random.default_rng([seed, i]), factor) for i, crop in enumerate(crops)]
    cells = [(heading, picture) for row in rows for heading, picture in zip(headings, row, strict=True)]
    strongest = _each_alone(max((small for small, _, _ in rows), key=np.std), settings, seed)
    sheet = _composed([cells, strongest] if strongest else [cells])
    try:
        with whole(out) as temporary:
            sheet.save(temporary, "PNG")
    except OSError as error:
        raise destination_error(error, out) from error


def _pair(
    crop: Pixels, settings: Degradations, rng: np.random.Generator, factor: int
) -> tuple[Pixels, Pixels, Pixels]:
    small = downsample(crop, factor, rng, settings.kernel)
    return small, degrade(small, rng, settings), crop


def _each_alone(clean: Pixels, settings: Degradations, seed: int) -> list[tuple[str, Pixels]]:
    """Each kind that may strike, alone and at its strongest, on one crop: that with the most contrast."""
    cells = []
    for kind in settings.kinds():
        strongest = apply(kind, clean, np.random.default_rng(seed), settings.of(kind).strongest())
        cells.append((f"{kind} alone, strongest", strongest))
    return cells


def _composed(blocks: Sequence[Sequence[tuple[str, Pixels]]]) -> Image.Image:
    """Blocks below each other; in each, labelled pictures in three columns."""
    columns = len(_HEADINGS)
    heights = [-(-len(block) // columns) * (_CELL_PX + _LABEL_PX) + _GAP_PX for block in blocks]
    size = (columns * (_CELL_PX + _GAP_PX) + _GAP_PX, sum(heights))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PX)
    top = 0
    for block, height in zip(blocks, heights, strict=True):
        for index, (label, pixels) in enumerate(block):
            y = top + index // columns * (_CELL_PX + _LABEL_PX)
            x = _GAP_PX + index % columns * (_CELL_PX + _GAP_PX)
            draw.text((x, y + 2), label, "black", font)
            sheet.paste(_enlarged(pixels), (x, y + _LABEL_PX))
        top += height
    return sheet


def _enlarged(pixels: Pixels) -> Image.Image:
    """As large as fits into a cell, by a whole factor; what is larger than a cell is reduced to fit."""
    picture = Image.fromarray(to_integers(pixels))
    longest = max(picture.size)
    if longest > _CELL_PX:
        picture.thumbnail((_CELL_PX, _CELL_PX), Image.Resampling.BOX)
        return picture
    times = _CELL_PX // longest
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
