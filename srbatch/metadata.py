"""What a photo says beside its pixels: read, corrected for an enlargement, written, read back.

How an encoder uses it, with ``meta = for_output(read(source, fmt), target_fmt, ...)``::

    sink = open_sink(file, fmt, meta)       # JPEG, PNG, WebP
    ...                                     # the codec writes through sink.write(data), in any pieces
    sink.finish()

    finish_tiff(path, meta)                 # TIFF, once the codec has closed the file

    verify(path, fmt, meta)                 # any format: is everything in the file?

The codec itself writes the ICC profile and the resolution, and must write no other metadata. libvips
writes no resolution into a JPEG file without EXIF; ``open_sink(..., resolution=...)`` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from srbatch import (
    bitmaps,
    exif,
    exif_build,
    exif_patch,
    extended_xmp,
    heif,
    jp2,
    jpeg,
    png,
    profiles,
    regions,
    tiff,
    tiff_append,
    webp,
    xmp,
)
from srbatch.containers import GAIN_MAP_LOST, Blocks, HeadSplicer, printable
from srbatch.errors import UnsupportedPhoto, WrongOutput
from srbatch.formats import Format
from srbatch.heif import HeifRewriter
from srbatch.packets import Properties, UnusableXmp, in_utf8
from srbatch.placement import PAGE_LOST, SUBJECT_LOST, Placement, is_on_its_side
from srbatch.places import open_file
from srbatch.provenance import Provenance
from srbatch.tiff_structure import BrokenTiff
from srbatch.webp import WebpRewriter

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

_SRGB_GAMMA, _GAMMA_TOLERANCE, _LINEAR_GAMMA = 45_455, 100, 100_000
_SRGB_CHROMATICITIES = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
_CHROMATICITY_TOLERANCE = 100
_MOST_KEYWORDS = 20  # that are named; a crafted file may have hundreds of thousands
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


class Sink(Protocol):
    """Takes a file from an encoder and places the metadata in it."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take the next bytes; returns how many there were."""

    def finish(self) -> None:
        """Call it when the encoder is done; the file stays open."""


# ---- reading -------------------------------------------------------------------------------------


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
    if _by_type(meta.png_colour).get(b"cICP", _SRGB_CODE_POINTS) != _SRGB_CODE_POINTS:
        raise UnsupportedPhoto(
            "its colours are told by a cICP chunk and are not sRGB, which is not supported; "
            "convert it to sRGB or embed an ICC profile instead"
        )


def tells_of_linear(meta: Metadata) -> bool:
    """Whether the profile, or PNG's gAMA chunk where there is none, says that numbers are linear."""
    if meta.icc is not None:
        return profiles.is_linear(meta.icc)
    chunks = _by_type(meta.png_colour)
    gamma = chunks.get(b"gAMA", b"")
    return not chunks.keys() & {b"sRGB", b"cICP"} and int.from_bytes(gamma, "big") == _LINEAR_GAMMA


def _by_type(chunks: tuple[bytes, ...]) -> dict[bytes, bytes]:
    return {chunk[:4]: chunk[4:] for chunk in chunks}


# ---- for the output ------------------------------------------------------------------------------


def for_output(
    meta: Metadata,
    fmt: Format,
    *,
    width: int,
    height: int,
    provenance: Provenance | None,
    new_colours: bool,
    resolution: tuple[float, float] | None,
) -> Metadata:
    """The metadata of an upright enlargement in a file of the format ``fmt``.

    Args:
        meta: as :func:`read` returned it, and the size of the picture.
        fmt: format of the output.
        width: of the output, in pixels.
        height: of the output, in pixels.
        provenance: what the output declares of itself, in EXIF and XMP; None declares nothing.
        new_colours: whether the pixels were converted to RGB with the profile in ``meta``, as inks are.
        resolution: of the output, in pixels per mm across and down; None if it is not known.

    Raises:
        UnsupportedPhoto: something that this format cannot hold; the message names formats that can.
    """
    check_colour(meta)
    _check_homes(meta, fmt)
    written_by = provenance.software if provenance is not None else None
    placement = meta.placement(width=width, height=height)
    in_exif = None if fmt.resolution else resolution
    if meta.exif is None:
        block = exif_build.minimal(written_by, in_exif)
    else:
        block = exif_patch.corrected(
            meta.exif,
            placement,
            software=written_by,
            new_colours=new_colours,
            resolution=in_exif if exif.resolution(meta.exif) is None else None,
        )
    packet, xmp_notes = packet_for_output(
        meta, meta.xmp, fmt, width=width, height=height, new_colours=new_colours, provenance=provenance
    )
    extension: tuple[bytes, ...] = ()
    if packet is not None and fmt is Format.JPEG and len(packet) > jpeg.LARGEST_JPEG_XMP:
        packet = xmp.without_padding(packet)
        if len(packet) > jpeg.LARGEST_JPEG_XMP:
            packet, extension = extended_xmp.parted(packet)
    exif_notes = _notes_on_places_in_exif(meta.exif, placement) if meta.exif is not None else ()
    place_notes = tuple(dict.fromkeys(exif_notes + xmp_notes))
    comments, png_text, text_notes = _texts(meta, fmt)
    icc, linear, colour_notes = _encoded_colours(meta, fmt)
    output = replace(
        meta,
        icc=icc,
        linear=linear,
        exif=block,
        xmp=packet,
        extended_xmp=extension,
        comments=comments,
        png_text=png_text,
        png_colour=_colour_chunks(meta, fmt),
        orientation=1,
        turned_by_codec=False,
        turn_of_regions=1,
        lossless=False,
        size=None,
        notes=meta.notes + place_notes + colour_notes + text_notes + _exif_notes(block, fmt),
    )
    _head(output, fmt)  # refuses what is too large now, not after hours of work
    return output


def packet_for_output(
    meta: Metadata,
    packet: bytes | None,
    fmt: Format,
    *,
    width: int,
    height: int,
    new_colours: bool,
    provenance: Provenance | None,
) -> tuple[bytes | None, tuple[str, ...]]:
    """The XMP packet of an output in ``fmt``: made of the photo's own or of one that lies beside it.

    With it come notes on what it says of places in the photo that did not follow it.

    Raises:
        UnusableXmp: the packet cannot be corrected.
    """
    placement = meta.placement(width=width, height=height)
    software = exif.software(meta.exif) if meta.exif is not None else None
    made = xmp.corrected(
        packet,
        placement,
        fmt=fmt,
        turned=meta.upright_in_output,
        new_colours=new_colours,
        software_before=None if software and software.startswith("srbatch ") else software,
        provenance=provenance,
    )
    return made, _xmp_notes(in_utf8(packet), placement) if packet is not None else ()


def _notes_on_places_in_exif(block: bytes, placement: Placement) -> tuple[str, ...]:
    notes: tuple[str, ...] = (SUBJECT_LOST,) if exif_patch.loses_subject(block, placement) else ()
    return notes + ((PAGE_LOST,) if exif_patch.loses_place_on_page(block, placement) else ())


def _xmp_notes(packet: bytes, placement: Placement) -> tuple[str, ...]:
    notes: tuple[str, ...] = (SUBJECT_LOST,) if regions.lose_subject(packet, placement) else ()
    return notes + xmp.losses(packet, turned=placement.turn != 1)


def _encoded_colours(meta: Metadata, fmt: Format) -> tuple[bytes | None, bool, tuple[str, ...]]:
    """Profile, whether numbers are linear, and notes: in fewer than 16 bits their shadows show bands."""
    if not meta.linear or meta.icc is None or fmt.bits == 16:
        return meta.icc, meta.linear, ()
    note = f"its linear numbers, for which {_name(fmt)} has too few bits, were encoded with gamma 2.2"
    return profiles.with_gamma(meta.icc), False, (note,)


def _check_homes(meta: Metadata, fmt: Format) -> None:
    if meta.iptc is not None and fmt in (Format.WEBP, Format.AVIF, Format.HEIC):
        raise UnsupportedPhoto(
            f"it has an IPTC block, which {_name(fmt)} cannot hold; JPEG, PNG and TIFF can"
        )
    chunks = _by_type(meta.png_colour)
    if meta.icc is not None or fmt is Format.PNG or b"sRGB" in chunks:
        return
    gamma = int.from_bytes(chunks.get(b"gAMA", _SRGB_GAMMA.to_bytes(4, "big")), "big")
    if abs(gamma - _SRGB_GAMMA) > _GAMMA_TOLERANCE:
        raise UnsupportedPhoto(
            f"its gamma is {gamma / 100_000:g} (PNG chunk gAMA), which {_name(fmt)} cannot tell without "
            "an ICC profile; PNG can: --format png"
        )
    primaries = chunks.get(b"cHRM")
    if primaries is None:
        return
    numbers = [int.from_bytes(primaries[i : i + 4], "big") for i in range(0, len(primaries), 4)]
    if len(numbers) != len(_SRGB_CHROMATICITIES) or any(
        abs(number - usual) > _CHROMATICITY_TOLERANCE
        for number, usual in zip(numbers, _SRGB_CHROMATICITIES, strict=True)
    ):
        raise UnsupportedPhoto(
            f"its primary colours (PNG chunk cHRM) are not sRGB's, which {_name(fmt)} cannot tell without "
            "an ICC profile; PNG can: --format png"
        )


def _name(fmt: Format) -> str:
    return "WebP" if fmt is Format.WEBP else fmt.name


def _texts(meta: Metadata, fmt: Format) -> tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[str, ...]]:
    """Comments for JPEG and text chunks for PNG, and notes on texts that the format has no place for."""
    count = len(meta.comments) + len(meta.png_text)
    if fmt is Format.PNG:
        made = tuple(png.png_text_chunk("Comment", comment) for comment in meta.comments)
        return (), meta.png_text + made, ()
    if fmt is not Format.JPEG:
        keywords = list(dict.fromkeys(_keyword(chunk) for chunk in meta.png_text))
        more = [f"{len(keywords) - _MOST_KEYWORDS:,} more"] if len(keywords) > _MOST_KEYWORDS else []
        named = f" ({', '.join(keywords[:_MOST_KEYWORDS] + more)})" if keywords else ""
        note = f"{count} text comment{'s' * (count > 1)}{named}, for which {_name(fmt)} has no place, "
        return (), (), (f"{note}{'were' if count > 1 else 'was'} not carried",) if count else ()
    comments, told = list(meta.comments), Blocks()
    for chunk in meta.png_text:
        text = png.png_text(chunk, jpeg.JPEG_SEGMENT_BYTES + 1)
        line = ": ".join(text).removeprefix("Comment: ").encode() if text else b""
        if line and len(line) <= jpeg.JPEG_SEGMENT_BYTES:
            comments.append(line)
        else:
            told.note(f"the PNG text {_keyword(chunk)} is damaged or too long for JPEG and was not carried")
    return tuple(comments), (), tuple(told.notes)


def _keyword(chunk: bytes) -> str:
    return printable(chunk[4:].partition(b"\0")[0])


def _exif_notes(block: bytes | None, fmt: Format) -> tuple[str, ...]:
    """Notes on the tags of a block that cannot be made tags of a TIFF file."""
    if block is None or fmt is not Format.TIFF:
        return ()
    tags, damaged = tiff_append.without_place(block)
    notes = [f"the EXIF tag 0x{tag:04X}, for which TIFF has no place, was not carried" for tag in tags]
    if damaged:
        notes.append(f"damaged EXIF tags ({damaged}) were not carried")
    if tiff_append.moves_maker_note(block):
        notes.append(exif.MAKER_NOTE_MOVED)
    elif tiff_append.swaps_maker_note(block):
        notes.append(exif.MAKER_NOTE_SWAPPED)
    return tuple(notes)


def _colour_chunks(meta: Metadata, fmt: Format) -> tuple[bytes, ...]:
    """For PNG, the chunks of a PNG source; beside an ICC profile the standard forbids sRGB."""
    if fmt is not Format.PNG:
        return ()
    return tuple(chunk for chunk in meta.png_colour if meta.icc is None or chunk[:4] != b"sRGB")


# ---- writing -------------------------------------------------------------------------------------


def open_sink(file: BinaryIO, fmt: Format, meta: Metadata, *, resolution: tuple[float, float]) -> Sink:
    """What a codec's bytes go through on their way to ``file`` (all but TIFF).

    Args:
        file: the new file; it is written in order.
        fmt: its format.
        meta: as :func:`for_output` returned it.
        resolution: pixels per mm across and down, for a JPEG file whose codec does not write any.
    """
    match fmt:
        case Format.JPEG:
            app0 = jpeg.jfif(resolution)
            return HeadSplicer(file, partial(jpeg.jpeg_insertion, segments=_head(meta, fmt), app0=app0))
        case Format.PNG:
            return HeadSplicer(file, partial(png.png_insertion, chunks=_head(meta, fmt)))
        case Format.WEBP:
            return WebpRewriter(file, exif_block=meta.exif, xmp=meta.xmp)
        case Format.TIFF:
            raise ValueError("a TIFF file is finished in place: finish_tiff")
        case Format.AVIF | Format.HEIC:
            return HeifRewriter(file, exif_block=meta.exif, xmp=meta.xmp)
        case _:
            raise ValueError(f"{fmt.value} is only read")


def finish_tiff(path: Path, meta: Metadata) -> None:
    """Add the metadata to a TIFF file that its codec has written."""
    tiff_append.append_metadata(
        path, meta.exif, xmp=meta.xmp, iptc=meta.iptc, extra_is_data=meta.extra_is_data
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


def _head(meta: Metadata, fmt: Format) -> bytes:
    """What goes near the start of the file; nothing for formats that keep metadata elsewhere."""
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
