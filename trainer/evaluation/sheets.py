"""Sheets that show a case at 100 %: panels beside each other, a label above and figures below each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from srbatch.outputs.commit import destination_error, make_folder

CROP_PX = 256
"""Side of the part that is shown; five of them fit on a screen."""
_FOCUS_PX = 32
_GAP_PX, _LINE_PX, _LEAST_CELL_PX = 8, 20, 190
_PDF_DPI = 96

RGB = NDArray[np.uint8]
Part = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of a sheet."""

    label: str
    caption: str
    pixels: RGB
    """(H, W, 3), shown pixel for pixel."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Panels of one case, from left to right."""

    title: str
    panels: tuple[Panel, ...]


def write(sheets: Mapping[str, Sheet], out: Path) -> None:
    """Write each sheet as ``<name>.png``, without loss, and all as ``sheets.pdf``, a page each, as good JPEG.

    Raises:
        DestinationError: the folder ``out`` or a file in it cannot be written.
    """
    make_folder(out)
    pages = {name: draw(sheet) for name, sheet in sheets.items()}
    first, *rest = pages.values()
    try:
        for name, page in pages.items():
            page.save(out / f"{name}.png")
        first.save(
            out / "sheets.pdf",
            append_images=rest,
            save_all=True,
            resolution=_PDF_DPI,
            quality=95,
            subsampling=0,
        )
    except OSError as error:
        raise destination_error(error, out) from error


def draw(sheet: Sheet) -> Image.Image:
    """The sheet as an RGB picture."""
    height = max(panel.pixels.shape[0] for panel in sheet.panels)
    width = max(_LEAST_CELL_PX, *(panel.pixels.shape[1] for panel in sheet.panels))
    page = Image.new(
        "RGB", (_GAP_PX + len(sheet.panels) * (width + _GAP_PX), 3 * _LINE_PX + height + _GAP_PX), "white"
    )
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    pen.text((_GAP_PX, 2), sheet.title, "black", font)
    for index, panel in enumerate(sheet.panels):
        x = _GAP_PX + index * (width + _GAP_PX)
        pen.text((x, _LINE_PX + 2), panel.label, "black", font)
        page.paste(Image.fromarray(panel.pixels), (x, 2 * _LINE_PX))
        pen.text((x, 2 * _LINE_PX + height + 2), panel.caption, "black", font)
    return page


def stacked(cases: Sequence[Sheet]) -> Image.Image:
    """One picture of several sheets below each other."""
    pages = [draw(sheet) for sheet in cases]
    whole = Image.new("RGB", (max(page.width for page in pages), sum(page.height for page in pages)), "white")
    top = 0
    for page in pages:
        whole.paste(page, (0, top))
        top += page.height
    return whole


def greatest_difference(a: RGB, b: RGB) -> Part:
    """Rows and columns of `CROP_PX` a side, or all there is, around where two pictures differ most.

    That is where the squared difference within 32 x 32 px is largest.
    """
    error = np.square(a.astype(np.float64) - b).sum(axis=2)
    side = min(_FOCUS_PX, *error.shape)
    table = np.pad(error.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    return _around(top + side // 2, error.shape[0]), _around(left + side // 2, error.shape[1])


def _around(centre: int, length: int) -> slice:
    start = max(0, min(centre - CROP_PX // 2, length - CROP_PX))
    return slice(start, min(start + CROP_PX, length))
