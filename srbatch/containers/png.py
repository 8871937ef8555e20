"""The chunks of PNG files: metadata found, and placed."""

from __future__ import annotations

import struct
import zlib
from io import SEEK_CUR
from typing import BinaryIO

from srbatch.containers.blocks import (
    C2PA_LOST,
    EXIF_ID,
    LARGEST_INFLATED,
    XMP_ID,
    Blocks,
    behind_picture,
    cut_off,
    inflated,
    note_ratio,
    printable,
    read_block,
    size_of,
)
from srbatch.containers.photoshop import PHOTOSHOP_ID, photoshop_resource, take_photoshop
from srbatch.errors import UnreadablePhoto, WrongOutput

_PNG_START = b"\x89PNG\r\n\x1a\n"
_IHDR_END = 33
_PNG_COLOUR = frozenset([b"sRGB", b"gAMA", b"cHRM", b"cICP"])
_PHYS = struct.Struct(">IIB")
"""Pixels per unit across and down, and the unit: 1 for the metre, 0 for none."""
_PNG_NOT_MISSED = frozenset(
    [b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"bKGD", b"hIST", b"sBIT", b"sPLT", b"tIME"]
)
"""Made anew by the encoder, or about the stored pixels only."""
_PNG_XMP_KEYWORD = b"XML:com.adobe.xmp"
_RAW_PROFILE = b"Raw profile type "
_RAW_PROFILES = frozenset([b"exif", b"app1", b"xmp", b"iptc", b"8bim", b"icc", b"icm"])


def read_png(file: BinaryIO) -> Blocks:
    """The chunks of a PNG file, from its start to its end."""
    if file.read(8) != _PNG_START:
        raise UnreadablePhoto("not a PNG file: it does not start like one")
    blocks = Blocks()
    end = size_of(file)
    at, kind = 8, b""
    while kind != b"IEND":
        file.seek(at)
        head = file.read(8)
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) != 8 or at + 12 + size > end:
            raise UnreadablePhoto(cut_off("PNG"))
        if kind not in _PNG_NOT_MISSED:
            data = read_block(file, size)
            if zlib.crc32(kind + data) != int.from_bytes(file.read(4), "big"):
                blocks.note(f"the PNG chunk {printable(kind)} is damaged and was not carried")
            else:
                _take_png_chunk(kind, data, blocks)
        at += 12 + size
    if behind := behind_picture(file, at):
        blocks.note(behind)
    _take_raw_profiles(blocks)
    return blocks


def resolution(file: BinaryIO) -> tuple[float, float] | None:
    """Pixels per mm, across and down; None where pHYs is not there or gives a ratio alone (PNG, 11.3.4.3)."""
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        size = int.from_bytes(head[:4], "big")
        if head[4:] == b"pHYs" and size == _PHYS.size:
            across, down, unit = _PHYS.unpack(file.read(size).ljust(size, b"\0"))
            return (across / 1000, down / 1000) if unit == 1 and across and down else None
        file.seek(size + 4, SEEK_CUR)
    return None


def _take_png_chunk(kind: bytes, data: bytes, blocks: Blocks) -> None:
    if kind == b"eXIf":
        blocks.exif = data.removeprefix(EXIF_ID)  # some writers take JPEG's prefix along
    elif kind == b"iCCP":
        _, _, packed = data.partition(b"\0")
        blocks.icc = inflated(packed[1:])
        if blocks.icc is None:
            blocks.note("the ICC profile is damaged and was not carried")
    elif kind in _PNG_COLOUR:
        blocks.png_colour.append(kind + data)
    elif kind == b"iTXt" and data.partition(b"\0")[0] == _PNG_XMP_KEYWORD:
        text = png_text(kind + data)
        blocks.xmp = text[1].encode() if text else None
        if text is None:
            blocks.note("the XMP packet is damaged and was not carried")
    elif kind in (b"tEXt", b"zTXt", b"iTXt"):
        blocks.png_text.append(kind + data)
    elif kind == b"pHYs":
        if len(data) == _PHYS.size and _PHYS.unpack(data)[2] == 0:
            note_ratio(blocks, *_PHYS.unpack(data)[:2])
    elif kind == b"caBX":
        blocks.note(C2PA_LOST)
    elif kind in (b"acTL", b"fcTL", b"fdAT"):
        blocks.note("the further pictures of the animated PNG were not carried")
    else:
        blocks.note(f"the PNG chunk {printable(kind)} was not carried")


def _take_raw_profiles(blocks: Blocks) -> None:
    """Turn the text chunks in which older programs keep EXIF, XMP, IPTC and ICC profiles into blocks.

    As text they would be carried uncorrected. Where the file has a real block that one counts, and before a
    profile also a chunk that says what the colours are.
    """
    other, tells_colours = [], any(chunk[:4] in (b"sRGB", b"cICP") for chunk in blocks.png_colour)
    for chunk in blocks.png_text:
        keyword = chunk[4:].partition(b"\0")[0]
        name = keyword.removeprefix(_RAW_PROFILE).lower()
        if not keyword.startswith(_RAW_PROFILE) or name not in _RAW_PROFILES:
            other.append(chunk)
            continue
        profile = _unhexed(chunk)
        if profile is None:
            blocks.note(f"the PNG text {printable(keyword)} is damaged and was not carried")
        elif name in (b"icc", b"icm"):
            if blocks.icc is None and not tells_colours:
                blocks.icc = profile
        elif profile.startswith(XMP_ID) or name == b"xmp":
            blocks.xmp = blocks.xmp or profile.removeprefix(XMP_ID)
        elif name in (b"exif", b"app1"):
            blocks.exif = blocks.exif or profile.removeprefix(EXIF_ID)
        elif profile.startswith(b"\x1c"):
            blocks.iptc = blocks.iptc or profile
        else:
            take_photoshop(profile.removeprefix(PHOTOSHOP_ID), blocks)
    blocks.png_text = other


def _unhexed(chunk: bytes) -> bytes | None:
    """The bytes of a raw profile: a line with a name, one with their number, and their hexadecimal digits."""
    text = png_text(chunk)
    try:
        _, number, digits = (text[1] if text else "").lstrip("\n").split("\n", 2)
        size, data = int(number), bytes.fromhex(digits)
    except ValueError:
        return None
    return data[:size] if len(data) >= size else None  # exiftool pads what it does not count


def png_text(chunk: bytes, most: int = LARGEST_INFLATED) -> tuple[str, str] | None:
    """Keyword and text of a tEXt, zTXt or iTXt chunk given as type and data; None if it is damaged.

    Nor has one that is compressed any text if it would be of more than ``most`` bytes.
    """
    kind, (keyword, _, rest) = chunk[:4], chunk[4:].partition(b"\0")
    packed, encoding = kind == b"zTXt", "latin-1"
    if packed:
        rest = rest[1:]
    elif kind == b"iTXt":
        packed, encoding = rest[:1] == b"\1", "utf-8"
        parts = rest[2:].split(b"\0", 2)  # language, translated keyword, text
        if len(parts) != 3:
            return None
        rest = parts[2]
    text = inflated(rest, most) if packed else rest
    try:
        return (keyword.decode("latin-1"), text.decode(encoding)) if text is not None else None
    except UnicodeDecodeError:
        return None


def png_text_chunk(keyword: str, text: bytes) -> bytes:
    """A text chunk (type and data): UTF-8 where that is what the bytes are, else Latin-1."""
    text = text.replace(b"\0", b"")
    try:
        international = not text.decode().isascii()
    except UnicodeDecodeError:
        international = False
    middle = b"\0\0\0\0" if international else b""  # not packed, and no language
    return (b"iTXt" if international else b"tEXt") + keyword.encode("latin-1") + b"\0" + middle + text


def png_head(
    *,
    exif_block: bytes | None,
    xmp: bytes | None,
    iptc: bytes | None,
    text: tuple[bytes, ...],
    colour: tuple[bytes, ...],
) -> bytes:
    """The chunks that go right behind IHDR, the only place where all of them are allowed."""
    chunks = list(colour)
    if exif_block is not None:
        chunks.append(b"eXIf" + exif_block)
    if xmp is not None:
        chunks.append(b"iTXt" + _PNG_XMP_KEYWORD + b"\0\0\0\0\0" + xmp)
    if iptc is not None:
        resource = photoshop_resource(iptc)
        digits = resource.hex()
        lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
        profile = f"\niptc\n{len(resource):8d}\n{lines}\n".encode()
        chunks.append(b"zTXt" + _RAW_PROFILE + b"iptc\0\0" + zlib.compress(profile))
    chunks += text
    return b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def spliced_png(head: bytes, *, chunks: bytes, resolution_known: bool) -> bytes | None:
    """The start of a file with chunks right behind IHDR, and without pHYs where nobody knows what it says.

    None where too little of it is there: all before IDAT is looked at.
    """
    if len(head) < _IHDR_END:
        return None
    if not head.startswith(_PNG_START) or head[12:16] != b"IHDR":
        raise WrongOutput("the encoder did not write a PNG file")
    if resolution_known:
        return head[:_IHDR_END] + chunks + head[_IHDR_END:]
    kept, at = head[:_IHDR_END] + chunks, _IHDR_END
    while len(head) >= at + 8:
        kind, end = head[at + 4 : at + 8], at + 12 + int.from_bytes(head[at : at + 4], "big")
        if kind == b"IDAT":
            return kept + head[at:]
        kept += b"" if kind == b"pHYs" else head[at:end]
        at = end
    return None
