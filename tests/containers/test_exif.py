"""EXIF blocks: what is corrected, what must stay byte for byte, and what rubbish does."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from srbatch.containers import exif, exif_build, tiff_append
from srbatch.containers.exif import Tags
from srbatch.containers.tiff_structure import BrokenTiff, Layout, TiffReader, Value
from srbatch.metadata import exif_patch
from srbatch.placement import Placement
from tests.files import ASCII, LONG, MAKER_NOTE, RATIONAL, SHORT, TAKEN, THUMBNAIL, UNDEFINED, block, exiftool


def maker_note_at(data: bytes) -> int:
    reader = TiffReader(io.BytesIO(data))
    below = reader.child(reader.ifd0, exif.EXIF_IFD)
    entry = below.find(0x927C) if below else None
    assert entry is not None
    return entry.value_at


def fix(data: bytes, software: str | None = "srbatch 1.0") -> bytes:
    placement = Placement(1, (1920, 70_000), (1920, 70_000))
    return exif_patch.corrected(data, placement, software=software, new_colours=False, resolution=None)


def append(path: Path, block: bytes, *, xmp: bytes | None = None, iptc: bytes | None = None) -> None:
    tiff_append.append_metadata(path, block, xmp=xmp, iptc=iptc, extra_is_data=False)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("thumbnail_last", [True, False])
def test_a_corrected_block_tells_the_new_photo_and_keeps_the_rest(order: str, thumbnail_last: bool) -> None:
    source = block(order, thumbnail_last=thumbnail_last)
    result = fix(source)

    read = Image.Exif()
    read.load(b"Exif\0\0" + result)
    below = read.get_ifd(0x8769)
    assert (read[0x0112], read[0x0131]) == (1, "srbatch 1.0")
    assert (below[0xA002], below[0xA003]) == (70_000, 1920)
    assert (read[0x010F], read[0x0132], below[0x9003]) == ("Camera", TAKEN[:-1].decode(), TAKEN[:-1].decode())
    assert below[0x829A] == pytest.approx(1 / 250)
    assert read.get_ifd(0x8825)[2] == (48.0, 8.0, 15.0)
    assert read.get_ifd(0xA005) == {1: "R98", 0x1001: 70_000, 0x1002: 1920}
    assert below[0x927C] == MAKER_NOTE


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("thumbnail_last", [True, False])
def test_the_maker_note_stays_where_it_was(order: str, thumbnail_last: bool) -> None:
    source = block(order, thumbnail_last=thumbnail_last)
    result = fix(source)
    at = maker_note_at(source)
    assert maker_note_at(result) == at
    assert result[at : at + len(MAKER_NOTE)] == MAKER_NOTE


@pytest.mark.parametrize("thumbnail_last", [True, False])
def test_the_thumbnail_is_gone_with_its_bytes(thumbnail_last: bool) -> None:
    result = fix(block(thumbnail_last=thumbnail_last))
    reader = TiffReader(io.BytesIO(result))
    assert reader.ifd0.next_at == 0
    assert b"THUMBNAIL" not in result


def test_a_thumbnail_that_claims_the_maker_note_does_not_take_it_along() -> None:
    source = block()
    lie = struct.pack("<I", maker_note_at(source))
    stated = struct.pack("<HHI", 0x0201, LONG, 1)
    at = source.index(stated) + len(stated)
    result = fix(source[:at] + lie + source[at + 4 :])
    assert MAKER_NOTE in result


def test_thumbnails_that_windows_keeps_in_ifd0_are_dropped() -> None:
    result = fix(
        block(extra=[(0x501B, UNDEFINED, len(THUMBNAIL), THUMBNAIL), (0x5020, LONG, 1, b"\1\0\0\0")])
    )
    assert b"THUMBNAIL" not in result
    reader = TiffReader(io.BytesIO(result))
    assert reader.ifd0.find(0x501B) is None
    assert reader.ifd0.find(0x5020) is None


def test_tags_of_ifd0_are_in_ascending_order_and_directories_start_at_even_offsets() -> None:
    reader = TiffReader(io.BytesIO(fix(block())))
    tags = [entry.tag for entry in reader.ifd0.entries]
    assert tags == sorted(tags)
    assert reader.ifd0.at % 2 == 0


def test_sizes_in_ifd0_are_corrected_where_they_are_there() -> None:
    extra = [(0x0100, SHORT, 1, struct.pack("<H", 640)), (0x0101, SHORT, 1, struct.pack("<H", 480))]
    read = Image.Exif()
    read.load(b"Exif\0\0" + fix(block(extra=extra)))
    assert (read[0x0100], read[0x0101]) == (70_000, 1920)


def test_no_software_leaves_the_tag_as_it_is() -> None:
    assert exif.SOFTWARE not in exif.tags_of(fix(block(), software=None)).main
    there = block(extra=[(0x0131, ASCII, 7, b"Editor\0")])
    assert exif.tags_of(fix(there, software=None)).main[exif.SOFTWARE].data == b"Editor\0"
    assert exif.tags_of(fix(there)).main[exif.SOFTWARE].data == b"srbatch 1.0\0"


def test_correcting_again_does_not_make_a_block_grow() -> None:
    once = fix(block())
    assert fix(fix(once)) == once


@pytest.mark.parametrize(
    ("stored", "meaning"), [(1, 1), (8, 8), (0, 1), (9, 1), (65_535, 1)], ids=lambda v: str(v)
)
def test_orientation_is_1_unless_it_is_valid(stored: int, meaning: int) -> None:
    assert exif.orientation(block(">", orientation=stored)) == meaning


def test_a_fresh_block_names_the_software_only() -> None:
    read = Image.Exif()
    read.load(b"Exif\0\0" + (exif_build.minimal("srbatch 1.0", None) or b""))
    assert dict(read) == {0x0131: "srbatch 1.0"}


def test_byte_order_makes_no_difference_to_tags() -> None:
    assert exif.tags_of(block("<")) == exif.tags_of(block(">"))
    assert exif.tags_of(exif_build.block_of(exif.tags_of(block(">")))) == exif.tags_of(block("<"))


def test_a_directory_that_points_to_itself_ends() -> None:
    loop = b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0"
    assert list((reader := TiffReader(io.BytesIO(loop))).following(reader.ifd0)) == []
    assert fix(loop)
    pointing_up = struct.pack("<HHHII", 1, 0x8769, 4, 1, 8)
    assert fix(b"II*\0\x08\0\0\0" + pointing_up + b"\0\0\0\0")


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"II*\0", b"Exif\0\0II*\0", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\x0f", b"II+\0" * 9],
    ids=["empty", "short", "prefix", "far away", "cut off", "BigTIFF"],
)
def test_rubbish_is_called_broken(rubbish: bytes) -> None:
    with pytest.raises(BrokenTiff):
        fix(rubbish)


def exercise(data: bytes) -> None:
    """Everything that is done with a block that a file brings along."""
    with suppress(BrokenTiff):
        exif.orientation(data)
        fix(data)
        exif_build.block_of(exif.tags_of(data))


@given(st.binary(max_size=300), st.sampled_from([b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b""]))
def test_random_bytes_raise_nothing_else(data: bytes, start: bytes) -> None:
    exercise(start + data)


@given(
    st.sampled_from([block("<"), block(">"), block(thumbnail_last=False)]),
    st.lists(st.tuples(st.integers(0, 800), st.integers(0, 255)), max_size=8),
    st.integers(0, 900),
)
def test_damaged_blocks_raise_nothing_else(source: bytes, changes: list[tuple[int, int]], end: int) -> None:
    damaged = bytearray(source)
    for at, byte in changes:
        damaged[at % len(damaged)] = byte
    exercise(bytes(damaged[:end] if end % 3 == 0 else damaged))


# ---- TIFF files ----------------------------------------------------------------------------------


def tiff(path: Path, **options: Any) -> Path:
    picture = (pyvips.Image.xyz(64, 48)[0] * 3).cast("uchar").copy(interpretation="b-w")
    picture.bandjoin([picture, picture]).copy(interpretation="srgb").tiffsave(
        str(path), keep="icc", **options
    )
    return path


KINDS = {
    "strips": {},
    "tiles": {"tile": True, "compression": "deflate"},
    "BigTIFF": {"bigtiff": True},
    "pyramid": {"bigtiff": True, "tile": True, "tile_width": 16, "tile_height": 16, "pyramid": True},
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_appended_to_a_tiff_file(tmp_path: Path, order: str, kind: str) -> None:
    path = tiff(tmp_path / "a.tif", **KINDS[kind])
    pixels = pyvips.Image.new_from_file(str(path)).numpy()
    append(path, fix(block(order)), xmp=b"<xmp/>", iptc=b"\x1c\2\x05\0\1a")

    assert (pyvips.Image.new_from_file(str(path), revalidate=True).numpy() == pixels).all()
    with path.open("rb") as file:
        reader = TiffReader(file)
        assert exif.tags_in(reader).descriptive() == exif.tags_of(fix(block(order))).descriptive()
        xmp, iptc = reader.ifd0.find(exif.XMP), reader.ifd0.find(exif.IPTC)
        assert xmp is not None
        assert iptc is not None
        assert (reader.raw(xmp), reader.raw(iptc)) == (b"<xmp/>", b"\x1c\2\x05\0\1a")
    with Image.open(path) as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
        image.load()
        tags = image.getexif()
        assert (tags[0x010F], tags[0x0131], tags[0x0132]) == ("Camera", "srbatch 1.0", TAKEN[:-1].decode())
        assert tags.get_ifd(0x8769)[0x9003] == TAKEN[:-1].decode()
        assert tags.get_ifd(0x8769)[0x927C] == MAKER_NOTE
        assert tags.get_ifd(0x8825)[2] == (48.0, 8.0, 15.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [16, 101, 3000, 9150, 9400, 50_000])
def test_the_maker_note_stands_in_a_tiff_file_where_it_stood_in_the_block(
    tmp_path: Path, at: int, kind: str
) -> None:
    """Within the pixels, across their end and the directory behind them, and behind the end of the file."""
    path = tiff(tmp_path / "a.tif", **KINDS[kind])
    pixels = pyvips.Image.new_from_file(str(path)).numpy()
    block_ = exif_build.block_of(exif.tags_of(block()), note_at=at)
    assert maker_note_at(block_) == at
    append(path, block_)
    data = path.read_bytes()
    if kind == "pyramid":  # it has further pictures, in which nothing is moved
        assert maker_note_at(data) > 0
    else:
        assert maker_note_at(data) == at
        assert data[at : at + len(MAKER_NOTE)] == MAKER_NOTE
    assert exif.tags_in(TiffReader(io.BytesIO(data))).descriptive() == exif.tags_of(block_).descriptive()
    found = pyvips.Image.new_from_file(str(path), revalidate=True)
    assert (found.numpy() == pixels).all()
    assert found.get("resolution-unit") == "cm"
    with Image.open(path) as image:
        image.load()
        assert image.getexif().get_ifd(0x8769)[0x927C] == MAKER_NOTE


def test_one_large_strip_gives_way_to_the_maker_note(tmp_path: Path) -> None:
    """Its place stands in the directory itself, not in a list."""
    path = tiff(tmp_path / "a.tif", tile_height=48)
    pixels = pyvips.Image.new_from_file(str(path)).numpy()
    append(path, exif_build.block_of(exif.tags_of(block()), note_at=2000))
    assert maker_note_at(path.read_bytes()) == 2000
    assert (pyvips.Image.new_from_file(str(path), revalidate=True).numpy() == pixels).all()


@pytest.mark.parametrize("at", [9, 16, 100, 700, 59_900, 1 << 40])
def test_a_block_of_tags_is_sound_wherever_the_maker_note_stood(at: int) -> None:
    tags = exif.tags_of(block())
    made = exif_build.block_of(tags, note_at=at)
    assert exif.tags_of(made) == tags
    assert exif.tags_of(fix(made)).exif[0x927C].data == MAKER_NOTE
    assert (maker_note_at(made) == at) == (16 <= at < 59_000)
    assert len(made) < 60_000


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_colours_mean_goes_from_a_tiff_file_to_a_tiff_file(tmp_path: Path, order: str) -> None:
    """Where there is no profile, they are all that says it; they do not depend on how pixels are stored."""
    white = struct.pack(order + "4I", 3127, 10_000, 3290, 10_000)
    primaries = struct.pack(order + "12I", *(n for part in (64, 33, 21, 71, 15, 6) for n in (part, 100)))
    extra = [(0x013E, RATIONAL, 2, white), (0x013F, RATIONAL, 6, primaries)]
    source, target = tiff(tmp_path / "a.tif"), tiff(tmp_path / "b.tif")
    append(source, block(order, extra=extra))
    with source.open("rb") as file:
        carried = exif_build.block_of(exif.tags_in(TiffReader(file)))
    append(target, fix(carried))
    with Image.open(target) as image:
        tags = image.getexif()
        assert tags[0x013E] == pytest.approx((0.3127, 0.329))
        assert tags[0x013F] == pytest.approx((0.64, 0.33, 0.21, 0.71, 0.15, 0.06))


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_a_tiff_file_says_of_its_scan_goes_from_file_to_file(tmp_path: Path, order: str) -> None:
    """Also from blocks; a transfer function for more than 8 bits would not fit all outputs, and is told."""
    place, dpi = struct.pack(order + "II", 5, 2), struct.pack(order + "II", 300, 1)
    extra = [
        (0x000B, ASCII, 9, b"Scan 1.0\0"),
        (0x011A, RATIONAL, 1, dpi),
        (0x011B, RATIONAL, 1, dpi),
        (0x011E, RATIONAL, 1, place),
        (0x011F, RATIONAL, 1, place),
        (0x0129, SHORT, 2, struct.pack(order + "HH", 3, 9)),
        (0x012D, SHORT, 768, struct.pack(order + "768H", *range(0, 65_280, 85))),
        (0x0156, SHORT, 6, struct.pack(order + "6H", *range(6))),
    ]
    source, target = (tiff(tmp_path / name, resunit="inch") for name in ("a.tif", "b.tif"))  # as outputs
    append(source, block(order, extra=extra))
    with source.open("rb") as file:
        carried = exif_build.block_of(exif.tags_in(TiffReader(file)))
    assert tiff_append.without_place(carried) == ([], 0)
    append(target, fix(carried))
    with Image.open(target) as image:
        tags = image.getexif()
        assert (tags[0x000B], tags[0x011E], tags[0x011F], tags[0x0129]) == ("Scan 1.0", 2.5, 2.5, (3, 9))
        assert tags[0x012D] == tuple(range(0, 65_280, 85))
        assert tags[0x0156] == tuple(range(6))

    long = block(order, extra=[(0x012D, SHORT, 769, bytes(1538)), (0x0157, 1, 4, b"path")])
    assert tiff_append.without_place(long) == ([0x012D, 0x0157], 0)
    append(target, fix(long))
    with Image.open(target) as image:
        assert not image.getexif().keys() & {0x0157}


def test_a_big_endian_tiff_file_gets_tags_in_its_own_order(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(
        b"MM\0*" + struct.pack(">IH", 8, 1) + struct.pack(">HHIHH", 0x0100, SHORT, 1, 64, 0) + b"\0\0\0\0"
    )
    append(path, block("<"))
    with path.open("rb") as file:
        reader = TiffReader(file)
        assert exif.tags_in(reader).descriptive() == exif.tags_of(block("<")).descriptive()
        assert reader.numbers(reader.ifd0.find(0x0100)) == [64]


def test_what_tells_how_pixels_are_stored_never_comes_from_the_block(tmp_path: Path) -> None:
    extra = [(0x0100, SHORT, 1, struct.pack("<H", 9)), (0x0103, SHORT, 1, struct.pack("<H", 6))]
    path = tiff(tmp_path / "a.tif")
    append(path, block(extra=extra, orientation=8))
    with path.open("rb") as file:
        reader = TiffReader(file)
        assert reader.numbers(reader.ifd0.find(0x0100)) == [64]
        assert reader.numbers(reader.ifd0.find(0x0103)) == [1]
        assert reader.numbers(reader.ifd0.find(0x0112)) == [1]


@pytest.mark.parametrize(
    ("unit", "across", "found"),
    [
        (2, (300, 1), (300 / 25.4, 150 / 25.4)),
        (None, (300, 1), (300 / 25.4, 150 / 25.4)),
        (3, (236, 2), (11.8, 15.0)),
        (1, (300, 1), None),
        (2, (300, 0), None),
        (2, None, None),
    ],
)
def test_resolution(
    unit: int | None, across: tuple[int, int] | None, found: tuple[float, float] | None
) -> None:
    main = {0x011B: Value(5, struct.pack("<II", 150, 1))}
    if across is not None:
        main[0x011A] = Value(5, struct.pack("<II", *across))
    if unit is not None:
        main[0x0128] = Value(3, struct.pack("<H", unit))
    assert exif.resolution(exif_build.block_of(Tags(main=main))) == (pytest.approx(found) if found else None)


@pytest.mark.parametrize("end", [b"", b"!"])
def test_texts_in_utf_16_follow_the_byte_order(tmp_path: Path, end: bytes) -> None:
    comment = b"UNICODE\0" + "Größe".encode("utf-16-be") + end
    big = Layout(">", big=False)
    tags = Tags(exif={0x9286: Value(7, b"UNICODE\0" + "Größe".encode("utf-16-le") + end)})
    data = b"MM\0*" + big.offset(8) + exif_build.directories(big, tags, 8)
    assert comment in data
    assert exif.tags_of(data) == tags
    path = tmp_path / "a.tif"
    picture = pyvips.Image.black(8, 8)
    picture.tiffsave(str(path))
    append(path, data)
    found = exiftool(path)
    assert found["ExifIFD:UserComment"].startswith("Größe")
    assert "ExifTool:Warning" not in found


def tables(order: str) -> dict[int, bytes]:
    """Exif's tables of undefined type, in a byte order."""

    def shorts(*numbers: int) -> bytes:
        return struct.pack(f"{order}{len(numbers)}H", *numbers)

    text = "Größe\0".encode("utf-16-le" if order == "<" else "utf-16-be")
    rationals = struct.pack(f"{order}4i", -1, 3, 2, 5)
    return {
        0x8828: shorts(2, 1) + b"lux\0red\0" + rationals,  # OECF
        0xA20C: shorts(1, 2) + b"lines\0" + rationals,  # SpatialFrequencyResponse
        0xA302: shorts(2, 2) + bytes([0, 1, 1, 2]),  # CFAPattern
        0xA40B: shorts(1, 1) + text,  # DeviceSettingDescription
    }


def test_tables_follow_the_byte_order(tmp_path: Path) -> None:
    for order, start in (("<", b"II*\0"), (">", b"MM\0*")):
        layout = Layout(order, big=False)
        tags = Tags(exif={tag: Value(UNDEFINED, data) for tag, data in tables("<").items()})
        data = start + layout.offset(8) + exif_build.directories(layout, tags, 8)
        assert all(table in data for table in tables(order).values())
        assert exif.tags_of(data) == tags
    path = tmp_path / "a.tif"
    pyvips.Image.black(8, 8).tiffsave(str(path))
    append(path, data)
    assert exiftool(path)["ExifIFD:CFAPattern"] == "2 2 0 1 1 2"


@pytest.mark.parametrize("tag", tables("<"))
@pytest.mark.parametrize(
    "data", [b"\0\2\0", b"\xff\xff\xff\xffab", b"\2\0\1\0names\0" + bytes(15), b"\0" * 6]
)
def test_what_only_claims_to_be_a_table_stays_as_it_is(tag: int, data: bytes) -> None:
    layout, tags = Layout(">", big=False), Tags(exif={tag: Value(UNDEFINED, data)})
    made = b"MM\0*" + layout.offset(8) + exif_build.directories(layout, tags, 8)
    assert exif.tags_of(made) == tags


def test_exiftool_reads_the_tags_of_the_tiff_file(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif")
    append(path, fix(block(">")))
    found = exiftool(path)
    assert found["ExifIFD:DateTimeOriginal"] == TAKEN[:-1].decode()
    assert found["GPS:GPSLatitude"] == pytest.approx(48 + 8 / 60 + 15 / 3600)
    assert found["InteropIFD:InteropIndex"] == "R98"
    assert found["ExifTool:Warning"] == "[minor] Unrecognized MakerNotes"  # and nothing else


def test_exiftool_finds_nothing_wrong_with_a_corrected_block(tmp_path: Path) -> None:
    path = tmp_path / "a.exif"
    path.write_bytes(fix(block()))
    found = exiftool(path)
    assert found["IFD0:Software"] == "srbatch 1.0"
    assert found["ExifIFD:ExifImageWidth"] == 70_000
    assert not any(key.startswith("IFD1") for key in found)


def test_a_text_value_survives_as_it_is() -> None:
    tags = Tags(main={0x010E: Value(ASCII, "Straße\0".encode("latin-1"))})
    assert exif.tags_of(exif_build.block_of(tags)) == tags
