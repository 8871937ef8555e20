"""What lies behind the picture in a file is told, to the byte, and nothing else is."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srbatch.containers import heif, jpeg_trailer, png, webp
from srbatch.formats import Format
from tests.conftest import Originals, crop
from tests.files import VIDEO, segment, splice
from tests.networks import upscaled

SAMSUNG = b"\0\0\0\x0a\x10\0\0\0MotionPhoto_Data" + VIDEO + b"SEFH" + bytes(20) + b"SEFT"


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def saved(image: Image.Image, fmt: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def told(data: bytes) -> str | None:
    return jpeg_trailer.note(io.BytesIO(data))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 99),
    progressive=st.booleans(),
    rows=st.integers(0, 3),
    quality=st.integers(1, 100),
    trailer=st.binary(min_size=1, max_size=200).map(lambda data: b"AFCP" + data),
)
def test_of_any_jpeg_the_bytes_behind_it_are_counted(
    seed: int, progressive: bool, rows: int, quality: int, trailer: bytes
) -> None:
    """Scans of noise are full of FF; restart markers and further scans come before the end."""
    image = noise(40 + seed, 60, seed)
    data = saved(image, "JPEG", quality=quality, progressive=progressive, restart_marker_rows=rows)
    assert told(data) is None
    assert (told(data + trailer) or "").startswith(f"{len(trailer)} bytes behind the picture ")


def test_a_marker_between_two_reads_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(noise(50, 50), "JPEG", progressive=True)
    for size in (2, 3, 7):
        monkeypatch.setattr(jpeg_trailer, "_CHUNK", size)
        assert "3 bytes" in (told(data + b"end") or "")


@pytest.mark.parametrize("padding", [b"\0" * 4096, b"\xff" * 9, b"\r\n", b"\0" * 70_000 + b"\n"])
def test_padding_is_nothing(padding: bytes) -> None:
    assert told(saved(noise(9, 9), "JPEG") + padding) is None


@pytest.mark.parametrize("trailer", [VIDEO, bytes(65_530) + VIDEO, SAMSUNG])
def test_a_video_is_called_one(trailer: bytes) -> None:
    data = saved(noise(9, 9), "JPEG") + trailer
    assert told(data) == (
        f"{len(trailer):,} bytes behind the picture (a video, as motion photos have one) were not carried"
    )


def test_pictures_of_the_index_are_told_of_with_it_and_what_follows_them_here() -> None:
    data = saved(noise(64, 64), "MPO", save_all=True, append_images=[noise(64, 64, 1), noise(32, 32, 2)])
    assert told(data) is None
    assert told(data + VIDEO) is not None
    assert f"{len(VIDEO)} bytes" in (told(data + VIDEO) or "")


def test_an_index_that_an_editor_left_wrong_hides_nothing() -> None:
    data = bytearray(saved(noise(64, 64), "MPO", save_all=True, append_images=[noise(64, 64, 1)]))
    second = data.index(b"\xff\xd9\xff\xd8") + 2
    base = data.index(b"MPF\0") + 4
    listed = base + data[base:].index((second - base).to_bytes(4, "little"))
    assert told(bytes(data)) is None
    data[listed : listed + 4] = (second - base - 1).to_bytes(4, "little")
    assert (told(bytes(data)) or "").startswith(f"{len(data) - second:,} bytes")


def test_a_crafted_index_does_not_have_the_file_read_thousands_of_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = b"".join(struct.pack("<4I", 0, 9, offset, 0) for offset in range(1, 4001))
    index = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0xB002, 7, len(listed), 26, 0) + listed
    starts: list[int] = []
    monkeypatch.setattr(jpeg_trailer, "_end_of_picture", lambda _, start: starts.append(start) or 0)
    told(splice(saved(noise(9, 9), "JPEG"), 2, segment(0xE2, b"MPF\0" + index)))
    assert starts[0] == 0
    assert 1 < len(starts) < 100


@settings(max_examples=60)
@given(st.data())
def test_damaged_and_cut_off_files_are_survived(data: st.DataObject) -> None:
    whole = bytearray(saved(noise(24, 24), "JPEG", progressive=True) + VIDEO)
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    note = told(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    assert note is None or note.endswith("were not carried")


def test_behind_a_png_and_a_webp() -> None:
    for fmt, read in (("PNG", png.read_png), ("WebP", webp.read_webp)):
        data = saved(noise(9, 9), fmt)
        assert read(io.BytesIO(data + bytes(8))).notes == []
        (note,) = read(io.BytesIO(data + b"rest of a longer file")).notes
        assert note.startswith("21 bytes behind the picture")


def test_the_video_and_the_gain_map_of_a_heif_file() -> None:
    data = saved(noise(64, 64), "AVIF")
    assert heif.read_heif(io.BytesIO(data)).notes == []
    video = struct.pack(">I", 8 + len(VIDEO)) + b"mpvd" + VIDEO
    assert heif.read_heif(io.BytesIO(data + video)).notes == [
        "the moving pictures in the HEIF file were not carried"
    ]
    samsung = struct.pack(">I", 12) + b"sefdSEFT"
    assert heif.read_heif(io.BytesIO(data + samsung)).notes == ["the HEIF box 'sefd' was not carried"]
    assert heif.read_heif(io.BytesIO(data + struct.pack(">I", 12) + b"free" + bytes(4))).notes == []
    derived = heif.heif_with(data, exif_block=b"II*\0", xmp=None).replace(b"Exif\0", b"tmap\0")
    assert heif.read_heif(io.BytesIO(derived)).notes == [
        "the gain map, which shows the photo in high dynamic range, was not carried"
    ]


def test_it_is_told_of_the_photo(originals: Originals, tmp_path: Path) -> None:
    plain, motion = originals.folder / "plain.jpg", originals.folder / "motion.jpg"
    crop().save(plain)
    motion.write_bytes(plain.read_bytes() + VIDEO)
    originals.remember()
    outcomes = upscaled(originals.folder, tmp_path / "hi")
    assert outcomes["plain.jpg"].notes == ()
    (note,) = outcomes["motion.jpg"].notes
    assert "a video" in note
    assert [o.status for o in outcomes.values()] == ["done", "done"]
    other = upscaled(originals.folder, tmp_path / "png", format=Format.PNG)
    assert other["motion.jpg"].notes == (note,)
