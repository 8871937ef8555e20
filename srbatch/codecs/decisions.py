"""What becomes of a decoded photo in a format: how the output will be written, and what people are told.

Everything that a format cannot hold is found here, before the network runs.
"""

from __future__ import annotations

from pathlib import Path

from srbatch.codecs import heic
from srbatch.codecs.encode import Encoding
from srbatch.codecs.picture import Picture
from srbatch.containers import exif
from srbatch.errors import UnsupportedPhoto
from srbatch.formats import Format
from srbatch.metadata import carrying
from srbatch.metadata.provenance import Provenance
from srbatch.placement import is_on_its_side


def encoding_of(
    picture: Picture, fmt: Format, size: tuple[int, int], *, quality: int, provenance: Provenance | None
) -> Encoding:
    """How the output of ``size`` (height, width) will be written.

    Raises:
        UnsupportedPhoto: the format cannot hold something of the photo, or needs a library that is not there.
    """
    header = picture.header
    if fmt is Format.HEIC:
        heic.library()
    height, width = size
    channels = header.channels
    if channels in (2, 4) and picture.metadata.extra_is_data and fmt is not Format.TIFF:
        raise UnsupportedPhoto(
            "it has a channel beside its colours that is not said to be transparency, which"
            f" {fmt.value} cannot hold; use --format tiff"
        )
    if channels in (2, 4) and not fmt.alpha:
        if not picture.opaque:
            raise UnsupportedPhoto(f"it has transparency, which {fmt.value} cannot hold; use --format png")
        channels -= 1
    holds_grey = fmt.grey and (fmt, channels) != (Format.HEIC, 2)  # HEIC: none with transparency
    if channels <= 2 and not holds_grey and picture.metadata.icc is not None:
        raise UnsupportedPhoto(f"it has a grey profile, which {fmt.value} cannot hold; use --format png")
    resolution = resolution_of(picture)
    return Encoding(
        format=fmt,
        height=height,
        width=width,
        channels=channels,
        bits=min(header.bits, fmt.bits),
        quality=quality,
        lossless=picture.lossless,
        metadata=carrying.for_output(
            picture.metadata,
            fmt,
            width=width,
            height=height,
            provenance=provenance,
            new_colours=header.cmyk,
            resolution=resolution,
        ),
        resolution=resolution,
    )


def resolution_of(picture: Picture) -> tuple[float, float] | None:
    """Pixels per mm, across and down, of the photo the right way up; None where it does not say."""
    found = picture.resolution
    if found is None and picture.metadata.exif is not None:
        found = exif.resolution(picture.metadata.exif)  # WebP, AVIF and HEIC have no other place for it
    return found[::-1] if found and is_on_its_side(picture.metadata.turn_of_regions) else found


def notes_on(source: Path, picture: Picture, encoding: Encoding) -> tuple[str, ...]:
    """What people are told of an output, each once: what is odd about the photo, and what is not kept."""
    notes = list(dict.fromkeys(picture.notes + encoding.metadata.notes))
    header = picture.header
    if encoding.bits < header.bits:
        kept, fmt = encoding.bits, encoding.format.value
        notes.append(f"of its {header.bits} bits for each colour {kept} were kept: {fmt} holds no more")
    if not header.format.written:
        notes.append(f"its output is {encoding.format.value}: {header.format.value} is only read")
    if source.suffix.lower() not in header.format.suffixes:
        notes.append(f"its content is {header.format.value}, whatever its name says")
    return tuple(notes)
