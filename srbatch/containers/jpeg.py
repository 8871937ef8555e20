"""The segments of JPEG files (ITU-T T.81, annex B): metadata found, and placed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

from srbatch.containers.blocks import C2PA_LOST, EXIF_ID, XMP_ID, Blocks, cut_off, note_ratio
from srbatch.containers.photoshop import PHOTOSHOP_ID, photoshop_resource, take_photoshop
from srbatch.containers.tiff_structure import BrokenTiff, TiffReader
from srbatch.errors import UnreadablePhoto, UnsupportedPhoto, WrongOutput

JPEG_SEGMENT_BYTES = 65_533
MPF_ID = b"MPF\0"
MPF_ENTRIES, MPF_ENTRY_BYTES = 0xB002, 16
"""In the index of a multi-picture file (CIPA DC-007): the tag of its list, and the size of an entry."""
LARGEST_JPEG_XMP = JPEG_SEGMENT_BYTES - len(XMP_ID)

EXTENDED_XMP_ID = b"http://ns.adobe.com/xmp/extension/\0"
_ICC_ID = b"ICC_PROFILE\0"
_JFIF_ID = b"JFIF\0"
_MM_OF_JFIF_UNIT = {1: 25.4, 2: 10.0}
_APP0, _APP1, _APP2, _APP11, _APP13, _APP14, _COM, _SOS, EOI = (
    *(0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE),
    *(0xFE, 0xDA, 0xD9),
)
_JPEG_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD8)])


def read_jpeg(file: BinaryIO) -> Blocks:
    """The blocks before the picture data of a JPEG file."""
    blocks, photoshop = Blocks(), bytearray()
    icc_parts: list[bytes] = []
    for marker, body in segments(file):
        if marker == _APP1 and body.startswith(EXIF_ID):
            if blocks.exif is None:
                blocks.exif = body[len(EXIF_ID) :]
            else:
                blocks.note("a second EXIF block was not carried")
        elif marker == _APP1 and body[4 : len(XMP_ID)] == XMP_ID[4:]:  # one writer begins it with "XMP\0"
            if blocks.xmp is None:
                blocks.xmp = body[len(XMP_ID) :]
            else:
                blocks.note("a second XMP packet was not carried")
        elif marker == _APP1 and body.startswith(EXTENDED_XMP_ID):
            blocks.extended_xmp.append(body)
        elif marker == _APP2 and body.startswith(_ICC_ID):
            icc_parts.append(body[len(_ICC_ID) :])
        elif marker == _APP13 and body.startswith(PHOTOSHOP_ID):
            photoshop += body[len(PHOTOSHOP_ID) :]
        elif marker == _COM:
            blocks.comments.append(body)
        else:
            _note_segment(blocks, marker, body)
    blocks.icc = _joined_icc(icc_parts, blocks)
    take_photoshop(bytes(photoshop), blocks)
    return blocks


def segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Markers and bodies of the segments before the picture data; the file is then behind SOS.

    Raises:
        UnreadablePhoto: it is no JPEG file, or cut off.
    """
    if file.read(2) != b"\xff\xd8":
        raise UnreadablePhoto("not a JPEG file: it does not start like one")
    while True:
        byte = file.read(1)
        while byte and byte != b"\xff":  # stray bytes between segments: decoders skip them too
            byte = file.read(1)
        while byte == b"\xff":  # any number of them may come before a marker
            byte = file.read(1)
        marker = byte[0] if byte else EOI
        if marker == EOI:
            raise UnreadablePhoto(cut_off("JPEG"))
        if marker == _SOS:
            return
        if marker in _JPEG_WITHOUT_LENGTH:
            continue
        length = int.from_bytes(file.read(2), "big")
        body = file.read(max(length - 2, 0))
        if length < 2 or len(body) != length - 2:
            raise UnreadablePhoto(f"the JPEG segment FF{marker:02X} is damaged or cut off")
        yield marker, body


def resolution(file: BinaryIO) -> tuple[float, float] | None:
    """Pixels per mm, across and down, that JFIF 1.02 tells; None for a ratio alone, and without JFIF."""
    file.seek(0)
    for marker, body in segments(file):
        if found := _densities(marker, body):
            unit, across, down = found
            mm = _MM_OF_JFIF_UNIT.get(unit)
            return (across / mm, down / mm) if mm and across and down else None
    return None


def _densities(marker: int, body: bytes) -> tuple[int, int, int] | None:
    """(unit, pixels per unit across, and down) of a JFIF segment; the unit 0 is none."""
    if marker != _APP0 or not body.startswith(_JFIF_ID) or len(body) < 12:
        return None
    unit, across, down = struct.unpack_from(">BHH", body, 7)
    return unit, across, down


def _note_segment(blocks: Blocks, marker: int, body: bytes) -> None:
    """Say what is lost with an application segment that is not carried, if that is anything."""
    if marker == _APP2 and body.startswith(MPF_ID):
        blocks.note(_note_on_mpf(body[len(MPF_ID) :]))
    elif marker == _APP11 and b"c2pa" in body[:256]:
        blocks.note(C2PA_LOST)
    elif marker == _APP11 and C2PA_LOST in blocks.notes and _continues_a_box(body):
        pass
    elif (densities := _densities(marker, body)) and densities[0] == 0:
        note_ratio(blocks, *densities[1:])
    elif _APP0 < marker <= 0xEF and marker != _APP14:  # those two belong to the stored pixels
        name = "".join(chr(c) for c in body[:24].split(b"\0")[0] if 32 < c < 127)
        blocks.note(f"the JPEG segment APP{marker - _APP0} ({name or 'without a name'}) was not carried")


def _continues_a_box(app11: bytes) -> bool:
    """Whether a segment is not the first of its JUMBF box (ISO 19566-5: "JP", 2 bytes, a packet's number)."""
    return app11.startswith(b"JP") and int.from_bytes(app11[4:8], "big") > 1


def _note_on_mpf(index: bytes) -> str:
    try:
        reader = TiffReader(BytesIO(index))
        pictures = sum(reader.numbers(reader.ifd0.find(0xB001)))
    except BrokenTiff:
        pictures = 0
    further = "1 further picture" if pictures == 2 else f"{max(pictures - 1, 0) or 'the'} further pictures"
    return f"{further} of the multi-picture file (MPF) {'was' if pictures == 2 else 'were'} not carried"


def _joined_icc(parts: list[bytes], blocks: Blocks) -> bytes | None:
    """The profile from the segments ``number, of how many, data``; they may come in any order."""
    if not parts:
        return None
    numbered = {part[0]: part[2:] for part in parts if len(part) > 2}
    counts = {part[1] for part in parts if len(part) > 2}
    if len(counts) != 1 or sorted(numbered) != list(range(1, counts.pop() + 1)):
        blocks.note("the ICC profile is incomplete and was not carried")
        return None
    return b"".join(data for _, data in sorted(numbered.items()))


def jpeg_head(
    *,
    exif_block: bytes | None,
    xmp: bytes | None,
    iptc: bytes | None,
    extended_xmp: tuple[bytes, ...],
    comments: tuple[bytes, ...],
) -> bytes:
    """The segments that go behind SOI and APP0.

    Raises:
        UnsupportedPhoto: a block is larger than a segment can be.
    """
    segments = []
    if exif_block is not None:
        segments.append(_segment(_APP1, EXIF_ID + exif_block, "EXIF block"))
    if xmp is not None:
        segments.append(_segment(_APP1, XMP_ID + xmp, "XMP packet"))
    resources = photoshop_resource(iptc) if iptc is not None else b""
    room = JPEG_SEGMENT_BYTES - len(PHOTOSHOP_ID)
    for start in range(0, len(resources), room):
        segments.append(_segment(_APP13, PHOTOSHOP_ID + resources[start : start + room], "IPTC block"))
    segments += [_segment(_APP1, body, "extended XMP") for body in extended_xmp]
    segments += [_segment(_COM, body, "comment") for body in comments]
    return b"".join(segments)


def _segment(marker: int, body: bytes, what: str) -> bytes:
    if len(body) > JPEG_SEGMENT_BYTES:
        raise UnsupportedPhoto(
            f"its {what} of {len(body):,} bytes is too large for JPEG ({JPEG_SEGMENT_BYTES:,} at most); "
            "write PNG, WebP or TIFF instead"
        )
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jfif(pixels_per_mm: tuple[float, float] | None) -> bytes:
    """An APP0 segment that tells the resolution, in pixels per inch; None: that pixels are square alone."""
    unit, across, down = 0, 1, 1
    if pixels_per_mm is not None:
        unit = 1
        across, down = (min(max(round(per_mm * 25.4), 1), 65_535) for per_mm in pixels_per_mm)
    return _segment(_APP0, _JFIF_ID + struct.pack(">HBHHBB", 0x0102, unit, across, down, 0, 0), "resolution")


def spliced_jpeg(head: bytes, *, segments: bytes, app0: bytes) -> bytes | None:
    """The start of a file with segments behind the APP0 that the codec wrote, or else behind the one given.

    None where too little of it is there.
    """
    if len(head) < 11:
        return None
    if not head.startswith(b"\xff\xd8\xff"):
        raise WrongOutput("the encoder did not write a JPEG file")
    if head[3] == _APP0 and head[6:11] == b"JFIF\0":
        end = 4 + int.from_bytes(head[4:6], "big")
        return head[:end] + segments + head[end:] if len(head) >= end else None
    return head[:2] + app0 + segments + head[2:]
