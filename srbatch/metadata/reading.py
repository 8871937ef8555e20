"""What a photo says beside its pixels, as it is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from srbatch.containers import bitmaps, exif, heif, jp2, jpeg, png, tiff, webp
from srbatch.containers.blocks import GAIN_MAP_LOST, Blocks
from srbatch.containers.tiff_structure import BrokenTiff
from srbatch.errors import UnsupportedPhoto
from srbatch.formats import Format
from srbatch.metadata import extended_xmp, profiles, xmp
from srbatch.metadata.packets import Properties, UnusableXmp
from srbatch.placement import Placement, is_on_its_side
from srbatch.places import open_file

_READERS: dict[Format, Callable[[BinaryIO], Blocks]] = {
    Format.JPEG: jpeg.read_jpeg,
    Format.PNG: png.read_png,
    Format.WEBP: webp.read_webp,
    Format.TIFF: tiff.read_tiff,
    Format.AVIF: heif.read_heif,
    Format.HEIC: heif.read_heif,
    Format.GIF: bitmaps.read_gif,
    Format.BMP: bitmaps.read_bmp,
    Format.JP2: jp2.read_jp2,
}

_LINEAR_GAMMA = 100_000
_SRGB_CODE_POINTS = bytes([1, 13, 0, 1])  # cICP: sRGB's primaries and curve, RGB, full range


@dataclass(frozen=True, slots=True)
class Metadata:
    """All that is carried from a photo to its enlargement, each block as the bytes it is made of."""

    icc: bytes | None = None
    exif: bytes | None = None
    """A TIFF structure, without JPEG's prefix. Of a TIFF file: a block made of its tags."""
    xmp: bytes | None = None
    iptc: bytes | None = None
    """Bare IIM records."""
    extended_xmp: tuple[bytes, ...] = ()
    """Bodies of the APP1 segments of a JPEG output; those of a photo are part of its packet here."""
    comments: tuple[bytes, ...] = ()
    """Bodies of JPEG's COM segments."""
    png_text: tuple[bytes, ...] = ()
    """tEXt, zTXt and iTXt chunks: their types and data."""
    png_colour: tuple[bytes, ...] = ()
    """sRGB, gAMA, cHRM and cICP chunks: their types and data."""
    orientation: int = 1
    """How the stored pixels must be turned, as in EXIF (1 to 8)."""
    turned_by_codec: bool = False
    """Of AVIF and HEIC: their own means say how to turn the picture, and nothing else that says so counts."""
    turn_of_regions: int = 1
    """How the picture that EXIF and XMP tell places and lengths of is turned upright, as in EXIF (1 to 8).

    Mostly the same as ``orientation``. Where a codec turns the picture that is 1, and EXIF and XMP still tell
    of the picture before."""
    extra_is_data: bool = False
    """Whether the file has a channel beside the colours that is not said to be transparency."""
    lossless: bool = False
    """Whether the file's format could have lost something of the picture and did not."""
    size: tuple[int, int] | None = None
    """(height, width) of the stored picture, known once it is decoded."""
    linear: bool = False
    """Whether the file's numbers are in proportion to light. Decoded pixels are encoded with a gamma then."""
    notes: tuple[str, ...] = ()
    """For people: what is in the source and will not be in the output."""

    @property
    def upright_in_output(self) -> bool:
        """Whether the output needs no turn whatever XMP says; else XMP may be all that says it needs one."""
        return self.turned_by_codec or self.orientation != 1

    def placement(self, *, width: int, height: int) -> Placement:
        """Where places in the photo lie in an upright output of that size, in pixels.

        Raises:
            ValueError: ``size`` is not known.
        """
        if self.size is None:
            raise ValueError("the size of the stored picture is known once it is decoded")
        # Of AVIF and HEIC the size is that after the turn.
        across = self.turned_by_codec and is_on_its_side(self.turn_of_regions)
        stored = self.size[::-1] if across else self.size
        return Placement(self.turn_of_regions, stored, (height, width))


def read(path: Path, fmt: Format) -> Metadata:
    """Read the metadata of a file; see :func:`read_open`.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    with open_file(path) as file:
        return read_open(file, fmt)


def read_open(file: BinaryIO, fmt: Format) -> Metadata:
    """Read the metadata of an open file.

    A block that is damaged is left out with a note: the pixels may well be sound.

    Raises:
        UnreadablePhoto: the file is not of that format, or cut off, or its structure is damaged.
    """
    file.seek(0)
    found = _READERS[fmt](file)
    said, turned_by_codec = 1, fmt in (Format.AVIF, Format.HEIC)
    if found.exif is not None:
        try:
            said = exif.orientation(found.exif)
        except BrokenTiff as error:
            found.exif = None
            found.note(f"the EXIF block is damaged and was not carried: {error}")
    if found.xmp is not None:
        try:
            properties = _with_extension(xmp.usable(found.xmp), found)
            found.xmp = properties.packet
            if xmp.tells_of_gain_map(properties):
                found.note(GAIN_MAP_LOST)
        except UnusableXmp as error:
            found.xmp = None
            found.note(f"the XMP packet {error} and was not carried")
    return Metadata(
        icc=found.icc,
        exif=found.exif,
        xmp=found.xmp,
        iptc=found.iptc,
        comments=tuple(found.comments),
        png_text=tuple(found.png_text),
        png_colour=tuple(found.png_colour),
        orientation=1 if turned_by_codec else said,
        extra_is_data=found.extra_is_data,
        lossless=found.lossless,
        turned_by_codec=turned_by_codec,
        turn_of_regions=said if found.turned or not turned_by_codec else 1,
        notes=tuple(found.notes),
    )


def _with_extension(properties: Properties, found: Blocks) -> Properties:
    """The packet joined with what it has in segments of its own; as it is, with a note, where that fails."""
    if not found.extended_xmp:
        return properties
    try:
        return extended_xmp.joined(properties.packet, found.extended_xmp)
    except UnusableXmp as error:
        found.note(f"the extended XMP {error} and was not carried")
        return properties


def check_colour(meta: Metadata) -> None:
    """Refuse a PNG file whose colours are told by a cICP chunk and are not sRGB: high dynamic range, mostly.

    Raises:
        UnsupportedPhoto: naming the chunk.
    """
    if by_type(meta.png_colour).get(b"cICP", _SRGB_CODE_POINTS) != _SRGB_CODE_POINTS:
        raise UnsupportedPhoto(
            "its colours are told by a cICP chunk and are not sRGB, which is not supported; "
            "convert it to sRGB or embed an ICC profile instead"
        )


def tells_of_linear(meta: Metadata) -> bool:
    """Whether the profile, or PNG's gAMA chunk where there is none, says that numbers are linear."""
    if meta.icc is not None:
        return profiles.is_linear(meta.icc)
    chunks = by_type(meta.png_colour)
    gamma = chunks.get(b"gAMA", b"")
    return not chunks.keys() & {b"sRGB", b"cICP"} and int.from_bytes(gamma, "big") == _LINEAR_GAMMA


def by_type(chunks: tuple[bytes, ...]) -> dict[bytes, bytes]:
    """The data of PNG chunks by their type."""
    return {chunk[:4]: chunk[4:] for chunk in chunks}
