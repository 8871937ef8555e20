"""A sheet of crops from the user's own photos: input, nearest neighbour, bilinear, prediction."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from srbatch.codecs.codec_pool import CodecPool
from srbatch.discovery.apart import check_outside
from srbatch.discovery.discover import Selection, discover
from srbatch.discovery.found import Photo
from srbatch.errors import PhotoError, UsageError
from srbatch.model import Model
from srbatch.names import show
from srbatch.options import Options
from srbatch.outputs.commit import commit, destination_error, discard, make_folder, temp_path
from srbatch.outputs.scratch import Scratch, temporary_folder
from srbatch.places import identity

CROP_PX = 96
"""Of the photo, on a side: enough to judge, and six rows still fit on a screen at x4."""
_CONTEXT_PX = 64
_GAP_PX, _LABEL_PX = 8, 22
_COLUMNS = ("input", "nearest neighbour", "bilinear", "prediction")

RGB = NDArray[np.uint8]


def write(options: Options, count: int, *, check: Callable[[], None]) -> list[str]:
    """Write the sheet to ``options.out`` and return a line for each photo that could not be used.

    Raises:
        UsageError: no photo was found, or the sheet's name is taken, not that of a PNG file, or in a folder
            of photos.
        SrbatchError: as for a run.
    """
    out = options.out
    check_name(out, overwrite=options.overwrite)
    chosen = _spread(_found(options, check), count)
    if not chosen:
        raise UsageError("no photo was found; name a folder that holds some")
    rows, failures = [], []
    model = Model(options)
    with temporary_folder(options.scratch) as folder, CodecPool.of(options, check) as codecs:
        scratch = Scratch(folder / "scratch")
        for photo in chosen:
            check()
            try:
                rows.append((show(photo.source.name), _row(photo, options, model, codecs, scratch)))
            except PhotoError as error:
                failures.append(f"{show(photo.source)}: {error}")
    if not rows:
        raise UsageError("none of the photos could be read: " + "; ".join(failures))
    _save(
        _composed(rows, f"{model}, x{options.size.scale:g}"),
        out,
        replace=options.overwrite,
    )
    return failures


def check_name(out: Path, *, overwrite: bool) -> None:
    """See that a sheet may have that name.

    Raises:
        UsageError: it is not that of a PNG file, or taken.
    """
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {show(out)}: the sheet is a .png file")
    if os.path.lexists(out) and not overwrite:
        raise UsageError(f"--out {show(out)} exists; --overwrite replaces it")


def _found(options: Options, check: Callable[[], None]) -> list[Photo]:
    """The photos to choose from; the sheet may lie beside one, but neither replace one nor join a folder."""
    check_outside(options.inputs, {"--scratch": options.scratch})
    selection = Selection(options.recursive, options.include, options.exclude)
    photos = discover(options.inputs, options.out, selection=selection, check=check).photos
    there = identity(options.out)
    if there is not None and any(identity(photo.source) == there for photo in photos):
        raise UsageError(f"--out {show(options.out)} is one of the photos; originals are never written to")
    return photos


def _spread(photos: list[Photo], count: int) -> list[Photo]:
    """Photos at even distances over the archive, leaving out what cannot be read anyway."""
    usable = [photo for photo in photos if photo.problem is None]
    picks = np.linspace(0, len(usable) - 1, min(count, len(usable))).round().astype(int)
    return [usable[index] for index in picks]


def _row(
    photo: Photo, options: Options, model: Model, codecs: CodecPool, scratch: Scratch
) -> tuple[RGB, RGB]:
    """(crop, prediction) of the photo's most detailed part, both RGB."""
    with scratch.for_photo() as space:
        picture = codecs.decode(photo.source, space.path(), options.max_pixels)
        pixels = picture.pixels()
        colours = 3 if picture.header.channels >= 3 else 1
        top, left, height, width = _most_detailed(pixels[:, :, :colours])
        near = _around(top, height, pixels.shape[0])
        across = _around(left, width, pixels.shape[1])
        part = np.ascontiguousarray(pixels[near, across, :colours])
        size = options.size.of(*part.shape[:2]) or part.shape[:2]
        enlarged = model.upscaler.enlarge_whole(part, size, spool=space.spool(), bits=8)
        crop = pixels[top : top + height, left : left + width, :colours]
        if picture.header.bits > 8:
            crop = (crop / 257).round().astype(np.uint8)
        factor = options.size.scale or 1.0
        y, x = round((top - near.start) * factor), round((left - across.start) * factor)
        tall, wide = options.size.of(height, width) or (height, width)
        return _as_rgb(crop), _as_rgb(enlarged[y : y + tall, x : x + wide])


def _around(start: int, length: int, limit: int) -> slice:
    return slice(max(start - _CONTEXT_PX, 0), min(start + length + _CONTEXT_PX, limit))


def _most_detailed(pixels: RGB) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the crop with the strongest gradients, away from the rim if possible."""
    height, width = min(CROP_PX, pixels.shape[0]), min(CROP_PX, pixels.shape[1])
    best, where = -1.0, (0, 0)
    for top in _grid(pixels.shape[0], height):
        for left in _grid(pixels.shape[1], width):
            grey = pixels[top : top + height, left : left + width].mean(axis=2)
            detail = np.abs(np.diff(grey, axis=0)).mean() if height > 1 else 0.0
            detail += np.abs(np.diff(grey, axis=1)).mean() if width > 1 else 0.0
            if detail > best:
                best, where = float(detail), (top, left)
    return (*where, height, width)


def _grid(length: int, crop: int) -> list[int]:
    """At most a dozen places: a photo of 100 megapixels needs no closer look."""
    room = length - crop
    return sorted({round(room * step / 11) for step in range(12)})


def _as_rgb(pixels: RGB) -> RGB:
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _composed(rows: list[tuple[str, tuple[RGB, RGB]]], title: str) -> Image.Image:
    cell_h = max(prediction.shape[0] for _, (_, prediction) in rows)
    cell_w = max(prediction.shape[1] for _, (_, prediction) in rows)
    step_x, step_y = cell_w + _GAP_PX, cell_h + _LABEL_PX
    sheet = Image.new(
        "RGB", (_GAP_PX + len(_COLUMNS) * step_x, 2 * _LABEL_PX + len(rows) * step_y + _GAP_PX), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((_GAP_PX, 3), title, "black", font)
    for column, label in enumerate(_COLUMNS):
        draw.text((_GAP_PX + column * step_x, _LABEL_PX + 3), label, "black", font)
    for index, (name, (crop, prediction)) in enumerate(rows):
        y = 2 * _LABEL_PX + index * step_y
        draw.text((_GAP_PX, y + 3), name, "black", font)
        for column, cell in enumerate(_cells(crop, prediction)):
            sheet.paste(cell, (_GAP_PX + column * step_x, y + _LABEL_PX))
    return sheet


def _cells(crop: RGB, prediction: RGB) -> list[Image.Image]:
    source, size = Image.fromarray(crop), (prediction.shape[1], prediction.shape[0])
    return [
        source,
        source.resize(size, Image.Resampling.NEAREST),
        source.resize(size, Image.Resampling.BILINEAR),
        Image.fromarray(prediction),
    ]


def _save(sheet: Image.Image, out: Path, *, replace: bool) -> None:
    make_folder(out.parent)
    temp = temp_path(out)
    try:
        sheet.save(temp, "PNG")
        commit(temp, out, replace=replace)
    except OSError as error:
        raise destination_error(error, out) from error
    finally:
        discard(temp)
