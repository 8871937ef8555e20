"""Tags at the end of a TIFF file, and a MakerNote among its pixels: nothing that was there is harmed."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
import pyvips

from srbatch.containers import exif_build, tiff_append
from srbatch.containers.exif import (
    EXIF_IFD,
    FIRST_FREE,
    MAKER_NOTE,
    PADDING,
    Tags,
    maker_note_at,
    tags_in,
    tags_of,
)
from srbatch.containers.tiff_structure import Layout, TiffReader, Value
from srbatch.errors import PhotoTooLarge

NOTE = Value(7, b"Maker\0" + bytes(range(255, 55, -1)) + b"odd")
STRIPS, TILES = (0x0111, 0x0117), (0x0144, 0x0145)


def tiff(path: Path, **options: Any) -> Path:
    """A picture whose rows all differ, not compressed unless asked: any byte that changes is seen."""
    x, y = pyvips.Image.xyz(96, 64).bandsplit()
    picture = ((x * 5 + y * 7) % 251).cast("uchar").copy(interpretation="b-w")
    picture.tiffsave(str(path), **{"tile_height": 8, **options})
    return path


def pages(path: Path, **where: Any) -> list[bytes]:
    first = pyvips.Image.new_from_file(str(path), revalidate=True)
    count = first.get("n-subifds") + 1 if where else first.get("n-pages")
    found = [{"subifd": n - 1} if where and n else {} if where else {"page": n} for n in range(count)]
    return [
        pyvips.Image.new_from_file(str(path), revalidate=True, **which).write_to_memory() for which in found
    ]


def read(path: Path) -> TiffReader:
    return TiffReader(io.BytesIO(path.read_bytes()))


def append(path: Path, block: bytes) -> None:
    tiff_append.append_metadata(path, block, xmp=None, iptc=None, extra_is_data=False)


def block(note_at: int) -> bytes:
    """A block with its MakerNote there."""
    made = exif_build.block_of(Tags(exif={MAKER_NOTE: NOTE}), note_at=note_at)
    assert maker_note_at(TiffReader(io.BytesIO(made))) == note_at
    return made


def block_with_its_note_in_front(at: int) -> bytes:
    """A block whose MakerNote begins where BigTIFF still has its header."""
    layout, note = Layout("<", big=False), Value(7, NOTE.data[:100])
    entry = layout.entry(MAKER_NOTE, note, at)[0]
    made = b"II*\0" + layout.offset(200) + bytes(at - 8) + note.data
    made = made.ljust(200, b"\0") + layout.directory({EXIF_IFD: Value.long(300)}, 200)
    return made.ljust(300, b"\0") + layout.directory({MAKER_NOTE: entry}, 300)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("at", [8, 12, 15])
def test_a_maker_note_never_takes_the_place_of_the_header(tmp_path: Path, at: int, bigtiff: bool) -> None:
    found = block_with_its_note_in_front(at)
    assert tiff_append.moves_maker_note(found)
    path = tiff(tmp_path / "a.tif", bigtiff=bigtiff)
    before = pages(path)
    append(path, found)
    assert pages(path) == before
    reader = read(path)
    assert maker_note_at(reader) not in (None, at)
    assert tags_in(reader).exif == tags_of(found).exif


def test_behind_the_header_it_stays_in_its_place() -> None:
    assert not tiff_append.moves_maker_note(block(FIRST_FREE))


@pytest.mark.parametrize("kind", [{"tile_height": 8}, {"tile": True, "tile_width": 32, "tile_height": 16}])
@pytest.mark.parametrize("where", ["on the last byte", "behind", "up to the first byte", "in front"])
def test_a_maker_note_costs_no_byte_of_the_pixels_around_it(
    tmp_path: Path, kind: dict[str, Any], where: str
) -> None:
    """Of strips or tiles that it covers by a single byte, and of those that it only touches."""
    path = tiff(tmp_path / "a.tif", **kind)
    reader, before = read(path), pages(path)
    places, sizes = TILES if "tile" in kind else STRIPS
    start = reader.numbers(reader.ifd0.find(places))[4]
    size = reader.numbers(reader.ifd0.find(sizes))[4]
    end, length = start + size, len(NOTE.data) + len(NOTE.data) % 2
    at = {
        "on the last byte": end - 1,
        "behind": end,
        "up to the first byte": start + 1 - length,
        "in front": start - length,
    }[where]
    append(path, block(at))
    assert maker_note_at(read(path)) == at
    assert pages(path) == before


@pytest.mark.parametrize("at", [16, 700, 3000, 9000])
@pytest.mark.parametrize("inside", [{}, {"subifd": True}], ids=["behind it", "inside"])
def test_further_pictures_of_a_file_stay_whole(tmp_path: Path, inside: dict[str, Any], at: int) -> None:
    kind = {"tile": True, "tile_width": 16, "tile_height": 16, "pyramid": True, **inside}
    path = tiff(tmp_path / "a.tif", **kind)
    before = pages(path, **inside)
    assert len(before) > 2
    append(path, block(at))
    assert pages(path, **inside) == before
    assert maker_note_at(read(path)) is not None


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("covered", ["the list of places", "nothing", None])
def test_directories_and_values_begin_at_even_offsets(tmp_path: Path, odd: bool, covered: str | None) -> None:
    """TIFF 6.0, section 2, expects them on word boundaries."""
    path = tiff(tmp_path / "a.tif")
    before, places = pages(path), read(path).ifd0.find(STRIPS[0])
    assert places is not None
    with path.open("ab") as file:
        file.write(b"\0" * ((path.stat().st_size % 2 == 0) == odd))
    match covered:
        case None:  # nor is there a MakerNote
            append(path, exif_build.block_of(Tags(main={0x010E: Value.text("described")})))
        case "nothing":
            append(path, block(50_000))
        case _:  # it ends within the list, before the end of the file
            append(path, block(places.value_at + 2 - len(NOTE.data)))
    reader = read(path)
    outside = [e for e in reader.ifd0.entries if e.size > reader.layout.offset_size]
    assert {offset % 2 for offset in (reader.ifd0.at, *(e.value_at for e in outside))} == {0}
    assert pages(path) == before


@pytest.mark.skipif(os.name == "nt", reason="holes take room there")
def test_a_file_that_passes_4_gb_with_its_metadata_is_refused(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif")
    before, pixels = path.read_bytes()[:1000], pages(path)
    with path.open("r+b") as file:
        file.truncate(2**32 - 10)  # a hole, which takes no room
    with pytest.raises(PhotoTooLarge, match="write BigTIFF"):
        append(path, block(16_000))
    with path.open("rb") as file:
        assert file.read(8) == before[:8]
    with path.open("r+b") as file:
        file.truncate(2**32 - 10_000)
    append(path, exif_build.block_of(Tags(main={0x010E: Value.text("just below")})))
    assert pages(path) == pixels


@pytest.mark.skipif(os.name == "nt", reason="holes take room there")
def test_a_bigtiff_file_of_more_than_4_gb_gets_its_tags(tmp_path: Path) -> None:
    path, found = tiff(tmp_path / "a.tif", bigtiff=True), block(16_000)
    before = pages(path)
    with path.open("r+b") as file:
        file.truncate(2**32 + 10)
    append(path, found)
    with path.open("rb") as file:
        assert tags_in(TiffReader(file)).exif == {MAKER_NOTE: NOTE}
    assert pages(path) == before


def test_what_a_tiff_file_has_no_place_for_is_named() -> None:
    place = {tag: Value.rational(5, 2) for tag in (0x011E, 0x011F)}
    resolution = {tag: Value.rational(300, 1) for tag in (0x011A, 0x011B)}
    unit = {number: {0x0128: Value.short(number)} for number in (1, 2, 3)}
    for number, lost in ((1, [0x011E, 0x011F]), (2, []), (3, [])):
        named = exif_build.block_of(Tags(main={**place, **unit[number], **resolution}))
        assert tiff_append.without_place(named) == (lost, 0)
    unmeasured = exif_build.block_of(Tags(main={**place, **unit[2]}))
    assert tiff_append.without_place(unmeasured) == ([0x011E, 0x011F], 0), "no unit without a resolution"
    room = exif_build.block_of(Tags(main={PADDING: Value(7, bytes(40)), 0x0157: Value(1, b"path!")}))
    assert tiff_append.without_place(room) == ([0x0157], 0), "room for more is none of its tags"
