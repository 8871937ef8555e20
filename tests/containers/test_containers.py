"""Where metadata lies in the files of each format, and how it gets there."""

from __future__ import annotations

import io
import itertools
import random
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, IptcImagePlugin, PngImagePlugin

from srbatch.containers import exif, exif_build, jpeg, png, tiff, webp
from srbatch.containers.blocks import Blocks, HeadSplicer
from srbatch.containers.tiff_structure import Layout, Value
from srbatch.containers.webp import WebpRewriter
from srbatch.errors import UnreadablePhoto, UnsupportedPhoto, WrongOutput
from tests.files import EXIF, ICC, IPTC, LARGE_ICC, XMP, chunk, encoded, picture, raw_profile, segment, splice


def jpeg_segments(**blocks: Any) -> bytes:
    given = {"exif_block": None, "xmp": None, "iptc": None, "extended_xmp": (), "comments": ()} | blocks
    return jpeg.jpeg_head(**given)


def png_chunks(**blocks: Any) -> bytes:
    given = {"exif_block": None, "xmp": None, "iptc": None, "text": (), "colour": ()} | blocks
    return png.png_head(**given)


def through(data: bytes, sink_for: Callable[[io.BytesIO], Any], cuts: list[int]) -> bytes:
    """The file that a sink makes of an encoder's bytes that come in pieces."""
    file = io.BytesIO()
    sink = sink_for(file)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        assert sink.write(data[start:end]) == end - start
    sink.finish()
    return file.getvalue()


def jpeg_sink(file: io.BytesIO, *, app0: bytes = b"") -> HeadSplicer:
    segments = jpeg_segments(exif_block=EXIF, xmp=XMP, iptc=IPTC, comments=(b"a comment",))
    return HeadSplicer(file, partial(jpeg.spliced_jpeg, segments=segments, app0=app0))


def png_sink(file: io.BytesIO, *, resolution_known: bool = True) -> HeadSplicer:
    chunks = png_chunks(exif_block=EXIF, xmp=XMP, iptc=IPTC, text=(b"tEXtAuthor\0Anna",))
    return HeadSplicer(file, partial(png.spliced_png, chunks=chunks, resolution_known=resolution_known))


def webp_sink(file: io.BytesIO) -> WebpRewriter:
    return WebpRewriter(file, exif_block=EXIF, xmp=XMP)


# ---- JPEG ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("icc", [None, ICC, LARGE_ICC], ids=["no ICC", "ICC", "ICC in segments"])
def test_jpeg_blocks_come_back(icc: bytes | None) -> None:
    result = through(encoded(".jpg", picture(icc=icc)), jpeg_sink, [])
    found = jpeg.read_jpeg(io.BytesIO(result))
    assert found == Blocks(icc=icc, exif=EXIF, xmp=XMP, iptc=IPTC, comments=[b"a comment"])


def test_pillow_reads_what_was_placed_in_a_jpeg() -> None:
    result = through(encoded(".jpg", picture(icc=LARGE_ICC)), jpeg_sink, [])
    with Image.open(io.BytesIO(result)) as image:
        image.load()
        assert image.info["icc_profile"] == LARGE_ICC
        assert image.info["exif"] == b"Exif\0\0" + EXIF
        assert image.info["xmp"] == XMP
        assert image.info["comment"] == b"a comment"
        assert IptcImagePlugin.getiptcinfo(image) == {(2, 5): b"Title", (2, 120): b"Caption"}  # type: ignore[comparison-overlap]


def test_what_pillow_writes_into_a_jpeg_is_read() -> None:
    file = io.BytesIO()
    Image.new("RGB", (9, 7)).save(
        file, "JPEG", exif=b"Exif\0\0" + EXIF, icc_profile=LARGE_ICC, xmp=XMP, comment=b"hello"
    )
    found = jpeg.read_jpeg(file := io.BytesIO(file.getvalue()))
    assert found == Blocks(icc=LARGE_ICC, exif=EXIF, xmp=XMP, comments=[b"hello"])


def test_segments_come_behind_a_jfif_segment_of_the_encoder() -> None:
    file = io.BytesIO()
    Image.new("RGB", (9, 7)).save(file, "JPEG", dpi=(300, 300))
    result = through(file.getvalue(), partial(jpeg_sink, app0=jpeg.jfif((1, 1))), [])
    assert result[2:4] == b"\xff\xe0"
    assert result[20:22] == b"\xff\xe1"
    with Image.open(io.BytesIO(result)) as image:
        assert image.info["dpi"] == (300, 300)


def test_the_resolution_is_written_where_the_encoder_wrote_none() -> None:
    result = through(encoded(".jpg"), partial(jpeg_sink, app0=jpeg.jfif((11.811, 23.622))), [])
    with Image.open(io.BytesIO(result)) as image:
        assert image.info["dpi"] == (300, 600)


def test_iptc_may_be_spread_over_segments() -> None:
    iptc = b"\x1c\2\x78\xff\xfe" + random.Random(1).randbytes(150_001)
    source = splice(encoded(".jpg"), 2, jpeg_segments(iptc=iptc))
    assert jpeg.read_jpeg(io.BytesIO(source)).iptc == iptc


def test_other_photoshop_resources_are_named_and_thumbnails_are_not() -> None:
    def resource(kind: int, name: bytes, data: bytes) -> bytes:
        pascal = bytes([len(name)]) + name + (b"" if len(name) % 2 else b"\0")
        return b"8BIM" + struct.pack(">H", kind) + pascal + struct.pack(">I", len(data)) + data

    resources = resource(0x040C, b"", b"thumb!") + resource(0x0404, b"odd", IPTC + b"\0" * (len(IPTC) % 2))
    source = splice(encoded(".jpg"), 2, segment(0xED, b"Photoshop 3.0\0" + resources))
    found = jpeg.read_jpeg(io.BytesIO(source))
    assert (found.iptc, found.notes) == (IPTC + b"\0" * (len(IPTC) % 2), [])
    resources += resource(0x03E9, b"name", b"printer?") + resource(0x040A, b"", b"\0\0")
    resources += resource(0x07D0, b"Cutout vase", bytes(26)) + resource(0x0BB7, b"", b"\x0bCutout vase")
    resources += resource(0x040A, b"", b"\1\0") + resource(0x040B, b"", b"https://example.org/licence ")
    resources += resource(0x0404, b"", IPTC + b"\0" * (len(IPTC) % 2)) + resource(0x0FA0, b"", b"plug-in!")
    source = splice(encoded(".jpg"), 2, segment(0xED, b"Photoshop 3.0\0" + resources))
    assert jpeg.read_jpeg(io.BytesIO(source)).notes == [
        "Photoshop's path 'Cutout vase' was not carried",
        "Photoshop's clipping path 'Cutout vase' was not carried",
        "Photoshop's mark that the photo is under copyright was not carried",
        "the address 'https://example.org/licence ' in Photoshop's data was not carried",
        "a further IPTC block was not carried",
        "Photoshop's own data beside IPTC was not carried",
    ]


@pytest.mark.parametrize(("across", "down", "unit"), [(2, 1, 0), (1, 1, 0), (600, 300, 1), (0, 5, 0)])
def test_pixels_that_are_not_square_are_told_where_no_unit_says_how_large_they_are(
    across: int, down: int, unit: int
) -> None:
    jfif = b"JFIF\0\1\2" + struct.pack(">BHHBB", unit, across, down, 0, 0)
    jpg = splice(encoded(".jpg"), 2, segment(0xE0, jfif))
    png_file = splice(encoded(".png"), 33, chunk(b"pHYs", struct.pack(">IIB", across, down, unit)))
    told = (
        ["its pixels are not square (1:2), which its output does not say"] if (across, unit) == (2, 0) else []
    )
    assert jpeg.read_jpeg(io.BytesIO(jpg)).notes == told
    assert png.read_png(io.BytesIO(png_file)).notes == told


def test_what_is_not_carried_is_told() -> None:
    mpf = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0xB001, 4, 1, 3) + b"\0\0\0\0"
    extra = segment(0xE2, b"MPF\0" + mpf) + segment(0xEB, b"JP\0\1\0\0\0\1\0\0\0\x1cjumbc2pa")
    extra += segment(0xEB, b"JP\0\1\0\0\0\2\0\0\0\x1cjumb and so on")
    extra += segment(0xE3, b"Meta\0") + segment(0xE2, b"ICC_PROFILE\0\1\2half")
    found = jpeg.read_jpeg(io.BytesIO(splice(encoded(".jpg"), 2, extra)))
    assert found.icc is None
    assert found.notes == [
        "2 further pictures of the multi-picture file (MPF) were not carried",
        "the C2PA manifest does not survive re-encoding and was not carried",
        "the JPEG segment APP3 (Meta) was not carried",
        "the ICC profile is incomplete and was not carried",
    ]


def test_xmp_with_the_damaged_name_that_one_writer_gives_it_is_read() -> None:
    extra = segment(0xE1, b"XMP\0://ns.adobe.com/xap/1.0/\0" + XMP)
    found = jpeg.read_jpeg(io.BytesIO(splice(encoded(".jpg"), 2, extra)))
    assert (found.xmp, found.notes) == (XMP, [])


@pytest.mark.parametrize(
    ("what", "blocks"),
    [("EXIF block", {"exif_block": bytes(65_528)}), ("XMP packet", {"xmp": bytes(65_505)})],
    ids=["EXIF", "XMP"],
)
def test_a_block_that_no_segment_can_hold_is_refused(what: str, blocks: dict[str, bytes]) -> None:
    with pytest.raises(UnsupportedPhoto, match=rf"{what} of 65,5\d\d bytes is too large for JPEG"):
        jpeg_segments(**blocks)
    assert jpeg_segments(**{key: value[1:] for key, value in blocks.items()})


# ---- PNG -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("icc", [None, LARGE_ICC], ids=["no ICC", "ICC"])
def test_png_blocks_come_back(icc: bytes | None) -> None:
    result = through(encoded(".png", picture(icc=icc)), png_sink, [])
    found = png.read_png(io.BytesIO(result))
    assert found == Blocks(icc=icc, exif=EXIF, xmp=XMP, iptc=IPTC, png_text=[b"tEXtAuthor\0Anna"])


def test_pillow_reads_what_was_placed_in_a_png() -> None:
    result = through(encoded(".png", picture(icc=ICC)), png_sink, [])
    with Image.open(io.BytesIO(result)) as image:
        image.load()
        assert image.info["icc_profile"] == ICC
        assert image.info["exif"] == b"Exif\0\0" + EXIF
        assert image.info["xmp"] == XMP
        assert image.info["Author"] == "Anna"
        assert image.info["dpi"] == pytest.approx((300, 300), rel=1e-3)


def test_what_pillow_writes_into_a_png_is_read() -> None:
    file, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("Title", "A title")
    info.add_text("Packed", "long " * 99, zip=True)
    info.add_itxt("Comment", "Größe", zip=True)
    Image.new("RGB", (9, 7)).save(file, "PNG", exif=EXIF, icc_profile=ICC, xmp=XMP, pnginfo=info)
    found = png.read_png(io.BytesIO(file.getvalue()))
    assert (found.icc, found.exif) == (ICC, EXIF)
    texts = dict(text for raw in found.png_text if (text := png.png_text(raw)))
    assert texts == {"Title": "A title", "Packed": "long " * 99, "Comment": "Größe"}


@pytest.mark.parametrize(
    ("comment", "kind", "text"),
    [
        (b"plain", b"tEXt", "plain"),
        ("Größe".encode(), b"iTXt", "Größe"),
        ("Größe".encode("latin-1"), b"tEXt", "Größe"),
    ],
    ids=["ASCII", "UTF-8", "Latin-1"],
)
def test_text_chunks_say_what_the_bytes_said(comment: bytes, kind: bytes, text: str) -> None:
    made = png.png_text_chunk("Comment", comment)
    assert made[:4] == kind
    assert png.png_text(made) == ("Comment", text)


def test_raw_profiles_become_blocks() -> None:
    raw = {"exif": b"Exif\0\0" + EXIF, "iptc": IPTC, "xmp": XMP}
    extra = b"".join(raw_profile(name, data) for name, data in raw.items())
    found = png.read_png(io.BytesIO(splice(encoded(".png"), 33, extra)))
    assert found == Blocks(exif=EXIF, iptc=IPTC, xmp=XMP)


@pytest.mark.parametrize("name", ["icc", "icm", "ICC"])
def test_an_icc_profile_kept_as_text_counts_where_no_chunk_tells_the_colours(name: str) -> None:
    text = raw_profile(name, ICC)
    gamma = chunk(b"gAMA", (45_455).to_bytes(4, "big"))
    srgb = chunk(b"sRGB", b"\0")
    real = chunk(b"iCCP", b"icc\0\0" + zlib.compress(LARGE_ICC))
    for others, icc in ((b"", ICC), (gamma, ICC), (srgb, None), (real, LARGE_ICC)):
        found = png.read_png(io.BytesIO(splice(encoded(".png"), 33, text + others)))
        assert (found.icc, found.png_text, found.notes) == (icc, [], [])


def test_a_raw_profile_may_have_a_name_of_two_words_and_padding() -> None:
    text = f"\nIPTC profile\n{len(IPTC):8d}\n{IPTC.hex()}\n00\n".encode()  # as exiftool writes it
    extra = chunk(b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text))
    assert png.read_png(io.BytesIO(splice(encoded(".png"), 33, extra))) == Blocks(iptc=IPTC)


def test_a_damaged_png_chunk_costs_itself_only() -> None:
    damaged = bytearray(chunk(b"eXIf", EXIF))
    damaged[40] ^= 1
    bomb = chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(1 << 27), 9))
    found = png.read_png(io.BytesIO(splice(encoded(".png"), 33, bytes(damaged) + bomb)))
    assert (found.exif, found.icc) == (None, None)
    assert found.notes == [
        "the PNG chunk 'eXIf' is damaged and was not carried",
        "the ICC profile is damaged and was not carried",
    ]


# ---- WebP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lossless", [False, True], ids=["lossy", "lossless"])
@pytest.mark.parametrize("bands", [3, 4], ids=["RGB", "RGBA"])
@pytest.mark.parametrize("icc", [None, ICC], ids=["no ICC", "ICC"])
def test_webp_blocks_come_back_and_pixels_stay(lossless: bool, bands: int, icc: bytes | None) -> None:
    source = encoded(".webp", picture(bands, icc), lossless=lossless)
    result = through(source, webp_sink, [])
    assert webp.read_webp(io.BytesIO(result)) == Blocks(icc=icc, exif=EXIF, xmp=XMP, lossless=lossless)
    with Image.open(io.BytesIO(source)) as before, Image.open(io.BytesIO(result)) as after:
        assert (after.mode, after.size) == (before.mode, before.size)
        assert after.tobytes() == before.tobytes()
        assert after.info.get("icc_profile") == icc
        assert after.info["exif"] == EXIF
        assert after.info["xmp"] == XMP
    assert int.from_bytes(result[4:8], "little") + 8 == len(result)


def test_what_pillow_writes_into_a_webp_is_read() -> None:
    file = io.BytesIO()
    Image.new("RGB", (9, 7)).save(file, "WEBP", exif=b"Exif\0\0" + EXIF, icc_profile=ICC, xmp=XMP)
    assert webp.read_webp(io.BytesIO(file.getvalue())) == Blocks(icc=ICC, exif=EXIF, xmp=XMP)


# ---- TIFF ----------------------------------------------------------------------------------------


def test_what_pillow_writes_into_a_tiff_is_read() -> None:
    file, tags = io.BytesIO(), Image.Exif()
    tags.load(b"Exif\0\0" + EXIF)
    tags[700], tags[33723], tags[65_000] = XMP, IPTC, 7
    Image.new("RGB", (9, 7)).save(file, "TIFF", exif=tags, icc_profile=ICC)
    found = tiff.read_tiff(io.BytesIO(file.getvalue()))
    assert (found.icc, found.xmp, found.iptc) == (ICC, XMP, IPTC)
    assert found.notes == ["the TIFF tag 65000 was not carried"]
    taken, meant = exif.tags_of(found.exif), exif.tags_of(EXIF)
    assert taken.exif.keys() == meant.exif.keys()
    assert taken.gps == meant.gps
    assert (taken.main[0x010F], taken.main[0x8298]) == (meant.main[0x010F], meant.main[0x8298])


def test_tags_of_a_tiff_file_that_describe_no_output_are_told() -> None:
    """Those of how pixels are stored are not: an output has its own."""
    values = {0x012D: Value(3, bytes(2048)), 0x0157: Value(1, b"path"), 0x0141: Value(3, b"\1\0\2\0")}
    values |= {0x0102: Value(3, b"\x10\0"), 0x010E: Value(2, b"Oma\0"), 0x0152: Value(3, b"\0\0")}
    found = tiff.read_tiff(io.BytesIO(exif_build.block_of(exif.Tags(main=values))))
    assert found.notes == [f"the TIFF tag {tag} was not carried" for tag in (301, 321, 343)]
    assert exif.tags_of(found.exif).main.keys() == {0x010E}


@pytest.mark.parametrize(
    "iptc",
    [
        IPTC,
        b"\x1c\2\x05\0\4a\0\0\0",
        b"\x1c\2\0\0\2\0\2\x1c\2\x0a\0\2\0\0",
        b"\x1c\x08\x0a\x80\2\0\5a\0\0\0\0",
        b"of some other kind",
        bytes(4),
    ],
    ids=["texts", "zeros at the end", "numbers", "extended", "other", "none"],
)
def test_iptc_that_is_declared_as_numbers_of_32_bits_loses_its_padding_only(iptc: bytes) -> None:
    data, layout = iptc + bytes(-len(iptc) % 4), Layout("<", big=False)
    source = b"II*\0" + layout.offset(8) + layout.directory({exif.IPTC: Value(4, data)}, 8)
    meant = {b"\x1c": iptc, b"o": data, b"\0": None}[iptc[:1]]
    assert tiff.read_tiff(io.BytesIO(source)).iptc == meant


@pytest.mark.parametrize("with_note", [True, False], ids=["maker note", "none"])
@pytest.mark.parametrize("far", [True, False])
def test_a_maker_note_that_cannot_keep_its_place_in_a_block_is_told(far: bool, with_note: bool) -> None:
    """Offsets within it may count from the start of the file, and a JPEG segment ends at 64 KB."""
    at, tags, layout = 70_000 if far else 700, exif.tags_of(EXIF), Layout("<", big=False)
    if not with_note:
        del tags.exif[exif.MAKER_NOTE]
    family = exif_build.directories(layout, tags, at)
    source = b"II*\0" + layout.offset(at) + bytes(at - 8) + family
    found = tiff.read_tiff(io.BytesIO(source))
    assert exif.tags_of(found.exif) == tags
    assert found.notes == ([exif.MAKER_NOTE_MOVED] if far and with_note else [])


# ---- all of them ---------------------------------------------------------------------------------

SINKS = {".jpg": jpeg_sink, ".png": png_sink, ".webp": webp_sink}
READERS = {
    ".jpg": jpeg.read_jpeg,
    ".png": png.read_png,
    ".webp": webp.read_webp,
    ".tif": tiff.read_tiff,
}
SOURCES = {
    suffix: through(encoded(suffix, picture(icc=ICC)), SINKS[suffix], [])
    if suffix in SINKS
    else encoded(suffix)
    for suffix in READERS
}


@pytest.mark.parametrize("suffix", SINKS)
@given(cuts=st.lists(st.integers(0, 100_000), max_size=12))
def test_pieces_of_any_size_make_the_same_file(suffix: str, cuts: list[int]) -> None:
    assert through(encoded(suffix, picture(icc=ICC)), SINKS[suffix], cuts) == SOURCES[suffix]


@pytest.mark.parametrize("suffix", SINKS)
def test_single_bytes_make_the_same_file(suffix: str) -> None:
    data = encoded(suffix, picture(icc=ICC))
    assert through(data, SINKS[suffix], list(range(len(data)))) == SOURCES[suffix]


@pytest.mark.parametrize("suffix", SINKS)
@pytest.mark.parametrize("data", [b"", b"\xff\xd8", bytes(99)], ids=["nothing", "a start", "rubbish"])
def test_an_encoder_that_writes_something_else_is_found_out(suffix: str, data: bytes) -> None:
    with pytest.raises(WrongOutput, match="the encoder"):
        through(data, SINKS[suffix], [])


def test_a_chunk_that_leads_out_of_what_the_encoder_wrote_is_found_out() -> None:
    data = bytearray(encoded(".webp"))
    data[16:20] = struct.pack("<I", len(data))
    with pytest.raises(WrongOutput, match=r"the encoder .* cut off"):
        through(bytes(data), webp_sink, [])


@pytest.mark.parametrize("suffix", READERS)
def test_another_file_or_a_cut_off_one_is_unreadable(suffix: str) -> None:
    head = {".jpg": 100, ".png": 100, ".webp": 100, ".tif": 100}[suffix]
    for data in (b"", b"GIF89a" * 9, SOURCES[suffix][:head], SOURCES[suffix][:9]):
        with pytest.raises(UnreadablePhoto):
            READERS[suffix](io.BytesIO(data))


@pytest.mark.parametrize("suffix", READERS)
@given(
    changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=6),
    end=st.integers(0, 9999),
)
def test_damaged_files_raise_nothing_but_unreadable(
    suffix: str, changes: list[tuple[int, int]], end: int
) -> None:
    damaged = bytearray(SOURCES[suffix])
    for at, byte in changes:
        damaged[at % len(damaged)] = byte
    with suppress(UnreadablePhoto):
        READERS[suffix](io.BytesIO(bytes(damaged[: end if end % 2 else None])))


@pytest.mark.parametrize("suffix", READERS)
@given(data=st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_unreadable(suffix: str, data: bytes) -> None:
    start = {
        ".jpg": b"\xff\xd8",
        ".png": SOURCES[".png"][:8],
        ".webp": b"RIFF\x80\0\0\0WEBP",
        ".tif": b"II*\0",
    }
    with suppress(UnreadablePhoto):
        READERS[suffix](io.BytesIO(start[suffix] + data))


def test_of_thousands_of_odd_blocks_the_first_are_told_and_their_number() -> None:
    data = encoded(".jpg")
    odd = b"".join(segment(0xE5, b"N%07d" % index) for index in range(3_000))
    notes = jpeg.read_jpeg(io.BytesIO(splice(data, 2, odd))).notes
    assert len(notes) == 51
    assert "N0000000" in notes[0]
    assert notes[-1] == "further blocks were not carried either: 2,950"
