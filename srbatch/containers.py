"""The metadata blocks in JPEG, PNG, WebP and TIFF files: reading them, and placing them in new files.

No pixel is decoded and no picture data read: a file may be gigabytes. What a block says is not looked
at here, except that the parts of one block that the format spreads over the file are put together.
"""

from __future__ import annotations

import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import SEEK_END, BytesIO
from typing import BinaryIO

from srbatch import exif
from srbatch.errors import UnreadablePhoto, UnsupportedPhoto, WrongOutput
from srbatch.exif import BrokenExif, TiffReader

JPEG_SEGMENT_BYTES = 65_533
_LARGEST_BLOCK = 1 << 28  # no photo's metadata comes near it; a crafted file's may
_LARGEST_INFLATED = 1 << 26

_EXIF_ID = b"Exif\0\0"
_XMP_ID = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED_XMP_ID = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP_ID = b"Photoshop 3.0\0"
_ICC_ID = b"ICC_PROFILE\0"
_MPF_ID = b"MPF\0"
LARGEST_JPEG_XMP = JPEG_SEGMENT_BYTES - len(_XMP_ID)

_APP0, _APP1, _APP2, _APP11, _APP13, _APP14, _COM, _SOS, _EOI = (
    *(0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE),
    *(0xFE, 0xDA, 0xD9),
)
_JPEG_WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD8)])
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_COLOUR = frozenset([b"sRGB", b"gAMA", b"cHRM", b"cICP"])
# Made anew by the encoder, or about the stored pixels only.
_PNG_NOT_MISSED = frozenset(
    [b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"pHYs", b"bKGD", b"hIST", b"sBIT", b"sPLT", b"tIME"]
)
_PNG_XMP_KEYWORD = b"XML:com.adobe.xmp"
_RAW_PROFILE = b"Raw profile type "
_WEBP_NOT_MISSED = frozenset([b"VP8X", b"VP8 ", b"VP8L", b"ALPH"])
_WEBP_HAS_ALPHA, _WEBP_HAS_ICC, _WEBP_HAS_EXIF, _WEBP_HAS_XMP = 0x10, 0x20, 0x08, 0x04
_IPTC_RESOURCE = 0x0404
# The thumbnails, and the checksum of an IPTC block, are made for the old file and not worth a word.
_PHOTOSHOP_NOT_MISSED = frozenset([0x0409, 0x040C, 0x0425])
_TIFF_GEOGRAPHY = frozenset([33550, 33922, 34264, 34735, 34736, 34737])
_TIFF_C2PA = 52545
_TIFF_NOT_MISSED = exif.DESCRIPTIVE | {
    *(exif.ICC, exif.IPTC, exif.PHOTOSHOP, exif.EXIF_IFD, exif.GPS_IFD, exif.PADDING)
}
C2PA_LOST = "the C2PA manifest does not survive re-encoding and was not carried"
_PHOTOSHOP_LOST = "Photoshop's own data beside IPTC was not carried"

Insertion = tuple[int, bytes]
"""An offset in a stream, and the bytes to slip in there."""


@dataclass(slots=True)
class Blocks:
    """What was found in a file."""

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    extended_xmp: list[bytes] = field(default_factory=list)
    """Bodies of APP1 segments."""
    comments: list[bytes] = field(default_factory=list)
    """Bodies of JPEG's COM segments."""
    png_text: list[bytes] = field(default_factory=list)
    """Type and data of tEXt, zTXt and iTXt chunks."""
    png_colour: list[bytes] = field(default_factory=list)
    """Type and data of the chunks that give RGB a meaning without an ICC profile."""
    notes: list[str] = field(default_factory=list)
    """What is there and will not be carried, in sentences for people."""

    def note(self, sentence: str) -> None:
        """Say something, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


# ---- JPEG ----------------------------------------------------------------------------------------


def read_jpeg(file: BinaryIO) -> Blocks:
    """The blocks before the picture data of a JPEG file."""
    blocks, photoshop = Blocks(), bytearray()
    icc_parts: list[bytes] = []
    for marker, body in _jpeg_segments(file):
        if marker == _APP1 and body.startswith(_EXIF_ID):
            if blocks.exif is None:
                blocks.exif = body[len(_EXIF_ID) :]
            else:
                blocks.note("a second EXIF block was not carried")
        elif marker == _APP1 and body[4 : len(_XMP_ID)] == _XMP_ID[4:]:  # one writer begins it with "XMP\0"
            if blocks.xmp is None:
                blocks.xmp = body[len(_XMP_ID) :]
            else:
                blocks.note("a second XMP packet was not carried")
        elif marker == _APP1 and body.startswith(_EXTENDED_XMP_ID):
            blocks.extended_xmp.append(body)
        elif marker == _APP2 and body.startswith(_ICC_ID):
            icc_parts.append(body[len(_ICC_ID) :])
        elif marker == _APP13 and body.startswith(_PHOTOSHOP_ID):
            photoshop += body[len(_PHOTOSHOP_ID) :]
        elif marker == _COM:
            blocks.comments.append(body)
        else:
            _note_segment(blocks, marker, body)
    blocks.icc = _joined_icc(icc_parts, blocks)
    _take_photoshop(bytes(photoshop), blocks)
    return blocks


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    if file.read(2) != b"\xff\xd8":
        raise UnreadablePhoto("not a JPEG file: it does not start like one")
    while True:
        byte = file.read(1)
        while byte and byte != b"\xff":  # stray bytes between segments: decoders skip them too
            byte = file.read(1)
        while byte == b"\xff":  # any number of them may come before a marker
            byte = file.read(1)
        marker = byte[0] if byte else _EOI
        if marker == _EOI:
            raise UnreadablePhoto(_cut_off("JPEG"))
        if marker == _SOS:
            return
        if marker in _JPEG_WITHOUT_LENGTH:
            continue
        length = int.from_bytes(file.read(2), "big")
        body = file.read(max(length - 2, 0))
        if length < 2 or len(body) != length - 2:
            raise UnreadablePhoto(f"the JPEG segment FF{marker:02X} is damaged or cut off")
        yield marker, body


def _note_segment(blocks: Blocks, marker: int, body: bytes) -> None:
    """Say what is lost with an application segment that is not carried, if that is anything."""
    if marker == _APP2 and body.startswith(_MPF_ID):
        blocks.note(_note_on_mpf(body[len(_MPF_ID) :]))
    elif marker == _APP11 and b"c2pa" in body[:256]:
        blocks.note(C2PA_LOST)
    elif marker == _APP11 and C2PA_LOST in blocks.notes and _continues_a_box(body):
        pass
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
    except BrokenExif:
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


def _take_photoshop(resources: bytes, blocks: Blocks) -> None:
    """Take IPTC out of Photoshop's image resources."""
    at = 0
    while at + 12 <= len(resources):
        kind = int.from_bytes(resources[at + 4 : at + 6], "big")
        name_end = at + 6 + (resources[at + 6] + 2) // 2 * 2  # a length byte, the name, padded to even
        size = int.from_bytes(resources[name_end : name_end + 4], "big")
        data = resources[name_end + 4 : name_end + 4 + size]
        if len(data) != size:
            blocks.note("Photoshop's data block is damaged and was not carried in full")
            return
        if kind == _IPTC_RESOURCE and blocks.iptc is None:
            blocks.iptc = data or None
        elif kind not in _PHOTOSHOP_NOT_MISSED:
            blocks.note(_PHOTOSHOP_LOST)
        at = name_end + 4 + size + size % 2


def _photoshop_resource(iptc: bytes) -> bytes:
    head = b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc))
    return head + iptc + b"\0" * (len(iptc) % 2)


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
        segments.append(_segment(_APP1, _EXIF_ID + exif_block, "EXIF block"))
    if xmp is not None:
        segments.append(_segment(_APP1, _XMP_ID + xmp, "XMP packet"))
    resources = _photoshop_resource(iptc) if iptc is not None else b""
    room = JPEG_SEGMENT_BYTES - len(_PHOTOSHOP_ID)
    for start in range(0, len(resources), room):
        segments.append(_segment(_APP13, _PHOTOSHOP_ID + resources[start : start + room], "IPTC block"))
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


def jfif(pixels_per_mm: tuple[float, float]) -> bytes:
    """An APP0 segment that tells the resolution, in pixels per inch."""
    across, down = (min(max(round(per_mm * 25.4), 1), 65_535) for per_mm in pixels_per_mm)
    return _segment(_APP0, b"JFIF\0" + struct.pack(">HBHHBB", 0x0102, 1, across, down, 0, 0), "resolution")


def jpeg_insertion(head: bytes, *, segments: bytes, app0: bytes) -> Insertion | None:
    """Segments go behind the APP0 that the codec wrote, or else behind the one given here."""
    if len(head) < 11:
        return None
    if not head.startswith(b"\xff\xd8\xff"):
        raise WrongOutput("the encoder did not write a JPEG file")
    if head[3] == _APP0 and head[6:11] == b"JFIF\0":
        return 4 + int.from_bytes(head[4:6], "big"), segments
    return 2, app0 + segments


# ---- PNG -----------------------------------------------------------------------------------------


def read_png(file: BinaryIO) -> Blocks:
    """The chunks of a PNG file, from its start to its end."""
    if file.read(8) != _PNG_START:
        raise UnreadablePhoto("not a PNG file: it does not start like one")
    blocks = Blocks()
    end = _size_of(file)
    at, kind = 8, b""
    while kind != b"IEND":
        file.seek(at)
        head = file.read(8)
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) != 8 or at + 12 + size > end:
            raise UnreadablePhoto(_cut_off("PNG"))
        if kind not in _PNG_NOT_MISSED:
            data = _read_block(file, size)
            if zlib.crc32(kind + data) != int.from_bytes(file.read(4), "big"):
                blocks.note(f"the PNG chunk {_printable(kind)} is damaged and was not carried")
            else:
                _take_png_chunk(kind, data, blocks)
        at += 12 + size
    _take_raw_profiles(blocks)
    return blocks


def _take_png_chunk(kind: bytes, data: bytes, blocks: Blocks) -> None:
    if kind == b"eXIf":
        blocks.exif = data.removeprefix(_EXIF_ID)  # some writers take JPEG's prefix along
    elif kind == b"iCCP":
        _, _, packed = data.partition(b"\0")
        blocks.icc = _inflated(packed[1:])
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
    elif kind == b"caBX":
        blocks.note(C2PA_LOST)
    elif kind in (b"acTL", b"fcTL", b"fdAT"):
        blocks.note("the further pictures of the animated PNG were not carried")
    else:
        blocks.note(f"the PNG chunk {_printable(kind)} was not carried")


def _take_raw_profiles(blocks: Blocks) -> None:
    """Turn the text chunks in which older programs keep EXIF, XMP and IPTC into blocks.

    As text they would be carried uncorrected; where the file has a real block that one counts.
    """
    kept = []
    for chunk in blocks.png_text:
        keyword = chunk[4:].partition(b"\0")[0]
        name = keyword.removeprefix(_RAW_PROFILE).lower()
        if not keyword.startswith(_RAW_PROFILE) or name not in (
            *(b"exif", b"app1", b"xmp", b"iptc", b"8bim"),
        ):
            kept.append(chunk)
            continue
        profile = _unhexed(chunk)
        if profile is None:
            blocks.note(f"the PNG text {_printable(keyword)} is damaged and was not carried")
        elif profile.startswith(_XMP_ID) or name == b"xmp":
            blocks.xmp = blocks.xmp or profile.removeprefix(_XMP_ID)
        elif name in (b"exif", b"app1"):
            blocks.exif = blocks.exif or profile.removeprefix(_EXIF_ID)
        elif profile.startswith(b"\x1c"):
            blocks.iptc = blocks.iptc or profile
        else:
            _take_photoshop(profile.removeprefix(_PHOTOSHOP_ID), blocks)
    blocks.png_text = kept


def _unhexed(chunk: bytes) -> bytes | None:
    """The bytes of a raw profile: a line with a name, one with their number, and their hexadecimal digits."""
    text = png_text(chunk)
    try:
        _, number, digits = (text[1] if text else "").lstrip("\n").split("\n", 2)
        size, data = int(number), bytes.fromhex(digits)
    except ValueError:
        return None
    return data[:size] if len(data) >= size else None  # exiftool pads what it does not count


def png_text(chunk: bytes) -> tuple[str, str] | None:
    """Keyword and text of a tEXt, zTXt or iTXt chunk given as type and data; None if it is damaged."""
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
    text = _inflated(rest) if packed else rest
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
        resource = _photoshop_resource(iptc)
        digits = resource.hex()
        lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
        profile = f"\niptc\n{len(resource):8d}\n{lines}\n".encode()
        chunks.append(b"zTXt" + _RAW_PROFILE + b"iptc\0\0" + zlib.compress(profile))
    chunks += text
    return b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def png_insertion(head: bytes, *, chunks: bytes) -> Insertion | None:
    """Chunks go right behind IHDR."""
    if len(head) < 33:
        return None
    if not head.startswith(_PNG_START) or head[12:16] != b"IHDR":
        raise WrongOutput("the encoder did not write a PNG file")
    return 33, chunks


# ---- WebP ----------------------------------------------------------------------------------------


def read_webp(file: BinaryIO) -> Blocks:
    """The chunks of a WebP file."""
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WEBP":
        raise UnreadablePhoto("not a WebP file: it does not start like one")
    end = 8 + int.from_bytes(head[4:8], "little")
    if end > _size_of(file):
        raise UnreadablePhoto(_cut_off("WebP"))
    blocks, at = Blocks(), 12
    while at + 8 <= end:
        file.seek(at)
        head = file.read(8)
        kind, size = head[:4], int.from_bytes(head[4:], "little")
        if at + 8 + size > end:
            raise UnreadablePhoto(f"the WebP chunk {_printable(kind)} is cut off")
        if kind not in _WEBP_NOT_MISSED:
            _take_webp_chunk(kind, _read_block(file, size), blocks)
        at += 8 + size + size % 2
    return blocks


def _take_webp_chunk(kind: bytes, data: bytes, blocks: Blocks) -> None:
    if kind == b"ICCP":
        blocks.icc = data
    elif kind == b"EXIF":
        blocks.exif = data.removeprefix(_EXIF_ID)  # some writers take JPEG's prefix along
    elif kind == b"XMP ":
        blocks.xmp = data
    elif kind == b"C2PA":
        blocks.note(C2PA_LOST)
    elif kind in (b"ANIM", b"ANMF"):
        blocks.note("the further pictures of the animated WebP were not carried")
    else:
        blocks.note(f"the WebP chunk {_printable(kind)} was not carried")


def webp_with(webp: bytes, *, exif_block: bytes | None, xmp: bytes | None) -> bytes:
    """A WebP file as its encoder wrote it, with an EXIF block and an XMP packet in it."""
    if webp[:4] != b"RIFF" or webp[8:12] != b"WEBP" or len(webp) < 8 + int.from_bytes(webp[4:8], "little"):
        raise WrongOutput("the encoder did not write a WebP file")
    chunks = dict(_webp_chunks(webp))
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


def _webp_chunks(webp: bytes) -> Iterator[tuple[bytes, bytes]]:
    """In their order, which is the one that the format asks for; a still picture has each but once."""
    at = 12
    while at + 8 <= len(webp):
        size = int.from_bytes(webp[at + 4 : at + 8], "little")
        yield webp[at : at + 4], webp[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


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


# ---- TIFF ----------------------------------------------------------------------------------------


def read_tiff(file: BinaryIO) -> Blocks:
    """The tags of the first picture in a TIFF or BigTIFF file."""
    try:
        reader = TiffReader(file)
        tags = reader.tags()
    except BrokenExif as error:
        raise UnreadablePhoto(f"the TIFF file is damaged or cut off: {error}") from error
    blocks = Blocks()
    blocks.icc = _tiff_block(reader, exif.ICC, blocks)
    blocks.xmp = _tiff_block(reader, exif.XMP, blocks)
    blocks.iptc = _tiff_block(reader, exif.IPTC, blocks)
    _take_photoshop(_tiff_block(reader, exif.PHOTOSHOP, blocks) or b"", blocks)
    if tags.main or tags.exif or tags.gps:
        blocks.exif = exif.block_of(tags)
    if tags.unreadable:
        blocks.note(f"{tags.unreadable} damaged or unknown TIFF tags were not carried")
    _note_tiff_losses(reader, blocks)
    return blocks


def _tiff_block(reader: TiffReader, tag: int, blocks: Blocks) -> bytes | None:
    entry = reader.ifd0.find(tag)
    try:
        data = reader.raw(entry) if entry else None
    except BrokenExif:
        blocks.note(f"the TIFF tag {tag} is damaged and was not carried")
        return None
    if data and entry and entry.type == exif.LONG:
        data = data.rstrip(b"\0")  # IPTC was long declared as 32-bit numbers, and padded to them
    return data


def _note_tiff_losses(reader: TiffReader, blocks: Blocks) -> None:
    if further := sum(1 for _ in reader.following(reader.ifd0)):
        pages = "page of the TIFF file was" if further == 1 else "pages of the TIFF file were"
        blocks.note(f"{further} further {pages} not carried")
    for entry in reader.ifd0.entries:
        if entry.tag == exif.SUB_IFDS:
            blocks.note("the further pictures inside the TIFF file (SubIFDs) were not carried")
        elif entry.tag in _TIFF_GEOGRAPHY:
            blocks.note("the map reference (GeoTIFF) was not carried: it holds for the old size only")
        elif entry.tag == _TIFF_C2PA:
            blocks.note(C2PA_LOST)
        elif entry.tag > exif.LAST_STRUCTURAL and entry.tag not in _TIFF_NOT_MISSED:
            blocks.note(f"the TIFF tag {entry.tag} was not carried")


# ---- all of them ---------------------------------------------------------------------------------


class HeadSplicer:
    """Stands between an encoder and a file, and slips bytes in at a place near the start.

    ``insertion`` is asked with all that the encoder has written so far, until it can tell what goes where.
    """

    def __init__(self, file: BinaryIO, insertion: Callable[[bytes], Insertion | None]) -> None:
        self._file = file
        self._insertion = insertion
        self._head: bytearray | None = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Pass on what the encoder has written; any object that is a buffer will do."""
        view = memoryview(data)
        if self._head is None:
            self._file.write(view)
            return view.nbytes
        self._head += view
        insertion = self._insertion(bytes(self._head))
        if insertion is not None and insertion[0] <= len(self._head):
            place, extra = insertion
            self._file.write(self._head[:place] + extra + self._head[place:])
            self._head = None
        return view.nbytes

    def finish(self) -> None:
        """Call it when the encoder is done.

        Raises:
            WrongOutput: it ended before it came to the place.
        """
        if self._head is not None:
            raise WrongOutput("the encoder stopped within the header")


class Rewriter(ABC):
    """Collects a file and writes it with its metadata at the end; the encoder holds it all anyway.

    Subclasses say how the metadata gets into the file.
    """

    def __init__(self, file: BinaryIO, *, exif_block: bytes | None, xmp: bytes | None) -> None:
        self._file = file
        self._exif = exif_block
        self._xmp = xmp
        self._data = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take what the encoder has written; any object that is a buffer will do."""
        view = memoryview(data)
        self._data += view
        return view.nbytes

    def finish(self) -> None:
        """Write the file.

        Raises:
            WrongOutput: what was collected is not a file of that format.
        """
        self._file.write(self._with_metadata(bytes(self._data), exif_block=self._exif, xmp=self._xmp))

    @staticmethod
    @abstractmethod
    def _with_metadata(data: bytes, /, *, exif_block: bytes | None, xmp: bytes | None) -> bytes:
        """The file with its metadata."""


class WebpRewriter(Rewriter):
    """For WebP."""

    _with_metadata = staticmethod(webp_with)


def _read_block(file: BinaryIO, size: int) -> bytes:
    if size > _LARGEST_BLOCK:
        raise UnreadablePhoto(f"it has a metadata block of {size:,} bytes; no photo has one so large")
    return file.read(size)


def _size_of(file: BinaryIO) -> int:
    """How long a file is; the position in it is kept."""
    here = file.tell()
    size = file.seek(0, SEEK_END)
    file.seek(here)
    return size


def _inflated(packed: bytes) -> bytes | None:
    """Uncompressed data; None if it is damaged or blows up beyond what any photo needs."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed, _LARGEST_INFLATED)
    except zlib.error:
        return None
    return data if inflater.eof else None


def _cut_off(what: str) -> str:
    return f"the {what} file is cut off"


def _printable(name: bytes) -> str:
    return ascii(name.decode("latin-1"))
