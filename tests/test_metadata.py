"""From a photo's metadata to that of its enlargement, in files that others can read."""

from __future__ import annotations

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
from xml.etree import ElementTree

import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srbatch import exif, metadata
from srbatch.errors import UnreadablePhoto, UnsupportedPhoto, WrongOutput
from srbatch.formats import Format
from srbatch.metadata import Metadata
from tests.conftest import WRITTEN
from tests.test_containers import EXIF, ICC, IPTC, LARGE_ICC, chunk, encoded, picture, segment, splice
from tests.test_exif import TAKEN, block, exiftool

ENHANCED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><!-- by hand -->
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="uuid:1" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
    xmlns:e="http://ns.adobe.com/exif/1.0/" xmlns:own="http://example.org/1/"
    tiff:Orientation="6" tiff:Make='a "tiff:Orientation=1" camera > 0' e:PixelXDimension = '64'>
   <e:PixelYDimension>48</e:PixelYDimension>
   <own:Orientation>6</own:Orientation><own:Empty/>
   <own:Nested rdf:parseType="Resource"><tiff:Orientation>6</tiff:Orientation></own:Nested>
   <xap:Thumbnails xmlns:xap="http://ns.adobe.com/xap/1.0/"><rdf:Alt><rdf:li>/9j/OLD</rdf:li></rdf:Alt>
   </xap:Thumbnails>
  </rdf:Description>
  <rdf:Description rdf:about="uuid:1" xmlns:s="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <s:DigitalSourceType rdf:resource="http://example.org/a&gt;b"/>
   <s:Event>Fête</s:Event>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
            \n<?xpacket end="w"?>""".encode()
FULL = Metadata(icc=ICC, exif=block(">"), xmp=PACKET, iptc=IPTC, orientation=6)
WIDTH, HEIGHT = 256, 192


def wanted(meta: Metadata, fmt: Format, *, source_type: str | None = ENHANCED) -> Metadata:
    return metadata.for_output(
        meta, fmt, width=WIDTH, height=HEIGHT, software="srbatch 1.0", source_type=source_type
    )


def written(path: Path, fmt: Format, meta: Metadata, **options: Any) -> Path:
    """An output as the encoder makes it."""
    image = picture(icc=meta.icc)
    if fmt is Format.TIFF:
        image.tiffsave(str(path), keep="icc", **options)
        metadata.finish_tiff(path, meta)
        return path
    with path.open("xb") as file:
        sink = metadata.open_sink(file, fmt, meta, resolution=(11.811, 11.811))
        target = pyvips.TargetCustom()
        target.on_write(sink.write)
        image.write_to_target(target, fmt.suffixes[0], keep="icc", **options)
        sink.finish()
    return path


def parsed(packet: bytes | None) -> list[tuple[str, str]]:
    """Top-level properties of a packet as an independent parser sees them, sorted."""
    assert packet is not None
    found = []
    for description in ElementTree.fromstring(packet).iter():
        if description.tag.endswith("}Description"):
            found += [(name, value) for name, value in description.attrib.items() if "about" not in name]
            found += [(child.tag, "".join(child.itertext()).strip()) for child in description]
    return sorted((name.rpartition("}")[2], value) for name, value in found)


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
    metadata.verify(path, fmt, meta)

    found = metadata.read(path, fmt)
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
    read = metadata.read(written(tmp_path / "1", source, first), source)
    second = wanted(read, target)
    path = written(tmp_path / "2", target, second)
    metadata.verify(path, target, second)
    again = metadata.read(path, target)
    assert parsed(again.xmp) == parsed(first.xmp)
    assert exif.tags_of(again.exif).descriptive() == exif.tags_of(first.exif).descriptive()
    assert again.icc == first.icc


def test_a_photo_that_says_nothing_gets_its_provenance_only(tmp_path: Path) -> None:
    meta = wanted(Metadata(), Format.JPEG)
    assert exif.tags_of(meta.exif).main.keys() == {exif.SOFTWARE}
    assert parsed(meta.xmp) == [("DigitalSourceType", ENHANCED)]
    metadata.verify(written(tmp_path / "out", Format.JPEG, meta), Format.JPEG, meta)


def test_without_provenance_nothing_is_added_and_sizes_are_still_right() -> None:
    assert wanted(Metadata(), Format.PNG, source_type=None) == Metadata()
    meta = wanted(FULL, Format.PNG, source_type=None)
    assert exif.SOFTWARE not in exif.tags_of(meta.exif).main
    properties = parsed(meta.xmp)
    for property_ in (("Orientation", "1"), ("PixelXDimension", str(WIDTH)), ("DigitalSourceType", "")):
        assert property_ in properties  # the last one is the source's own, with its value in an attribute


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_any_name_will_do(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.jpg"))
    path.write_bytes(encoded(".jpg"))
    assert metadata.read(path, Format.JPEG) == Metadata()


def test_verify_names_what_is_missing(tmp_path: Path) -> None:
    meta = wanted(FULL, Format.TIFF)
    path = written(tmp_path / "out", Format.TIFF, meta)
    for name, other in (
        ("ICC profile", replace(meta, icc=None)),
        ("EXIF block", replace(meta, exif=exif.fresh("another"))),
        ("XMP packet", replace(meta, xmp=PACKET)),
        ("IPTC block", replace(meta, iptc=b"\x1c\2\x05\0\1b")),
    ):
        with pytest.raises(WrongOutput, match=name):
            metadata.verify(path, Format.TIFF, other)


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
    return metadata.read(path, fmt)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_from_all_formats(tmp_path: Path, orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    for fmt in WRITTEN:
        file = io.BytesIO()
        Image.new("RGB", (9, 7)).save(file, fmt.name, exif=tags)
        assert read_bytes(tmp_path, fmt, file.getvalue()).orientation == orientation


def test_a_damaged_exif_block_is_told_and_left_out(tmp_path: Path) -> None:
    found = read_bytes(
        tmp_path, Format.JPEG, splice(encoded(".jpg"), 2, segment(0xE1, b"Exif\0\0II*\0rubbish!"))
    )
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
        (PACKET.decode().encode("utf-16"), "not in UTF-8"),
    ],
    ids=["DOCTYPE", "cut off", "no RDF", "empty", "UTF-16"],
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
        meta = metadata.read(path, fmt)
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
        metadata.read(tmp_path / "nothing", fmt)
    with pytest.raises(UnreadablePhoto):
        read_bytes(tmp_path, fmt, b"")


# ---- XMP -----------------------------------------------------------------------------------------


def test_a_packet_is_corrected_and_otherwise_left_alone() -> None:
    result = wanted(FULL, Format.PNG).xmp
    assert result is not None
    before, after = parsed(PACKET), parsed(result)
    changed = {"Orientation", "PixelXDimension", "PixelYDimension", "Thumbnails", "DigitalSourceType"}
    own = [("Orientation", "6")]  # of a namespace of its own
    assert [p for p in after if p[0] not in changed] == [p for p in before if p[0] not in changed]
    assert [p for p in after if p[0] in changed] == sorted(
        [
            *own,
            ("DigitalSourceType", ENHANCED),
            ("Orientation", "1"),
            ("PixelXDimension", str(WIDTH)),
            ("PixelYDimension", str(HEIGHT)),
        ]
    )
    assert b"/9j/OLD" not in result
    for kept in (
        b"<!-- by hand -->",
        b"<tiff:Orientation>6</tiff:Orientation></own:Nested>",
        "Fête".encode(),
    ):
        assert kept in result
    assert result.count(b'rdf:about="uuid:1"') == 2
    assert result.startswith(PACKET[:50])
    assert result.endswith(b'<?xpacket end="w"?>')


def test_correcting_a_packet_again_changes_nothing_it_says() -> None:
    once = wanted(FULL, Format.PNG)
    twice = wanted(once, Format.PNG)
    assert parsed(twice.xmp) == parsed(once.xmp)
    assert twice.xmp == once.xmp


def test_a_source_type_is_added_to_a_packet_about_the_same_photo() -> None:
    bare = PACKET.replace(b"DigitalSourceType", b"AnotherProperty")
    result = wanted(replace(FULL, xmp=bare), Format.PNG).xmp
    assert result is not None
    assert result.count(b'rdf:about="uuid:1"') == 3
    assert ("DigitalSourceType", ENHANCED) in parsed(result)


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(32, 124)), max_size=4))
def test_a_damaged_packet_is_refused_or_comes_out_well_formed(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(PACKET)
    for at, byte in changes:
        damaged[at % len(damaged)] = byte
    try:
        metadata._Properties(bytes(damaged))
    except metadata._UnusableXmp:
        return
    result = wanted(replace(FULL, xmp=bytes(damaged)), Format.PNG).xmp
    assert result is not None
    assert ("DigitalSourceType", ENHANCED) in parsed(result)


def test_padding_gives_way_where_a_jpeg_segment_is_too_small() -> None:
    padded = PACKET.replace(b"            \n", b" " * 65_000 + b"\n")
    assert len(wanted(replace(FULL, xmp=padded), Format.PNG).xmp or b"") > 65_000
    assert len(wanted(replace(FULL, xmp=padded), Format.JPEG).xmp or b"") < 3_000
    full = PACKET.replace(b"by hand", b"y" * 65_000)
    with pytest.raises(UnsupportedPhoto, match="XMP packet"):
        wanted(replace(FULL, xmp=full), Format.JPEG)


# ---- what a format cannot hold -------------------------------------------------------------------


def test_what_has_no_place_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedPhoto, match="IPTC block, which WebP cannot hold; JPEG, PNG and TIFF can"):
        wanted(FULL, Format.WEBP)
    extended = replace(FULL, extended_xmp=(b"http://ns.adobe.com/xmp/extension/\0...",))
    assert wanted(extended, Format.JPEG).extended_xmp == extended.extended_xmp
    with pytest.raises(UnsupportedPhoto, match="extended XMP, which PNG cannot hold; JPEG can"):
        wanted(extended, Format.PNG)
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
        "3 text comments, for which WebP has no place, were not carried",
    )


def test_only_srgb_is_taken_for_srgb() -> None:
    def colour(**values: bytes) -> Metadata:
        return Metadata(png_colour=tuple(kind.encode() + data for kind, data in values.items()))

    gamma = (45_455).to_bytes(4, "big")
    linear = (100_000).to_bytes(4, "big")
    adobe = b"".join(n.to_bytes(4, "big") for n in (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000))
    metadata.check_colour(Metadata())
    metadata.check_colour(colour(gAMA=gamma))
    metadata.check_colour(colour(gAMA=linear, sRGB=b"\0"))
    metadata.check_colour(replace(colour(gAMA=linear), icc=ICC))
    metadata.check_colour(colour(cICP=b"\1\x0d\0\1"))
    assert wanted(colour(gAMA=linear), Format.PNG).png_colour
    with pytest.raises(UnsupportedPhoto, match="gamma is 1 "):
        wanted(colour(gAMA=linear), Format.TIFF)
    with pytest.raises(UnsupportedPhoto, match="cICP"):
        metadata.check_colour(colour(cICP=b"\x09\x10\0\1"))
    wide = colour(gAMA=gamma, cHRM=adobe)
    assert wanted(wide, Format.PNG).png_colour == wide.png_colour
    with pytest.raises(UnsupportedPhoto, match="cHRM"):
        wanted(wide, Format.JPEG)


def test_srgb_stays_in_png_but_never_beside_a_profile(tmp_path: Path) -> None:
    source = Metadata(png_colour=(b"sRGB\0",))
    path = written(tmp_path / "a.png", Format.PNG, wanted(source, Format.PNG))
    assert metadata.read(path, Format.PNG).png_colour == source.png_colour
    assert wanted(replace(source, icc=ICC), Format.PNG).png_colour == ()
    assert wanted(source, Format.WEBP).png_colour == ()


def test_an_orientation_in_xmp_alone_stays_since_the_pixels_were_not_turned() -> None:
    kept = wanted(replace(FULL, exif=None, orientation=1), Format.JPEG).xmp
    assert kept is not None
    assert b'tiff:Orientation="6"' in kept
