"""From an open file to a libvips picture that yields its pixels from top to bottom."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import Image

from srbatch.codecs.heic import Heic
from srbatch.containers import jp2
from srbatch.errors import PhotoError, UnreadablePhoto, UnsupportedPhoto, one_line
from srbatch.formats import Format
from srbatch.places import is_of_the_disk

# A file that was rewritten must never come back with its old pixels out of libvips' cache.
pyvips.cache_set_max(0)
# How large a photo may be is decided by --max-megapixels.
Image.MAX_IMAGE_PIXELS = None

Pixels = NDArray[Any]
"""Integers, uint8 or uint16, of shape (H, W, C)."""

CODEC_ERRORS = (pyvips.Error, UnicodeDecodeError)
"""The second is what pyvips raises instead of its own where libvips quotes bytes that are no text."""
BITS = {"uchar": 8, "ushort": 16}
"""By libvips' name for the numbers of a picture."""
LAB = "its colours are Lab, which is not supported; convert it to RGB of 16 bits"
_UNSUPPORTED = re.compile(
    # The last is what libvips says of a sound file with 10, 12 or 14 packed bits for each channel.
    "not supported|unsupported|not configured|not a whole number of bytes",
    re.IGNORECASE,
)
_LOADERS = {
    Format.JPEG: pyvips.Image.jpegload_source,
    Format.PNG: pyvips.Image.pngload_source,
    Format.WEBP: pyvips.Image.webpload_source,
    Format.TIFF: pyvips.Image.tiffload_source,
    Format.GIF: pyvips.Image.gifload_source,
    Format.AVIF: pyvips.Image.heifload_source,
}
_MOST_PX_ON_A_SIDE = 10_000_000  # libvips knows no more
_OTHER_KINDS = {b"%PDF": "a PDF", b"8BPS": "a Photoshop file"}
_BMP_KINDS = {"1": ("L", 1), "L": ("L", 1), "RGBA": ("RGBA", 4)}
"""Kind and channels of the pixels by Pillow's mode; all others are RGB."""


def format_of(file: BufferedReader) -> Format:
    """The format of a file by its content, whatever its name says.

    Raises:
        UnreadablePhoto: it is empty, or no picture.
        UnsupportedPhoto: it is a picture, or the like, of a kind that is not read.
    """
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
    if start.startswith((b"GIF87a", b"GIF89a")):
        return Format.GIF
    if start.startswith(b"BM"):
        return Format.BMP
    if start.startswith((jp2.SIGNATURE, jp2.CODESTREAM)):
        return Format.JP2
    for magic, kind in _OTHER_KINDS.items():
        if start.startswith(magic):
            raise UnsupportedPhoto(
                f"its content is {kind}, which is not supported; convert it to TIFF or PNG"
            )
    if start[4:8] == b"ftyp":
        return _heif_format(file, int.from_bytes(start[:4], "big"))
    raise UnreadablePhoto("its content is not a picture of any kind that is known")


def _heif_format(file: BufferedReader, size: int) -> Format:
    """AVIF or HEIC, by the brands in the first box."""
    box = file.read(min(size, 1024))
    file.seek(0)
    brands = {box[8:12], *(box[at : at + 4] for at in range(16, len(box) - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return Format.AVIF
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}:
        return Format.HEIC
    raise UnsupportedPhoto("its content is a video or a camera's raw file, which are not supported")


@contextmanager
def loaded(file: BufferedReader, fmt: Format, fail_on: str = "error", pixels: bool = True) -> Iterator[Any]:
    """The picture behind an open file, to be read once from top to bottom.

    Where libvips has no decoder the whole of it is decoded first, or with ``pixels`` False not at all: then
    it is black.

    Raises:
        UnreadablePhoto: the header is damaged.
        UnsupportedPhoto: its colours are Lab, or it is of a kind that the decoder does not know.
        OSError: the disk or the share failed.
    """
    file.seek(0)
    forget_warnings()
    if fmt in _DECODED_WHOLE:
        yield _DECODED_WHOLE[fmt](file, pixels)
        return
    # Through the open file rather than its name: any name works, and what is hashed is what is decoded.
    reader = _Reader(file)
    source = pyvips.SourceCustom()
    source.on_read(reader.read)
    source.on_seek(partial(_seek, file))
    try:
        image = _LOADERS[fmt](source, access="sequential", fail_on=fail_on)
    except CODEC_ERRORS as error:
        reader.raise_if_any()
        if "labq" in str(error):  # libvips takes 8-bit Lab for a packed kind of its own
            raise UnsupportedPhoto(LAB) from error
        raise unreadable(reason_of(error)) from error
    try:
        yield _drawn_out(image) if fmt is Format.AVIF and image.format == "ushort" else image
    except CODEC_ERRORS:
        reader.raise_if_any()
        raise
    reader.raise_if_any()
    del source  # libvips calls back into it until here, and pyvips does not keep it


class _Reader:
    """Reads for a codec, which finds the file cut off where the disk or the share fails: no damage of its."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self._error: OSError | None = None

    def read(self, size: int) -> bytes:
        """The next bytes; none after an error."""
        try:
            return self._file.read(size)
        except OSError as error:
            self._error = error
            return b""

    def raise_if_any(self) -> None:
        """Raise the error of the file system that reading ran into."""
        if self._error is not None:
            raise self._error


def _seek(file: BufferedReader, offset: int, whence: int) -> int:
    try:
        return file.seek(offset, whence)
    except (OSError, ValueError):
        return -1  # a damaged file leads before its start


def _drawn_out(image: Any) -> Any:
    """libvips leaves 10 and 12 bits as the upper ones of 16; here white is 65,535."""
    bits = image.get("bits-per-sample")
    drawn = ((image >> (16 - bits)) * (65_535 / (2**bits - 1))).rint().cast("ushort")
    return drawn.copy(interpretation=image.interpretation)


def _heic(file: BufferedReader, pixels: bool) -> Any:
    heic = Heic(file)
    made = from_memory(heic.pixels()) if pixels else _black(heic.shape, deep=heic.bits > 8)
    made = made.copy()
    made.set_type(pyvips.GValue.gint_type, "bits-per-sample", heic.bits)
    made.set_type(pyvips.GValue.gint_type, "n-pages", heic.pictures)
    return made


def _bmp(file: BufferedReader, pixels: bool) -> Any:
    """A BMP file by Pillow; palettes become their colours."""
    with _by_pillow(file, "BMP") as image:
        kind, channels = _BMP_KINDS.get(image.mode, ("RGB", 3))
        shape = (image.height, image.width, channels)
        made = from_memory(np.asarray(image.convert(kind)).reshape(shape)) if pixels else _black(shape)
        return _with_resolution(made, image)


def check_gif(file: BufferedReader) -> None:
    """See that the picture in a GIF file comes to its end; libvips makes up what is missing, without a word.

    Raises:
        UnreadablePhoto: it does not.
        OSError: the disk or the share failed.
    """
    file.seek(0)
    with _by_pillow(file, "GIF") as image:
        image.load()


def _jp2(file: BufferedReader, pixels: bool) -> Any:
    """A JPEG 2000 file by Pillow."""
    known = jp2.structure_of(file)
    file.seek(0)
    with _by_pillow(file, "JPEG2000") as image:
        shape = (image.height, image.width, known.channels)
        deep = known.bits > 8
        if pixels:
            made = from_memory(_full_range(np.asarray(image), known.bits).reshape(shape))
        else:
            made = _black(shape, deep=deep)
        return _with_resolution(made, image)


def _full_range(pixels: Pixels, bits: int) -> Pixels:
    """Numbers that Pillow left as the upper ``bits`` of 8 or 16; white is the largest number here."""
    whole = 8 * pixels.itemsize
    if bits == whole:
        return pixels
    most, largest = 2**bits - 1, 2**whole - 1
    levels = (np.arange(2**bits, dtype=np.uint64) * largest + most // 2) // most
    full: Pixels = levels.astype(pixels.dtype)[pixels >> (whole - bits)]
    return full


@contextmanager
def _by_pillow(file: BufferedReader, kind: str) -> Iterator[Image.Image]:
    """The picture in a file, of which Pillow decodes the whole at once.

    Raises:
        UnreadablePhoto: it is damaged.
        OSError: the disk or the share failed.
    """
    try:
        with Image.open(file, formats=[kind]) as image:
            yield image
    except (OSError, SyntaxError, ValueError, AssertionError) as error:
        if is_of_the_disk(error):
            raise
        raise unreadable(reason_of(error)) from error


def _with_resolution(made: Any, image: Image.Image) -> Any:
    """libvips' picture with the pixels per inch of Pillow's, where that tells them."""
    dpi = image.info.get("dpi", (0, 0))
    if min(dpi) > 0:
        made = made.copy(xres=dpi[0] / 25.4, yres=dpi[1] / 25.4)
        made.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    return made


_DECODED_WHOLE = {Format.BMP: _bmp, Format.HEIC: _heic, Format.JP2: _jp2}
"""What libvips has no decoder for."""


def from_memory(pixels: Pixels) -> Any:
    """A libvips picture over an array (H, W, C), which is not copied."""
    height, width, bands = pixels.shape
    deep = pixels.dtype != np.uint8
    kind = "ushort" if deep else "uchar"
    image = pyvips.Image.new_from_memory(pixels.reshape(-1).data, width, height, bands, kind)
    return image.copy(interpretation=_interpretation(bands, deep=deep))


def _black(shape: tuple[int, int, int], *, deep: bool = False) -> Any:
    if not 1 <= min(shape) <= max(shape) <= _MOST_PX_ON_A_SIDE:
        raise UnreadablePhoto(f"it claims to have {shape[1]} x {shape[0]} pixels")
    image = pyvips.Image.black(shape[1], shape[0], bands=shape[2]).cast("ushort" if deep else "uchar")
    return image.copy(interpretation=_interpretation(shape[2], deep=deep))


def _interpretation(bands: int, *, deep: bool) -> str:
    """libvips' name for what the numbers are: grey or RGB, with or without alpha, of 8 bits or of 16."""
    grey, colour = ("grey16", "rgb16") if deep else ("b-w", "srgb")
    return grey if bands <= 2 else colour


def is_unsupported(reason: str) -> bool:
    """Whether a decoder says that the file is of a kind that it does not know."""
    return _UNSUPPORTED.search(reason) is not None


def unreadable(reason: str) -> PhotoError:
    """The error for what a decoder said of a file that it did not read."""
    if is_unsupported(reason):
        return UnsupportedPhoto(
            f"it is of a kind that is not read ({reason}); convert it to TIFF, PNG or JPEG of a usual kind"
        )
    return UnreadablePhoto(f"damaged or cut off: {reason}")


def forget_warnings() -> None:
    """For before a picture is read or written: libvips keeps what it said of others, and tells it first."""
    pyvips.vips_lib.vips_error_clear()


def reason_of(error: Exception) -> str:
    """The first line of what a codec says, which may quote the file."""
    if isinstance(error, UnicodeDecodeError):
        error = ValueError(error.object.decode(errors="replace"))
    text = (
        str(error.detail or error.message if isinstance(error, pyvips.Error) else error).strip().splitlines()
    )
    return one_line(text[0].removeprefix("VipsJpeg: ")) if text else "the codec gave no reason"
