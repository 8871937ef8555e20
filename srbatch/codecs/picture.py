"""From the file of a photo to its pixels. ``loading``, ``encode``, ``light`` and this know the codec library.

Its functions run in worker processes. Pixels go between them and the main process as raw files in
the scratch folder, written and read in order: a file that lives for seconds stays in the page cache,
a huge one may spill to disk, and neither side ever holds a whole picture.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyvips

from srbatch.codecs import light
from srbatch.codecs.loading import (
    BITS,
    CODEC_ERRORS,
    LAB,
    Pixels,
    check_gif,
    format_of,
    from_memory,
    is_unsupported,
    loaded,
    reason_of,
    unreadable,
)
from srbatch.containers import exif, jpeg, jpeg_trailer, png
from srbatch.dates import mtime_of
from srbatch.errors import PhotoChanged, PhotoTooLarge, UnreadablePhoto, UnsupportedPhoto
from srbatch.formats import Format
from srbatch.metadata import profiles, reading
from srbatch.metadata.reading import Metadata
from srbatch.placement import flips_columns, flips_rows, is_on_its_side
from srbatch.places import open_file

Convert = Callable[[Any], Any]
"""From libvips' picture as it was loaded to one with the colours that the network gets."""

_CHANNELS = {"srgb": 3, "rgb": 3, "rgb16": 3, "b-w": 1, "grey16": 1, "cmyk": 4}
"""Without alpha, by libvips' name for what the colours are."""
_ROWS_AT_ONCE = 128
_BLEED_SIGMA_PX = 4.0
_PICTURE_IS_MISSING = re.compile("premature end|bad Huffman|instead of RST", re.IGNORECASE)
"""Warnings of libjpeg after which it makes up the rest, in grey. Its others (stray bytes) cost nothing."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a photo says of itself before its pixels are read."""

    format: Format
    height: int
    width: int
    """Of the photo the right way up."""
    channels: int
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; the alpha of a TIFF file may be data."""
    bits: int
    """For each channel, in the file: 8, 10, 12 or 16. Fewer are decoded to 8, and more than 8 to 16."""
    cmyk: bool = False
    """Whether the file has inks, of which RGB is made."""

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        """Of the decoded pixels."""
        return dtype_of(self.bits)


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
    """Whether the alpha channel, if there is one, is alpha and full everywhere."""
    notes: tuple[str, ...]
    """For people: what is odd about the file, and what of it will not be carried."""

    @property
    def lossless(self) -> bool:
        """Whether the format could have lost something and did not: a lossless WebP."""
        return self.metadata.lossless

    def pixels(self) -> Pixels:
        """The photo the right way up, (H, W, C), as a view of the raw file."""
        shape = _stored_shape(self.header, self.metadata.orientation)
        return upright(np.memmap(self.raw, self.header.dtype, "r", shape=shape), self.metadata.orientation)


def dtype_of(bits: int) -> type[np.unsignedinteger[Any]]:
    """The type of pixels decoded from so many bits, or to be encoded to them; white is its largest number."""
    return np.uint8 if bits == 8 else np.uint16


def sample_bytes(bits: int) -> int:
    """Of a number in raw pixels of so many bits."""
    return np.dtype(dtype_of(bits)).itemsize


def _stored_shape(header: Header, orientation: int) -> tuple[int, int, int]:
    if is_on_its_side(orientation):
        return header.width, header.height, header.channels
    return header.height, header.width, header.channels


def upright(stored: Pixels, orientation: int) -> Pixels:
    """Turn stored pixels (h, w, C) as EXIF's Orientation (1-8) says; a view, nothing is copied."""
    if is_on_its_side(orientation):
        stored = stored.swapaxes(0, 1)
    if flips_rows(orientation):
        stored = stored[::-1]
    if flips_columns(orientation):
        stored = stored[:, ::-1]
    return stored


# ---- reading -------------------------------------------------------------------------------------


def probe(path: Path, max_pixels: float) -> Header:
    """Read the header alone.

    Raises:
        PhotoError: the file cannot be used; see :func:`decode`.
    """
    with _opened(path) as (file, fmt), loaded(file, fmt, pixels=False) as image:
        return _header(image, fmt, reading.read_open(file, fmt), max_pixels)


def metadata_of(path: Path) -> Metadata:
    """The metadata as they stand in the file, with the size of the stored picture.

    Raises:
        PhotoError: the file cannot be used; see :func:`decode`.
    """
    with _opened(path) as (file, fmt), loaded(file, fmt, pixels=False) as image:
        return replace(reading.read_open(file, fmt), size=(image.height, image.width))


def decode(path: Path, raw: Path, max_pixels: float) -> Picture:
    """Decode a photo into ``raw``.

    Raises:
        UnreadablePhoto: damaged, empty or not a picture.
        UnsupportedPhoto: something in it would be lost or damaged.
        PhotoTooLarge: more than ``max_pixels``.
        PhotoChanged: it vanished or changed while it was read, or may not be read.
        OSError: a scratch file cannot be written; it is the one named.
    """
    with _opened(path) as (file, fmt):
        before = os.fstat(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        found = reading.read_open(file, fmt)
        with loaded(file, fmt, pixels=False) as image:
            header = _header(image, fmt, found, max_pixels)
            resolution = _resolution(image, file, fmt, found)
            found = replace(found, size=(image.height, image.width))
            found, convert = _colours(image, found, header.bits, raw.with_suffix(".icc"))
        behind = jpeg_trailer.note(file) if fmt is Format.JPEG else None
        notes = found.notes + ((behind,) if behind else ()) + _write_pixels(file, fmt, raw, convert)
        after = _status(path)
        if after is None or (before.st_size, before.st_mtime_ns, before.st_ino) != (
            after.st_size,
            after.st_mtime_ns,
            after.st_ino,
        ):
            raise PhotoChanged("it changed while it was read; run again when nothing writes to it any more")
        shape = _stored_shape(header, found.orientation)
        opaque = header.channels in (1, 3) or (
            not found.extra_is_data and _treat_alpha(raw, shape, header.dtype)
        )
    return Picture(header, raw, sha256, before.st_size, mtime_of(before), found, resolution, opaque, notes)


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
        file = open_file(path)
    except FileNotFoundError:
        raise PhotoChanged("it is not there (any more), or a link that leads nowhere") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PhotoChanged("it is a link that leads back to itself; remove it, or mend it") from None
        raise PhotoChanged(f"it cannot be opened: {error.strerror}; see to its permissions") from error
    with file:
        try:
            yield file
        except OSError as error:
            if error.filename is not None and os.fsencode(error.filename) != os.fsencode(path):
                raise  # the scratch file
            raise PhotoChanged(
                f"it cannot be read: {error.strerror or error}; see to its disk or share, and run again"
            ) from error


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedReader, Format]]:
    """The file and its format by its content, whatever its name says."""
    with _opened_file(path) as file:
        yield file, format_of(file)


def _header(image: Any, fmt: Format, found: Metadata, max_pixels: float) -> Header:
    if image.width * image.height > max_pixels:
        raise PhotoTooLarge(
            f"{image.width} x {image.height} px are more than --max-megapixels {max_pixels / 1e6:g} allows"
        )
    _check_supported(image, fmt)
    reading.check_colour(found)
    height, width = image.height, image.width
    if is_on_its_side(found.orientation):
        height, width = width, height
    cmyk = image.interpretation == "cmyk"
    bits = BITS[image.format]
    if bits == 16 and image.get_typeof("bits-per-sample"):
        bits = image.get("bits-per-sample")
    return Header(fmt, height, width, 3 if cmyk else image.bands, bits, cmyk)


def _check_supported(image: Any, fmt: Format) -> None:
    """Refuse what would not come back whole.

    Raises:
        UnsupportedPhoto: naming what it is and what to do.
    """
    pages = image.get("n-pages") if image.get_typeof("n-pages") else 1
    if pages > 1 and fmt is not Format.TIFF:  # which ``tiff`` has looked at, and may hold smaller copies
        kind = "an animation" if fmt in (Format.WEBP, Format.GIF) else "a file"
        raise UnsupportedPhoto(f"{kind} of {pages} pictures; split it into single ones")
    if image.interpretation in ("lab", "labs"):
        raise UnsupportedPhoto(LAB)
    if image.format not in BITS:
        raise UnsupportedPhoto(
            f"its numbers are of the kind {image.format}, and only whole ones of up to 16 bits are supported;"
            " convert it to 16 bits"
        )
    if image.interpretation not in _CHANNELS:
        raise UnsupportedPhoto(f"its colours are {image.interpretation}; only RGB and grey are supported")
    colours = _CHANNELS[image.interpretation]
    alpha = image.bands == colours + 1 and image.hasalpha() and image.interpretation != "cmyk"
    if image.bands != colours and not alpha:
        raise UnsupportedPhoto(
            f"{image.bands} channels; grey or RGB with or without alpha, and CMYK, are supported"
        )


def _colours(image: Any, found: Metadata, bits: int, scratch: Path) -> tuple[Metadata, Convert]:
    """The metadata with the profile that the pixels will have, and what makes them so.

    What says Adobe RGB by EXIF alone, which few viewers look for, gets its profile. Linear numbers are
    encoded, and linear again in the output; in fewer than 16 bits they stay what they are, since the way
    there and back would cost levels. CMYK becomes RGB, by its profile and with its black point kept, as
    viewers show it. There is no way back: how much of a colour is black ink is the press's choice, and no
    two profiles make the same one.
    """
    kind = {1: "L", 3: "RGB", 4: "CMYK"}[_CHANNELS[image.interpretation]]
    icc, note = profiles.usable(found.icc, kind)
    notes = (*found.notes, note) if note else found.notes
    is_untold = kind == "RGB" and icc is None and not found.png_colour
    if is_untold and found.exif is not None and exif.tells_of_adobe_rgb(found.exif):
        icc = profiles.wide_rgb()
        notes += ("its colours are Adobe RGB by EXIF alone, and a profile that says so was embedded",)
    if kind != "CMYK":
        found = replace(found, icc=icc, notes=notes)
        if bits == 16 and reading.tells_of_linear(found):
            return replace(found, linear=True), light.encoded
        return found, lambda image: image
    notes += ("its CMYK colours were converted to RGB, and an Adobe RGB profile was embedded",)
    if icc is None:
        notes += ("no profile says what its inks look like; those of a common press were assumed",)
    wide = profiles.wide_rgb()
    with _writing(scratch) as file:
        file.write(wide)
    return replace(found, icc=wide, notes=notes), partial(_to_rgb, icc=icc, wide=scratch)


def _to_rgb(image: Any, *, icc: bytes | None, wide: Path) -> Any:
    """CMYK to RGB with the profile in the file ``wide``, of the same depth."""
    image = image.copy()
    image.remove("icc-profile-data")
    if icc is not None:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)
    return image.icc_transform(
        str(wide),
        embedded=icc is not None,
        input_profile="cmyk",
        intent="relative",
        black_point_compensation=True,
        depth=BITS[image.format],
    )


def _resolution(image: Any, file: BinaryIO, fmt: Format, found: Metadata) -> tuple[float, float] | None:
    """Pixels per mm; None where a file gives none, or numbers without a unit, which are a ratio alone."""
    if fmt is Format.PNG:
        return png.resolution(file)
    if fmt is Format.JPEG:  # libvips takes the unit of one of the two for numbers of the other
        return (exif.resolution(found.exif) if found.exif else None) or jpeg.resolution(file)
    known = fmt.resolution and image.get_typeof("resolution-unit") and image.xres > 0 and image.yres > 0
    return (image.xres, image.yres) if known else None


def _write_pixels(file: BufferedReader, fmt: Format, raw: Path, convert: Convert) -> tuple[str, ...]:
    """Decode into ``raw`` and return what the decoder warned of, where it was harmless."""
    if fmt is Format.GIF:
        check_gif(file)
    try:
        with loaded(file, fmt, fail_on="warning") as image:
            _write_raw(convert(image), raw)
        return ()
    except (*CODEC_ERRORS, UnreadablePhoto) as error:
        warning = reason_of(error)
    if is_unsupported(warning):  # the decoder may go on, and make up a picture
        raise unreadable(warning)
    if _PICTURE_IS_MISSING.search(warning):
        raise UnreadablePhoto(f"damaged or cut off, and part of the picture is missing: {warning}")
    try:
        with loaded(file, fmt) as image:
            _write_raw(convert(image), raw)
    except CODEC_ERRORS as error:
        raise unreadable(reason_of(error)) from error
    return (f"the decoder warned: {warning}",)


def _write_raw(image: Any, raw: Path) -> None:
    """Write pixels as they come; raises one of ``CODEC_ERRORS`` where they cannot be decoded."""
    region = pyvips.Region.new(image)
    with _writing(raw) as file:
        for top in range(0, image.height, _ROWS_AT_ONCE):
            file.write(region.fetch(0, top, image.width, min(_ROWS_AT_ONCE, image.height - top)))


@contextmanager
def _writing(path: Path) -> Iterator[BufferedWriter]:
    """A scratch file. All its errors name it; Python tells those of writing without a name."""
    try:
        with path.open("wb") as file:
            yield file
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _treat_alpha(raw: Path, shape: tuple[int, int, int], dtype: type[np.unsignedinteger[Any]]) -> bool:
    """Whether alpha is full everywhere; if it is not, colour is drawn out below what is transparent.

    Any colour may lie there, mostly black, and the network would bleed it into the edges.
    """
    pixels = np.memmap(raw, dtype, "r", shape=shape)
    full = int(np.iinfo(dtype).max)
    if all((pixels[top : top + 1024, :, -1] == full).all() for top in range(0, shape[0], 1024)):
        return True
    whole = from_memory(pixels)
    alpha = whole[shape[2] - 1]
    colour = whole.extract_band(0, n=shape[2] - 1)
    reach = (alpha / full).gaussblur(_BLEED_SIGMA_PX, precision="float", min_ampl=0.01)
    drawn = (colour * (alpha / full)).gaussblur(_BLEED_SIGMA_PX, precision="float", min_ampl=0.01)
    below = (alpha == 0) & (reach > 1e-3)
    filled = below.ifthenelse((drawn / (reach > 1e-3).ifthenelse(reach, 1)).rint(), colour).cast(whole.format)
    bled = raw.with_suffix(".bled")
    _write_raw(filled.bandjoin(alpha).cast(whole.format), bled)
    del pixels, whole, alpha, colour, reach, drawn, below, filled  # Windows replaces no file that is mapped
    bled.replace(raw)
    return False
