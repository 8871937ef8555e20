"""From a file to its pixels: orientation, channels, transparency, what is refused."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image

from srbatch.codecs import loading, picture
from srbatch.errors import PhotoChanged, PhotoTooLarge, UnreadablePhoto, UnsupportedPhoto
from srbatch.formats import Format
from srbatch.metadata import reading
from tests.conftest import crop
from tests.networks import upscaled


def decoded(path: Path, tmp_path: Path) -> picture.Picture:
    return picture.decode(path, tmp_path / "raw", 1e9)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_pixels_are_the_right_way_up(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = (
        {"lossless": True}
        if suffix == "webp"
        else {"quality": 100, "subsampling": 0}
        if suffix == "jpg"
        else {}
    )
    crop().save(path, exif=exif, **options)
    found = decoded(path, tmp_path)
    from PIL import ImageOps

    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    pixels = found.pixels()
    assert pixels.shape == expected.shape == (found.header.height, found.header.width, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= (0 if suffix != "jpg" else 2)
    assert found.metadata.orientation == orientation


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4), ("P", 3), ("1", 1)]
)
def test_channels(tmp_path: Path, mode: str, channels: int) -> None:
    path = tmp_path / "a.png"
    image = crop().convert("RGBA").convert(mode) if mode in ("LA", "RGBA") else crop().convert(mode)
    image.save(path)
    found = decoded(path, tmp_path)
    assert found.header.channels == channels
    expected = np.asarray(image.convert({"P": "RGB", "1": "L"}.get(mode, mode)))
    assert np.array_equal(found.pixels().squeeze(), expected)
    assert found.opaque


def test_colour_is_drawn_out_below_what_is_transparent(tmp_path: Path) -> None:
    pixels = np.zeros((60, 60, 4), np.uint8)
    pixels[20:40, 20:40] = (10, 200, 90, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = decoded(tmp_path / "a.png", tmp_path)
    assert not found.opaque
    result = found.pixels()
    assert np.array_equal(result[:, :, 3], pixels[:, :, 3])
    assert np.array_equal(result[20:40, 20:40], pixels[20:40, 20:40])
    assert np.abs(result[17:43, 17:43, :3].astype(int) - (10, 200, 90)).max() <= 1


def test_limits_count_pixels_by_the_header(tmp_path: Path) -> None:
    crop(100, 100).save(tmp_path / "a.png")
    assert picture.probe(tmp_path / "a.png", 10_000).width == 100
    with pytest.raises(PhotoTooLarge):
        picture.probe(tmp_path / "a.png", 9_999)


def test_the_cache_never_gives_old_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for left in (0, 200):
        crop(left=left).save(path)
        assert np.array_equal(decoded(path, tmp_path).pixels(), np.asarray(crop(left=left)))


def test_lossless_webp_is_known(tmp_path: Path) -> None:
    for lossless in (True, False):
        crop().save(tmp_path / "a.webp", lossless=lossless)
        assert decoded(tmp_path / "a.webp", tmp_path).lossless is lossless


def test_resolution(tmp_path: Path) -> None:
    for suffix in ("jpg", "png", "tif"):
        crop().save(tmp_path / f"a.{suffix}", dpi=(300, 300))
        found = decoded(tmp_path / f"a.{suffix}", tmp_path).resolution
        assert found == pytest.approx((300 / 25.4, 300 / 25.4), rel=1e-3)


def test_the_format_is_that_of_the_content(tmp_path: Path) -> None:
    crop().save(tmp_path / "a.jpg", "PNG")
    assert decoded(tmp_path / "a.jpg", tmp_path).header.format is Format.PNG


@pytest.mark.parametrize(
    ("brands", "fmt"),
    [
        (["heic", "mif1"], Format.HEIC),
        (["mif1", "mif1", "heic"], Format.HEIC),
        (["msf1", "iso8", "hevc"], Format.HEIC),
        (["mif1", "miaf", "avif"], Format.AVIF),
        (["mif1", "heic", "avif"], Format.AVIF),
        (["mif1", "miaf"], None),
        (["isom", "avc1"], None),
    ],
)
def test_any_of_the_brands_of_a_file_says_what_it_is(
    tmp_path: Path, brands: list[str], fmt: Format | None
) -> None:
    first, *others = (brand.encode() for brand in brands)
    box = b"ftyp" + first + bytes(4) + b"".join(others)
    behind = b"\0\0\0\x10freeavifheic"  # is no part of the box
    (tmp_path / "a").write_bytes((4 + len(box)).to_bytes(4, "big") + box + behind)
    with (tmp_path / "a").open("rb") as file:
        if fmt is not None:
            assert loading.format_of(file) is fmt
        else:
            with pytest.raises(UnsupportedPhoto, match="a video or a camera's raw file"):
                loading.format_of(file)
        assert file.tell() == 0


@pytest.mark.parametrize(("mode", "said"), [("F", "16 bits"), ("LAB", "Lab")])
def test_what_would_be_damaged_is_refused(tmp_path: Path, mode: str, said: str) -> None:
    image = Image.new(mode, (20, 20))
    image.save(tmp_path / "a.tif")
    with pytest.raises(UnsupportedPhoto, match=said):
        picture.probe(tmp_path / "a.tif", 1e9)


def with_compression(path: Path, number: int) -> Path:
    """A TIFF file that says that it is compressed so, and is not."""
    tifffile.imwrite(path, np.asarray(crop()), photometric="ycbcr" if number == 6 else "rgb")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["Compression"].overwrite(number)
    return path


@pytest.mark.parametrize("number", [6, 34925], ids=["old JPEG", "LZMA"])
def test_what_the_decoder_does_not_know_is_refused_and_not_made_up(tmp_path: Path, number: int) -> None:
    """libtiff goes on after it has said that it cannot, and gives a picture of nothing."""
    with pytest.raises(UnsupportedPhoto, match=r"of a kind that is not read .*not configured.*convert it"):
        decoded(with_compression(tmp_path / "a.tif", number), tmp_path)


def overwritten(path: Path, tag: str, value: object) -> None:
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags[tag].overwrite(value)


def pyramid(path: Path, *, side: int, **options: bool) -> Path:
    """A TIFF file that libvips adds copies of half the side to, down to one tile of 16 px."""
    image = pyvips.Image.new_from_array(np.asarray(crop(side, side)))
    image.tiffsave(str(path), pyramid=True, tile=True, tile_width=16, tile_height=16, **options)
    return path


def with_thumbnail(path: Path, *, kinds: tuple[int, int], sides: tuple[int, int] = (64, 16)) -> Path:
    """A TIFF file of two pages: what NewSubfileType says of each, and their sides."""
    with tifffile.TiffWriter(path) as file:
        for kind, side in zip(kinds, sides, strict=True):
            file.write(np.asarray(crop(side, side)), photometric="rgb", subfiletype=kind)
    return path


@pytest.mark.parametrize("subifd", [False, True], ids=["behind", "inside"])
def test_a_pyramid_in_a_tiff_file_is_left_out_and_told(tmp_path: Path, subifd: bool) -> None:
    found = decoded(pyramid(tmp_path / "a.tif", side=128, subifd=subifd), tmp_path)
    assert np.array_equal(found.pixels(), np.asarray(crop(128, 128)))
    (note,) = found.notes
    assert note.startswith("3 smaller copies of the picture")
    assert note.endswith("not carried")


def test_a_thumbnail_in_a_tiff_file_is_left_out_and_told(tmp_path: Path) -> None:
    found = decoded(with_thumbnail(tmp_path / "a.tif", kinds=(0, 1)), tmp_path)
    assert np.array_equal(found.pixels(), np.asarray(crop(64, 64)))
    assert found.notes == (
        "1 smaller copy of the picture (thumbnails or a pyramid) in the TIFF file, not carried",
    )


@pytest.mark.parametrize(
    "case",
    [
        {"kinds": (0, 0)},
        {"kinds": (0, 2)},  # a page of several
        {"kinds": (0, 3)},  # a smaller copy of a page of several
        {"kinds": (0, 1), "sides": (64, 64)},  # no smaller one
        {"kinds": (1, 0), "sides": (16, 64)},  # the thumbnail first
    ],
    ids=str,
)
def test_a_second_picture_that_is_no_smaller_copy_is_refused(tmp_path: Path, case: dict[str, Any]) -> None:
    path = with_thumbnail(tmp_path / "a.tif", **case)
    for read in (lambda: picture.probe(path, 1e9), lambda: decoded(path, tmp_path)):
        with pytest.raises(UnsupportedPhoto, match=r"a file of 2 pictures; split it"):
            read()


@pytest.mark.parametrize("start", [3, 1 << 30], ids=["in the header", "behind the end"])
def test_a_picture_inside_that_cannot_be_looked_at_is_refused(tmp_path: Path, start: int) -> None:
    pyramid(tmp_path / "a.tif", side=32, subifd=True)
    assert picture.probe(tmp_path / "a.tif", 1e9).width == 32
    overwritten(tmp_path / "a.tif", "SubIFDs", start)
    with pytest.raises(UnsupportedPhoto, match="SubIFDs"):
        picture.probe(tmp_path / "a.tif", 1e9)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_colours_that_the_decoder_takes_for_others_are_refused(
    tmp_path: Path, subsampling: tuple[int, int], compression: str | None
) -> None:
    """It would give the numbers of YCbCr out as RGB, without a warning."""
    path = tmp_path / "a.tif"
    crop().convert("YCbCr").save(path, compression=compression)
    overwritten(path, "YCbCrSubSampling", subsampling)
    for read in (lambda: picture.probe(path, 1e9), lambda: decoded(path, tmp_path)):
        with pytest.raises(UnsupportedPhoto, match=r"YCbCr without JPEG compression.*convert it to RGB"):
            read()


def test_ycbcr_of_jpeg_compression_is_read(tmp_path: Path) -> None:
    pyvips.Image.new_from_array(np.asarray(crop())).tiffsave(
        str(tmp_path / "a.tif"), compression="jpeg", Q=85, tile=True, tile_width=256, tile_height=256
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].photometric.name == "YCBCR"
    found = decoded(tmp_path / "a.tif", tmp_path)
    assert np.abs(found.pixels().astype(int) - np.asarray(crop()).astype(int)).mean() < 6


def test_packed_bits_are_of_a_kind_that_is_not_read_and_no_damage(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.asarray(crop()), photometric="rgb")
    overwritten(tmp_path / "a.tif", "BitsPerSample", (12, 12, 12))
    with pytest.raises(UnsupportedPhoto, match=r"of a kind that is not read .*convert it"):
        decoded(tmp_path / "a.tif", tmp_path)


def test_a_reason_is_never_that_of_another_photo(tmp_path: Path) -> None:
    """libvips keeps what it said until somebody asks; looking at a header may leave something behind."""
    picture.probe(with_compression(tmp_path / "a.tif", 6), 1e9)
    png = tmp_path / "b.png"
    crop().save(png)
    data = png.read_bytes()
    middle = data.index(b"IDAT") + 40
    png.write_bytes(data[:middle] + bytes(40) + data[middle + 40 :])
    with pytest.raises(UnreadablePhoto) as raised:
        decoded(png, tmp_path)
    assert "JPEG" not in str(raised.value)


def test_what_a_decoder_quotes_may_be_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then pyvips fails to make its own error of it."""

    def quoting(*_: object, **__: object) -> None:
        b"no box of kind \xffabc is known".decode()

    monkeypatch.setitem(loading._LOADERS, Format.PNG, quoting)
    crop().save(tmp_path / "a.png")
    with pytest.raises(UnreadablePhoto, match=r"no box of kind .abc is known"):
        decoded(tmp_path / "a.png", tmp_path)


@pytest.mark.parametrize("target", [Format.JPEG, Format.PNG, Format.WEBP, Format.TIFF])
def test_a_resolution_that_differs_across_and_down_turns_with_the_photo(
    tmp_path: Path, target: Format
) -> None:
    """In EXIF as in the format's own place, so that they do not contradict each other."""
    (tmp_path / "in").mkdir()
    for suffix in ("jpg", "webp", "tif"):
        for orientation in (1, 6):
            tags = Image.Exif()
            tags[0x0112], tags[0x011A], tags[0x011B], tags[0x0128] = orientation, 204.0, 98.0, 2
            crop().save(tmp_path / "in" / f"{orientation}.{suffix}", exif=tags, dpi=(204, 98))
    for name, outcome in upscaled(tmp_path / "in", tmp_path / "out", format=target).items():
        meant = (204, 98) if name.startswith("1") else (98, 204)
        with Image.open(outcome.photo.target) as image:
            found = image.getexif()
            assert (found[0x011A], found[0x011B]) == pytest.approx(meant), name
            assert image.info.get("dpi", meant) == pytest.approx(meant, rel=1e-3), name


class FailingDisk(io.FileIO):
    """A file that is read whole once, for its hash, and can then not be read behind its first half."""

    def readinto(self, buffer: Any) -> int | None:
        if getattr(self, "is_hashed", False) and self.tell() > os.fstat(self.fileno()).st_size // 2:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        found = super().readinto(buffer)
        self.is_hashed = getattr(self, "is_hashed", False) or not found
        return found


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif", "bmp", "gif"])
def test_a_disk_that_fails_is_not_taken_for_damage(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a.{suffix}"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (300, 400, 3), np.uint8)).save(path)
    monkeypatch.setattr(picture, "open_file", lambda path: io.BufferedReader(FailingDisk(path), 4096))
    with pytest.raises(PhotoChanged, match=re.escape(os.strerror(errno.ESTALE))) as raised:
        decoded(path, tmp_path)
    assert not raised.value.remembered


def grow(path: Path) -> None:
    status = path.stat()
    with path.open("ab") as file:
        file.write(b"more")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def touch(path: Path) -> None:
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


def be_replaced(path: Path) -> None:
    """By a file of the same size and date, as a program that synchronises folders puts it."""
    shutil.copy2(path, path.with_name("new"))
    path.with_name("new").replace(path)


@pytest.mark.parametrize("change", [grow, touch, be_replaced, Path.unlink])
def test_a_photo_that_changes_while_it_is_read_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """Its hash would be on record for pixels that are not of those bytes."""
    path, write = tmp_path / "a.png", picture._write_pixels
    crop().save(path)
    decoded(path, tmp_path)

    def overtaken(*arguments: Any) -> tuple[str, ...]:
        notes = write(*arguments)
        change(path)
        return notes

    monkeypatch.setattr(picture, "_write_pixels", overtaken)
    with pytest.raises(PhotoChanged, match="it changed while it was read") as raised:
        decoded(path, tmp_path)
    assert not raised.value.remembered


def test_pixels_and_metadata_are_those_of_one_file_wherever_its_name_leads_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, exif, known = tmp_path / "a.jpg", Image.Exif(), picture.format_of
    exif[0x010E] = "of another photo"
    crop().save(tmp_path / "mine.jpg")
    crop().save(tmp_path / "other.jpg", exif=exif)

    def led_to(name: str) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(name)

    def overtaken(file: Any) -> Format:
        led_to("other.jpg")
        return known(file)

    def back_again(*_: object) -> None:
        led_to("mine.jpg")

    led_to("mine.jpg")
    monkeypatch.setattr(picture, "format_of", overtaken)
    monkeypatch.setattr(picture.jpeg_trailer, "note", back_again)
    assert decoded(path, tmp_path).metadata.exif is None


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such pipes")
def test_a_pipe_in_the_place_of_a_photo_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(OSError, match="not a regular file"):
        reading.read(tmp_path / "a.jpg", Format.JPEG)
