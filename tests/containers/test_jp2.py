"""JPEG 2000: read with all that it holds, or refused, and written as PNG."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srbatch.codecs import picture
from srbatch.containers.jp2 import CODESTREAM, read_jp2
from srbatch.errors import PhotoError, UnreadablePhoto, UnsupportedPhoto
from srbatch.formats import Format
from srbatch.metadata import profiles
from tests.conftest import crop
from tests.corpus import XMP as XMP_PACKET
from tests.files import block

XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
IPTC = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")


def jp2(image: Image.Image, **options: object) -> bytes:
    data = BytesIO()
    image.save(data, "JPEG2000", **options)
    return data.getvalue()


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def behind_the_header(data: bytes, *boxes: bytes) -> bytes:
    at = data.index(b"jp2c") - 4
    return data[:at] + b"".join(boxes) + data[at:]


def in_the_header(data: bytes, kind: bytes, body: bytes, *, instead_of: bytes | None = None) -> bytes:
    """With one more box at the end of the header box, or one in the place of another."""
    at = data.index(b"jp2h") - 4
    (size,) = struct.unpack(">I", data[at : at + 4])
    inner, rest = data[at + 8 : at + size], data[at + size :]
    if instead_of is not None:
        old = inner.index(instead_of) - 4
        (gone,) = struct.unpack(">I", inner[old : old + 4])
        inner = inner[:old] + inner[old + gone :]
    return data[:at] + box(b"jp2h", inner + box(kind, body)) + rest


def with_bits(data: bytes, bits: int) -> bytes:
    """One channel, said to have so many bits: decoders add half of that range to each number."""
    at = data.index(CODESTREAM) + 42
    return data[:at] + bytes([bits - 1]) + data[at + 1 :]


def at_half_the_size(data: bytes) -> bytes:
    """Channels that are said to have a number for every other pixel across and down."""
    at = data.index(CODESTREAM) + 43
    return data[:at] + b"\2\2" + data[at + 2 :]


def decoded(data: bytes, tmp_path: Path) -> picture.Picture:
    (tmp_path / "a.jp2").write_bytes(data)
    found = picture.decode(tmp_path / "a.jp2", tmp_path / "raw", 1e9)
    assert picture.probe(tmp_path / "a.jp2", 1e9) == found.header
    return found


def refused(data: bytes, tmp_path: Path) -> str:
    (tmp_path / "a.jp2").write_bytes(data)
    with pytest.raises(UnsupportedPhoto) as error:
        picture.probe(tmp_path / "a.jp2", 1e9)
    with pytest.raises(UnsupportedPhoto):
        picture.decode(tmp_path / "a.jp2", tmp_path / "raw", 1e9)
    return str(error.value)


@pytest.mark.parametrize("no_jp2", [False, True], ids=["boxes", "codestream"])
@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)])
def test_pixels(tmp_path: Path, mode: str, channels: int, no_jp2: bool) -> None:
    image = crop().convert(mode)
    if "A" in mode:
        image.putalpha(Image.linear_gradient("L").resize(image.size).point(lambda level: max(level, 1)))
    found = decoded(jp2(image, no_jp2=no_jp2), tmp_path)
    assert (found.header.format, found.header.channels, found.header.bits) == (Format.JP2, channels, 8)
    assert np.array_equal(found.pixels().reshape(-1), np.asarray(image).reshape(-1))
    # Without boxes nothing says that the channel beside the colours is transparency.
    assert found.metadata.extra_is_data is (no_jp2 and "A" in mode)


def test_grey_of_16_bits(tmp_path: Path) -> None:
    pixels = np.arange(256 * 64, dtype=np.uint16).reshape(64, 256) * 4
    found = decoded(jp2(Image.fromarray(pixels)), tmp_path)
    assert (found.header.channels, found.header.bits) == (1, 16)
    assert np.array_equal(found.pixels()[:, :, 0], pixels)


@pytest.mark.parametrize("bits", [1, 4, 7, 10, 12, 15])
def test_other_depths_reach_from_black_to_white(tmp_path: Path, bits: int) -> None:
    whole = 8 if bits < 8 else 16
    levels = np.tile(np.arange(2**bits).repeat(max(1, 512 // 2**bits)), 32).reshape(32, -1)
    stored = (levels - 2 ** (bits - 1) + 2 ** (whole - 1)).astype(f"uint{whole}")
    found = decoded(with_bits(jp2(Image.fromarray(stored)), bits), tmp_path)
    assert found.header.bits == whole
    expected = np.rint(levels * ((2**whole - 1) / (2**bits - 1)))
    assert np.array_equal(found.pixels()[:, :, 0], expected)


def test_luma_and_chroma_become_rgb(tmp_path: Path) -> None:
    found = decoded(jp2(crop().convert("YCbCr")), tmp_path)
    assert np.abs(found.pixels().astype(int) - np.asarray(crop()).astype(int)).max() <= 3


def test_what_lies_beside_the_pixels(tmp_path: Path) -> None:
    exif, icc = block(), profiles.wide_rgb()
    packet = XMP_PACKET.format(1).encode()
    records = b"\x1c\x02\x78\x00\x05Hello"
    data = in_the_header(jp2(crop()), b"colr", b"\x02\0\0" + icc, instead_of=b"colr")
    data = in_the_header(
        data, b"res ", box(b"resc", struct.pack(">4H2b", 300, 254, 600, 254, 4, 4))
    )  # per metre
    data = behind_the_header(
        data,
        box(b"uuid", b"JpgTiffExif->JP2" + exif),
        box(b"uuid", XMP + packet),
        box(b"uuid", IPTC + records),
        box(b"uuid", bytes(16) + b"x"),
        box(b"xml ", b"<a/>"),
        box(b"jumb", b"x"),
    )
    found = decoded(data, tmp_path)
    assert (found.metadata.exif, found.metadata.icc, found.metadata.iptc) == (exif, icc, records)
    assert found.metadata.xmp == packet
    assert found.resolution == pytest.approx((600 / 25.4, 300 / 25.4), rel=1e-3)
    assert [note for note in found.notes if "not carried" in note] == [
        f"the JPEG 2000 box with the UUID {bytes(16).hex()} was not carried",
        "the JPEG 2000 box 'xml ' was not carried",
        "the C2PA manifest does not survive re-encoding and was not carried",
    ]
    # As exiftool writes it for some programs, with the prefix that it has in JPEG.
    prefixed = behind_the_header(jp2(crop()), box(b"uuid", b"JpgTiffExif->JP2Exif\0\0" + exif))
    assert read_jp2(BytesIO(prefixed)).exif == exif


def colour(number: int) -> bytes:
    return struct.pack(">3BI", 1, 0, 0, number)


def channel_definitions(*triples: tuple[int, int, int]) -> bytes:
    return struct.pack(">H", len(triples)) + b"".join(struct.pack(">3H", *triple) for triple in triples)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: in_the_header(jp2(crop()), b"colr", colour(14), instead_of=b"colr"), "colours are Lab"),
        (lambda: in_the_header(jp2(crop()), b"colr", colour(21), instead_of=b"colr"), "of the kind 21"),
        (lambda: jp2(crop().convert("CMYK")), "colours are CMYK"),
        (
            lambda: in_the_header(
                jp2(crop().convert("RGBA")),
                b"colr",
                b"\x02\0\0" + bytes(16) + b"CMYK" + bytes(108),
                instead_of=b"colr",
            ),
            "colours are CMYK",
        ),
        (lambda: in_the_header(jp2(crop().convert("L")), b"pclr", bytes(8)), "palette"),
        (
            lambda: in_the_header(jp2(crop()), b"cdef", channel_definitions((0, 0, 3), (1, 0, 2), (2, 0, 1))),
            "not in their usual order",
        ),
        (
            lambda: in_the_header(
                jp2(crop().convert("LA")),
                b"cdef",
                channel_definitions((0, 0, 1), (1, 2, 0)),
                instead_of=b"cdef",
            ),
            "multiplied by its transparency",
        ),
        (lambda: with_bits(jp2(crop()), 12), "different sizes or depths"),
        (lambda: at_half_the_size(jp2(crop().convert("L"))), "different sizes or depths"),
        (lambda: with_bits(with_bits(jp2(crop().convert("L")), 8), 0x88), "8 bits with a sign"),
        (lambda: with_bits(jp2(Image.new("I;16", (50, 40))), 17), "17 bits"),
        (lambda: jp2(crop()) + box(b"jp2c", CODESTREAM), "a file of 2 pictures"),
        (lambda: jp2(crop()).replace(b"jp2h", b"jplh"), "put together of parts"),
    ],
)
def test_what_would_not_come_out_as_it_is_meant_is_refused(tmp_path: Path, data: object, words: str) -> None:
    assert callable(data)
    assert words in refused(data(), tmp_path)


def test_of_several_boxes_of_one_kind_the_first_counts(tmp_path: Path) -> None:
    """As the standard has it of colours, whatever the others say."""
    exif, packet = block(), XMP_PACKET.format(1).encode()
    data = in_the_header(jp2(crop()), b"colr", colour(14))
    data = behind_the_header(
        data,
        *(box(b"uuid", b"JpgTiffExif->JP2" + content) for content in (exif, b"another")),
        *(box(b"uuid", XMP + content) for content in (packet, b"another")),
    )
    found = decoded(data, tmp_path)
    assert (found.metadata.exif, found.metadata.xmp, found.metadata.icc) == (exif, packet, None)
    profile = b"\x02\0\0" + profiles.wide_rgb()
    data = in_the_header(jp2(crop()), b"colr", profile, instead_of=b"colr")
    data = in_the_header(data, b"colr", b"\x02\0\0" + bytes(16) + b"CMYK" + bytes(108))
    assert read_jp2(BytesIO(data)).icc == profiles.wide_rgb()


def test_a_channel_that_is_said_to_be_nothing_is_data(tmp_path: Path) -> None:
    data = in_the_header(
        jp2(crop().convert("LA")),
        b"cdef",
        channel_definitions((0, 0, 1), (1, 0xFFFF, 0xFFFF)),
        instead_of=b"cdef",
    )
    assert decoded(data, tmp_path).metadata.extra_is_data


def test_a_file_that_is_cut_off_anywhere_is_told(tmp_path: Path) -> None:
    data = behind_the_header(jp2(crop()), box(b"uuid", XMP + b"<x/>"))
    for size in [*range(13, 200), *range(200, len(data) - 2, 97)]:
        (tmp_path / "a.jp2").write_bytes(data[:size])
        with pytest.raises(UnreadablePhoto):
            picture.decode(tmp_path / "a.jp2", tmp_path / "raw", 1e9)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_head_is_refused_or_read(changes: list[tuple[int, int]]) -> None:
    data = bytearray(behind_the_header(jp2(crop()), box(b"uuid", XMP + b"<x/>")))
    for at, value in changes:
        data[at] = value
    try:
        read_jp2(BytesIO(bytes(data)))
    except PhotoError:
        return
