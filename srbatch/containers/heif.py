"""The metadata in HEIF files, that is AVIF and HEIC: reading it, and placing it in new files.

Names of boxes are those of ISO/IEC 14496-12 (the file format) and 23008-12 (pictures in it).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import SEEK_END
from typing import BinaryIO

from srbatch.containers.blocks import C2PA_LOST, EXIF_ID, GAIN_MAP_LOST, Blocks, Rewriter, printable
from srbatch.containers.boxes import BrokenBoxes, box_at
from srbatch.errors import UnreadablePhoto, UnsupportedPhoto, WrongOutput

_LARGEST_META = 1 << 26
_MOST_ITEMS = 1 << 14
_NOT_MISSED = frozenset([b"ftyp", b"meta", b"mdat", b"idat", b"free", b"skip", b"wide"])
"""Boxes that are the picture itself, or room."""
_C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_XMP_TYPE = b"application/rdf+xml"
_ALPHA_URNS = frozenset([b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1"])
_IN_FILE, _IN_META = 0, 1


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    body: bytes


@dataclass(slots=True)
class _Item:
    kind: bytes = b""
    content_type: bytes = b""
    construction: int = _IN_FILE
    extents: list[tuple[int, int]] = field(default_factory=list)
    """(offset, length) in the file, or in the meta box's idat."""


@dataclass(slots=True)
class _Meta:
    """What the meta box says."""

    primary: int = 0
    items: dict[int, _Item] = field(default_factory=dict)
    references: list[tuple[bytes, int, list[int]]] = field(default_factory=list)
    """(kind, from, to)."""
    properties: list[_Box] = field(default_factory=list)
    owned: dict[int, list[int]] = field(default_factory=dict)
    """Properties of an item, by their number from 1."""
    idat: bytes = b""

    def properties_of(self, item: int) -> Iterator[_Box]:
        for number in self.owned.get(item, []):
            if 0 < number <= len(self.properties):
                yield self.properties[number - 1]


class _Cursor:
    """Reads numbers out of a box, and never beyond it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        taken = self.data[self.at : self.at + size]
        if len(taken) != size:
            raise BrokenBoxes("a box is too short")
        self.at += size
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def text(self) -> bytes:
        end = self.data.find(b"\0", self.at)
        text = self.data[self.at : end if end >= 0 else len(self.data)]
        self.at += len(text) + 1
        return text


def _boxes(data: bytes) -> Iterator[_Box]:
    at = 0
    while at + 8 <= len(data):
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if size < head or at + size > len(data):
            raise BrokenBoxes("a box leads out of the one that it is in")
        yield _Box(data[at + 4 : at + 8], data[at + head : at + size])
        at += size


def _parsed(meta: bytes) -> _Meta:
    """The content of a meta box, behind its version and flags."""
    found = _Meta()
    for box in _boxes(meta):
        cursor = _Cursor(box.body)
        match box.kind:
            case b"pitm":
                found.primary = cursor.number(2 if cursor.number(4) >> 24 == 0 else 4)
            case b"iinf":
                _parse_items(cursor, found)
            case b"iloc":
                _parse_locations(cursor, found)
            case b"iref":
                _parse_references(cursor, found)
            case b"iprp":
                _parse_properties(box.body, found)
            case b"idat":
                found.idat = box.body
    return found


def _parse_items(cursor: _Cursor, found: _Meta) -> None:
    cursor.number(2 if cursor.number(4) >> 24 == 0 else 4)
    for box in _boxes(cursor.data[cursor.at :]):
        entry = _Cursor(box.body)
        version = entry.number(4) >> 24
        if version < 2:
            continue
        item = found.items.setdefault(entry.number(2 if version == 2 else 4), _Item())
        entry.number(2)
        item.kind = entry.take(4)
        entry.text()
        if item.kind == b"mime":
            item.content_type = entry.text()


def _parse_locations(cursor: _Cursor, found: _Meta) -> None:
    version = cursor.number(4) >> 24
    sizes = cursor.number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    count = cursor.number(2 if version < 2 else 4)
    if count > _MOST_ITEMS:
        raise BrokenBoxes(f"it claims to hold {count} items")
    for _ in range(count):
        item = found.items.setdefault(cursor.number(2 if version < 2 else 4), _Item())
        item.construction = cursor.number(2) & 15 if version else _IN_FILE
        cursor.number(2)
        base = cursor.number(base_size)
        item.extents = []
        for _ in range(cursor.number(2)):
            cursor.number(index_size)
            offset = base + cursor.number(offset_size)
            item.extents.append((offset, cursor.number(length_size)))


def _parse_references(cursor: _Cursor, found: _Meta) -> None:
    size = 2 if cursor.number(4) >> 24 == 0 else 4
    for box in _boxes(cursor.data[cursor.at :]):
        entry = _Cursor(box.body)
        source = entry.number(size)
        found.references.append((box.kind, source, [entry.number(size) for _ in range(entry.number(2))]))


def _parse_properties(body: bytes, found: _Meta) -> None:
    for box in _boxes(body):
        if box.kind == b"ipco":
            found.properties = list(_boxes(box.body))
        elif box.kind == b"ipma":
            cursor = _Cursor(box.body)
            head = cursor.number(4)
            wide = head & 1  # numbers of 15 bits instead of 7, each below a bit that says "essential"
            for _ in range(cursor.number(4)):
                item = cursor.number(2 if head >> 24 == 0 else 4)
                numbers = [cursor.number(2 if wide else 1) for _ in range(cursor.number(1))]
                found.owned[item] = [number & (0x7FFF if wide else 0x7F) for number in numbers]


# ---- reading -------------------------------------------------------------------------------------


def read_heif(file: BinaryIO) -> Blocks:
    """The blocks of an AVIF or HEIC file. How to turn the picture is no matter of EXIF there.

    Raises:
        UnreadablePhoto: it is damaged.
        UnsupportedPhoto: its colours are premultiplied.
    """
    blocks = Blocks()
    try:
        meta = _parsed(_meta_of(file, blocks))
        _take_items(file, meta, blocks)
        _take_colour(meta, blocks)
    except BrokenBoxes as error:
        raise UnreadablePhoto(f"the HEIF file is damaged or cut off: {error}") from error
    if any(kind == b"prem" and source == meta.primary for kind, source, _ in meta.references):
        raise UnsupportedPhoto(
            "its colours are multiplied by its transparency (MIAF's prem), and would come out darker; save it"
            " with straight alpha"
        )
    _note_losses(meta, blocks)
    blocks.turned = any(box.kind in (b"irot", b"imir") for box in meta.properties_of(meta.primary))
    return blocks


def _meta_of(file: BinaryIO, blocks: Blocks) -> bytes:
    """The content of the meta box; walks over the others, which may be gigabytes."""
    end, at, found = file.seek(0, SEEK_END), 0, None
    while at + 8 <= end:
        kind, start, stop = box_at(file, at, end)
        file.seek(start)
        if kind == b"meta" and found is None:
            if stop - at > _LARGEST_META:
                raise BrokenBoxes(f"it has a metadata block of {stop - at:,} bytes")
            found = file.read(stop - start)[4:]  # behind its version and flags
        elif kind == b"uuid" and file.read(16) == _C2PA_UUID:
            blocks.note(C2PA_LOST)
        elif kind in (b"moov", b"mpvd"):  # mpvd: a motion photo's
            blocks.note("the moving pictures in the HEIF file were not carried")
        elif kind not in _NOT_MISSED:
            blocks.note(f"the HEIF box {printable(kind)} was not carried")
        at = stop
    if found is None:
        raise BrokenBoxes("it holds no picture")
    return found


def _take_items(file: BinaryIO, meta: _Meta, blocks: Blocks) -> None:
    for item in meta.items.values():
        if item.kind == b"Exif" and blocks.exif is None:
            data = _content(file, item, meta)
            skip = 4 + int.from_bytes(data[:4], "big")  # to the TIFF header
            blocks.exif = data[skip:].removeprefix(EXIF_ID)
        elif item.kind == b"mime" and item.content_type == _XMP_TYPE and blocks.xmp is None:
            blocks.xmp = _content(file, item, meta)


def _content(file: BinaryIO, item: _Item, meta: _Meta) -> bytes:
    if sum(length for _, length in item.extents) > _LARGEST_META:
        raise BrokenBoxes("it has a metadata block that no photo has so large")
    parts = []  # joined at the end: there may be very many
    for offset, length in item.extents:
        if item.construction == _IN_FILE:
            file.seek(offset)
            part = file.read(length)
        elif item.construction == _IN_META:
            part = meta.idat[offset : offset + length]
        else:
            raise BrokenBoxes("an item is made of other items")
        if len(part) != length:
            raise BrokenBoxes("an item leads out of it")
        parts.append(part)
    return b"".join(parts)


def _take_colour(meta: _Meta, blocks: Blocks) -> None:
    numbers = None
    for box in meta.properties_of(meta.primary):
        if box.kind == b"colr" and box.body[:4] in (b"prof", b"rICC"):
            blocks.icc = box.body[4:]
        elif box.kind == b"colr" and box.body[:4] == b"nclx":
            numbers = struct.unpack(">HH", _Cursor(box.body[4:]).take(4))
    if blocks.icc is None and numbers is not None and not _is_srgb(*numbers):
        raise UnsupportedPhoto(
            f"its colours are told by numbers (primaries {numbers[0]}, curve {numbers[1]}) and are not sRGB,"
            " which is not supported; convert it to sRGB or embed an ICC profile instead"
        )


def _is_srgb(primaries: int, curve: int) -> bool:
    """By ITU-T H.273: 2 is unspecified; curves 1 and 6 are those of television, shown as sRGB everywhere."""
    return primaries in (1, 2) and curve in (1, 2, 6, 13)


def _note_losses(meta: _Meta, blocks: Blocks) -> None:
    if any(item.kind == b"tmap" for item in meta.items.values()):
        blocks.note(GAIN_MAP_LOST)
    for kind, source, targets in meta.references:
        if kind == b"auxl" and meta.primary in targets:
            for box in meta.properties_of(source):
                urn = box.body[4:].split(b"\0")[0]
                if box.kind == b"auxC" and urn not in _ALPHA_URNS:
                    blocks.note(
                        f"an auxiliary picture ({printable(urn.rsplit(b':', 1)[-1])}) was not carried"
                    )


# ---- writing -------------------------------------------------------------------------------------


def heif_with(data: bytes, *, exif_block: bytes | None, xmp: bytes | None) -> bytes:
    """A HEIF file that a codec wrote without them, with an EXIF block and an XMP packet.

    Their items are described in the meta box, whose growth moves what lies behind it, and stand in a box of
    their own at the end.

    Raises:
        WrongOutput: it is not a HEIF file.
    """
    new: list[tuple[bytes, bytes]] = []
    if exif_block is not None:
        new.append((b"Exif\0", bytes(4) + exif_block))
    if xmp is not None:
        new.append((b"mime\0" + _XMP_TYPE + b"\0", xmp))
    if not new:
        return data
    try:
        boxes = list(_boxes(data))
        index = next(i for i, box in enumerate(boxes) if box.kind == b"meta")
        old = _parsed(boxes[index].body[4:])
    except (BrokenBoxes, StopIteration):
        raise WrongOutput("the encoder did not write a HEIF file") from None
    meta_body = boxes[index].body
    before = sum(8 + len(box.body) for box in boxes[:index])
    grown = len(_grown(meta_body, old, new, moved=0, payload_at=0)) - len(meta_body)
    payload_at = len(data) + grown + 8
    meta = _grown(meta_body, old, new, moved=grown, payload_at=payload_at)
    behind = data[before + 8 + len(meta_body) :]
    return data[:before] + _box(b"meta", meta) + behind + _box(b"mdat", b"".join(part for _, part in new))


def _grown(body: bytes, old: _Meta, new: list[tuple[bytes, bytes]], *, moved: int, payload_at: int) -> bytes:
    """The meta box's content with new items, their data one behind the other from ``payload_at``."""
    first = max(old.items) + 1
    numbers = range(first, first + len(new))
    items = [
        _box(b"infe", struct.pack(">IHH", 2 << 24, n, 0) + kind)
        for n, (kind, _) in zip(numbers, new, strict=True)
    ]
    links = b"".join(_box(b"cdsc", struct.pack(">HHH", n, 1, old.primary)) for n in numbers)
    parts, linked = [body[:4]], False
    for box in _boxes(body[4:]):
        content = box.body
        if box.kind == b"iinf":
            count = int.from_bytes(content[4:6], "big") + len(new)
            content = content[:4] + struct.pack(">H", count) + content[6:] + b"".join(items)
        elif box.kind == b"iloc":
            content = _locations(old, dict(zip(numbers, new, strict=True)), moved, payload_at)
        elif box.kind == b"iref":
            content, linked = content + links, True
        parts.append(_box(box.kind, content))
    if not linked:
        parts.append(_box(b"iref", bytes(4) + links))
    return b"".join(parts)


def _locations(old: _Meta, new: dict[int, tuple[bytes, bytes]], moved: int, payload_at: int) -> bytes:
    """An iloc box of version 1, with offsets and lengths of 4 bytes."""
    entries = []
    for number, item in old.items.items():
        shift = moved if item.construction == _IN_FILE else 0
        entries.append((number, item.construction, [(at + shift, size) for at, size in item.extents]))
    for number, (_, data) in new.items():
        entries.append((number, _IN_FILE, [(payload_at, len(data))]))
        payload_at += len(data)
    packed = struct.pack(">IHH", 1 << 24, 0x4400, len(entries))
    for number, construction, extents in entries:
        packed += struct.pack(">HHHH", number, construction, 0, len(extents))
        packed += b"".join(struct.pack(">II", *extent) for extent in extents)
    return packed


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


class HeifRewriter(Rewriter):
    """For AVIF and HEIC."""

    _with_metadata = staticmethod(heif_with)
