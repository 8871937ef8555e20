"""Places in a photo, in XMP and EXIF: they are right in an output that was turned and enlarged."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from srbatch.codecs.picture import upright
from srbatch.containers import exif
from srbatch.containers.tiff_structure import LONG, TiffReader, Value
from srbatch.formats import Format
from srbatch.metadata import carrying, regions
from srbatch.metadata.packets import UnusableXmp
from srbatch.metadata.reading import Metadata
from srbatch.placement import SUBJECT_LOST, Placement
from tests.conftest import Originals, crop
from tests.containers.test_exif import maker_note_at
from tests.files import SHORT, block
from tests.metadata.places import (
    AS_ATTRIBUTES,
    AS_ELEMENTS,
    FACE,
    HEIGHT,
    SUBJECT,
    WIDTH,
    for_output,
    packet,
    patched,
)
from tests.networks import upscaled


def marked(orientation: int, factor: int) -> tuple[float, float, float, float]:
    """Where a rectangle that is painted into the stored picture lies once it is upright, in parts of it."""
    stored = np.zeros((HEIGHT, WIDTH, 1))
    x, y, wide, high = SUBJECT
    stored[y - high // 2 : y + high // 2, x - wide // 2 : x + wide // 2] = 1
    turned = upright(stored, orientation)[:, :, 0].repeat(factor, 0).repeat(factor, 1)
    rows, columns = np.flatnonzero(turned.any(1)), np.flatnonzero(turned.any(0))
    (top, bottom), (left, right) = ((found[0], found[-1] + 1) for found in (rows, columns))
    full_high, full_wide = turned.shape
    return (
        (left + right) / 2 / full_wide,
        (top + bottom) / 2 / full_high,
        (right - left) / full_wide,
        (bottom - top) / full_high,
    )


def by_exiftool(folder: Path) -> dict[str, dict[str, Any]]:
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not installed")
    done = subprocess.run(["exiftool", "-j", "-n", "-G1", folder], capture_output=True, check=True)
    return {record["SourceFile"].rpartition("/")[2]: record for record in json.loads(done.stdout)}


def test_a_face_stays_where_it_is_seen(originals: Originals, tmp_path: Path) -> None:
    """However the photo is turned, and however the packet is written."""
    for orientation in range(1, 9):
        tags = Image.Exif()
        tags[0x0112] = orientation
        tags.get_ifd(0x8769)[0x9214], tags.get_ifd(0x8769)[0xA214] = SUBJECT, SUBJECT[:2]
        for name, how in (("attributes", AS_ATTRIBUTES), ("elements", AS_ELEMENTS)):
            path = originals.folder / f"{name}{orientation}.jpg"
            crop(HEIGHT, WIDTH).save(path, exif=tags, xmp=packet(how))
    originals.remember()
    outcomes = upscaled(originals.folder, tmp_path / "hi", 3)
    assert {(outcome.status, outcome.notes) for outcome in outcomes.values()} == {("done", ())}
    for name, found in by_exiftool(tmp_path / "hi").items():
        check_places(found, int(name[-5]))


def check_places(found: dict[str, Any], orientation: int) -> None:
    wide, high = (144, 192) if orientation >= 5 else (192, 144)
    x, y, across, down = marked(orientation, 3)
    assert found["XMP-mwg-rs:RegionAppliedToDimensionsW"] == wide
    assert found["XMP-mwg-rs:RegionAppliedToDimensionsH"] == high
    area = [found[f"XMP-mwg-rs:RegionArea{side}"] for side in "XYWH"]
    assert area == pytest.approx([x, y, across, down])
    pixels = [x * wide, y * high, across * wide, down * high]
    subject = list(map(int, found["ExifIFD:SubjectArea"].split()))
    assert subject == pytest.approx(pixels, abs=1)
    assert list(map(int, found["ExifIFD:SubjectLocation"].split())) == pytest.approx(pixels[:2], abs=1)
    if "XMP-MP:RegionRectangle" in found:
        assert found["XMP-exif:SubjectArea"] == subject
        rectangle = [float(number) for number in found["XMP-MP:RegionRectangle"].split(",")]
        assert rectangle == pytest.approx([x - across / 2, y - down / 2, across, down])


IPTC_REGION = (
    "<i:ImageRegion xmlns:i='http://iptc.org/std/Iptc4xmpExt/2008-02-29/'><rdf:Bag>"
    "<rdf:li rdf:parseType='Resource'><i:RegionBoundary rdf:parseType='Resource'>{}</i:RegionBoundary>"
    "</rdf:li></rdf:Bag></i:ImageRegion>"
)


def iptc_regions(unit: str) -> dict[str, str]:
    """The face as each shape, the circle as wide as it is."""
    x, y, across, down = FACE
    wide, high = (WIDTH, HEIGHT) if unit == "pixel" else (1, 1)
    left, top = (x - across / 2) * wide, (y - down / 2) * high
    right, bottom = left + across * wide, top + down * high
    seen = f"<i:rbUnit>{unit}</i:rbUnit>"
    sides = {"X": left, "Y": top, "W": right - left, "H": bottom - top}
    rectangle = "".join(f"<i:rb{side}>{value:g}</i:rb{side}>" for side, value in sides.items())
    circle = f"i:rbX='{x * wide:g}' i:rbY='{y * high:g}' i:rbRx='{across / 2 * wide:g}' i:rbUnit='{unit}'"
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    items = "".join(f"<rdf:li i:rbX='{a:g}' i:rbY='{b:g}'/>" for a, b in corners)
    vertices = f"<i:rbVertices><rdf:Seq>{items}</rdf:Seq></i:rbVertices>"
    return {
        "rectangle": f"{rectangle}{seen}<i:rbShape>rectangle</i:rbShape>",
        "circle": f"<rdf:Description i:rbShape='circle' {circle}/>",
        "polygon": f"{vertices}<i:rbShape>polygon</i:rbShape>{seen}",
    }


@pytest.mark.parametrize("unit", ["pixel", "relative"])
def test_a_region_of_iptc_stays_where_it_is_seen(tmp_path: Path, unit: str) -> None:
    """However the photo is turned, whichever shape it has, and in both units."""
    for turn in range(1, 9):
        output = (HEIGHT * 3, WIDTH * 3) if turn < 5 else (WIDTH * 3, HEIGHT * 3)
        for shape, said in iptc_regions(unit).items():
            source = packet(IPTC_REGION.format(said))
            made = regions.moved(source, Placement(turn, (HEIGHT, WIDTH), output))
            assert (made == source) == (unit == "relative" and turn == 1)
            (tmp_path / f"{shape}{turn}.xmp").write_bytes(made)
    for name, found in by_exiftool(tmp_path).items():
        turn, group = int(name[-5]), "XMP-iptcExt:ImageRegionBoundary"
        high, wide = (144, 192) if turn < 5 else (192, 144)
        x, y, across, down = marked(turn, 3)
        whole = (wide, high) if unit == "pixel" else (1, 1)
        box = [x - across / 2, y - down / 2, x + across / 2, y + down / 2]
        left, top, right, bottom = (edge * whole[i % 2] for i, edge in enumerate(box))
        if name.startswith("rectangle"):
            seen = [found[group + side] for side in "XYWH"]
            assert seen == pytest.approx([left, top, right - left, bottom - top])
        elif name.startswith("circle"):
            radius = 4 * 3 / (1 if unit == "pixel" else wide)
            seen = [found[group + key] for key in ("X", "Y", "Rx")]
            assert seen == pytest.approx([x * whole[0], y * whole[1], radius])
        else:
            xs, ys = (found[f"{group}Vertices{side}"] for side in "XY")
            assert (min(xs), min(ys), max(xs), max(ys)) == pytest.approx((left, top, right, bottom))
            assert len(set(zip(xs, ys, strict=True))) == 4


@pytest.mark.parametrize(
    "odd",
    [
        iptc_regions("pixel")["rectangle"].replace("rbW", "rbV"),
        iptc_regions("pixel")["rectangle"].replace("<i:rbX>", "<i:rbX>left"),
        iptc_regions("pixel")["circle"].replace("rbRx='", "rbRx='1e999"),
        iptc_regions("pixel")["circle"].replace("'pixel'", "'inch'"),
        iptc_regions("pixel")["polygon"].replace("i:rbY", "i:rbZ"),
        iptc_regions("pixel")["polygon"].replace("rbShape>polygon", "rbShape>star"),
        "<i:rbVertices><rdf:Seq><rdf:li/></rdf:Seq></i:rbVertices>",
    ],
)
def test_what_is_no_region_of_iptc_stays_as_it_is(odd: str) -> None:
    source = packet(IPTC_REGION.format(odd))
    assert regions.moved(source, Placement(2, (HEIGHT, WIDTH), (96, 128))) == source
    alone = packet("<i:a xmlns:i='http://iptc.org/std/Iptc4xmpExt/2008-02-29/'>" + odd + "</i:a>")
    assert regions.moved(alone, Placement(2, (HEIGHT, WIDTH), (96, 128))) == alone


@pytest.mark.parametrize(("turned_by_codec", "turn"), [(True, 6), (True, 1), (False, 6)])
def test_places_of_a_photo_that_its_codec_turns(turned_by_codec: bool, turn: int) -> None:
    """AVIF and HEIC are decoded upright, and what EXIF says of places holds for the picture before that."""
    size = (WIDTH, HEIGHT) if turned_by_codec and turn == 6 else (HEIGHT, WIDTH)
    meta = Metadata(
        orientation=1 if turned_by_codec else turn,
        turned_by_codec=turned_by_codec,
        turn_of_regions=turn,
        size=size,
    )
    high, wide = (128, 96) if turn == 6 else (96, 128)
    expected = Placement(turn, (HEIGHT, WIDTH), (high, wide))
    assert meta.placement(width=wide, height=high) == expected
    with pytest.raises(ValueError, match="size"):
        Metadata().placement(width=1, height=1)


def test_a_packet_beside_the_photo_is_corrected_like_one_within() -> None:
    meta = Metadata(orientation=6, turn_of_regions=6, size=(HEIGHT, WIDTH))
    size = {"width": 96, "height": 128}
    beside, notes = carrying.packet_for_output(
        meta, packet(AS_ATTRIBUTES), Format.PNG, **size, new_colours=False, provenance=None
    )
    within = for_output(replace(meta, xmp=packet(AS_ATTRIBUTES)), Format.PNG, **size).xmp
    assert (beside, notes) == (within, ())
    assert b"stArea:x='0.875' stArea:y='0.25'" in (beside or b"")


@pytest.mark.parametrize("quote", ["'", '"'])
def test_attributes_are_found_in_quotes_of_both_kinds(quote: str) -> None:
    source = packet(AS_ATTRIBUTES.replace("'", quote))
    made = regions.moved(source, Placement(2, (HEIGHT, WIDTH), (96, 128))).decode()
    assert f"stArea:x={quote}0.75{quote} stArea:y={quote}0.125{quote}" in made
    assert f"stDim:w={quote}128{quote}" in made
    assert f"MPReg:Rectangle={quote}0.6875, 0, 0.125, 0.25{quote} MPReg:Person" in made


def subject(*numbers: object) -> str:
    items = "".join(f"<rdf:li>{number}</rdf:li>" for number in numbers)
    return f"<exif:SubjectArea><rdf:Seq>{items}</rdf:Seq></exif:SubjectArea>"


@pytest.mark.parametrize(
    ("numbers", "moved"),
    [
        ((16, 6), (84, 32)),
        ((16, 6, 8), (84, 32, 16)),
        ((16, 6, 8, 12), (84, 32, 24, 16)),
        ((64, 48), (0, 128)),  # the corner is still in the picture
        ((16, 6, 8, 12, 1), None),
        ((16,), None),
        ((), None),
        ((16, "left"), None),
        ((16, -6), None),
    ],
)
def test_a_subject_in_xmp_has_two_to_four_numbers(
    numbers: tuple[object, ...], moved: tuple[int, ...] | None
) -> None:
    placement = Placement(6, (HEIGHT, WIDTH), (128, 96))
    source = packet(subject(*numbers))
    assert regions.moved(source, placement) == packet(subject(*(numbers if moved is None else moved)))
    assert not regions.lose_subject(source, placement)


@pytest.mark.parametrize("number", ["&#49;6", "1&#54;", "&#49;&#54;", "<!-- x -->16", " 16\n"])
def test_a_value_may_be_written_in_several_pieces(number: str) -> None:
    source = packet(subject(number, 6))
    made = regions.moved(source, Placement(1, (HEIGHT, WIDTH), (96, 128)))
    comment = "<!-- x -->" if "!" in number else ""
    assert made == packet(subject(f"{comment}32", 12))


def test_regions_that_were_written_upright_stay() -> None:
    source = (
        packet(AS_ELEMENTS).replace(b"stDim:h>48<", b"stDim:h>64<").replace(b"stDim:w>64<", b"stDim:w>48<")
    )
    made = regions.moved(source, Placement(6, (HEIGHT, WIDTH), (128, 96)))
    assert made == source.replace(b"stDim:h>64<", b"stDim:h>128<").replace(b"stDim:w>48<", b"stDim:w>96<")


@pytest.mark.parametrize(
    "odd",
    [
        AS_ATTRIBUTES.replace("'0.25'", "'wide'").replace("0.1875, 0", "0.1875; 0").replace(">16<", ">-16<"),
        AS_ATTRIBUTES.replace("normalized", "pixel")
        .replace("MPReg:Rect", "MPReg:Wrecked")
        .replace(">8<", ">8.5<"),
        "<mwg-rs:Area/><exif:SubjectArea/><mwg-rs:AppliedToDimensions/>",
        "<mwg-rs:Area stArea:x='1'/><MPReg:Rectangle>1</MPReg:Rectangle>",
    ],
)
def test_what_is_no_region_stays_as_it_is(odd: str) -> None:
    source = packet(odd)
    made = regions.moved(source, Placement(2, (HEIGHT, WIDTH), (HEIGHT, WIDTH)))
    assert made == source


def test_a_packet_that_is_not_well_formed_is_refused() -> None:
    with pytest.raises(UnusableXmp, match="well-formed"):
        regions.moved(b"<a>", Placement(1, (1, 1), (2, 2)))
    with pytest.raises(UnusableXmp, match="document type"):
        regions.moved(b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", Placement(1, (1, 1), (2, 2)))


def with_subject(order: str, *numbers: int) -> bytes:
    """A block whose exposure time became the area of the subject."""
    source = bytearray(block(order))
    reader = TiffReader(BytesIO(bytes(source)))
    below = reader.child(reader.ifd0, exif.EXIF_IFD)
    entry = below.find(0x829A) if below else None
    assert entry is not None
    # The exposure time, two numbers of 32 bits, becomes four of 16; tags need not be in order to be read.
    source[entry.at : entry.at + 8] = struct.pack(order + "HHI", 0x9214, SHORT, 4)
    source[entry.value_at : entry.value_at + 8] = struct.pack(order + "4H", *numbers)
    return bytes(source)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("turn", "moved"),
    [
        (1, (80_000, 20, 4_000, 40)),
        (3, (0, 59_980, 4_000, 40)),
        (6, (59_980, 80_000, 40, 4_000)),
        (8, (20, 0, 40, 4_000)),
    ],
)
def test_a_subject_beyond_16_bits_is_written_with_more(order: str, turn: int, moved: tuple[int, ...]) -> None:
    source = with_subject(order, 40_000, 10, 2_000, 20)
    output = (60_000, 80_000) if turn < 5 else (80_000, 60_000)
    made = patched(source, Placement(turn, (30_000, 40_000), output))
    value = exif.tags_of(made).exif[0x9214]
    assert value.type == (LONG if max(moved) >= 1 << 16 else SHORT)
    assert struct.unpack("<4I" if value.type == LONG else "<4H", value.data) == moved
    assert exif.tags_of(made).exif[0x927C] == exif.tags_of(source).exif[0x927C]

    # With numbers of 32 bits it is a subject as well, and follows once more.
    again = patched(made, Placement(1, output, (output[0] * 2, output[1] * 2)))
    value = exif.tags_of(again).exif[0x9214]
    twice = tuple(2 * number for number in moved)
    assert struct.unpack("<4I" if value.type == LONG else "<4H", value.data) == twice


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_subject_outside_the_picture_is_dropped_and_told(order: str, turn: int) -> None:
    """A program that made the photo smaller left what the camera had said of the large one."""
    block = with_subject(order, 2015, 1511, 2217, 1330)
    high, wide = (96, 128) if turn < 5 else (128, 96)
    meta = Metadata(exif=block, orientation=turn, turn_of_regions=turn, size=(HEIGHT, WIDTH))
    made = for_output(meta, Format.JPEG, width=wide, height=high)
    assert made.notes == (SUBJECT_LOST,)
    before, after = exif.tags_of(block), exif.tags_of(made.exif)
    assert after.exif.keys() == before.exif.keys() - {0x9214}
    assert (after.exif[0x927C], after.interop[1], after.unreadable) == (
        before.exif[0x927C],
        before.interop[1],
        0,
    )
    assert maker_note_at(made.exif or b"") == maker_note_at(block)


@pytest.mark.parametrize("number", ["2015", "9" * 400, "9" * 5_000], ids=len)
@pytest.mark.parametrize("turn", [1, 3, 6])
def test_a_subject_outside_the_picture_is_dropped_from_xmp(number: str, turn: int) -> None:
    meta = Metadata(turn_of_regions=turn, size=(HEIGHT, WIDTH))
    size = {"width": 128, "height": 96}
    sound = replace(meta, xmp=packet(AS_ATTRIBUTES))
    far = replace(meta, xmp=packet(AS_ATTRIBUTES.replace("<rdf:li>16", f"<rdf:li>{number}")))
    kept = for_output(sound, Format.PNG, **size)
    made = for_output(far, Format.PNG, **size)
    assert (kept.notes, made.notes) == ((), (SUBJECT_LOST,))
    before, _, rest = (kept.xmp or b"").partition(b"<exif:SubjectArea>")
    assert made.xmp == before + rest.partition(b"</exif:SubjectArea>")[2]


def test_a_subject_at_the_first_number_beyond_16_bits() -> None:
    made = patched(with_subject("<", 32_768, 10, 20, 20), Placement(1, (30_000, 40_000), (60_000, 80_000)))
    assert exif.tags_of(made).exif[0x9214] == Value.long(65_536, 20, 40, 40)


def test_two_places_outside_the_picture_are_dropped_and_no_other_tag_is() -> None:
    tags = Image.Exif()
    below = tags.get_ifd(0x8769)
    below[0x829A], below[0x9003], below[0xA405] = 0.004, "1999:08:11 11:59:58", 50
    below[0x9214], below[0xA214] = (2015, 1511, 2217, 1330), (2015, 1511)
    source = tags.tobytes().removeprefix(b"Exif\0\0")
    before = exif.tags_of(source)
    after = exif.tags_of(patched(source, Placement(1, (48, 64), (96, 128))))
    assert after.unreadable == 0
    assert after.exif == {tag: value for tag, value in before.exif.items() if tag not in (0x9214, 0xA214)}
    assert len(after.exif) == 3
