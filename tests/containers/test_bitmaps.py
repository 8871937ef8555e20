"""GIF and BMP: read with all that they hold, and written as PNG."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srbatch.codecs import picture
from srbatch.containers.bitmaps import read_bmp, read_gif
from srbatch.errors import PhotoTooLarge, UnreadablePhoto
from srbatch.metadata import profiles
from tests.conftest import crop


def decoded(path: Path, tmp_path: Path) -> picture.Picture:
    return picture.decode(path, tmp_path / "raw", 1e9)


def bmp(mode: str) -> bytes:
    data = BytesIO()
    crop().convert(mode).save(data, "BMP", dpi=(300, 300))
    return data.getvalue()


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("P", 3), ("RGB", 3)])
def test_bmp_pixels(tmp_path: Path, mode: str, channels: int) -> None:
    path = tmp_path / "a.bmp"
    path.write_bytes(bmp(mode))
    found = decoded(path, tmp_path)
    assert (found.header.channels, found.header.bits) == (channels, 8)
    expected = np.asarray(crop().convert(mode).convert("RGB" if channels == 3 else "L"))
    assert np.array_equal(found.pixels().squeeze(), expected)
    assert found.resolution == pytest.approx((300 / 25.4, 300 / 25.4), rel=1e-3)
    assert picture.probe(path, 1e9) == found.header


def test_bmp_with_transparency_and_a_profile(tmp_path: Path) -> None:
    """The fifth version of the header, which Pillow reads but does not write."""
    pixels = np.random.default_rng(1).integers(1, 256, (6, 5, 4), dtype=np.uint8)
    icc = profiles.wide_rgb()
    masks = struct.pack("<4I", 0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)
    rows = pixels[::-1, :, [2, 1, 0, 3]].tobytes()
    head = struct.pack("<IiiHHIIiiII", 124, 5, 6, 1, 32, 3, len(rows), 0, 0, 0, 0) + masks
    head += b"DEBM" + bytes(36 + 12 + 4) + struct.pack("<III", 124 + len(rows), len(icc), 0)
    assert len(head) == 124
    size = 14 + len(head) + len(rows) + len(icc)
    data = b"BM" + struct.pack("<IHHI", size, 0, 0, 14 + len(head)) + head + rows + icc
    (tmp_path / "a.bmp").write_bytes(data)
    found = decoded(tmp_path / "a.bmp", tmp_path)
    assert np.array_equal(found.pixels(), pixels)
    assert found.metadata.icc == icc
    assert read_bmp(BytesIO(data.replace(b"DEBM", b"KNIL"))).notes


@pytest.mark.parametrize("transparent", [False, True])
def test_gif_pixels(tmp_path: Path, transparent: bool) -> None:
    image = crop().quantize(60)
    how = {"transparency": 3} if transparent else {}
    image.save(tmp_path / "a.gif", **how)
    with Image.open(tmp_path / "a.gif") as reread:
        expected = np.asarray(reread.convert("RGBA"))
    found = decoded(tmp_path / "a.gif", tmp_path)
    seen = expected[:, :, 3] > 0
    assert seen.all() is not transparent
    pixels = found.pixels()
    assert np.array_equal(pixels[seen][:, :3], expected[seen][:, :3])
    assert found.header.channels == (4 if transparent else 3)


def gif_with(extension: bytes) -> bytes:
    data = BytesIO()
    crop().quantize(16).save(data, "GIF")
    whole = data.getvalue()
    at = 13 + (3 << (whole[10] & 7) + 1)
    return whole[:at] + extension + whole[at:]


def test_what_a_gif_says() -> None:
    comment = b"\x21\xfe\x05Hello\x07, world\0"
    assert read_gif(BytesIO(gif_with(comment))).comments == [b"Hello, world"]
    packet = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + b"long " * 100 + b"</x:xmpmeta>"
    ramp = b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    assert read_gif(BytesIO(gif_with(b"\x21\xff\x0bXMP DataXMP" + packet + ramp))).xmp == packet
    icc = profiles.wide_rgb()
    parts = b"".join(bytes([len(icc[i : i + 255])]) + icc[i : i + 255] for i in range(0, len(icc), 255))
    assert read_gif(BytesIO(gif_with(b"\x21\xff\x0bICCRGBG1012" + parts + b"\0"))).icc == icc
    assert read_gif(BytesIO(gif_with(b"\x21\xff\x0bUNKNOWN 1.0\x01x\0"))).notes == [
        "the GIF extension 'UNKNOWN 1.0' was not carried"
    ]


def test_a_gif_that_is_cut_off_anywhere_is_told() -> None:
    data = gif_with(b"\x21\xfe\x05Hello\0")
    for size in range(0, len(data) - 1, 7):
        with pytest.raises(UnreadablePhoto):
            read_gif(BytesIO(data[:size]))


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_a_gif_whose_picture_ends_early_is_no_photo_although_its_blocks_are_whole(
    tmp_path: Path, kept: int
) -> None:
    data = gif_with(b"")
    at = 13 + (3 << (data[10] & 7) + 1)
    while data[at] == 0x21:  # extensions
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    end = at = at + 11  # behind the descriptor and the bits of the first code
    blocks = 0
    while data[end]:
        end += 1 + data[end]
        blocks += 1
        at = end if blocks <= kept else at
    assert blocks > kept
    path = tmp_path / "a.gif"
    path.write_bytes(data[:at] + b"\0" + data[end + 1 :])
    with pytest.raises(UnreadablePhoto, match="damaged or cut off"):
        decoded(path, tmp_path)


def test_how_large_a_bmp_may_be_is_decided_by_the_option_alone(tmp_path: Path) -> None:
    head = struct.pack("<IiiHHIIiiII", 40, 20_000, 10_000, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head)
    header = picture.probe(tmp_path / "a.bmp", 1e9)
    assert (header.height, header.width) == (10_000, 20_000)
    with pytest.raises(PhotoTooLarge):
        picture.probe(tmp_path / "a.bmp", 1e8)
