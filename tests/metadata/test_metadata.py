"""From a photo's metadata to that of its enlargement, in files that others can read."""

from __future__ import annotations

import codecs
import functools
import io
import os
import sys
import tempfile
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srbatch.containers import exif, exif_build
from srbatch.containers.blocks import C2PA_LOST, GAIN_MAP_LOST
from srbatch.errors import UnreadablePhoto, UnsupportedPhoto, WrongOutput
from srbatch.formats import Format
from srbatch.metadata import reading, writing, xmp
from srbatch.metadata.reading import Metadata
from srbatch.placement import Placement
from tests.conftest import WRITTEN
from tests.encoded import (
    ENHANCED,
    FULL,
    HEIGHT,
    MANAGED,
    PACKET,
    WIDTH,
    but_history,
    history,
    parsed,
    wanted,
    written,
)
from tests.files import (
    EXIF,
    ICC,
    IPTC,
    LARGE_ICC,
    MOTION,
    TAKEN,
    block,
    chunk,
    encoded,
    exiftool,
    segment,
    splice,
)

# ---- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fmt", "options"),
    [
        (Format.JPEG, {}),
        (Format.PNG, {}),
        (Format.WEBP, {"lossless": True}),
        (Format.TIFF, {"compression": "deflate"}),
        (Format.TIFF, {"bigtiff": True}),
    ],
    ids=["JPEG", "PNG", "WebP", "TIFF", "BigTIFF"],
)
def test_everything_arrives_in_every_format(tmp_path: Path, fmt: Format, options: dict[str, Any]) -> None:
    source = replace(FULL, icc=LARGE_ICC, iptc=None if fmt is Format.WEBP else IPTC)
    meta = wanted(source, fmt)
    path = written(tmp_path / "out", fmt, meta, **options)
    writing.verify(path, fmt, meta)

    found = reading.read(path, fmt)
    assert (found.icc, found.iptc, found.orientation) == (LARGE_ICC, source.iptc, 1)
    assert found.notes == ()
    with Image.open(path) as image:
        image.load()
        assert image.info["icc_profile"] == LARGE_ICC
        tags = image.getexif()
        below, gps = tags.get_ifd(0x8769), tags.get_ifd(0x8825)
        assert (tags[0x0112], tags[0x0131], tags[0x010F]) == (1, "srbatch 1.0", "Camera")
        assert (below[0xA002], below[0xA003], below[0x9003]) == (WIDTH, HEIGHT, TAKEN[:-1].decode())
        assert gps[2] == (48.0, 8.0, 15.0)


@pytest.mark.parametrize("fmt", WRITTEN)
def test_exiftool_reads_everything(tmp_path: Path, fmt: Format) -> None:
    meta = wanted(replace(FULL, iptc=None if fmt is Format.WEBP else IPTC), fmt)
    found = exiftool(written(tmp_path / "out", fmt, meta))
    assert found["IFD0:Software"] == "srbatch 1.0"
    assert found["ExifIFD:DateTimeOriginal"] == TAKEN[:-1].decode()
    assert found["Composite:GPSLatitude"] == pytest.approx(48 + 8 / 60 + 15 / 3600)
    assert found["XMP-iptcExt:DigitalSourceType"] == ENHANCED
    assert found["XMP-tiff:Orientation"] == 1
    assert found.get("IPTC:Caption-Abstract") == (None if fmt is Format.WEBP else "Caption")
    assert found.get("ExifTool:Warning") == "[minor] Unrecognized MakerNotes"  # and nothing else
    if fmt is Format.JPEG:
        assert (found["JFIF:XResolution"], found["JFIF:ResolutionUnit"]) == (300, 1)


@pytest.mark.parametrize("source", WRITTEN)
@pytest.mark.parametrize("target", WRITTEN)
def test_a_second_enlargement_keeps_all_of_the_first(tmp_path: Path, source: Format, target: Format) -> None:
    first = wanted(replace(FULL, iptc=None), source)
    read = reading.read(written(tmp_path / "1", source, first), source)
    second = wanted(read, target)
    path = written(tmp_path / "2", target, second)
    writing.verify(path, target, second)
    again = reading.read(path, target)
    assert but_history(again.xmp) == but_history(first.xmp)
    events = history(again.xmp)
    assert events[:-1] == history(first.xmp)
    assert len(events) == 2
    assert exif.tags_of(again.exif).descriptive() == exif.tags_of(first.exif).descriptive()
    assert again.icc == first.icc


def test_a_photo_that_says_nothing_gets_its_provenance_only(tmp_path: Path) -> None:
    meta = wanted(Metadata(), Format.JPEG)
    assert exif.tags_of(meta.exif).main.keys() == {exif.SOFTWARE}
    assert [name for name, _ in parsed(meta.xmp)] == [
        *("DerivedFrom", "DigitalSourceType", "History", "InstanceID")
    ]
    assert ("DigitalSourceType", ENHANCED) in parsed(meta.xmp)
    assert ("DerivedFrom", f"sha256:{'5' * 64}") in parsed(meta.xmp)
    writing.verify(written(tmp_path / "out", Format.JPEG, meta), Format.JPEG, meta)


def test_without_provenance_nothing_is_added_and_sizes_are_still_right() -> None:
    assert wanted(Metadata(), Format.PNG, provenance=None) == Metadata()
    meta = wanted(FULL, Format.PNG, provenance=None)
    assert exif.SOFTWARE not in exif.tags_of(meta.exif).main
    properties = parsed(meta.xmp)
    for property_ in (("Orientation", "1"), ("PixelXDimension", str(WIDTH)), ("DigitalSourceType", "")):
        assert property_ in properties  # the last one is the source's own, with its value in an attribute


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_any_name_will_do(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg"))
    path.write_bytes(encoded(".jpg"))
    assert reading.read(path, Format.JPEG) == Metadata()


def test_verify_names_what_is_missing(tmp_path: Path) -> None:
    meta = wanted(FULL, Format.TIFF)
    path = written(tmp_path / "out", Format.TIFF, meta)
    for name, other in (
        ("ICC profile", replace(meta, icc=None)),
        ("EXIF block", replace(meta, exif=exif_build.minimal("another", None))),
        ("XMP packet", replace(meta, xmp=PACKET)),
        ("IPTC block", replace(meta, iptc=b"\x1c\2\x05\0\1b")),
    ):
        with pytest.raises(WrongOutput, match=name):
            writing.verify(path, Format.TIFF, other)


@pytest.mark.parametrize(
    ("fmt", "name", "lost"),
    [
        (Format.PNG, "PNG chunks of its colours", {"png_colour": (b"gAMA" + (100_000).to_bytes(4, "big"),)}),
        (Format.PNG, "texts of the PNG file", {"png_text": (b"tEXtTitle\0Oma",)}),
        (Format.JPEG, "comments of the JPEG file", {"comments": (b"Oma",)}),
    ],
    ids=["gamma", "text", "comment"],
)
def test_verify_names_what_one_format_alone_holds(
    tmp_path: Path, fmt: Format, name: str, lost: dict[str, Any]
) -> None:
    meta = replace(wanted(FULL, fmt), icc=None)
    whole = written(tmp_path / "whole", fmt, replace(meta, **lost))
    writing.verify(whole, fmt, replace(meta, **lost))
    with pytest.raises(WrongOutput, match=name):
        writing.verify(written(tmp_path / "out", fmt, meta), fmt, replace(meta, **lost))


def test_tags_that_a_tiff_file_has_no_place_for_are_told() -> None:
    source = replace(FULL, exif=block(extra=[(0xC4A5, 7, 4, b"Prnt"), (0x0213, 3, 1, b"\1\0")]))
    assert wanted(source, Format.TIFF).notes == (
        "the EXIF tag 0xC4A5, for which TIFF has no place, was not carried",
    )
    assert wanted(source, Format.PNG).notes == ()


# ---- reading -------------------------------------------------------------------------------------


def read_bytes(tmp_path: Path, fmt: Format, data: bytes) -> Metadata:
    path = tmp_path / "source"
    path.write_bytes(data)
    return reading.read(path, fmt)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_from_all_formats(tmp_path: Path, orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    for fmt in WRITTEN:
        file = io.BytesIO()
        Image.new("RGB", (9, 7)).save(file, fmt.name, exif=tags)
        assert read_bytes(tmp_path, fmt, file.getvalue()).orientation == orientation


@pytest.mark.parametrize(
    "rubbish", [b"II*\0rubbish!", b"II+\0\x08\0\0\0\x10" + bytes(64)], ids=["rubbish", "BigTIFF"]
)
def test_a_damaged_exif_block_is_told_and_left_out(tmp_path: Path, rubbish: bytes) -> None:
    data = splice(encoded(".jpg"), 2, segment(0xE1, b"Exif\0\0" + rubbish))
    found = read_bytes(tmp_path, Format.JPEG, data)
    assert (found.exif, found.orientation) == (None, 1)
    assert [note.partition(":")[0] for note in found.notes] == [
        "the EXIF block is damaged and was not carried"
    ]


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b'<!DOCTYPE x [<!ENTITY a "b">]>' + PACKET, "document type declaration"),
        (PACKET[:300], "not well-formed"),
        (b"<x/>", "holds no properties"),
        (b"", "not well-formed"),
        (codecs.BOM_UTF16_LE + b"<\0\0\xd8", "is damaged (unexpected end"),
    ],
    ids=["DOCTYPE", "cut off", "no RDF", "empty", "UTF-16, cut off"],
)
def test_an_xmp_packet_that_cannot_be_corrected_is_told_and_left_out(
    tmp_path: Path, packet: bytes, why: str
) -> None:
    data = splice(encoded(".png"), 33, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
    if b"\xff\xfe" in packet:
        data = splice(encoded(".jpg"), 2, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet))
    found = read_bytes(tmp_path, Format.JPEG if data[:1] == b"\xff" else Format.PNG, data)
    assert found.xmp is None
    assert len(found.notes) == 1
    assert why in found.notes[0]
    assert found.notes[0].endswith("was not carried")


@pytest.mark.parametrize("marked", [True, False], ids=["BOM", "no BOM"])
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_packet_in_another_encoding_of_unicode_is_carried_in_utf_8(
    tmp_path: Path, codec: str, marked: bool
) -> None:
    mark = "\ufeff" * marked
    packet = (mark + PACKET.decode()).encode(codec)
    data = splice(encoded(".jpg"), 2, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet))
    found = read_bytes(tmp_path, Format.JPEG, data)
    assert (found.xmp, found.notes) == (PACKET, ())
    # Of a sidecar, which may begin like a document and, in a TIFF file, end in zeros.
    whole = (mark + "<?xml version='1.0' encoding='UTF-16'?>" + PACKET.decode()).encode(codec) + b"\0"
    made, expected = (
        xmp.corrected(
            packet, Placement(1, (48, 64), (HEIGHT, WIDTH)), fmt=Format.PNG, turned=True, provenance=None
        )
        for packet in (whole, PACKET)
    )
    assert made == expected


def test_an_output_does_not_claim_the_video_or_the_gain_map_of_its_photo(tmp_path: Path) -> None:
    """Viewers that believe it look for what is not there."""
    for gain_map in (False, True):
        packet = MOTION.format(' hdrgm:Version="1.0"' if gain_map else "").encode()
        data = splice(encoded(".jpg"), 2, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet))
        found = read_bytes(tmp_path, Format.JPEG, data)
        assert found.notes == ((GAIN_MAP_LOST,) if gain_map else ())
        made = wanted(found, Format.JPEG, provenance=None).xmp
        assert parsed(made) == [("SpecialTypeID", "none"), ("title", "Oma")]
        assert b"4321" not in (made or b"")


@pytest.mark.parametrize("fmt", WRITTEN)
def test_an_output_tells_its_own_format_and_no_manifest_that_is_not_there(fmt: Format) -> None:
    terms = "<t:provenance xmlns:t='http://purl.org/dc/terms/'>{}</t:provenance>"
    says = "<d:format xmlns:d='http://purl.org/dc/elements/1.1/'>image/x-adobe-dng</d:format>"
    manifest, statement = "https://cai.example.org/manifests/1", "https://archive.example.org/fonds/12"
    for place, stays, told in (
        ("self#jumbf=/c2pa/urn:uuid:1", False, False),  # what the file holds itself is told as it is read
        (manifest, False, True),
        ("https://example.org/1.c2pa", False, True),
        (statement, True, False),
        ("bequest of A. Huber, 1961", True, False),
    ):
        source = replace(FULL, iptc=None, xmp=(MANAGED % (says + terms.format(place))).encode())
        output = wanted(source, fmt, provenance=None)
        found = dict(parsed(output.xmp))
        assert found["format"] == f"image/{fmt.value}"
        assert found.get("provenance") == (place if stays else None)
        assert (C2PA_LOST in output.notes) is told
        events = history(wanted(source, fmt).xmp)
        assert (f"C2PA manifest before: {place}" in events[-1]["parameters"]) is told
    assert "format" not in dict(parsed(wanted(replace(FULL, iptc=None), fmt).xmp))


@pytest.mark.parametrize("fmt", WRITTEN)
@given(changes=st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), max_size=8))
def test_a_damaged_photo_is_refused_or_gets_sound_metadata(
    fmt: Format, changes: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = bytearray(whole(fmt))
    for at, byte in changes:
        damaged[at % len(damaged)] = byte
    path = tmp_path_factory.getbasetemp() / f"damaged.{fmt.value}"
    path.write_bytes(damaged)
    with suppress(UnreadablePhoto, UnsupportedPhoto):
        meta = reading.read(path, fmt)
        for target in WRITTEN:
            wanted(meta, target)


@functools.cache
def whole(fmt: Format) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        meta = wanted(replace(FULL, icc=None, iptc=None), fmt)
        return written(Path(folder) / "whole", fmt, meta).read_bytes()


@pytest.mark.parametrize("fmt", WRITTEN)
def test_errors_of_the_file_system_pass_through(tmp_path: Path, fmt: Format) -> None:
    with pytest.raises(FileNotFoundError):
        reading.read(tmp_path / "nothing", fmt)
    with pytest.raises(UnreadablePhoto):
        read_bytes(tmp_path, fmt, b"")


# ---- what a format cannot hold -------------------------------------------------------------------


def test_what_has_no_place_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedPhoto, match="IPTC block, which WebP cannot hold; JPEG, PNG and TIFF can"):
        wanted(FULL, Format.WEBP)
    with pytest.raises(UnsupportedPhoto, match=r"EXIF block of .* too large for JPEG"):
        wanted(replace(FULL, exif=EXIF + bytes(65_000)), Format.JPEG)


def test_texts_go_where_there_is_a_place_for_them(tmp_path: Path) -> None:
    source = Metadata(comments=("Größe".encode(),))
    meta = wanted(source, Format.PNG)
    with Image.open(written(tmp_path / "a.png", Format.PNG, meta)) as image:
        assert image.info["Comment"] == "Größe"

    packed = b"zTXtDescription\0\0" + zlib.compress(b"by the sea")
    source = Metadata(png_text=(b"tEXtAuthor\0Anna", packed, b"iTXtBroken\0"))
    meta = wanted(source, Format.JPEG)
    assert meta.comments == (b"Author: Anna", b"Description: by the sea")
    assert len(meta.notes) == 1
    assert wanted(source, Format.PNG).png_text == source.png_text

    assert wanted(source, Format.WEBP).notes == (
        "3 text comments ('Author', 'Description', 'Broken'), for which WebP has no place, were not carried",
    )


def test_only_srgb_is_taken_for_srgb() -> None:
    def colour(**values: bytes) -> Metadata:
        return Metadata(png_colour=tuple(kind.encode() + data for kind, data in values.items()))

    gamma = (45_455).to_bytes(4, "big")
    linear = (100_000).to_bytes(4, "big")
    adobe = b"".join(n.to_bytes(4, "big") for n in (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000))
    reading.check_colour(Metadata())
    reading.check_colour(colour(gAMA=gamma))
    reading.check_colour(colour(gAMA=linear, sRGB=b"\0"))
    reading.check_colour(replace(colour(gAMA=linear), icc=ICC))
    reading.check_colour(colour(cICP=b"\1\x0d\0\1"))
    assert wanted(colour(gAMA=linear), Format.PNG).png_colour
    with pytest.raises(UnsupportedPhoto, match="gamma is 1 "):
        wanted(colour(gAMA=linear), Format.TIFF)
    with pytest.raises(UnsupportedPhoto, match="cICP"):
        reading.check_colour(colour(cICP=b"\x09\x10\0\1"))
    wide = colour(gAMA=gamma, cHRM=adobe)
    assert wanted(wide, Format.PNG).png_colour == wide.png_colour
    with pytest.raises(UnsupportedPhoto, match="cHRM"):
        wanted(wide, Format.JPEG)


def test_srgb_stays_in_png_but_never_beside_a_profile(tmp_path: Path) -> None:
    source = Metadata(png_colour=(b"sRGB\0",))
    path = written(tmp_path / "a.png", Format.PNG, wanted(source, Format.PNG))
    assert reading.read(path, Format.PNG).png_colour == source.png_colour
    assert wanted(replace(source, icc=ICC), Format.PNG).png_colour == ()
    assert wanted(source, Format.WEBP).png_colour == ()


def test_an_orientation_in_xmp_alone_stays_since_the_pixels_were_not_turned() -> None:
    kept = wanted(replace(FULL, exif=None, orientation=1), Format.JPEG).xmp
    assert kept is not None
    assert b'tiff:Orientation="6"' in kept


def test_an_orientation_is_void_where_the_codec_turned_the_picture() -> None:
    made = wanted(replace(FULL, iptc=None, orientation=1, turned_by_codec=True), Format.AVIF)
    assert ("Orientation", "1") in parsed(made.xmp)
    assert not made.turned_by_codec
