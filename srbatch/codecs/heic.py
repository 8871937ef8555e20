"""HEIC by pillow-heif, which is installed with the extra ``heif``; libvips comes without that codec.

Pixels are arrays (H, W, C); those of more than 8 bits reach from 0 to 65,535.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from srbatch.errors import UnreadablePhoto, UnsupportedPhoto, WrongOutput, one_line
from srbatch.places import is_of_the_disk

_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "L;16": 1, "I;16": 1, "RGB;16": 3, "RGBA;16": 4}
_BITS_WRITTEN = 10
_DAMAGE = (ValueError, OSError, RuntimeError, SyntaxError, EOFError, IndexError)
"""What the library raises at a file that is not sound."""


def library() -> Any:
    """pillow-heif.

    Raises:
        UnsupportedPhoto: it is not installed.
    """
    try:
        return importlib.import_module("pillow_heif")
    except ImportError:
        raise UnsupportedPhoto(
            "HEIC needs a library that is not installed: pip install 'srbatch[heif]'; or convert it"
        ) from None


class Heic:
    """A HEIC file whose header was read."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the header.

        Raises:
            UnreadablePhoto: it is damaged.
            UnsupportedPhoto: the library is not there, or does not know the kind of its pixels.
        """
        opener = library().open_heif
        with _damage_explained():
            self._file = opener(file, convert_hdr_to_8bit=False)
            mode, (width, height) = str(self._file.mode), self._file.size
            self.bits = int(self._file.info["bit_depth"])
        if mode not in _CHANNELS:
            raise UnsupportedPhoto(f"its pixels are of the kind {mode}; convert it to TIFF")
        self.pictures = len(self._file)
        self.shape: tuple[int, int, int] = (height, width, _CHANNELS[mode])

    def pixels(self) -> NDArray[Any]:
        """Decode it; what the file says of turning is done already.

        Raises:
            UnreadablePhoto: it is damaged.
        """
        with _damage_explained():
            stored = np.asarray(self._file).reshape(self.shape)
        return stored if self.bits == 8 else widened(stored, self.bits)


@contextmanager
def _damage_explained() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        if is_of_the_disk(error):
            raise
        raise UnreadablePhoto(f"damaged or cut off: {_first_line(error)}") from error


def widened(stored: NDArray[Any], bits: int) -> NDArray[np.uint16]:
    """Pixels whose ``bits`` are the upper ones of 16, drawn out so that white is 65,535."""
    steps = np.arange(2**bits) * (65_535 / (2**bits - 1))
    drawn: NDArray[np.uint16] = steps.round().astype(np.uint16)[stored >> (16 - bits)]
    return drawn


def narrowed(pixels: NDArray[Any], bits: int) -> NDArray[np.uint16]:
    """The reverse of :func:`widened`, rounded."""
    step = 65_535 / (2**bits - 1)
    return (pixels / np.float32(step)).round().astype(np.uint16) * np.uint16(2 ** (16 - bits))


def encoded(pixels: NDArray[Any], *, quality: int, icc: bytes | None) -> bytes:
    """A HEIC file of uint8 pixels, or one of 10 bits of uint16 ones.

    Raises:
        UnsupportedPhoto: the library is not there.
        WrongOutput: the encoder failed.
    """
    height, width, channels = pixels.shape
    if channels == 2:
        pixels = pixels[:, :, [0, 0, 0, 1]]
        channels = 4
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    if pixels.dtype == np.uint16:
        pixels, mode = narrowed(pixels, _BITS_WRITTEN), f"{mode};16"
    data, make = BytesIO(), library().from_bytes
    try:
        image = make(mode, (width, height), np.ascontiguousarray(pixels).tobytes())
        if icc is not None:
            image.info.update(icc_profile=icc, icc_profile_type="prof")
        image.save(data, quality=quality, chroma=444)
    except (ValueError, OSError, RuntimeError) as error:
        raise WrongOutput(f"the heic encoder failed: {_first_line(error)}") from error
    return data.getvalue()


def _first_line(error: Exception) -> str:
    return one_line((str(error).strip().splitlines() or ["the codec gave no reason"])[0])
