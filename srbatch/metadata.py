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

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from srbatch import bitmaps, containers, exif, heif
from srbatch.containers import Blocks, HeadSplicer, WebpRewriter
from srbatch.errors import UnsupportedPhoto, WrongOutput
from srbatch.exif import BrokenExif
from srbatch.formats import Format
from srbatch.heif import HeifRewriter

_READERS: dict[Format, Callable[[BinaryIO], Blocks]] = {
    Format.JPEG: containers.read_jpeg,
    Format.PNG: containers.read_png,
    Format.WEBP: containers.read_webp,
    Format.TIFF: containers.read_tiff,
    Format.AVIF: heif.read_heif,
    Format.HEIC: heif.read_heif,
    Format.GIF: bitmaps.read_gif,
    Format.BMP: bitmaps.read_bmp,
}

_SRGB_GAMMA, _GAMMA_TOLERANCE = 45_455, 100
_SRGB_CHROMATICITIES = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
_CHROMATICITY_TOLERANCE = 100
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
    """Bodies of JPEG's APP1 segments."""
    comments: tuple[bytes, ...] = ()
    """Bodies of JPEG's COM segments."""
    png_text: tuple[bytes, ...] = ()
    """tEXt, zTXt and iTXt chunks: their types and data."""
    png_colour: tuple[bytes, ...] = ()
    """sRGB, gAMA, cHRM and cICP chunks: their types and data."""
    orientation: int = 1
    """How the stored pixels must be turned, as in EXIF (1 to 8)."""
    notes: tuple[str, ...] = ()
    """For people: what is in the source and will not be in the output."""


class Sink(Protocol):
    """Takes a file from an encoder and places the metadata in it."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take the next bytes; returns how many there were."""

    def finish(self) -> None:
        """Call it when the encoder is done; the file stays open."""


# ---- reading -------------------------------------------------------------------------------------


def read(path: Path, fmt: Format) -> Metadata:
    """Read the metadata of a file.

    A block that is damaged is left out with a note: the pixels may well be sound.

    Raises:
        UnreadablePhoto: the file is not of that format, or cut off, or its structure is damaged.
    """
    with path.open("rb") as file:
        found = _READERS[fmt](file)
    orientation = 1
    if found.exif is not None:
        try:
            orientation = exif.orientation(found.exif)
            if fmt in (Format.AVIF, Format.HEIC):
                orientation = 1  # the standard has its own means, which codecs follow, and forbids EXIF's
        except BrokenExif as error:
            found.exif = None
            found.note(f"the EXIF block is damaged and was not carried: {error}")
    if found.xmp is not None:
        try:
            _Properties(found.xmp)
        except _UnusableXmp as error:
            found.xmp, found.extended_xmp = None, []
            found.note(f"the XMP packet {error} and was not carried")
    return Metadata(
        icc=found.icc,
        exif=found.exif,
        xmp=found.xmp,
        iptc=found.iptc,
        extended_xmp=tuple(found.extended_xmp),
        comments=tuple(found.comments),
        png_text=tuple(found.png_text),
        png_colour=tuple(found.png_colour),
        orientation=orientation,
        notes=tuple(found.notes),
    )


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


def _by_type(chunks: tuple[bytes, ...]) -> dict[bytes, bytes]:
    return {chunk[:4]: chunk[4:] for chunk in chunks}


# ---- for the output ------------------------------------------------------------------------------


def for_output(
    meta: Metadata, fmt: Format, *, width: int, height: int, software: str, source_type: str | None
) -> Metadata:
    """The metadata of an upright enlargement in a file of the format ``fmt``.

    Args:
        meta: as :func:`read` returned it.
        fmt: format of the output.
        width: of the output, in pixels.
        height: of the output, in pixels.
        software: what made the output.
        source_type: IPTC's URI for how a picture came to be. None declares nothing: then neither it
            nor ``software`` is written.

    Raises:
        UnsupportedPhoto: something that this format cannot hold; the message names formats that can.
    """
    check_colour(meta)
    _check_homes(meta, fmt)
    written_by = software if source_type is not None else None
    block = None
    if meta.exif is not None:
        block = exif.corrected(meta.exif, width=width, height=height, software=written_by)
    elif written_by is not None:
        block = exif.fresh(written_by)
    packet = _corrected_xmp(meta.xmp, width, height, source_type, turned=meta.orientation != 1)
    if packet is not None and fmt is Format.JPEG and len(packet) > containers.LARGEST_JPEG_XMP:
        packet = _without_padding(packet)
    comments, png_text, text_notes = _texts(meta, fmt)
    output = replace(
        meta,
        exif=block,
        xmp=packet,
        comments=comments,
        png_text=png_text,
        png_colour=_colour_chunks(meta, fmt),
        orientation=1,
        notes=meta.notes + text_notes + _exif_notes(block, fmt),
    )
    _head(output, fmt)  # refuses what is too large now, not after hours of work
    return output


def _check_homes(meta: Metadata, fmt: Format) -> None:
    if meta.iptc is not None and fmt in (Format.WEBP, Format.AVIF, Format.HEIC):
        raise UnsupportedPhoto(
            f"it has an IPTC block, which {_name(fmt)} cannot hold; JPEG, PNG and TIFF can"
        )
    if meta.extended_xmp and fmt is not Format.JPEG:
        raise UnsupportedPhoto(f"it has extended XMP, which {_name(fmt)} cannot hold; JPEG can")
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
        made = tuple(containers.png_text_chunk("Comment", comment) for comment in meta.comments)
        return (), meta.png_text + made, ()
    if fmt is not Format.JPEG:
        note = f"{count} text comment{'s' * (count > 1)}, for which {_name(fmt)} has no place, "
        return (), (), (f"{note}{'were' if count > 1 else 'was'} not carried",) if count else ()
    comments, notes = list(meta.comments), []
    for chunk in meta.png_text:
        text = containers.png_text(chunk)
        line = ": ".join(text).encode() if text else b""
        if line and len(line) <= containers.JPEG_SEGMENT_BYTES:
            comments.append(line)
        else:
            keyword = ascii(chunk[4:].partition(b"\0")[0].decode("latin-1"))
            notes.append(f"the PNG text {keyword} is damaged or too long for JPEG and was not carried")
    return tuple(comments), (), tuple(notes)


def _exif_notes(block: bytes | None, fmt: Format) -> tuple[str, ...]:
    """Notes on the tags of a block that cannot be made tags of a TIFF file."""
    if block is None or fmt is not Format.TIFF:
        return ()
    tags, damaged = exif.homeless_in_tiff(block)
    notes = [f"the EXIF tag 0x{tag:04X}, for which TIFF has no place, was not carried" for tag in tags]
    if damaged:
        notes.append(f"damaged EXIF tags ({damaged}) were not carried")
    return tuple(notes)


def _colour_chunks(meta: Metadata, fmt: Format) -> tuple[bytes, ...]:
    """For PNG, the chunks of a PNG source; beside an ICC profile the standard forbids sRGB."""
    if fmt is not Format.PNG:
        return ()
    return tuple(chunk for chunk in meta.png_colour if meta.icc is None or chunk[:4] != b"sRGB")


# ---- writing -------------------------------------------------------------------------------------


def open_sink(
    file: BinaryIO, fmt: Format, meta: Metadata, *, resolution: tuple[float, float] | None = None
) -> Sink:
    """What a codec's bytes go through on their way to ``file`` (all but TIFF).

    Args:
        file: the new file; it is written in order.
        fmt: its format.
        meta: as :func:`for_output` returned it.
        resolution: pixels per mm across and down, for a JPEG file whose codec does not write any.
    """
    match fmt:
        case Format.JPEG:
            app0 = containers.jfif(resolution) if resolution else b""
            return HeadSplicer(file, partial(containers.jpeg_insertion, segments=_head(meta, fmt), app0=app0))
        case Format.PNG:
            return HeadSplicer(file, partial(containers.png_insertion, chunks=_head(meta, fmt)))
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
    exif.append_to_tiff(path, meta.exif, xmp=meta.xmp, iptc=meta.iptc)


def verify(path: Path, fmt: Format, expected: Metadata) -> None:
    """Read a written file again and compare it with what was meant.

    Raises:
        WrongOutput: naming the block that differs.
        UnreadablePhoto: its structure is not sound.
    """
    found = read(path, fmt)
    if fmt is Format.TIFF:
        same_exif = _tiff_tags(found.exif) == _tiff_tags(expected.exif)
    else:
        same_exif = found.exif == expected.exif
    for name, same in (
        ("ICC profile", found.icc == expected.icc),
        ("EXIF block", same_exif),
        ("XMP packet", found.xmp == expected.xmp),
        ("IPTC block", found.iptc == expected.iptc),
    ):
        if not same:
            raise WrongOutput(f"the {name} in the file written is not what it should be")


def _tiff_tags(block: bytes | None) -> exif.Tags:
    return exif.tags_of(block).descriptive()


def _head(meta: Metadata, fmt: Format) -> bytes:
    """What goes near the start of the file; nothing for formats that keep metadata elsewhere."""
    if fmt is Format.JPEG:
        return containers.jpeg_head(
            exif_block=meta.exif,
            xmp=meta.xmp,
            iptc=meta.iptc,
            extended_xmp=meta.extended_xmp,
            comments=meta.comments,
        )
    if fmt is Format.PNG:
        return containers.png_head(
            exif_block=meta.exif,
            xmp=meta.xmp,
            iptc=meta.iptc,
            text=meta.png_text,
            colour=meta.png_colour,
        )
    return b""


# ---- XMP -----------------------------------------------------------------------------------------
#
# A packet is edited as text, between places that a parser finds: reading it into a tree and writing it
# out again would rename prefixes, drop comments and break names inside values.

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMP_BASIC = "http://ns.adobe.com/xap/1.0/"
_TIFF_NS = "http://ns.adobe.com/tiff/1.0/"
_EXIF_NS = "http://ns.adobe.com/exif/1.0/"
_IPTC_NS = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_SOURCE_TYPE = (_IPTC_NS, "DigitalSourceType")
_THUMBNAILS = (_XMP_BASIC, "Thumbnails")

_EMPTY_PACKET = (
    '<?xpacket begin="\N{ZERO WIDTH NO-BREAK SPACE}" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">\n'
    '</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
).encode()
_PACKET_END = b"<?xpacket end"
_RDF_END = re.compile(rb"</(?:[^\s:>]+:)?RDF\s*>")
_TAG_NAME = re.compile(rb"<[^\s/>]+")
_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(?:\"[^\"]*\"|'[^']*')")

_Name = tuple[str, str]
"""Namespace and local name."""


class _UnusableXmp(ValueError):
    """A packet that cannot be corrected, and so must not be carried: it would contradict the output."""


@dataclass(frozen=True, slots=True)
class _Property:
    """A property as it stands in a packet."""

    name: _Name
    written_as: bytes
    start: int
    end: int
    is_attribute: bool

    def with_value(self, value: str) -> bytes:
        """The same property with another value. It declares its prefix anew: the old tag may have done so."""
        if self.is_attribute:
            return b" " + self.written_as + b"=" + quoteattr(value).encode()
        prefix, _, _ = self.written_as.rpartition(b":")
        declared = b"xmlns:" + prefix if prefix else b"xmlns"
        space = quoteattr(self.name[0]).encode()
        return b"<%b %b=%b>%b</%b>" % (
            self.written_as,
            declared,
            space,
            escape(value).encode(),
            self.written_as,
        )


class _Properties:
    """Where in an XMP packet its top-level properties stand."""

    def __init__(self, packet: bytes) -> None:
        if packet.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise _UnusableXmp("is not in UTF-8")
        self.packet = packet
        self.found: list[_Property] = []
        self.about = ""
        self.rdf_end = -1
        self._open: list[_Name] = []
        self._started = 0
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.namespace_prefixes = True
        parser.ordered_attributes = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        try:
            parser.Parse(packet.rstrip(b"\0"), True)  # zeros: some writers of TIFF pad with them
        except expat.ExpatError as error:
            raise _UnusableXmp(f"is not well-formed ({error})") from None
        if self.rdf_end < 0:
            raise _UnusableXmp("holds no properties")

    def _refuse_doctype(self, *_: object) -> None:
        # XMP has none. It could define entities that grow without bound in whoever reads the output.
        raise _UnusableXmp("has a document type declaration, which XMP forbids,")

    def _start(self, name: str, attributes: list[str]) -> None:
        self._open.append(_split(name))
        if self._is_property(1):
            self._note_attributes(attributes)
        elif self._is_property(2):
            self._started = self._parser.CurrentByteIndex

    def _is_property(self, depth: int) -> bool:
        """Whether the innermost element is a Description (1) or a property (2) right below rdf:RDF."""
        if (_RDF, "RDF") not in self._open[: len(self._open) - depth]:
            return False
        return self._open.index((_RDF, "RDF")) == len(self._open) - 1 - depth

    def _note_attributes(self, attributes: list[str]) -> None:
        """A simple property may be an attribute of its Description."""
        names = {}
        for expanded, value in zip(attributes[::2], attributes[1::2], strict=True):
            space, local = _split(expanded)
            prefix = expanded.split(" ")[2] + ":" if expanded.count(" ") == 2 else ""
            names[f"{prefix}{local}".encode()] = (space, local)
            if (space, local) in ((_RDF, "about"), ("", "about")):
                self.about = value
        for attribute in self._attributes(self._parser.CurrentByteIndex):
            if attribute[1] in names:
                name = names[attribute[1]]
                self.found.append(_Property(name, attribute[1], attribute.start(), attribute.end(), True))

    def _attributes(self, tag_at: int) -> Iterator[re.Match[bytes]]:
        tag = _TAG_NAME.match(self.packet, tag_at)
        at = tag.end() if tag else len(self.packet)
        while attribute := _ATTRIBUTE.match(self.packet, at):
            yield attribute
            at = attribute.end()

    def _end(self, _: str) -> None:
        at = self._parser.CurrentByteIndex
        if self._is_property(2):
            tag = _TAG_NAME.match(self.packet, self._started)
            written_as = tag[0][1:] if tag else b""
            end = self._after_element(at)
            self.found.append(_Property(self._open[-1], written_as, self._started, end, False))
        elif self._is_property(0) and _RDF_END.match(self.packet, at):
            self.rdf_end = at
        self._open.pop()

    def _after_element(self, end_tag_at: int) -> int:
        """The end of the property that started last; an empty one has no tag at its end."""
        start_tag_end = self.packet.index(b">", self._after_attributes())
        if self.packet[start_tag_end - 1 : start_tag_end] == b"/":
            return start_tag_end + 1
        return self.packet.index(b">", end_tag_at) + 1

    def _after_attributes(self) -> int:
        at = self._started
        for attribute in self._attributes(self._started):
            at = attribute.end()
        return at


def _split(name: str) -> _Name:
    """A name as expat gives it: ``namespace local prefix``, the last one or two perhaps missing."""
    parts = name.split(" ")
    return (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])


def _corrected_xmp(
    packet: bytes | None, width: int, height: int, source_type: str | None, *, turned: bool
) -> bytes | None:
    """The packet with the new size, and with ``source_type`` if there is one; None for no packet.

    Sizes and orientation that the packet does not have are not added. The orientation is that of
    pixels that were turned; where EXIF asked for no turn, viewers disagree on whether XMP may, and the
    output stays as it was to each of them.
    """
    if packet is None:
        if source_type is None:
            return None
        packet = _EMPTY_PACKET
    properties = _Properties(packet)
    values: dict[_Name, str] = {
        (_TIFF_NS, "ImageWidth"): str(width),
        (_TIFF_NS, "ImageLength"): str(height),
        (_EXIF_NS, "PixelXDimension"): str(width),
        (_EXIF_NS, "PixelYDimension"): str(height),
    }
    if turned:
        values[(_TIFF_NS, "Orientation")] = "1"
    if source_type is not None:
        values[_SOURCE_TYPE] = source_type
    result, at = bytearray(), 0
    for found in properties.found:
        if found.name in values or found.name == _THUMBNAILS:
            result += packet[at : found.start]
            at = found.end
        if found.name in values:
            result += found.with_value(values[found.name])
    result += packet[at : properties.rdf_end]
    if source_type is not None and all(found.name != _SOURCE_TYPE for found in properties.found):
        result += _description(source_type, properties.about)
    return bytes(result + packet[properties.rdf_end :])


def _description(source_type: str, about: str) -> bytes:
    return (
        f'<rdf:Description xmlns:rdf="{_RDF}" rdf:about={quoteattr(about)} '
        f'xmlns:Iptc4xmpExt="{_IPTC_NS}" Iptc4xmpExt:DigitalSourceType={quoteattr(source_type)}/>\n'
    ).encode()


def _without_padding(packet: bytes) -> bytes:
    """Blanks before the end of a packet leave room for programs that edit it in place."""
    end = packet.rfind(_PACKET_END)
    return packet[:end].rstrip() + b"\n" + packet[end:] if end >= 0 else packet.rstrip()
