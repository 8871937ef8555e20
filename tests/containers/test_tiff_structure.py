"""TIFF structures: values of every type in both byte orders, and directories that a crafted file chains."""

from __future__ import annotations

import io
import struct
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srbatch.containers import exif
from srbatch.containers.tiff_structure import BrokenTiff, Layout, TiffReader, Value

TYPES = {1: (1, 1), 2: (1, 1), 3: (1, 2), 4: (1, 4), 5: (2, 4), 6: (1, 1), 8: (1, 2), 9: (1, 4), 10: (2, 4)}
TYPES |= {11: (1, 4), 12: (1, 8), 13: (1, 4), 129: (1, 1)}
"""Of each type the numbers of a value, and the bytes of a number (TIFF 6.0, section 2, and Exif 3.0)."""
DESCRIPTION = 0x010E
LAYOUTS = [Layout(order, big=big) for order in "<>" for big in (False, True)]


def header(layout: Layout, first: int | None = None) -> bytes:
    """What a structure begins with; its first directory is right behind unless it is elsewhere."""
    mark = b"II" if layout.order == "<" else b"MM"
    if layout.big:
        return mark + struct.pack(layout.order + "HHHQ", 43, 8, 0, 16 if first is None else first)
    return mark + struct.pack(layout.order + "HI", 42, 8 if first is None else first)


def reader_of(data: bytes) -> TiffReader:
    return TiffReader(io.BytesIO(data))


def chain(*next_at: int) -> bytes:
    """Directories without entries, 6 bytes each, behind the header of 8; each names the one that follows."""
    return b"II*\0\x08\0\0\0" + b"".join(struct.pack("<HI", 0, at) for at in next_at)


@given(st.data(), st.sampled_from(sorted(TYPES)), st.integers(1, 9), st.sampled_from(LAYOUTS))
def test_a_value_of_any_type_stands_as_the_standard_says_in_both_byte_orders(
    data: st.DataObject, kind: int, count: int, layout: Layout
) -> None:
    numbers, size = TYPES[kind]
    length = count * numbers * size
    little = data.draw(st.binary(min_size=length, max_size=length))
    stored = b"".join(
        little[i : i + size][:: 1 if layout.order == "<" else -1] for i in range(0, length, size)
    )
    start = header(layout)
    made = start + layout.directory({DESCRIPTION: Value(kind, little)}, len(start))
    head = struct.pack(layout.order + ("HHQ" if layout.big else "HHI"), DESCRIPTION, kind, count)
    assert made[len(start) + layout.head_size :].startswith(head)
    reader = reader_of(made)
    (entry,) = reader.ifd0.entries
    assert made[entry.value_at : entry.value_at + length] == stored
    assert reader.value(entry, length) == Value(kind, little)
    assert reader.value(entry, length - 1) is None, "there is no room for it"


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6), st.sampled_from(LAYOUTS))
def test_values_begin_at_even_offsets(sizes: list[int], layout: Layout) -> None:
    """TIFF 6.0, section 2, expects each on a word boundary."""
    values = {DESCRIPTION + i: Value(7, bytes(size)) for i, size in enumerate(sizes)}
    start = header(layout)
    reader = reader_of(start + layout.directory(values, len(start)))
    outside = [entry for entry in reader.ifd0.entries if entry.size > layout.offset_size]
    assert [entry.value_at % 2 for entry in outside] == [0] * len(outside)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("kind", [4, 13, 16, 18])
def test_a_directory_is_found_by_a_pointer_of_any_type_that_is_one(layout: Layout, kind: int) -> None:
    start = header(layout)
    pointer = Value(kind, struct.pack("<Q" if kind > 13 else "<I", 100))
    made = (start + layout.directory({exif.EXIF_IFD: pointer}, len(start))).ljust(100, b"\0")
    reader = reader_of(made + layout.directory({0x9003: Value.text("then")}, 100))
    assert exif.tags_in(reader).exif == {0x9003: Value.text("then")}


@pytest.mark.parametrize("kind", [16, 17, 18])
def test_a_number_that_only_bigtiff_can_hold_is_counted_and_not_copied(kind: int) -> None:
    """Into a block of EXIF, which is never BigTIFF."""
    layout = Layout("<", big=True)
    made = header(layout) + layout.directory({DESCRIPTION: Value(kind, bytes(8))}, 16)
    tags = exif.tags_in(reader_of(made))
    assert (tags.main, tags.unreadable) == ({}, 1)


def test_each_directory_of_a_chain_is_met_once_however_it_goes_round() -> None:
    for next_at, met in (((14, 20, 8), [14, 20]), ((14, 20, 14), [14, 20]), ((14, 20, 0), [14, 20])):
        reader = reader_of(chain(*next_at))
        assert [directory.at for directory in islice(reader.following(reader.ifd0), 9)] == met


def test_a_chain_ends_at_the_first_directory_that_is_damaged() -> None:
    reader = reader_of(chain(14, 10_000))
    assert [directory.at for directory in reader.following(reader.ifd0)] == [14]


def test_of_an_endless_chain_the_first_directories_are_met() -> None:
    reader = reader_of(chain(*(8 + 6 * number for number in range(1, 1000)), 0))
    assert len(list(reader.following(reader.ifd0))) == 255


@pytest.mark.parametrize(
    "data",
    [
        header(Layout("<", big=False), 4) + bytes(60),
        header(Layout("<", big=False)) + struct.pack("<H", 4097) + bytes(4097 * 12 + 4),
        b"II+\0" + struct.pack("<HHQ", 4, 0, 16) + bytes(60),
        b"MM\0+" + struct.pack(">HHQ", 8, 1, 16) + bytes(60),
    ],
    ids=["a directory within the header", "too many entries", "BigTIFF's offsets", "BigTIFF's zeros"],
)
def test_what_no_program_writes_is_called_broken(data: bytes) -> None:
    with pytest.raises(BrokenTiff):
        reader_of(data)


def test_a_list_of_more_numbers_than_any_photo_has_is_not_read() -> None:
    layout = Layout("<", big=False)
    made = header(layout) + layout.directory({274: Value.short(*[1] * 32_768)}, 8)
    reader = reader_of(made)
    assert len(reader.numbers(reader.ifd0.find(274))) == 32_768
    made = header(layout) + layout.directory({274: Value.short(*[1] * 32_769)}, 8)
    reader = reader_of(made)
    with pytest.raises(BrokenTiff, match="lists 32769 numbers"):
        reader.numbers(reader.ifd0.find(274))


def test_a_file_that_is_cut_off_while_it_is_read_is_called_broken() -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(size)[:100]

    made = header(Layout("<", big=False)) + struct.pack("<H", 9) + bytes(9 * 12 + 4)
    with pytest.raises(BrokenTiff, match="ends early, at byte 110"):
        TiffReader(Shrinking(made))
