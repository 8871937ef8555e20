"""From the file of a photo to its pixels. With ``encode`` the only module that knows the codec library.

Its functions run in worker processes. Pixels go between them and the main process as raw files in
the scratch folder, written and read in order: a file that lives for seconds stays in the page cache,
a huge one may spill to disk, and neither side ever holds a whole picture.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from srbatch import metadata
from srbatch.errors import PhotoChanged, PhotoTooLarge, UnreadablePhoto, UnsupportedPhoto
from srbatch.formats import Format
from srbatch.metadata import Metadata

# A file that was rewritten must never come back with its old pixels out of libvips' cache.
pyvips.cache_set_max(0)

_ROWS_AT_ONCE = 128
_BLEED_SIGMA_PX = 4.0
_PICTURE_IS_MISSING = re.compile("premature end|bad Huffman|instead of RST", re.IGNORECASE)
"""Warnings of libjpeg after which it makes up the rest, in grey. Its others (stray bytes) cost nothing."""
_UNKNOWN_RESOLUTION = 1.0  # libvips' value, in pixels per mm, where a file says nothing


@dataclass(frozen=True, slots=True)
class Header:
    """What a photo says of itself before its pixels are read."""

    format: Format
    height: int
    width: int
    """Of the photo the right way up."""
    channels: int
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded photo whose pixels lie in a raw file, as they were stored."""

    header: Header
    raw: Path
    sha256: str
    """Of the whole source file."""
    size: int
    mtime_ns: int
    """Of the source file, as it was when it was read."""
    metadata: Metadata
    resolution: tuple[float, float] | None
    """Pixels per mm, across and down, of the stored picture, where it says."""
    opaque: bool
    """Whether the alpha channel, if there is one, is full everywhere."""
    lossless: bool
    """Whether the format could have lost something and did not: a lossless WebP."""
    notes: tuple[str, ...]
    """For people: what is odd about the file, and what of it will not be carried."""

    def pixels(self) -> NDArray[np.uint8]:
        """The photo the right way up, (H, W, C), as a view of the raw file."""
        shape = _stored_shape(self.header, self.metadata.orientation)
        return upright(np.memmap(self.raw, np.uint8, "r", shape=shape), self.metadata.orientation)


def _stored_shape(header: Header, orientation: int) -> tuple[int, int, int]:
    if orientation >= 5:  # on its side
        return header.width, header.height, header.channels
    return header.height, header.width, header.channels


def upright(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn stored pixels (h, w, C) as EXIF's Orientation (1-8) says; a view, nothing is copied."""
    if orientation >= 5:
        stored = stored.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        stored = stored[::-1]
    if orientation in (2, 3, 6, 7):
        stored = stored[:, ::-1]
    return stored


# ---- reading -------------------------------------------------------------------------------------


def probe(path: Path, max_pixels: float) -> Header:
    """Read the header alone.

    Raises:
        PhotoError: the file cannot be used; see :func:`decode`.
    """
    with _opened(path) as (file, fmt), loaded(file, fmt) as image:
        return _header(image, fmt, metadata.read(path, fmt), max_pixels)


def decode(path: Path, raw: Path, max_pixels: float) -> Picture:
    """Decode a photo into ``raw``.

    Raises:
        UnreadablePhoto: damaged, empty or not a picture.
        UnsupportedPhoto: something in it would be lost or damaged.
        PhotoTooLarge: more than ``max_pixels``.
        PhotoChanged: it vanished or changed while it was read, or may not be read.
        OSError: the raw file cannot be written.
    """
    with _opened(path) as (file, fmt):
        before = os.fstat(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        found = metadata.read(path, fmt)
        with loaded(file, fmt) as image:
            header = _header(image, fmt, found, max_pixels)
            resolution = _resolution(image)
        notes = found.notes + _write_pixels(file, fmt, raw)
        after = path.stat()
        if (before.st_size, before.st_mtime_ns, before.st_ino) != (
            after.st_size,
            after.st_mtime_ns,
            after.st_ino,
        ):
            raise PhotoChanged("it changed while it was read; run again when nothing writes to it any more")
        lossless = fmt is Format.WEBP and _is_lossless_webp(file)
        opaque = header.channels in (1, 3) or _treat_alpha(raw, _stored_shape(header, found.orientation))
    return Picture(
        header, raw, sha256, before.st_size, before.st_mtime_ns, found, resolution, opaque, lossless, notes
    )


def sha256_of(path: Path) -> str:
    """The hash of a source file; raises as :func:`decode` does where it cannot be read."""
    with _opened_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _opened_file(path: Path) -> Iterator[BufferedReader]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnsupportedPhoto("it is not a file but a device, socket or pipe")
        file = path.open("rb")
    except FileNotFoundError:
        raise PhotoChanged("it is not there (any more), or a link that leads nowhere") from None
    except OSError as error:
        raise PhotoChanged(f"it cannot be opened: {error.strerror}; see to its permissions") from error
    with file:
        try:
            yield file
        except OSError as error:
            if error.filename is not None and os.fsencode(error.filename) != os.fsencode(path):
                raise  # the scratch file
            raise UnreadablePhoto(f"it cannot be read: {error.strerror or error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedReader, Format]]:
    """The file and its format by its content, whatever its name says."""
    with _opened_file(path) as file:
        yield file, _format_of(file)


def _format_of(file: BufferedReader) -> Format:
    start = file.read(16)
    file.seek(0)
    if not start:
        raise UnreadablePhoto("the file is empty")
    if start.startswith(b"\xff\xd8\xff"):
        return Format.JPEG
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return Format.PNG
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return Format.WEBP
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return Format.TIFF
    other = {b"GIF8": "a GIF", b"BM": "a BMP", b"%PDF": "a PDF", b"8BPS": "a Photoshop file"}
    for magic, kind in other.items():
        if start.startswith(magic):
            raise UnsupportedPhoto(
                f"its content is {kind}, which is not supported; convert it to TIFF or PNG"
            )
    if start[4:8] == b"ftyp":
        raise UnsupportedPhoto("its content is HEIC, AVIF or a video, which are not supported; convert it")
    raise UnreadablePhoto("its content is not a picture of any kind that is known")


@contextmanager
def loaded(file: BufferedReader, fmt: Format, fail_on: str = "error") -> Iterator[Any]:
    """The picture behind an open file, to be read once from top to bottom.

    Raises:
        UnreadablePhoto: the header is damaged.
    """
    file.seek(0)
    load = {
        Format.JPEG: pyvips.Image.jpegload_source,
        Format.PNG: pyvips.Image.pngload_source,
        Format.WEBP: pyvips.Image.webpload_source,
        Format.TIFF: pyvips.Image.tiffload_source,
    }[fmt]
    # Through the open file rather than its name: any name works, and what is hashed is what is decoded.
    source = pyvips.SourceCustom()
    source.on_read(partial(_read, file))
    source.on_seek(lambda offset, whence: file.seek(offset, whence))
    try:
        image = load(source, access="sequential", fail_on=fail_on)
    except pyvips.Error as error:
        raise UnreadablePhoto(f"damaged or cut off: {reason_of(error)}") from error
    yield image
    del source  # libvips calls back into it until here, and pyvips does not keep it


def _read(file: BufferedReader, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError:
        return b""  # the codec then finds the file cut off; the hash, which is taken first, says why


def _header(image: Any, fmt: Format, found: Metadata, max_pixels: float) -> Header:
    if image.width * image.height > max_pixels:
        raise PhotoTooLarge(
            f"{image.width} x {image.height} px are more than --max-megapixels {max_pixels / 1e6:g} allows"
        )
    _check_supported(image, fmt)
    metadata.check_colour(found)
    height, width = image.height, image.width
    if found.orientation >= 5:
        height, width = width, height
    return Header(fmt, height, width, image.bands)


def _check_supported(image: Any, fmt: Format) -> None:
    """Refuse what would not come back whole.

    Raises:
        UnsupportedPhoto: naming what it is and what to do.
    """
    fields = image.get_fields()
    pages = image.get("n-pages") if "n-pages" in fields else 1
    if pages > 1:
        kind = "an animation" if fmt is Format.WEBP else "a file"
        raise UnsupportedPhoto(f"{kind} of {pages} pictures; split it into single ones")
    if image.format != "uchar":
        depth = image.get("bits-per-sample") if "bits-per-sample" in fields else 16
        raise UnsupportedPhoto(f"{depth} bits for each colour, and only 8 are supported: nothing was written")
    if image.interpretation not in ("srgb", "rgb", "b-w"):
        raise UnsupportedPhoto(f"its colours are {image.interpretation}; only RGB and grey are supported")
    colours = 1 if image.interpretation == "b-w" else 3
    if image.bands not in (colours, colours + 1) or (image.bands > colours and not image.hasalpha()):
        raise UnsupportedPhoto(f"{image.bands} channels; grey or RGB with or without alpha is supported")
    if "n-subifds" in fields and image.get("n-subifds") > 0:
        raise UnsupportedPhoto("a TIFF with further pictures inside (SubIFDs), which would be lost")


def _resolution(image: Any) -> tuple[float, float] | None:
    known = image.xres > 0 and image.yres > 0 and image.xres != _UNKNOWN_RESOLUTION
    return (image.xres, image.yres) if known else None


def _write_pixels(file: BufferedReader, fmt: Format, raw: Path) -> tuple[str, ...]:
    """Decode into ``raw`` and return what the decoder warned of, where it was harmless."""
    try:
        with loaded(file, fmt, fail_on="warning") as image:
            _write_raw(image, raw)
        return ()
    except (pyvips.Error, UnreadablePhoto) as error:
        warning = reason_of(error)
    if _PICTURE_IS_MISSING.search(warning):
        raise UnreadablePhoto(f"damaged or cut off, and part of the picture is missing: {warning}")
    try:
        with loaded(file, fmt) as image:
            _write_raw(image, raw)
    except pyvips.Error as error:
        raise UnreadablePhoto(f"damaged or cut off: {reason_of(error)}") from error
    return (f"the decoder warned: {warning}",)


def _write_raw(image: Any, raw: Path) -> None:
    """Write pixels as they come; raises ``pyvips.Error`` where they cannot be decoded."""
    region = pyvips.Region.new(image)
    with raw.open("wb") as file:
        for top in range(0, image.height, _ROWS_AT_ONCE):
            file.write(region.fetch(0, top, image.width, min(_ROWS_AT_ONCE, image.height - top)))


def _treat_alpha(raw: Path, shape: tuple[int, int, int]) -> bool:
    """Whether alpha is full everywhere; if it is not, colour is drawn out below what is transparent.

    Any colour may lie there, mostly black, and the network would bleed it into the edges.
    """
    pixels = np.memmap(raw, np.uint8, "r", shape=shape)
    if all((pixels[top : top + 1024, :, -1] == 255).all() for top in range(0, shape[0], 1024)):
        return True
    whole = from_memory(pixels)
    alpha = whole[shape[2] - 1]
    colour = whole.extract_band(0, n=shape[2] - 1)
    reach = (alpha / 255).gaussblur(_BLEED_SIGMA_PX, precision="float", min_ampl=0.01)
    drawn = (colour * (alpha / 255)).gaussblur(_BLEED_SIGMA_PX, precision="float", min_ampl=0.01)
    below = (alpha == 0) & (reach > 1e-3)
    filled = below.ifthenelse((drawn / (reach > 1e-3).ifthenelse(reach, 1)).rint(), colour).cast("uchar")
    bled = raw.with_suffix(".bled")
    _write_raw(filled.bandjoin(alpha).cast("uchar"), bled)
    del pixels
    bled.replace(raw)
    return False


def from_memory(pixels: NDArray[np.uint8]) -> Any:
    """A libvips picture over an array (H, W, C), which is not copied."""
    height, width, bands = pixels.shape
    image = pyvips.Image.new_from_memory(pixels.reshape(-1).data, width, height, bands, "uchar")
    return image.copy(interpretation="b-w" if bands <= 2 else "srgb")


def _is_lossless_webp(file: BufferedReader) -> bool:
    file.seek(12)
    while len(head := file.read(8)) == 8:
        if head[:4] in (b"VP8L", b"VP8 "):
            return head[:4] == b"VP8L"
        size = int.from_bytes(head[4:], "little")
        file.seek(size + size % 2, os.SEEK_CUR)
    return False


def reason_of(error: Exception) -> str:
    """The first line of what a codec says."""
    text = (
        str(error.detail or error.message if isinstance(error, pyvips.Error) else error).strip().splitlines()
    )
    return text[0].removeprefix("VipsJpeg: ") if text else "the codec gave no reason"
