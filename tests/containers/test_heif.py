"""AVIF and HEIC: pixels of 8 to 12 bits, metadata byte for byte, and files that are damaged."""

from __future__ import annotations

import contextlib
import pickle
import struct
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srbatch.codecs import encode, loading, picture
from srbatch.codecs.encode import Encoding
from srbatch.containers.blocks import C2PA_LOST
from srbatch.containers.heif import heif_with, read_heif
from srbatch.errors import UnreadablePhoto, UnsupportedPhoto, WrongOutput
from srbatch.formats import Format
from srbatch.metadata import profiles
from srbatch.metadata.reading import Metadata
from tests.conftest import Originals, crop, sample
from tests.files import EXIF
from tests.networks import upscaled

XMP = (
    b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>"
    b"<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'></rdf:RDF></x:xmpmeta>"
)
PHOTO = np.ascontiguousarray(sample()[150:230, 300:420])
DEEP = (PHOTO.astype(np.uint16) << 8) + np.roll(PHOTO, 7, axis=1)


def has_heic() -> bool:
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        return False
    return True


FORMATS = [
    Format.AVIF,
    pytest.param(Format.HEIC, marks=pytest.mark.skipif(not has_heic(), reason="no pillow-heif")),
]


def avif(pixels: np.ndarray = PHOTO, **how: Any) -> bytes:
    interpretation = "srgb" if pixels.dtype == np.uint8 else "rgb16"
    image = pyvips.Image.new_from_array(pixels).copy(interpretation=interpretation)
    if icc := how.pop("icc", None):
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)
    how = {"lossless": True, "effort": 0, **how}
    return bytes(image.heifsave_buffer(compression="av1", subsample_mode="off", keep="icc", **how))


def decoded(data: bytes, tmp_path: Path) -> picture.Picture:
    (tmp_path / "a.avif").write_bytes(data)
    return picture.decode(tmp_path / "a.avif", tmp_path / "raw", 1e9)


def encoded(pixels: np.ndarray, path: Path, fmt: Format, bits: int, **changes: Any) -> picture.Picture:
    path.with_suffix(".raw").write_bytes(pixels.tobytes())
    how = {"quality": 95, "lossless": False, "metadata": Metadata(), "resolution": None, **changes}
    height, width, channels = pixels.shape
    encode.encode(path.with_suffix(".raw"), path, Encoding(fmt, height, width, channels, bits, **how))
    return picture.decode(path, path.with_suffix(".back"), 1e9)


def test_pixels_of_8_bits(tmp_path: Path) -> None:
    found = decoded(avif(), tmp_path)
    assert (found.header.format, found.header.bits, found.header.channels) == (Format.AVIF, 8, 3)
    assert np.array_equal(found.pixels(), PHOTO)
    assert picture.probe(tmp_path / "a.avif", 1e9) == found.header


@pytest.mark.parametrize("bits", [10, 12])
def test_white_of_10_and_12_bits_is_white(tmp_path: Path, bits: int) -> None:
    steps = np.linspace(0, 2**bits - 1, 64).round().astype(np.uint16)
    pixels = np.repeat(np.tile(steps << (16 - bits), (64, 1))[:, :, None], 3, axis=2)
    found = decoded(avif(np.ascontiguousarray(pixels), bitdepth=bits), tmp_path)
    assert found.header.bits == bits
    result = found.pixels()
    assert (result.min(), result.max()) == (0, 65_535)
    assert np.abs(result[0, :, 0] - steps * (65_535 / (2**bits - 1))).max() <= 0.5


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_is_written_is_what_was_meant(tmp_path: Path, fmt: Format, channels: int) -> None:
    colours = np.concatenate([PHOTO, PHOTO[::-1, :, :1] | 1], axis=2)
    pixels = colours[:, :, {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]]
    for deep in (False, True):
        array = pixels.astype(np.uint16) * 257 if deep else pixels
        found = encoded(array, tmp_path / f"{deep}{fmt.suffixes[0]}", fmt, fmt.bits if deep else 8)
        assert found.header.bits == (fmt.bits if deep else 8)
        result = found.pixels().astype(float) / (257 if deep else 1)
        if result.shape[2] > channels:  # grey has become RGB
            result = result[:, :, [0] if channels == 1 else [0, 3]]
        assert np.abs(result - pixels).mean() < 1.5


@settings(max_examples=25)
@given(
    quality=st.integers(1, 100),
    kind=st.sampled_from(["noise", "photo", "checks", "saturated"]),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    deep=st.booleans(),
)
def test_the_loss_of_a_codec_is_no_false_alarm(
    tmp_path_factory: pytest.TempPathFactory, quality: int, kind: str, height: int, width: int, deep: bool
) -> None:
    y, x = np.mgrid[0:height, 0:width]
    pixels = {
        "noise": np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8),
        "photo": sample()[100 : 100 + height, 200 : 200 + width],
        "checks": np.repeat(((x + y) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2),
        "saturated": np.stack([x % 2 * 255, y % 2 * 255, (x + y) % 2 * 255], axis=2).astype(np.uint8),
    }[kind]
    array = np.ascontiguousarray(pixels.astype(np.uint16) * 257 if deep else pixels)
    for fmt in [Format.AVIF, *([Format.HEIC] if has_heic() else [])]:
        path = tmp_path_factory.mktemp("a") / f"a{fmt.suffixes[0]}"
        encoded(array, path, fmt, fmt.bits if deep else 8, quality=quality)


@pytest.mark.parametrize("fmt", FORMATS)
def test_metadata_byte_for_byte(tmp_path: Path, fmt: Format) -> None:
    source = Metadata(icc=profiles.wide_rgb(), exif=EXIF, xmp=XMP)
    path = tmp_path / f"a{fmt.suffixes[0]}"
    found = encoded(PHOTO, path, fmt, 8, metadata=source)
    assert (found.metadata.icc, found.metadata.exif, found.metadata.xmp) == (source.icc, EXIF, XMP)
    with path.open("rb") as file:
        assert read_heif(file).notes == []
    if fmt is Format.AVIF:
        with Image.open(path) as image:
            image.load()
            assert image.info["icc_profile"] == source.icc
            said = Image.Exif()
            said.load(EXIF)
            # Pillow writes anew what it gives as the block, and directories get other places in it.
            assert image.getexif().get_ifd(0x8825) == said.get_ifd(0x8825) != {}
            assert image.info["xmp"] == XMP
    else:
        import pillow_heif

        heif = pillow_heif.open_heif(path)
        assert heif.info["exif"].removeprefix(b"Exif\0\0") == EXIF
        assert heif.info["xmp"] == XMP


def test_metadata_that_another_program_wrote(tmp_path: Path) -> None:
    data = BytesIO()
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x0112] = 6
    crop().save(data, "AVIF", exif=exif, xmp=XMP, icc_profile=profiles.wide_rgb(), quality=95)
    found = decoded(data.getvalue(), tmp_path)
    assert found.metadata.xmp == XMP
    assert found.metadata.icc == profiles.wide_rgb()
    assert b"Maker" in (found.metadata.exif or b"")
    assert found.metadata.orientation == 1
    pixels = found.pixels()
    assert pixels.shape == (64, 48, 3)  # its own means of turning were followed
    assert np.abs(pixels.astype(int) - np.rot90(np.asarray(crop()), -1)).mean() < 4


def test_a_picture_keeps_its_place_when_metadata_is_added() -> None:
    plain = avif(np.concatenate([PHOTO, PHOTO[:, :, :1]], axis=2), icc=profiles.wide_rgb())
    full = heif_with(plain, exif_block=EXIF, xmp=XMP)
    before, after = (pyvips.Image.heifload_buffer(data).numpy() for data in (plain, full))
    assert np.array_equal(before, after)
    assert heif_with(plain, exif_block=None, xmp=None) == plain
    again = read_heif(BytesIO(full))
    assert (again.exif, again.xmp, again.icc) == (EXIF, XMP, profiles.wide_rgb())
    with pytest.raises(WrongOutput):
        heif_with(b"\0\0\0\x08free", exif_block=EXIF, xmp=None)


def test_colours_told_by_numbers(tmp_path: Path) -> None:
    data = BytesIO()
    crop().save(data, "AVIF")  # libvips writes no such box
    plain = data.getvalue()
    assert decoded(plain, tmp_path).notes == ()
    at = plain.index(b"nclx") + 4
    pq = plain[:at] + struct.pack(">HH", 9, 16) + plain[at + 4 :]
    with pytest.raises(UnsupportedPhoto, match="primaries 9, curve 16"):
        decoded(pq, tmp_path)


def test_a_file_that_is_cut_off_anywhere_is_told(tmp_path: Path) -> None:
    whole = heif_with(avif(PHOTO[:16, :16]), exif_block=EXIF, xmp=XMP)
    for size in range(0, len(whole), 29):
        with pytest.raises(UnreadablePhoto):
            read_heif(BytesIO(whole[:size]))


@settings(max_examples=300)
@given(changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_file_is_refused_or_read(changes: list[tuple[int, int]]) -> None:
    data = bytearray(heif_with(avif(PHOTO[:16, :16], effort=9), exif_block=EXIF, xmp=XMP))
    for at, value in changes:
        data[at % len(data)] = value
    with contextlib.suppress(UnreadablePhoto, UnsupportedPhoto):
        read_heif(BytesIO(bytes(data)))


@pytest.mark.parametrize("shape", [(0, 9, 3), (9, 0, 3), (9, 10**8, 3)])
def test_a_picture_that_claims_impossible_sides_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]
) -> None:
    class Damaged:
        bits, pictures = 8, 1

        def __init__(self, _: object) -> None:
            self.shape = shape

    monkeypatch.setattr(loading, "Heic", Damaged)
    path = tmp_path / "a.heic"
    path.write_bytes(avif().replace(b"avif", b"heic", 2))
    with pytest.raises(UnreadablePhoto, match=f"claims to have {shape[1]} x {shape[0]} pixels"):
        picture.probe(path, 1e9)


def test_what_a_codec_quotes_of_a_file_moves_no_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise RuntimeError("no such brand: \x1b[2J\x9b.")

    from srbatch.codecs import heic

    monkeypatch.setattr(heic.importlib, "import_module", lambda _: SimpleNamespace(open_heif=damaged))
    path = tmp_path / "a.heic"
    path.write_bytes(avif().replace(b"avif", b"heic", 2))
    with pytest.raises(UnreadablePhoto) as raised:
        picture.probe(path, 1e9)
    assert str(raised.value).endswith(r"no such brand: \x1b[2J\x9b.")
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
    said = loading.reason_of(pyvips.Error("failed", "\x1b]0;title\x07 of a tag\nand more"))
    assert said == r"\x1b]0;title\x07 of a tag"


def test_heic_without_its_library_is_refused_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from srbatch.codecs import heic

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(heic.importlib, "import_module", missing)
    path = tmp_path / "a.heic"
    path.write_bytes(avif().replace(b"avif", b"heic", 2))
    with pytest.raises(UnsupportedPhoto, match=r"srbatch\[heif\]"):
        picture.probe(path, 1e9)


@pytest.mark.parametrize("fmt", FORMATS)
def test_from_end_to_end(originals: Originals, tmp_path: Path, fmt: Format) -> None:
    """8, 10 and 16 bits in, kept or converted; grey and transparency too."""
    deep = originals.folder / f"deep{fmt.suffixes[0]}"
    encoded(DEEP, deep, fmt, 10)
    for name in ("raw", "back"):
        deep.with_suffix(f".{name}").unlink()
    colour = pyvips.Image.new_from_array(DEEP).copy(interpretation="rgb16")
    colour.pngsave(str(originals.folder / "deep.png"))
    crop().save(originals.folder / "a.jpg", exif=b"Exif\0\0" + EXIF)
    crop().convert("L").save(originals.folder / "grey.png")
    clear = crop().convert("RGBA")
    clear.putalpha(crop(left=0).convert("L"))
    clear.save(originals.folder / "clear.png")
    originals.remember()
    outcomes = upscaled(originals.folder, tmp_path / "hi", format=fmt)
    assert {outcome.status for outcome in outcomes.values()} == {"done"}, outcomes
    kept = f"of its 16 bits for each colour {fmt.bits} were kept: {fmt.value} holds no more"
    assert outcomes["deep.png"].notes == (kept,)
    for path in (tmp_path / "hi").glob(f"*{fmt.suffixes[0]}"):
        found = picture.probe(path, 1e9)
        assert found.format is fmt
        assert found.bits == (10 if path.name == deep.name else fmt.bits if "deep" in path.name else 8)
    assert picture.probe(tmp_path / "hi" / f"clear.png{fmt.suffixes[0]}", 1e9).channels == 4
    back = upscaled(tmp_path / "hi", tmp_path / "back", 1, format=Format.PNG)
    assert {outcome.status for outcome in back.values()} == {"done"}, back
    assert pyvips.Image.new_from_file(str(tmp_path / "back" / f"{deep.name}.png")).format == "ushort"


def test_places_are_turned_where_the_codec_turns_the_picture(originals: Originals, tmp_path: Path) -> None:
    """As phones write it: the format's own turn, and an EXIF block for the picture before that."""
    plain, tags = BytesIO(), Image.Exif()
    tags[0x0112] = 6
    crop().save(plain, "AVIF", exif=tags, quality=100)
    tags[0x0112] = 6  # saving has taken it away
    tags[0x011A], tags[0x011B], tags[0x0128] = 204.0, 98.0, 2
    tags.get_ifd(0x8769)[0xA214] = (16, 6)
    block = tags.tobytes().removeprefix(b"Exif\0\0")
    # Pillow turned what it was told of orientation into the format's own, and left no EXIF block.
    (originals.folder / "a.avif").write_bytes(heif_with(plain.getvalue(), exif_block=block, xmp=None))
    (originals.folder / "b.avif").write_bytes(heif_with(avif(), exif_block=block, xmp=None))
    originals.remember()
    upscaled(originals.folder, tmp_path / "hi")
    upscaled(originals.folder, tmp_path / "jpeg", format=Format.JPEG)
    for name, size, place, dpi in (
        ("a", (96, 128), (84, 32), (98, 204)),
        ("b", (240, 160), (32, 12), (204, 98)),
    ):
        with Image.open(tmp_path / "jpeg" / f"{name}.avif.jpg") as image:
            assert image.info["dpi"] == dpi
            assert (image.getexif()[0x011A], image.getexif()[0x011B]) == dpi
        with Image.open(tmp_path / "hi" / f"{name}.avif") as image:
            assert image.size == size
            assert image.getexif().get_ifd(0x8769)[0xA214] == place


def test_colours_that_are_multiplied_by_their_transparency_are_refused(tmp_path: Path) -> None:
    pixels = np.full((32, 32, 4), (200, 120, 0, 128), np.uint8)
    for name, premultiplied in (("straight", False), ("multiplied", True)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.avif", alpha_premultiplied=premultiplied)
    decoded = picture.decode(tmp_path / "straight.avif", tmp_path / "raw", 1e9).pixels()
    assert np.abs(decoded[16, 16].astype(int) - (200, 120, 0, 128)).max() <= 6
    with pytest.raises(UnsupportedPhoto, match="multiplied by its transparency"):
        picture.decode(tmp_path / "multiplied.avif", tmp_path / "raw", 1e9)


@pytest.mark.skipif(not has_heic(), reason="no pillow-heif")
def test_a_grey_profile_is_not_embedded_in_the_rgb_that_heic_makes_of_grey_with_transparency(
    originals: Originals, tmp_path: Path
) -> None:
    grey = crop().convert("LA")
    grey.putalpha(Image.linear_gradient("L").resize(grey.size))
    grey.save(originals.folder / "a.png", icc_profile=profiles.grey_profile("scanner", 1.8))
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", 1, format=Format.HEIC).values()
    assert outcome.error == "UnsupportedPhoto"
    assert "it has a grey profile, which heic cannot hold" in outcome.reason


C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


PICTURE, TAGS, PACKET = 3, 1, 2


def box(kind: bytes, body: bytes, size: str = "") -> bytes:
    """With its size in 32 bits, or as told otherwise."""
    if size == "64 bits":
        return struct.pack(">I4sQ", 1, kind, 16 + len(body)) + body
    return struct.pack(">I4s", 0 if size == "to the end" else 8 + len(body), kind) + body


def full(kind: bytes, body: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags) + body)


def number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big")


def locations(version: int, sizes: tuple[int, int, int, int], start: int, *, in_meta: bool) -> bytes:
    """Of the tags, in two pieces, and of the packet behind them."""
    offset_size, length_size, base_size, index_size = sizes
    wide = 4 if version == 2 else 2
    base = start - 3 if base_size else 0
    whole = 4 + len(EXIF)
    found = struct.pack(
        ">BB", offset_size << 4 | length_size, base_size << 4 | (index_size if version else 0)
    )
    found += number(2, wide)
    for item, pieces in ((TAGS, [(0, 9), (9, whole - 9)]), (PACKET, [(whole, len(XMP))])):
        found += number(item, wide) + (number(in_meta, 2) if version else b"")
        found += number(0, 2) + number(base, base_size) + number(len(pieces), 2)
        for index, (at, length) in enumerate(pieces):
            found += number(index, index_size) if version and index_size else b""
            found += number(start + at - base, offset_size) + number(length, length_size)
    return full(b"iloc", found, version)


def heif(
    version: int, sizes: tuple[int, int, int, int], *, in_meta: bool, properties: int, size: str
) -> bytes:
    """A file whose picture owns the last of many properties."""
    payload = bytes(4) + EXIF + XMP
    infos = [
        full(b"infe", struct.pack(">HH4s", TAGS, 0, b"Exif") + b"\0", 2),
        full(b"infe", struct.pack(">HH4s", PACKET, 0, b"mime") + b"\0application/rdf+xml\0", 2),
        full(b"infe", struct.pack(">HH4s", PICTURE, 0, b"av01") + b"\0", 2),
    ]
    others, profile = box(b"free", b"") * (properties - 1), box(b"colr", b"prof" + profiles.wide_rgb())
    owned = (number(0x8000 | properties, 2), 1) if properties > 127 else (number(0x80 | properties, 1), 0)
    owns = struct.pack(">IHB", 1, PICTURE, 1) + owned[0]
    head = box(b"ftyp", b"avif\0\0\0\0avifmif1")

    def meta(start: int) -> bytes:
        parts = [
            full(b"pitm", number(PICTURE, 2)),
            full(b"iinf", number(len(infos), 2) + b"".join(infos)),
            locations(version, sizes, start, in_meta=in_meta),
            box(b"iprp", box(b"ipco", others + profile) + full(b"ipma", owns, flags=owned[1])),
            *([box(b"idat", b"before" + payload)] if in_meta else []),
        ]
        return full(b"meta", b"".join(parts))

    start = len(b"before") + (0 if in_meta else len(head) + len(meta(6)) + (16 if size == "64 bits" else 8))
    return head + meta(start) + box(b"mdat", b"before" + payload, size)


@pytest.mark.parametrize("size", ["32 bits", "64 bits", "to the end"])
@pytest.mark.parametrize("properties", [1, 200])
@pytest.mark.parametrize(
    ("version", "sizes", "in_meta"),
    [
        (0, (4, 4, 0, 0), False),
        (0, (4, 4, 4, 0), False),
        (1, (4, 4, 0, 4), False),
        (1, (8, 8, 8, 8), False),
        (1, (4, 4, 4, 0), True),
        (2, (4, 4, 0, 0), False),
        (2, (8, 4, 4, 4), True),
    ],
    ids=str,
)
def test_wherever_a_file_says_that_its_blocks_lie_they_are_found(
    version: int, sizes: tuple[int, int, int, int], in_meta: bool, properties: int, size: str
) -> None:
    """All that ISO/IEC 14496-12 allows; phones and programs each use another part of it."""
    data = heif(version, sizes, in_meta=in_meta, properties=properties, size=size)
    found = read_heif(BytesIO(data))
    assert (found.exif, found.xmp, found.icc) == (EXIF, XMP, profiles.wide_rgb())
    assert found.notes == []
    if size != "to the end":
        data += box(b"free", b"room", "64 bits") + box(b"uuid", C2PA + b"signed", size)
        assert read_heif(BytesIO(data)).notes == [C2PA_LOST]
