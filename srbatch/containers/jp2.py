"""JPEG 2000: what the boxes and the codestream's head say; these files are read and never written.

Names of boxes and markers are those of ISO/IEC 15444-1 (annexes A and I), those beyond it of 15444-2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

from srbatch.containers.blocks import C2PA_LOST, EXIF_ID, Blocks, printable, read_block, size_of
from srbatch.containers.boxes import BrokenBoxes, box_at
from srbatch.errors import UnreadablePhoto, UnsupportedPhoto

SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
CODESTREAM = b"\xff\x4f\xff\x51"
"""How a file begins that is a codestream without boxes: SOC and SIZ."""
_UUIDS = {
    # The first two are those of exiftool and Adobe; the first is spelt out.
    b"JpgTiffExif->JP2": "exif",
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",
    bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"): "iptc",
}
_NOT_MISSED = frozenset([b"jP  ", b"ftyp", b"rreq", b"jp2h", b"jp2c", b"free"])
"""Boxes that are the picture itself, or tell a reader what it must know to show it."""
_OF_PARTS = frozenset([b"jpch", b"jplh", b"comp", b"ftbl", b"mhdr", b"page", b"pcol"])
"""Boxes of 15444-2 and -6 by which a picture is made of several codestreams or others."""
_ENUMERATED = {12: "CMYK", 14: "Lab", 16: "sRGB", 17: "grey", 18: "sYCC"}
_SUPPORTED = ("sRGB", "grey", "sYCC")
_BY_NUMBER, _BY_PROFILE = 1, (2, 3)
_COLOUR, _OPACITY, _MULTIPLIED, _UNSPECIFIED = 0, 1, 2, 0xFFFF
_HELP = "; convert it to TIFF or PNG"


@dataclass(slots=True)
class Structure:
    """What decides how the pixels are read, and what lies beside them."""

    bits: int = 0
    """Of each channel."""
    channels: int = 0
    """1 grey, 2 grey and another, 3 RGB, 4 RGB and another."""
    blocks: Blocks = field(default_factory=Blocks)


def read_jp2(file: BinaryIO) -> Blocks:
    """The blocks of a JPEG 2000 file; raises as :func:`structure_of`."""
    return structure_of(file).blocks


def structure_of(file: BinaryIO) -> Structure:
    """What a file says of itself before its pixels are decoded.

    Raises:
        UnreadablePhoto: it is damaged.
        UnsupportedPhoto: it is of a kind that would not come out as it is meant.
    """
    found = Structure()
    try:
        header, streams = _walked(file, found.blocks)
        _take_size(file, streams[0], found)
        if header is not None:
            _take_header(header, found)
    except (BrokenBoxes, struct.error) as error:
        raise UnreadablePhoto(f"the JPEG 2000 file is damaged or cut off: {error}") from error
    if found.channels in (2, 4) and header is None:
        found.blocks.extra_is_data = True
    if len(streams) > 1:
        raise UnsupportedPhoto(f"a file of {len(streams)} pictures; split it into single ones")
    return found


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """As :func:`srbatch.containers.boxes.box_at`, of all boxes that lie one behind the other in a file."""
    at, end = 0, size_of(file)
    while at < end:
        kind, start, stop = box_at(file, at, end)
        yield kind, start, stop
        at = stop


def _walked(file: BinaryIO, blocks: Blocks) -> tuple[bytes | None, list[int]]:
    """(the content of the header box, where the codestreams begin); ``blocks`` gets the metadata."""
    file.seek(0)
    if file.read(len(CODESTREAM)) == CODESTREAM:
        return None, [0]
    header, streams, kinds = None, [], set[bytes]()
    for kind, start, stop in _boxes(file):
        kinds.add(kind)
        file.seek(start)
        if kind == b"jp2h" and header is None:
            header = read_block(file, stop - start)
        elif kind == b"jp2c":
            streams.append(start)
        elif kind == b"uuid":
            _take_uuid(file, stop - start, blocks)
        elif kind == b"jumb":
            blocks.note(C2PA_LOST)
        elif kind not in _NOT_MISSED:
            blocks.note(f"the JPEG 2000 box {printable(kind)} was not carried")
    if kinds & _OF_PARTS:
        raise UnsupportedPhoto(f"its picture is put together of parts, which is not supported{_HELP}")
    if header is None or not streams:
        raise BrokenBoxes("it holds no picture")
    return header, streams


def _take_uuid(file: BinaryIO, size: int, blocks: Blocks) -> None:
    uuid = file.read(16)
    kind = _UUIDS.get(uuid)
    if kind is None:
        blocks.note(f"the JPEG 2000 box with the UUID {uuid.hex()} was not carried")
    elif getattr(blocks, kind) is None:
        content = read_block(file, size - 16)
        setattr(blocks, kind, content.removeprefix(EXIF_ID) if kind == "exif" else content)


def _take_size(file: BinaryIO, start: int, found: Structure) -> None:
    """From the SIZ segment at the head of the codestream."""
    file.seek(start)
    if file.read(len(CODESTREAM)) != CODESTREAM:
        raise BrokenBoxes("its codestream does not begin like one")
    file.seek(start + 40)
    (found.channels,) = struct.unpack(">H", file.read(2))
    if found.channels not in (1, 2, 3, 4):
        raise UnsupportedPhoto(f"{found.channels} channels; grey or RGB with or without alpha are supported")
    kinds = {struct.unpack(">3B", file.read(3)) for _ in range(found.channels)}
    if len(kinds) > 1 or next(iter(kinds))[1:] != (1, 1):
        raise UnsupportedPhoto(
            f"its channels are of different sizes or depths, which is not supported{_HELP}"
        )
    depth = next(iter(kinds))[0]
    found.bits = (depth & 0x7F) + 1
    if depth & 0x80 or found.bits > (16 if found.channels == 1 else 8):
        sign = "with a sign " if depth & 0x80 else ""
        raise UnsupportedPhoto(
            f"{found.bits} bits {sign}for each of {found.channels} channels: of JPEG 2000, colours are read"
            f" in 8 bits and grey in up to 16{_HELP}"
        )


def _take_header(header: bytes, found: Structure) -> None:
    enumerated, meanings = None, None
    for kind, start, stop in _boxes(BytesIO(header)):
        body = header[start:stop]
        if kind == b"pclr":
            raise UnsupportedPhoto(f"its colours are those of a palette, which is not supported{_HELP}")
        if kind == b"cdef" and meanings is None:
            meanings = _meanings(body)
        elif kind == b"colr" and body[:1]:
            if body[0] in _BY_PROFILE and found.blocks.icc is None:
                found.blocks.icc = body[3:]
            elif body[0] == _BY_NUMBER and enumerated is None:
                (enumerated,) = struct.unpack(">I", body[3:7])
    colours = "sRGB"
    if found.blocks.icc is not None:
        colours = "CMYK" if found.blocks.icc[16:20] == b"CMYK" else colours
    elif enumerated is not None:
        colours = _ENUMERATED.get(enumerated, f"of the kind {enumerated}")
    if colours not in _SUPPORTED:
        raise UnsupportedPhoto(f"its colours are {colours}, which is not supported in JPEG 2000{_HELP}")
    found.blocks.extra_is_data = _extra_is_data(meanings, found.channels)


def _meanings(body: bytes) -> dict[int, tuple[int, int]]:
    """By the number of a channel: (what it is, of which colour)."""
    (count,) = struct.unpack(">H", body[:2])
    triples = struct.iter_unpack(">3H", body[2 : 2 + 6 * count])
    return {channel: (kind, of) for channel, kind, of in triples}


def _extra_is_data(meanings: dict[int, tuple[int, int]] | None, channels: int) -> bool:
    """Whether there is a channel beside the colours that is not said to be transparency."""
    colours = channels - (channels in (2, 4))
    meanings = meanings or {}
    in_order = all(meanings.get(n, (_COLOUR, n + 1)) == (_COLOUR, n + 1) for n in range(colours))
    extra = meanings.get(colours, (_UNSPECIFIED, 0))[0] if channels > colours else _OPACITY
    if extra == _MULTIPLIED:
        raise UnsupportedPhoto(
            "its colours are multiplied by its transparency, and would come out darker; save it with straight"
            " alpha"
        )
    if not in_order or extra not in (_OPACITY, _UNSPECIFIED):
        raise UnsupportedPhoto(f"its channels are not in their usual order, which is not supported{_HELP}")
    return extra == _UNSPECIFIED
