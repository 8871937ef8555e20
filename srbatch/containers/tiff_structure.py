"""TIFF structures (TIFF 6.0, and BigTIFF): their directories, read with every bound checked, and written.

They are what TIFF files are made of, EXIF blocks and the index of an MPO file too.
"""

from __future__ import annotations

import io
import struct
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16
"""Types of values."""
_POINTER_TYPES = frozenset([LONG, 13, LONG8, 18])
# Bytes of a number of each type: what is swapped where byte orders differ. A rational is two numbers.
_NUMBER_SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
_NUMBER_SIZE |= {16: 8, 17: 8, 18: 8, 129: 1}  # BigTIFF's; 129 is UTF-8 text (Exif 3.0)
_RATIONALS = frozenset([5, 10])
_BIG_ONLY = frozenset([16, 17, 18])
_UTF_16 = b"UNICODE\0"  # in the byte order of the structure: the standard is silent, this is the custom
_OECF, _SPATIAL_FREQUENCY_RESPONSE, _CFA_PATTERN, _DEVICE_SETTINGS = 0x8828, 0xA20C, 0xA302, 0xA40B
_TABLES = frozenset([_OECF, _SPATIAL_FREQUENCY_RESPONSE, _CFA_PATTERN, _DEVICE_SETTINGS])
_Order = Literal["little", "big"]
_SWAP_CODE = {2: "H", 4: "I", 8: "Q"}

# No photo comes near these. They keep a crafted file, which can name the same bytes again and again,
# from taking hours or all memory.
_MOST_ENTRIES = 4096
_MOST_DIRECTORIES = 256
_LARGEST_VALUE = 1 << 28
_LARGEST_LIST = 1 << 16


class BrokenTiff(ValueError):
    """A block or file is not the TIFF structure that it should be; the message says where."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag of a directory, its value not yet read. Offsets count from the start of the structure."""

    tag: int
    type: int
    count: int
    at: int
    value_at: int

    @property
    def size(self) -> int:
        """Bytes of the value; 0 for a type that nobody knows."""
        return self.count * _unit_size(self.type)


@dataclass(frozen=True, slots=True)
class Directory:
    """An image file directory as it stands in the structure."""

    at: int
    end: int
    entries: tuple[Entry, ...]
    next_at: int

    def find(self, tag: int) -> Entry | None:
        """The first entry with that tag."""
        return next((entry for entry in self.entries if entry.tag == tag), None)


@dataclass(frozen=True, slots=True)
class Value:
    """A tag's type and value, its numbers in little-endian order wherever they came from."""

    type: int
    data: bytes

    @classmethod
    def short(cls, *numbers: int) -> Value:
        """Numbers below 2 ** 16."""
        return cls(SHORT, struct.pack(f"<{len(numbers)}H", *numbers))

    @classmethod
    def long(cls, *numbers: int) -> Value:
        """Numbers below 2 ** 32."""
        return cls(LONG, struct.pack(f"<{len(numbers)}I", *numbers))

    @classmethod
    def rational(cls, numerator: int, denominator: int) -> Value:
        """A fraction of two numbers below 2 ** 32."""
        return cls(RATIONAL, struct.pack("<II", numerator, denominator))

    @classmethod
    def text(cls, text: str) -> Value:
        """A text, in UTF-8."""
        return cls(ASCII, text.encode() + b"\0")


@dataclass(frozen=True, slots=True)
class Layout:
    """How numbers stand in a structure: byte order, and classic TIFF or BigTIFF."""

    order: str
    big: bool

    @property
    def head_size(self) -> int:
        """Bytes of the number of entries that a directory begins with."""
        return 8 if self.big else 2

    @property
    def entry_size(self) -> int:
        """Bytes of an entry of a directory."""
        return 20 if self.big else 12

    @property
    def offset_size(self) -> int:
        """Bytes of an offset; a value that fits into as many stands in its place."""
        return 8 if self.big else 4

    def count(self, number: int) -> bytes:
        """The number of entries that a directory begins with."""
        return struct.pack(self.order + ("Q" if self.big else "H"), number)

    def offset(self, number: int) -> bytes:
        """An offset, or a number of values, as they stand in an entry."""
        return struct.pack(self.order + ("Q" if self.big else "I"), number)

    def number(self, raw: bytes) -> int:
        """An unsigned number of as many bytes as are given."""
        return int.from_bytes(raw, "little" if self.order == "<" else "big")

    def entry(self, tag: int, value: Value, elsewhere: int) -> tuple[bytes, bytes]:
        """An entry, and the bytes that it expects at offset ``elsewhere`` (none where they fit inside)."""
        data = value.data
        if self.order == ">":
            data = _swapped(tag, value.type, data, "little")
        head = struct.pack(self.order + "HH", tag, value.type)
        head += self.offset(len(data) // _unit_size(value.type))
        if len(data) <= self.offset_size:
            return head + data.ljust(self.offset_size, b"\0"), b""
        return head + self.offset(elsewhere), data + b"\0" * (len(data) % 2)

    def pointer(self, offset: int) -> Value:
        """A reference to another directory."""
        if self.big:
            # Not the type IFD8 that was made for this: Pillow, for one, does not know it.
            return Value(LONG8, struct.pack("<Q", offset))
        return Value.long(offset)

    def directory(self, entries: Mapping[int, Value | bytes], at: int, next_at: int = 0) -> bytes:
        """A directory for offset ``at`` and its values; entries given as bytes stay what they are."""
        size = self.head_size + len(entries) * self.entry_size + self.offset_size
        head, values = bytearray(self.count(len(entries))), bytearray()
        for tag, value in sorted(entries.items()):
            if isinstance(value, bytes):
                head += value
                continue
            entry, elsewhere = self.entry(tag, value, at + size + len(values))
            head += entry
            values += elsewhere
        return bytes(head + self.offset(next_at) + values)


class TiffReader:
    """Bounds-checked reading of a TIFF structure. Only what is asked for is read, never pixels.

    Everything raises ``BrokenTiff`` where the structure leads out of the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.end = file.seek(0, io.SEEK_END)
        head = self._read(0, 8)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        version = struct.unpack((order or "<") + "H", head[2:4])[0]
        if order is None or version not in (42, 43):
            raise BrokenTiff("it does not start with a TIFF header")
        self.layout = Layout(order, big=version == 43)
        if self.layout.big and head[4:] != struct.pack(order + "HH", 8, 0):
            raise BrokenTiff("its BigTIFF header is damaged")
        first = self._read(8, 8) if self.layout.big else head[4:]
        self.ifd0 = self.directory(self.layout.number(first))

    def _read(self, at: int, size: int) -> bytes:
        if at + size > self.end:
            raise BrokenTiff(f"it leads to byte {at + size} but ends at byte {self.end}")
        self._file.seek(at)
        data = self._file.read(size)
        if len(data) != size:
            raise BrokenTiff(f"it ends early, at byte {at + len(data)}")
        return data

    def directory(self, at: int) -> Directory:
        """The directory at an offset."""
        layout = self.layout
        if at < 8:
            raise BrokenTiff("a directory lies inside the header")
        count = layout.number(self._read(at, layout.head_size))
        if count > _MOST_ENTRIES:
            raise BrokenTiff(f"a directory claims {count} entries")
        first = at + layout.head_size
        raw = self._read(first, count * layout.entry_size + layout.offset_size)
        entries = tuple(
            self._entry(raw[i : i + layout.entry_size], first + i)
            for i in range(0, count * layout.entry_size, layout.entry_size)
        )
        next_at = layout.number(raw[-layout.offset_size :])
        return Directory(at, first + len(raw), entries, next_at)

    def _entry(self, raw: bytes, at: int) -> Entry:
        layout = self.layout
        slot = layout.entry_size - layout.offset_size
        tag, kind, count = layout.number(raw[:2]), layout.number(raw[2:4]), layout.number(raw[4:slot])
        inside = count * _unit_size(kind) <= layout.offset_size
        return Entry(tag, kind, count, at, at + slot if inside else layout.number(raw[slot:]))

    def raw(self, entry: Entry) -> bytes:
        """The bytes of a value, in the structure's own byte order."""
        if not entry.size or entry.size > _LARGEST_VALUE:
            raise BrokenTiff(f"tag {entry.tag} has a value of unknown or impossible size")
        return self._read(entry.value_at, entry.size)

    def numbers(self, entry: Entry | None) -> list[int]:
        """The value as unsigned whole numbers; empty for an absent tag and for one of another type."""
        if entry is None or entry.type not in {SHORT, *_POINTER_TYPES}:
            return []
        if entry.size > _LARGEST_LIST:
            raise BrokenTiff(f"tag {entry.tag} lists {entry.count} numbers")
        data, step = self.raw(entry), _NUMBER_SIZE[entry.type]
        return [self.layout.number(data[i : i + step]) for i in range(0, len(data), step)]

    def child(self, parent: Directory | None, tag: int) -> Directory | None:
        """The directory that a tag points to; None if there is none."""
        entry = parent.find(tag) if parent else None
        if entry is None or entry.type not in _POINTER_TYPES:
            return None
        return self.directory(self.numbers(entry)[0])

    def intact_child(self, parent: Directory | None, tag: int) -> Directory | None:
        """Like ``child``, but None also where the pointer leads nowhere."""
        try:
            return self.child(parent, tag)
        except BrokenTiff:
            return None

    def following(self, directory: Directory) -> Iterator[Directory]:
        """The directories chained behind one, up to the first damaged or repeated one (256 at most)."""
        seen = {directory.at}
        while directory.next_at and directory.next_at not in seen and len(seen) < _MOST_DIRECTORIES:
            try:
                directory = self.directory(directory.next_at)
            except BrokenTiff:
                return
            seen.add(directory.at)
            yield directory

    def value(self, entry: Entry, room: int) -> Value | None:
        """A value of ``room`` bytes at most that means the same in any structure; None for all others."""
        if entry.size > room or entry.type in _BIG_ONLY:
            return None
        try:
            data = self.raw(entry)
        except BrokenTiff:
            return None
        if self.layout.order == ">":
            data = _swapped(entry.tag, entry.type, data, "big")
        return Value(entry.type, data)


def _unit_size(kind: int) -> int:
    return _NUMBER_SIZE.get(kind, 0) * (2 if kind in _RATIONALS else 1)


def _swapped(tag: int, kind: int, data: bytes, order: _Order) -> bytes:
    """The same value in the other byte order than ``order``.

    In values of undefined type UTF-16 is swapped (UserComment, and GPS texts like it), and the numbers in
    the tables that Exif 2.3, 4.6.5, defines.
    """
    if kind != UNDEFINED:
        return _numbers_swapped(_NUMBER_SIZE[kind], data)
    if data.startswith(_UTF_16):
        whole = len(data) // 2 * 2
        return _UTF_16 + _numbers_swapped(2, data[len(_UTF_16) : whole]) + data[whole:]
    if tag in _TABLES:
        return _table_swapped(tag, data, order)
    return data


def _table_swapped(tag: int, data: bytes, order: _Order) -> bytes:
    """A table: columns and rows as numbers of 16 bits, then its cells. What is none stays what it is."""
    columns, rows = int.from_bytes(data[:2], order), int.from_bytes(data[2:4], order)
    cells = data[4:]
    if not 0 < columns * rows <= len(cells):  # some cameras have the counts in one order always
        return data
    counts = _numbers_swapped(2, data[:4])
    if tag == _CFA_PATTERN:
        return counts + cells
    if tag == _DEVICE_SETTINGS:
        whole = len(cells) // 2 * 2
        return counts + _numbers_swapped(2, cells[:whole]) + cells[whole:]
    # Names of the columns, each with a zero behind it, and a rational for each cell.
    names = cells.split(b"\0", columns)[:-1]
    start = sum(len(name) + 1 for name in names)
    end = start + columns * rows * 8
    if len(names) != columns or end > len(cells):
        return data
    return counts + cells[:start] + _numbers_swapped(4, cells[start:end]) + cells[end:]


def _numbers_swapped(size: int, data: bytes) -> bytes:
    """Numbers of ``size`` bytes each in the other byte order."""
    code = _SWAP_CODE.get(size)
    if code is None:
        return data
    numbers = array(code, data)
    numbers.byteswap()
    return numbers.tobytes()
