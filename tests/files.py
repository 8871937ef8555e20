"""Files as cameras and editors write them, and the blocks of metadata in them, byte by byte."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips

from tests.conftest import sample

MAKER_NOTE = b"Maker\0\1\2" + bytes(range(256)) + b"odd"
THUMBNAIL = b"\xff\xd8THUMBNAIL-OF-THE-OLD-PHOTO\xff\xd9"
TAKEN = b"1998:07:04 12:34:56\0"
ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 2, 3, 4, 5, 7


def block(order: str = "<", *, thumbnail_last: bool = True, orientation: int = 6, extra: Any = ()) -> bytes:
    """An EXIF block as a camera writes it: IFD0, Exif with a MakerNote, GPS, Interoperability, IFD1."""

    def number(code: str, *values: int) -> bytes:
        return struct.pack(order + code * len(values), *values)

    data = bytearray((b"II*\0" if order == "<" else b"MM\0*") + number("I", 0))

    def put(payload: bytes) -> int:
        at = len(data)
        data.extend(payload + b"\0" * (len(payload) % 2))
        return at

    def directory(entries: list[tuple[int, int, int, bytes]], next_at: int = 0) -> int:
        body = b""
        for tag, kind, count, value in sorted(entries):
            slot = value.ljust(4, b"\0") if len(value) <= 4 else number("I", put(value))
            body += struct.pack(order + "HHI", tag, kind, count) + slot
        return put(number("H", len(entries)) + body + number("I", next_at))

    thumbnail_at = 0 if thumbnail_last else put(THUMBNAIL)
    interop = directory(
        [
            (1, ASCII, 4, b"R98\0"),
            (0x1001, SHORT, 1, number("H", 640)),
            (0x1002, LONG, 1, number("I", 480)),
        ]
    )
    exif_at = directory(
        [
            (0x9003, ASCII, 20, TAKEN),
            (0x829A, RATIONAL, 1, number("I", 1, 250)),
            (0x927C, UNDEFINED, len(MAKER_NOTE), MAKER_NOTE),
            (0xA002, SHORT, 1, number("H", 640)),
            (0xA003, LONG, 1, number("I", 480)),
            (0xA005, LONG, 1, number("I", interop)),
        ]
    )
    gps = directory(
        [(1, ASCII, 2, b"N\0"), (2, RATIONAL, 3, number("I", 48, 1, 8, 1, 15, 1)), (0, 1, 4, b"\2\3\0\0")]
    )
    if thumbnail_last:
        ifd1_at = len(data)
        # Its own size is known: two entries, and the thumbnail right behind.
        thumbnail_at = ifd1_at + 2 + 2 * 12 + 4
    ifd1 = directory(
        [(0x0201, LONG, 1, number("I", thumbnail_at)), (0x0202, LONG, 1, number("I", len(THUMBNAIL)))]
    )
    if thumbnail_last:
        assert put(THUMBNAIL) == thumbnail_at
    # IFD0 of cameras comes first; here too it is placed last only to keep this builder short.
    ifd0 = directory(
        [
            (0x010F, ASCII, 7, b"Camera\0"),
            (0x0112, SHORT, 1, number("H", orientation)),
            (0x0132, ASCII, 20, TAKEN),
            (0x8769, LONG, 1, number("I", exif_at)),
            (0x8825, LONG, 1, number("I", gps)),
            (0x8298, ASCII, 9, b"(c) Anna\0"),
            *extra,
        ],
        ifd1,
    )
    data[4:8] = number("I", ifd0)
    return bytes(data)


EXIF = block()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\xc3\xa9</x:xmpmeta>'
IPTC = b"\x1c\2\x05\0\5Title\x1c\2\x78\0\7Caption"
ICC = pyvips.Image.profile_load("srgb")
# Too large for one JPEG segment; libpng checks the length that a profile begins with.
LARGE_ICC = struct.pack(">I", len(ICC) + 200_000) + ICC[4:] + random.Random(1).randbytes(200_000)
VIDEO = struct.pack(">I4s4sI4s", 20, b"ftyp", b"mp42", 0, b"mp42") + b"\0\0\0\x08mdat"
MOTION = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"
 xmlns:Container="http://ns.google.com/photos/1.0/container/"
 xmlns:Item="http://ns.google.com/photos/1.0/container/item/" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
 GCamera:MotionPhoto="1" GCamera:MotionPhotoVersion="1" GCamera:MotionPhotoPresentationTimestampUs="500000"
 GCamera:MicroVideo="1" GCamera:MicroVideoOffset="4321" GCamera:SpecialTypeID="none"{}>
 <Container:Directory><rdf:Seq>
  <rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" Item:Semantic="Primary"/></rdf:li>
  <rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="video/mp4" Item:Length="4321"/></rdf:li>
 </rdf:Seq></Container:Directory>
 <dc:title xmlns:dc="http://purl.org/dc/elements/1.1/">Oma</dc:title>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/" tiff:Orientation="6" tiff:ImageWidth="64">'
    "<dc:source>Album {}</dc:source></rdf:Description></rdf:RDF></x:xmpmeta>"
)
"""Of a sidecar, with a place for what it says of its album."""


def picture(bands: int = 3, icc: bytes | None = None) -> Any:
    grey = (pyvips.Image.xyz(40, 30)[0] * 5).cast("uchar")
    image = grey if bands == 1 else grey.bandjoin([grey, grey, grey / 2][: bands - 1]).cast("uchar")
    image = image.copy(interpretation="b-w" if bands < 3 else "srgb", xres=11.811, yres=11.811)
    if icc:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)
    return image


def press() -> bytes:
    """libvips' own CMYK profile."""
    found = pyvips.Operation.call("profile_load", "cmyk")
    return bytes(found)


def inks(height: int, width: int) -> np.ndarray:
    """A photograph in the four inks of :func:`press`."""
    photo = pyvips.Image.new_from_array(
        np.ascontiguousarray(sample("flower.jpg")[100 : 100 + height, 150 : 150 + width])
    )
    return photo.copy(interpretation="srgb").icc_transform("cmyk", input_profile="srgb").numpy()


def encoded(suffix: str, image: Any = None, **options: Any) -> bytes:
    written: bytes = (picture() if image is None else image).write_to_buffer(suffix, keep="icc", **options)
    return written


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_profile(name: str, data: bytes) -> bytes:
    """A text chunk in which older versions of ImageMagick and GraphicsMagick keep a block."""
    text = f"\n{name}\n{len(data):8d}\n{data.hex()}\n".encode()
    return chunk(b"zTXt", b"Raw profile type " + name.encode() + b"\0\0" + zlib.compress(text))


def splice(data: bytes, place: int, extra: bytes) -> bytes:
    return data[:place] + extra + data[place:]


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def exiftool(path: Path, *options: str) -> dict[str, Any]:
    """All that exiftool says about a file, as ``group:tag``."""
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not installed")
    run = subprocess.run(
        ["exiftool", "-j", "-a", "-G1", "-n", *options, str(path)], capture_output=True, check=True
    )
    found: dict[str, Any] = json.loads(run.stdout)[0]
    return found
