"""Metadata into the files that codecs write, and read back from them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from srbatch.containers import exif, jpeg, png, tiff_append
from srbatch.containers.blocks import HeadSplicer
from srbatch.containers.heif import HeifRewriter
from srbatch.containers.webp import WebpRewriter
from srbatch.errors import WrongOutput
from srbatch.formats import Format
from srbatch.metadata import extended_xmp
from srbatch.metadata.reading import Metadata, read


class Sink(Protocol):
    """Takes a file from an encoder and places the metadata in it."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take the next bytes; returns how many there were."""

    def finish(self) -> None:
        """Call it when the encoder is done; the file stays open."""


def open_sink(file: BinaryIO, fmt: Format, meta: Metadata, *, resolution: tuple[float, float] | None) -> Sink:
    """What a codec's bytes go through on their way to ``file`` (all but TIFF).

    Args:
        file: the new file; it is written in order.
        fmt: its format.
        meta: as :func:`srbatch.metadata.carrying.for_output` returned it.
        resolution: pixels per mm across and down, for a JPEG file whose codec does not write any; None if it
            is not known, and what a codec writes nevertheless does not get into the file.
    """
    match fmt:
        case Format.JPEG:
            app0 = jpeg.jfif(resolution)
            return HeadSplicer(file, partial(jpeg.spliced_jpeg, segments=head(meta, fmt), app0=app0))
        case Format.PNG:
            known = resolution is not None
            return HeadSplicer(file, partial(png.spliced_png, chunks=head(meta, fmt), resolution_known=known))
        case Format.WEBP:
            return WebpRewriter(file, exif_block=meta.exif, xmp=meta.xmp)
        case Format.TIFF:
            raise ValueError("a TIFF file is finished in place: finish_tiff")
        case Format.AVIF | Format.HEIC:
            return HeifRewriter(file, exif_block=meta.exif, xmp=meta.xmp)
        case _:
            raise ValueError(f"{fmt.value} is only read")


def finish_tiff(path: Path, meta: Metadata, *, resolution_known: bool) -> None:
    """Add the metadata to a TIFF file that its codec has written.

    Args:
        path: the file.
        meta: as :func:`srbatch.metadata.carrying.for_output` returned it.
        resolution_known: whether the resolution in the file is one; if not, the file tells none.
    """
    tiff_append.append_metadata(
        path,
        meta.exif,
        xmp=meta.xmp,
        iptc=meta.iptc,
        extra_is_data=meta.extra_is_data,
        resolution_known=resolution_known,
    )


def verify(path: Path, fmt: Format, expected: Metadata) -> None:
    """Read a written file again and compare it with what was meant.

    Raises:
        WrongOutput: naming the block that differs.
        UnreadablePhoto: its structure is not sound.
    """
    found, packet = read(path, fmt), expected.xmp
    if packet is not None and expected.extended_xmp:
        packet = extended_xmp.joined(packet, expected.extended_xmp).packet
    if fmt is Format.TIFF:
        same_exif = _tiff_tags(found.exif) == _tiff_tags(expected.exif)
    else:
        same_exif = found.exif == expected.exif
    for name, same in (
        ("ICC profile", found.icc == expected.icc),
        ("EXIF block", same_exif),
        ("XMP packet", found.xmp == packet),
        ("IPTC block", found.iptc == expected.iptc),
        ("PNG chunks of its colours", found.png_colour == expected.png_colour),
        ("texts of the PNG file", found.png_text == expected.png_text),
        ("comments of the JPEG file", found.comments == expected.comments),
        ("meaning of the channel beside the colours", found.extra_is_data == expected.extra_is_data),
    ):
        if not same:
            raise WrongOutput(f"the {name} in the file written is not what it should be")


def _tiff_tags(block: bytes | None) -> exif.Tags:
    return exif.tags_of(block).descriptive()


def head(meta: Metadata, fmt: Format) -> bytes:
    """What goes near the start of the file; nothing for formats that keep metadata elsewhere.

    Raises:
        UnsupportedPhoto: a block is larger than the format can hold.
    """
    if fmt is Format.JPEG:
        return jpeg.jpeg_head(
            exif_block=meta.exif,
            xmp=meta.xmp,
            iptc=meta.iptc,
            extended_xmp=meta.extended_xmp,
            comments=meta.comments,
        )
    if fmt is Format.PNG:
        return png.png_head(
            exif_block=meta.exif,
            xmp=meta.xmp,
            iptc=meta.iptc,
            text=meta.png_text,
            colour=meta.png_colour,
        )
    return b""
