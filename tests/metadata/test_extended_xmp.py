"""Extended XMP: a packet of which a JPEG file holds a part in segments of its own is one packet."""

from __future__ import annotations

import base64
import hashlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srbatch.containers.blocks import GAIN_MAP_LOST, XMP_ID
from srbatch.containers.jpeg import EXTENDED_XMP_ID, LARGEST_JPEG_XMP
from srbatch.formats import Format
from srbatch.metadata import extended_xmp, reading, writing
from srbatch.metadata.packets import Properties, UnusableXmp
from srbatch.metadata.reading import Metadata
from tests.conftest import WRITTEN
from tests.encoded import HEIGHT, PROVENANCE, WIDTH, history, parsed, wanted, written
from tests.files import block, encoded, exiftool, segment, splice

DEPTH = base64.b64encode(random.Random(3).randbytes(90_000)).decode()
EXTENSION = """<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" tiff:Orientation="6"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
 xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/"
 xmlns:dc="http://purl.org/dc/elements/1.1/" exif:PixelXDimension="40" hdrgm:Version="1.0"
 dc:source="the extension" GDepth:Data="%s">
 <exif:SubjectArea><rdf:Seq><rdf:li>10</rdf:li><rdf:li>5</rdf:li></rdf:Seq></exif:SubjectArea>
 <xmpMM:History><rdf:Seq><rdf:li xmlns:e="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
  rdf:parseType="Resource"><e:action>cropped</e:action></rdf:li></rdf:Seq></xmpMM:History>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def guid(extension: bytes) -> str:
    return hashlib.md5(extension).hexdigest().upper()


def packet(extension: bytes) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="uuid:1" xmlns:n="http://ns.adobe.com/xmp/note/"'
        ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://example.org/" tiff:own="1"'
        f' dc:source="the packet" n:HasExtendedXMP="{guid(extension)}"/></rdf:RDF></x:xmpmeta>'
    ).encode()


def segments(extension: bytes, step: int = 50_000) -> list[bytes]:
    """Bodies of segments, the last one first."""
    return [
        EXTENDED_XMP_ID
        + guid(extension).encode()
        + len(extension).to_bytes(4, "big")
        + at.to_bytes(4, "big")
        + extension[at : at + step]
        for at in reversed(range(0, len(extension), step))
    ]


def photo(path: Path, main: bytes, extension: list[bytes]) -> Metadata:
    """The metadata of a photo that lies on its side."""
    head = segment(0xE1, b"Exif\0\0" + block()) + segment(0xE1, XMP_ID + main)
    head += b"".join(segment(0xE1, body) for body in extension)
    path.write_bytes(splice(encoded(".jpg"), 2, head))
    return replace(reading.read(path, Format.JPEG), size=(30, 40))


@pytest.mark.parametrize("fmt", WRITTEN)
@pytest.mark.parametrize("data", [DEPTH, "AAAA"], ids=["large", "small"])
def test_an_extension_is_corrected_like_the_packet(tmp_path: Path, fmt: Format, data: str) -> None:
    extension = (EXTENSION % data).encode()
    source = photo(tmp_path / "photo.jpg", packet(extension), segments(extension))
    assert source.notes == (GAIN_MAP_LOST,)
    meta = wanted(source, fmt)
    assert bool(meta.extended_xmp) == (fmt is Format.JPEG and data == DEPTH)
    path = written(tmp_path / "out", fmt, meta)
    writing.verify(path, fmt, meta)

    again = reading.read(path, fmt)
    assert again.notes == ()
    properties = dict(parsed(again.xmp))
    assert (properties["Orientation"], properties["PixelXDimension"]) == ("1", str(WIDTH))
    assert properties["source"] == "the packet"
    assert properties["Data"] == data
    assert "Version" not in properties
    assert [event["action"] for event in history(again.xmp)] == ["cropped", "resized"]
    assert Properties(again.xmp or b"").about == "uuid:1"

    found = exiftool(path)
    assert (found["IFD0:Orientation"], found["XMP-tiff:Orientation"]) == (1, 1)
    assert found["XMP-exif:ExifImageWidth"] == WIDTH
    assert found["XMP-exif:SubjectArea"] == [round(WIDTH * 25 / 30), round(HEIGHT * 10 / 40)]
    assert found["XMP-xmpMM:HistoryAction"] == ["cropped", "resized"]
    assert "XMP-hdrgm:Version" not in found
    assert ("XMP-xmpNote:HasExtendedXMP" in found) == bool(meta.extended_xmp)
    assert set(filter(None, [found.get("ExifTool:Warning")])) <= {"[minor] Unrecognized MakerNotes"}


def test_a_second_enlargement_parts_the_packet_anew(tmp_path: Path) -> None:
    extension = (EXTENSION % DEPTH).encode()
    source = photo(tmp_path / "photo.jpg", packet(extension), segments(extension))
    first = wanted(source, Format.JPEG)
    again = reading.read(written(tmp_path / "1", Format.JPEG, first), Format.JPEG)
    second = wanted(again, Format.JPEG)
    assert len(second.xmp or b"") <= LARGEST_JPEG_XMP
    found = dict(parsed(extended_xmp.joined(second.xmp or b"", second.extended_xmp).packet))
    assert found["Data"] == DEPTH
    assert len(found["HasExtendedXMP"]) == 32


def test_only_as_much_as_must_goes_to_the_extension() -> None:
    sides = {"small": 10, "large": 40_000, "middle": 30_000}
    said = "".join(
        f"<o:{name} xmlns:o='http://example.org/'>{'x' * n}</o:{name}>" for name, n in sides.items()
    )
    bare = packet(b"").replace(b' n:HasExtendedXMP="%b"' % guid(b"").encode(), b"")
    whole = bare.replace(b"/></rdf:RDF>", f">{said}</rdf:Description></rdf:RDF>".encode())
    main, bodies = extended_xmp.parted(whole)
    assert {"small", "middle", "own"} <= {name for name, _ in parsed(main)}
    extension = b"".join(body[len(EXTENDED_XMP_ID) + 40 :] for body in bodies)
    assert [name for name, _ in parsed(extension)] == ["large"]
    assert dict(parsed(main))["HasExtendedXMP"] == guid(extension)
    assert extended_xmp.parted(b"<!--" + b"y" * 66_000 + b"-->" + whole)[1] == ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"extension": b"<x>"}, "is not well-formed"),
        ({"extension": b"<x/>"}, "holds no properties"),
        ({"extension": b'<?xml version="1.0" encoding="zz"?><x/>'}, "is damaged"),
        ({"bodies": slice(1, None)}, "is incomplete"),
        ({"bodies": slice(0, 1)}, "is incomplete"),
        ({"main": packet(b"another")}, "is not the one that the XMP packet names"),
    ],
    ids=["not XML", "no XMP", "encoding", "no end", "no start", "another name"],
)
def test_an_extension_that_cannot_be_had_is_dropped_and_told(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    extension = change.get("extension", (EXTENSION % DEPTH).encode())
    main = change.get("main", packet(extension))
    found = photo(tmp_path / "photo.jpg", main, segments(extension)[change.get("bodies", slice(None))])
    assert found.xmp == main
    assert [note.startswith(f"the extended XMP {why}") for note in found.notes] == [True]
    made = wanted(found, Format.JPEG)
    assert (made.extended_xmp, b"HasExtendedXMP" in (made.xmp or b"")) == ((), False)


def test_an_extension_in_another_encoding_is_joined() -> None:
    extension = ('<?xml version="1.0" encoding="iso-8859-1"?>' + EXTENSION % "\xe4").encode("latin-1")
    found = extended_xmp.joined(packet(extension), segments(extension))
    assert dict(parsed(found.packet))["Data"] == "\xe4"


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6))
def test_a_damaged_extension_is_refused_or_leads_to_a_sound_packet(changes: list[tuple[int, int]]) -> None:
    extension = bytearray((EXTENSION % "AAAA").encode())
    for at, byte in changes:
        extension[at % len(extension)] = byte
    try:
        found = extended_xmp.joined(packet(bytes(extension)), segments(bytes(extension)))
    except UnusableXmp:
        return
    made = wanted(Metadata(xmp=found.packet), Format.JPEG)
    assert history(made.xmp)[-1]["instanceID"] == PROVENANCE.instance
