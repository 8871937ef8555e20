"""How many pixels an inch has: carried where a file says so, never made up from numbers without a unit."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, TiffImagePlugin

from srbatch.codecs import picture
from srbatch.formats import Format
from tests.conftest import Originals, crop
from tests.files import LARGE_ICC
from tests.networks import upscaled


def saved(fmt: str, **how: Any) -> bytearray:
    file = io.BytesIO()
    crop(20, 30).save(file, fmt, **how)
    return bytearray(file.getvalue())


def jfif(unit: int, across: int, down: int) -> bytes:
    data = saved("JPEG", dpi=(300, 300))
    at = data.index(b"JFIF\0")
    data[at + 7 : at + 12] = struct.pack(">BHH", unit, across, down)
    return bytes(data)


def phys(unit: int, across: int, down: int) -> bytes:
    data = saved("PNG", dpi=(300, 300))
    at = data.index(b"pHYs")
    body = b"pHYs" + struct.pack(">IIB", across, down, unit)
    data[at : at + 17] = body + struct.pack(">I", zlib.crc32(body))
    return bytes(data)


def tiff(unit: int, across: float) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[296], tags[282], tags[283] = unit, across, across
    return bytes(saved("TIFF", tiffinfo=tags))


def exif(unit: int, across: float, **how: Any) -> bytes:
    tags = Image.Exif()
    tags[0x11A], tags[0x11B], tags[0x128] = across, across, unit
    return bytes(saved("JPEG", exif=tags.tobytes(), **how))


@pytest.mark.parametrize(
    ("data", "dpi"),
    [
        (jfif(1, 300, 300), (300, 300)),
        (jfif(2, 118, 118), (299.7, 299.7)),
        (jfif(0, 72, 72), None),
        (jfif(0, 2, 1), None),
        (phys(1, 11811, 11811), (300, 300)),
        (phys(1, 1000, 2000), (25.4, 50.8)),
        (phys(0, 2, 1), None),
        (tiff(2, 300), (300, 300)),
        (tiff(3, 118), (299.7, 299.7)),
        (tiff(1, 72), None),
        (exif(2, 300), (300, 300)),
        (exif(1, 72), None),
        (exif(1, 300, dpi=(72, 72)), (72, 72)),
        (exif(2, 300, dpi=(72, 72)), (300, 300)),
    ],
    ids="inch|cm|none|ratio|PNG|25.4|PNG ratio|TIFF|TIFF cm|TIFF none|EXIF|EXIF none|both|two".split("|"),
)
def test_numbers_without_a_unit_are_no_resolution(
    tmp_path: Path, data: bytes, dpi: tuple[float, float] | None
) -> None:
    (tmp_path / "a").write_bytes(data)
    found = picture.decode(tmp_path / "a", tmp_path / "raw", 1e9).resolution
    assert (found and tuple(25.4 * value for value in found)) == (dpi and pytest.approx(dpi, rel=1e-3))


@pytest.mark.parametrize("icc", [False, True], ids=["", "ICC"])
@pytest.mark.parametrize("target", [Format.TIFF, Format.JPEG, Format.PNG])
@pytest.mark.parametrize("name", ["a.tif", "a.jpg", "a.png"])
def test_where_nothing_is_known_an_output_says_nothing(
    originals: Originals, tmp_path: Path, name: str, target: Format, icc: bool
) -> None:
    data = {"a.tif": tiff(1, 72), "a.jpg": jfif(0, 72, 72), "a.png": phys(0, 72, 72)}[name]
    (originals.folder / name).write_bytes(data)
    if icc:
        with Image.open(io.BytesIO(data)) as image:
            image.save(originals.folder / name, icc_profile=LARGE_ICC)
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", format=target).values()
    assert outcome.status == "done", outcome
    (made,) = (tmp_path / "hi").glob("a.*")
    assert picture.decode(made, tmp_path / "raw", 1e9).resolution is None
    with Image.open(made) as image:
        told = dict(image.info)
        tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {282: 1, 283: 1, 296: 1}
        assert ("icc_profile" in told) == icc
    assert (tags[282], tags[283], tags[296]) == (1, 1, 1), "square pixels, of no size"
    assert "dpi" not in told or told["jfif_unit"] == 0, "Pillow makes 72 up for JPEG"
    assert told.get("jfif_density", (1, 1)) == (1, 1)
    assert told.get("jfif_unit", 0) == 0


@pytest.mark.parametrize("fmt", [Format.WEBP, Format.AVIF])
@pytest.mark.parametrize("provenance", [True, False])
@pytest.mark.parametrize("name", ["a.jpg", "b.jpg", "c.png"])
def test_formats_without_a_place_of_their_own_tell_it_in_exif(
    originals: Originals, tmp_path: Path, name: str, provenance: bool, fmt: Format
) -> None:
    data = {"a.jpg": jfif(1, 300, 600), "b.jpg": exif(2, 600), "c.png": phys(1, 11811, 23622)}[name]
    (originals.folder / name).write_bytes(data)
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", format=fmt, provenance=provenance).values()
    assert outcome.status == "done", outcome
    with Image.open(next((tmp_path / "hi").glob("[a-c]*"))) as made:
        tags = made.getexif()
    across, down = (600, 600) if name == "b.jpg" else (300, 600)
    told = (float(tags[0x11A]), float(tags[0x11B]))
    assert told == (pytest.approx(across, rel=1e-4), pytest.approx(down, rel=1e-4))
    assert tags[0x128] == 2, "inches"


def test_a_photo_on_its_side_tells_its_resolution_upright(originals: Originals, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    data = bytearray(jfif(1, 300, 600))
    with Image.open(io.BytesIO(data)) as image:
        image.save(originals.folder / "a.jpg", dpi=(300, 600), exif=tags)
    originals.remember()
    upscaled(originals.folder, tmp_path / "hi", format=Format.WEBP)
    with Image.open(next((tmp_path / "hi").glob("a*"))) as made:
        found = made.getexif()
    assert (found[0x11A], found[0x11B]) == (pytest.approx(600), pytest.approx(300))


def placed(unit: int, turn: int) -> bytes:
    """A TIFF file that lies 2.5 and 5 units from the corner of its page; unit 0: without resolution."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x112], tags[0x128] = turn, unit or 2
    if unit:
        tags[0x11A], tags[0x11B] = 118.0, 118.0
    tags[0x11E], tags[0x11F] = TiffImagePlugin.IFDRational(5, 2), TiffImagePlugin.IFDRational(5)
    return bytes(saved("TIFF", tiffinfo=tags))


@pytest.mark.parametrize(
    ("unit", "turn", "found", "note"),
    [
        (2, 1, (2.5, 5.0), ""),
        (3, 1, (2.5 / 2.54, 5 / 2.54), ""),
        (1, 1, (None, None), "tag 0x011f, for which tiff has no place"),
        (0, 1, (None, None), "tag 0x011f, for which tiff has no place"),
        (2, 6, (None, None), "page was not carried, as the picture is turned"),
    ],
    ids=["inches", "cm", "no unit", "no resolution", "turned"],
)
def test_the_place_on_a_page_is_told_in_the_unit_of_the_output(
    originals: Originals, tmp_path: Path, unit: int, turn: int, found: tuple[float | None, ...], note: str
) -> None:
    (originals.folder / "a.tif").write_bytes(placed(unit, turn))
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi").values()
    with Image.open(tmp_path / "hi" / "a.tif") as made:
        tags = made.tag_v2
    assert tags[0x128] == (2 if unit > 1 else 1)
    assert tuple(tags.get(tag) for tag in (0x11E, 0x11F)) == pytest.approx(found)
    assert note in " ".join(outcome.notes).lower()
    assert bool(outcome.notes) == bool(note)
