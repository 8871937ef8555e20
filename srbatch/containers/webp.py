"""The chunks of WebP files: metadata found, and placed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

from srbatch.containers.blocks import (
    C2PA_LOST,
    EXIF_ID,
    Blocks,
    Rewriter,
    behind_picture,
    cut_off,
    printable,
    read_block,
    size_of,
)
from srbatch.errors import UnreadablePhoto, WrongOutput

_WEBP_NOT_MISSED = frozenset([b"VP8X", b"VP8 ", b"VP8L", b"ALPH"])
_WEBP_HAS_ALPHA, _WEBP_HAS_ICC, _WEBP_HAS_EXIF, _WEBP_HAS_XMP = 0x10, 0x20, 0x08, 0x04


def read_webp(file: BinaryIO) -> Blocks:
    """The chunks of a WebP file."""
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WEBP":
        raise UnreadablePhoto("not a WebP file: it does not start like one")
    end = 8 + int.from_bytes(head[4:8], "little")
    if end > size_of(file):
        raise UnreadablePhoto(cut_off("WebP"))
    blocks = Blocks()
    for kind, size in _chunks(file, end):
        if kind == b"VP8L":
            blocks.lossless = True
        elif kind not in _WEBP_NOT_MISSED:
            _take_webp_chunk(kind, read_block(file, size), blocks)
    if behind := behind_picture(file, end):
        blocks.note(behind)
    return blocks


def _chunks(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int]]:
    """Kinds and sizes of the chunks in their order; at each, the file is where its data begin."""
    at = 12
    while at + 8 <= end:
        file.seek(at)
        head = file.read(8)
        kind, size = head[:4], int.from_bytes(head[4:], "little")
        if at + 8 + size > end:
            raise UnreadablePhoto(f"the WebP chunk {printable(kind)} is cut off")
        yield kind, size
        at += 8 + size + size % 2


def _take_webp_chunk(kind: bytes, data: bytes, blocks: Blocks) -> None:
    if kind == b"ICCP":
        blocks.icc = data
    elif kind == b"EXIF":
        blocks.exif = data.removeprefix(EXIF_ID)  # some writers take JPEG's prefix along
    elif kind == b"XMP ":
        blocks.xmp = data
    elif kind == b"C2PA":
        blocks.note(C2PA_LOST)
    elif kind in (b"ANIM", b"ANMF"):
        blocks.note("the further pictures of the animated WebP were not carried")
    else:
        blocks.note(f"the WebP chunk {printable(kind)} was not carried")


def webp_with(webp: bytes, *, exif_block: bytes | None, xmp: bytes | None) -> bytes:
    """A WebP file as its encoder wrote it, with an EXIF block and an XMP packet in it."""
    if webp[:4] != b"RIFF" or webp[8:12] != b"WEBP" or len(webp) < 8 + int.from_bytes(webp[4:8], "little"):
        raise WrongOutput("the encoder did not write a WebP file")
    file = BytesIO(webp)
    try:
        # Their order is the one that the format asks for; a still picture has each but once.
        chunks = {kind: file.read(size) for kind, size in _chunks(file, len(webp))}
    except UnreadablePhoto as error:
        raise WrongOutput(f"the encoder did not write a sound WebP file: {error}") from None
    extended = bytearray(chunks.pop(b"VP8X", b"") or _webp_extension(chunks))
    extended[0] |= _WEBP_HAS_EXIF if exif_block is not None else 0
    extended[0] |= _WEBP_HAS_XMP if xmp is not None else 0
    chunks = {b"VP8X": bytes(extended), **chunks}
    chunks |= {b"EXIF": exif_block} if exif_block is not None else {}
    chunks |= {b"XMP ": xmp} if xmp is not None else {}
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks.items()
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _webp_extension(chunks: dict[bytes, bytes]) -> bytes:
    """The VP8X chunk for a file that has only its picture."""
    if lossless := chunks.get(b"VP8L"):
        bits = int.from_bytes(lossless[1:5], "little")  # 14 bits of width - 1, 14 of height - 1, alpha
        across, down, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
    elif lossy := chunks.get(b"VP8 "):
        width, height = struct.unpack("<HH", lossy[6:10])  # the upper two bits ask for scaling
        across, down, alpha = (width & 0x3FFF) - 1, (height & 0x3FFF) - 1, 0
    else:
        raise WrongOutput("the encoder wrote a WebP file without a picture")
    flags = alpha * _WEBP_HAS_ALPHA | (b"ICCP" in chunks) * _WEBP_HAS_ICC
    return struct.pack("<I", flags) + across.to_bytes(3, "little") + down.to_bytes(3, "little")


class WebpRewriter(Rewriter):
    """For WebP."""

    _with_metadata = staticmethod(webp_with)
