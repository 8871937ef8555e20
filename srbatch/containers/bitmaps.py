"""The metadata blocks in GIF and BMP files, which are read and never written."""

from __future__ import annotations

import struct
from typing import BinaryIO

from srbatch.containers.blocks import Blocks, cut_off, printable
from srbatch.errors import UnreadablePhoto

_EXTENSION, _PICTURE, _TRAILER = 0x21, 0x2C, 0x3B
_CONTROL, _COMMENT, _APPLICATION = 0xF9, 0xFE, 0xFF
_XMP_RAMP_BYTES = 257  # XMP specification, part 3, 1.1.2; without the zero that ends every extension
_ABOUT_LOOPS = frozenset([b"NETSCAPE2.0", b"ANIMEXTS1.0"])

_BMP_V5_HEADER_BYTES = 124
_EMBEDDED, _LINKED = b"DEBM", b"KNIL"  # MBED and LINK, as little-endian numbers


def read_gif(file: BinaryIO) -> Blocks:
    """The comments, XMP packet and profile of a GIF file."""
    blocks = Blocks()
    head = file.read(13)
    if head[:3] != b"GIF" or len(head) != 13:
        raise UnreadablePhoto(cut_off("GIF"))
    _skip_palette(file, head[10])
    while (kind := _byte(file)) != _TRAILER:
        if kind == _EXTENSION:
            label = _byte(file)
            _take_extension(label, _sub_blocks(file), blocks)
        elif kind == _PICTURE:
            descriptor = file.read(9)
            if len(descriptor) != 9:
                raise UnreadablePhoto(cut_off("GIF"))
            _skip_palette(file, descriptor[8])
            _byte(file)  # bits of the first code
            _sub_blocks(file)
        else:
            raise UnreadablePhoto("the GIF file is damaged: it holds a block of unknown kind")
    return blocks


def _byte(file: BinaryIO) -> int:
    byte = file.read(1)
    if not byte:
        raise UnreadablePhoto(cut_off("GIF"))
    return byte[0]


def _skip_palette(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        file.read(3 << (flags & 7) + 1)


def _sub_blocks(file: BinaryIO) -> list[bytes]:
    """Up to the empty one that ends them."""
    found = []
    while size := _byte(file):
        block = file.read(size)
        if len(block) != size:
            raise UnreadablePhoto(cut_off("GIF"))
        found.append(block)
    return found


def _take_extension(label: int, parts: list[bytes], blocks: Blocks) -> None:
    name = parts[0] if parts else b""
    if label == _COMMENT:
        blocks.comments.append(b"".join(parts))
    elif label == _APPLICATION and name == b"XMP DataXMP":
        # The packet stands there as it is, its bytes taken for lengths; a ramp of numbers leads out of it.
        text = b"".join(bytes([len(part)]) + part for part in parts[1:])
        blocks.xmp = text[:-_XMP_RAMP_BYTES] or None
    elif label == _APPLICATION and name == b"ICCRGBG1012":
        blocks.icc = b"".join(parts[1:])
    elif label != _CONTROL and name not in _ABOUT_LOOPS:
        shown = printable(name[:11]) if label == _APPLICATION else label
        blocks.note(f"the GIF extension {shown} was not carried")


def read_bmp(file: BinaryIO) -> Blocks:
    """The profile of a BMP file; there is no place for more."""
    blocks = Blocks()
    head = file.read(14 + _BMP_V5_HEADER_BYTES)
    if len(head) < 18:
        raise UnreadablePhoto(cut_off("BMP"))
    if int.from_bytes(head[14:18], "little") < _BMP_V5_HEADER_BYTES or len(head) < 14 + _BMP_V5_HEADER_BYTES:
        return blocks
    space = head[70:74]
    if space == _LINKED:
        blocks.note("the colour profile is in another file and was not carried")
    if space == _EMBEDDED:
        at, size = struct.unpack("<II", head[126:134])
        file.seek(14 + at)
        blocks.icc = file.read(min(size, 1 << 24))
    return blocks
