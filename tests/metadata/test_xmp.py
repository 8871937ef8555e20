"""The packet of an enlargement: corrected, continued, and true of its file."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srbatch.containers import exif, exif_build, tiff
from srbatch.containers.tiff_structure import Value
from srbatch.errors import UnsupportedPhoto
from srbatch.formats import Format
from srbatch.metadata import carrying, packets, reading, xmp
from srbatch.metadata.reading import Metadata
from tests.encoded import (
    ENHANCED,
    FULL,
    HEIGHT,
    MANAGED,
    PACKET,
    PROVENANCE,
    WIDTH,
    but_history,
    history,
    parsed,
    wanted,
    written,
)
from tests.files import (
    ASCII,
    MAKER_NOTE,
    block,
)


def test_a_packet_is_corrected_and_otherwise_left_alone() -> None:
    result = wanted(FULL, Format.PNG).xmp
    assert result is not None
    before, after = parsed(PACKET), parsed(result)
    changed = {"Orientation", "PixelXDimension", "PixelYDimension", "Thumbnails", "DigitalSourceType"}
    added = {"DerivedFrom", "History", "InstanceID"}
    after = [p for p in after if p[0] not in added]
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
    assert result.count(b'rdf:about="uuid:1"') == 3
    assert result.startswith(PACKET[:50])
    assert result.endswith(b'<?xpacket end="w"?>')


def test_correcting_a_packet_again_changes_nothing_it_says() -> None:
    once = wanted(FULL, Format.PNG)
    twice = wanted(once, Format.PNG)
    assert but_history(twice.xmp) == but_history(once.xmp)
    assert wanted(FULL, Format.PNG) == once
    without = wanted(once, Format.PNG, provenance=None)
    assert without.xmp == once.xmp


def test_provenance_names_the_photo_and_what_it_said_before() -> None:
    packet = (MANAGED % "").encode()
    result = wanted(replace(FULL, xmp=packet), Format.PNG).xmp
    properties = dict(parsed(result))
    assert properties["DocumentID"] == "did:1"
    assert properties["InstanceID"] == PROVENANCE.instance
    assert properties["DerivedFrom"] == "iid:1did:1"
    assert history(result) == [
        {
            "action": "resized",
            "softwareAgent": "srbatch 1.0",
            "instanceID": PROVENANCE.instance,
            "parameters": f"x2, model photo; source sha256 {'5' * 64};"
            " digital source type before: http://x.org/a&b",
        }
    ]
    other = replace(PROVENANCE, parameters="x4, model photo")
    assert other.instance != PROVENANCE.instance


@pytest.mark.parametrize(
    ("before", "ours", "after"),
    [
        ("trained", "enhanced", "trained"),
        ("trained", "composite", "trained"),
        ("composite", "enhanced", "composite"),
        ("composite", "composite", "composite"),
        ("enhanced", "composite", "composite"),
        ("camera", "enhanced", "enhanced"),
        ("other", "enhanced", "enhanced"),
        ("synthetic", "enhanced", "synthetic"),
        ("synthetic", "composite", "synthetic"),
        ("algorithm", "composite", "algorithm"),
        ("film", "enhanced", "enhanced"),
    ],
)
@pytest.mark.parametrize("as_resource", [False, True])
def test_a_photo_made_by_a_model_goes_on_saying_so(
    before: str, ours: str, after: str, as_resource: bool
) -> None:
    space = "http://cv.iptc.org/newscodes/digitalsourcetype/"
    uris = {
        "trained": space + "trainedAlgorithmicMedia",
        "composite": ENHANCED,
        "enhanced": space + "algorithmicallyEnhanced",
        "camera": space + "digitalCapture",
        "film": space + "negativeFilm",
        "synthetic": space + "compositeSynthetic",
        "algorithm": space + "algorithmicMedia",
        "other": "http://example.org/trainedAlgorithmicMedia",
    }
    packet = (MANAGED % "").replace("http://x.org/a&amp;b", uris[before])
    if as_resource:
        said = f'i:DigitalSourceType="{uris[before]}"'
        packet = packet.replace(said, "").replace(
            "</rdf:Desc", f'<i:DigitalSourceType rdf:resource="{uris[before]}"/></rdf:Desc'
        )
    provenance = replace(PROVENANCE, source_type=uris[ours])
    result = wanted(replace(FULL, xmp=packet.encode()), Format.PNG, provenance=provenance).xmp
    assert xmp.source_type(result or b"") == uris[after]
    told = history(result)[-1]["parameters"]
    assert f"; digital source type before: {uris[before]}" in told
    assert (f"; of this step alone: {uris[ours]}" in told) == (after != ours)


@pytest.mark.parametrize(
    ("said", "told"),
    [(b"SilverFast 8\0 rest", "SilverFast 8"), ("Größe\n2".encode("latin-1"), r"Größe\n2")],
)
def test_the_program_that_a_photo_named_stays_in_its_history(said: bytes, told: str) -> None:
    photo = replace(FULL, exif=exif_build.block_of(exif.Tags(main={exif.SOFTWARE: Value(ASCII, said)})))
    output = wanted(photo, Format.PNG)
    assert f"; software before: {told}" in history(output.xmp)[-1]["parameters"]
    ours = replace(output, exif=exif_build.minimal("srbatch 1.0", None), size=(HEIGHT, WIDTH))
    assert "software before" not in history(wanted(ours, Format.PNG).xmp)[-1]["parameters"]


def test_what_a_packet_says_of_how_the_file_keeps_its_pixels_does_not_outlive_it() -> None:
    bits = "<tiff:BitsPerSample><rdf:Seq><rdf:li>16</rdf:li></rdf:Seq></tiff:BitsPerSample>"
    said = (
        "<rdf:Description xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Compression='5'"
        " tiff:Software='Scan' tiff:XResolution='300/1' tiff:YResolution='600/1' tiff:SamplesPerPixel='4'"
        f" xmlns:p='http://ns.adobe.com/photoshop/1.0/' p:ColorMode='4' p:ICCProfile='SWOP'>{bits}"
        "</rdf:Description></rdf:RDF>"
    )
    source = replace(FULL, orientation=6, turn_of_regions=6, size=(HEIGHT, WIDTH))
    packet = source.xmp and source.xmp.replace(b"</rdf:RDF>", said.encode())
    source = replace(source, xmp=packet)
    found = dict(parsed(for_output(source, new_colours=False)))
    assert (found["XResolution"], found["YResolution"]) == ("600/1", "300/1")
    assert found["Software"] == PROVENANCE.software
    assert (found["ColorMode"], found["ICCProfile"], found["SamplesPerPixel"]) == ("4", "SWOP", "4")
    assert not found.keys() & {"BitsPerSample", "Compression"}
    converted = dict(parsed(for_output(source, new_colours=True)))
    assert not converted.keys() & {"ColorMode", "ICCProfile", "SamplesPerPixel"}


def for_output(meta: Metadata, *, new_colours: bool) -> bytes | None:
    return carrying.for_output(
        meta,
        Format.TIFF,
        width=HEIGHT,
        height=WIDTH,
        provenance=PROVENANCE,
        new_colours=new_colours,
        resolution=None,
    ).xmp


@pytest.mark.parametrize(
    ("said", "note"),
    [
        ("xmlns:c='http://ns.adobe.com/camera-raw-settings/1.0/' c:HasCrop='True'", xmp.CROP_LEFT),
        ("xmlns:c='http://ns.adobe.com/camera-raw-settings/1.0/' c:HasCrop='False'", None),
        ("xmlns:r='http://ns.acdsee.com/regions/' r:Regions=''", xmp.ACDSEE_LEFT),
    ],
)
@pytest.mark.parametrize("turn", [1, 6])
def test_places_that_do_not_follow_a_turn_are_told(said: str, note: str | None, turn: int) -> None:
    packet = PACKET.replace(b"</rdf:RDF>", f"<rdf:Description {said}/></rdf:RDF>".encode())
    source = Metadata(xmp=packet, orientation=turn, turn_of_regions=turn)
    notes = wanted(source, Format.JPEG).notes
    assert notes == ((note,) if note and turn != 1 else ())


@pytest.mark.parametrize(
    ("order", "start", "told"),
    [
        (">", b"Minolta note", True),
        ("<", b"Minolta note", False),
        (">", b"Nikon\0\x02\x10\0\0MM\0*", False),
        (">", b"FUJIFILM\x0c\0\0\0", False),
        (">", b"\x0c\0\x01\0", False),  # a directory of 12 entries in the output's order
        (">", b"\0\x0c\0\x01", True),
    ],
)
def test_maker_notes_among_numbers_of_the_other_byte_order_are_told(
    tmp_path: Path, order: str, start: bytes, told: bool
) -> None:
    photo = block(order).replace(MAKER_NOTE, start + MAKER_NOTE[len(start) :])
    output = wanted(Metadata(exif=photo), Format.TIFF)
    assert (exif.MAKER_NOTE_SWAPPED in output.notes) is told
    assert exif.MAKER_NOTE_SWAPPED not in wanted(Metadata(exif=photo), Format.JPEG).notes
    again = reading.read(written(tmp_path / "a.tif", Format.TIFF, output), Format.TIFF)
    assert exif.MAKER_NOTE_SWAPPED not in again.notes
    # An EXIF block is a TIFF structure; without its thumbnail it is a file of the block's order.
    (start,), code = struct.unpack_from(order + "I", photo, 4), order + "H"
    next_at = start + 2 + 12 * struct.unpack_from(code, photo, start)[0]
    file = photo[:next_at] + bytes(4) + photo[next_at + 4 :]
    assert (exif.MAKER_NOTE_SWAPPED in tiff.read_tiff(io.BytesIO(file)).notes) is told


@pytest.mark.parametrize(
    ("written_as", "events"),
    [
        ("<mm:History><rdf:Seq><rdf:li rdf:parseType='Resource'><mm:a>b</mm:a></rdf:li></rdf:Seq>", 2),
        ("<mm:History><rdf:Seq></rdf:Seq >", 1),
        ("<mm:History><rdf:Seq/>", 1),
        ("<mm:History>", 1),
    ],
)
def test_a_history_is_continued(written_as: str, events: int) -> None:
    origin = "<mm:DerivedFrom rdf:parseType='Resource'><mm:a>first</mm:a></mm:DerivedFrom>"
    packet = (MANAGED % (written_as + "</mm:History>" + origin)).encode()
    result = wanted(replace(FULL, xmp=packet), Format.PNG).xmp
    found = history(result)
    assert len(found) == events
    assert found[-1]["softwareAgent"] == "srbatch 1.0"
    assert dict(parsed(result))["DerivedFrom"] == "first"
    assert f"source sha256 {'5' * 64}, instance iid:1;" in found[-1]["parameters"]  # InstanceID is ours now
    assert len(history(wanted(replace(FULL, xmp=result), Format.PNG).xmp)) == events + 1


def test_a_packet_of_an_earlier_encoding_stays_well_formed() -> None:
    packet = ('<?xml version="1.0" encoding="iso-8859-1"?>' + MANAGED % "").replace("x.org/a", "x.org/\xe4")
    result = wanted(replace(FULL, xmp=packet.encode("latin-1")), Format.PNG).xmp
    assert history(result)[0]["parameters"].endswith("http://x.org/ä&b")


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
        xmp.usable(bytes(damaged))
    except packets.UnusableXmp:
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
