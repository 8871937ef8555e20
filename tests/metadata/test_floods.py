"""Small files that would make very much of themselves: in memory, in time, and in what people are told."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import pytest

from srbatch.containers import heif
from srbatch.containers.jpeg import EXTENDED_XMP_ID
from srbatch.containers.photoshop import PHOTOSHOP_ID
from srbatch.formats import Format
from srbatch.metadata import exif_patch, reading, regions
from srbatch.metadata.packets import Properties, UnusableXmp
from srbatch.metadata.reading import Metadata
from srbatch.outputs import sidecars
from srbatch.placement import Placement
from tests.conftest import crop
from tests.encoded import wanted
from tests.files import chunk, encoded, segment, splice

PLACEMENT = Placement(1, (6, 8), (12, 16))
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
HEAD = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">'
END = "</rdf:RDF></x:xmpmeta>"
XMP_ID = b"http://ns.adobe.com/xap/1.0/\0"


def read(tmp_path: Path, data: bytes, fmt: Format) -> Metadata:
    path = tmp_path / "a"
    path.write_bytes(data)
    return reading.read(path, fmt)


def peak_of(block: bytes) -> int:
    tracemalloc.start()
    try:
        exif_patch.corrected(block, PLACEMENT, software="x", new_colours=False, resolution=None)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_thumbnails_that_share_their_lists_of_strips_cost_no_more_than_a_few() -> None:
    directories, strips = 250, 30_000
    size = 2 + 2 * 12 + 4
    lists_at = 8 + directories * size
    block = bytearray(b"II*\0" + struct.pack("<I", 8))
    for number in range(1, directories + 1):
        tags = b"".join(struct.pack("<HHII", tag, 3, strips, lists_at) for tag in (0x0111, 0x0117))
        following = 8 + number * size if number < directories else 0
        block += struct.pack("<H", 2) + tags + struct.pack("<I", following)
    block += struct.pack(f"<{strips}H", *(1_000 + number for number in range(strips)))
    assert peak_of(bytes(block)) < 30_000_000  # all of them took 900 MB


@pytest.mark.parametrize("to", [Format.JPEG, Format.WEBP])
def test_texts_of_a_png_file_are_told_in_few_words(tmp_path: Path, to: Format) -> None:
    names = [b"N%06d" % number for number in range(500)] + [b"\x9b" * 1_000_000]
    texts = b"".join(chunk(b"tEXt", name + b"\0" + bytes(70_000)) for name in names)
    notes = wanted(read(tmp_path, splice(encoded(".png"), 33, texts), Format.PNG), to).notes
    assert any("N000000" in note for note in notes)
    assert "more" in "".join(notes) or "further" in "".join(notes)
    assert sum(map(len, notes)) < 10_000


def test_a_text_that_is_too_long_for_a_jpeg_file_is_not_decompressed_to_its_end(tmp_path: Path) -> None:
    packed = b"Comment\0\0" + zlib.compress(bytes(50_000_000))
    found = read(tmp_path, splice(encoded(".png"), 33, chunk(b"zTXt", packed)), Format.PNG)
    tracemalloc.start()
    try:
        notes = wanted(found, Format.JPEG).notes
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert any("too long for JPEG" in note for note in notes)


def test_what_photoshop_says_is_told_in_few_words(tmp_path: Path) -> None:
    resource = b"8BIM" + struct.pack(">HHI", 0x040B, 0, 60_000) + b"\x9b" * 60_000
    data = splice(encoded(".jpg"), 2, segment(0xED, PHOTOSHOP_ID + resource))
    (note,) = read(tmp_path, data, Format.JPEG).notes
    assert "the address" in note
    assert len(note) < 1_000


def test_whose_a_sidecar_says_that_it_is_is_told_in_few_words(tmp_path: Path) -> None:
    crop().save(tmp_path / "a.jpg")
    space = "http://ns.adobe.com/photoshop/1.0/"
    said = f'<rdf:Description xmlns:p="{space}" p:SidecarForExtension="{"cr2" * 100_000}"/>'
    (tmp_path / "a.xmp").write_text(HEAD + said + END)
    found = sidecars.sidecar_of(
        tmp_path / "a.jpg", tmp_path / "b.jpg", written_before=None, corrected=lambda packet: (packet, ())
    )
    assert "cr2cr2" in found.notes[0]
    assert len(found.notes[0]) < 200


def test_very_many_attributes_are_refused() -> None:
    many = " ".join(f'a:k{number}=""' for number in range(300_001))
    packet = f'{HEAD}<rdf:Description><x:y xmlns:a="u" {many}/></rdf:Description>{END}'.encode()
    with pytest.raises(UnusableXmp, match="attributes"):
        Properties(packet)
    with pytest.raises(UnusableXmp, match="attributes"):
        Properties(packet.replace(b' a:k1=""', b' a:k1="%b"' % (b"=" * 1_000_000)))


def test_millions_of_empty_lines_are_not_kept_one_by_one() -> None:
    lines = "\n" * 2_000_000
    packet = f'{HEAD}<rdf:Description xmlns:a="u"><a:b>{lines}</a:b></rdf:Description>{END}'.encode()
    tracemalloc.start()
    try:
        assert regions.moved(packet, PLACEMENT) == packet
        assert tracemalloc.get_traced_memory()[1] < 4 * len(packet)  # a list of them took eight times as much
    finally:
        tracemalloc.stop()


def with_extension(extension: bytes) -> bytes:
    guid = b"A" * 32
    note = "http://ns.adobe.com/xmp/note/"
    packet = f'{HEAD}<rdf:Description xmlns:n="{note}" n:HasExtendedXMP="{guid.decode()}"/>{END}'.encode()
    segments = segment(0xE1, XMP_ID + packet)
    for start in range(0, len(extension), 60_000):
        numbers = struct.pack(">II", len(extension), start)
        segments += segment(0xE1, EXTENDED_XMP_ID + guid + numbers + extension[start : start + 60_000])
    return splice(encoded(".jpg"), 2, segments)


def test_a_declaration_of_very_many_encodings_takes_no_longer_than_one_of_none(tmp_path: Path) -> None:
    """A time that grew with the square of their number was a thousand times as long."""
    seconds = []
    for declared in (b"encoding='a' ", b"encodings'a' "):
        data = with_extension(b"<?xml " + declared * 20_000)
        begin = time.process_time()
        found = read(tmp_path, data, Format.JPEG)
        seconds.append(time.process_time() - begin)
        assert any("extended XMP" in note for note in found.notes)
    assert seconds[0] < 50 * max(seconds[1], 0.001)


def test_a_block_in_very_many_pieces_is_put_together_at_once() -> None:
    """Each time with all that came before, 16,000 of them took 14 seconds."""
    pieces = 16_000

    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", 8 + len(body)) + kind + body

    entry = box(b"infe", struct.pack(">IHH", 2 << 24, 1, 0) + b"Exif\0")
    places = struct.pack(">IHHHHH", 0, 0x4400, 1, 1, 0, pieces) + struct.pack(">II", 0, 256) * pieces
    items = box(b"pitm", struct.pack(">IH", 0, 1)) + box(b"iinf", struct.pack(">IH", 0, 1) + entry)
    data = box(b"ftyp", b"avif") + box(b"meta", b"\0\0\0\0" + items + box(b"iloc", places))
    begin = time.process_time()
    found = heif.read_heif(BytesIO(data))
    assert time.process_time() - begin < 3
    assert len(found.exif or b"") > 255 * pieces
