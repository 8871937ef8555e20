"""Each bad file is a clear outcome for itself; the photo beside it is done; nothing is lost."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Srbatch
from tests.conftest import Originals, crop


def encoded(image: Image.Image, fmt: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of 40,000 x 40,000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def corrupt_middle() -> bytes:
    data = bytearray(encoded(crop(200, 200), "JPEG", quality=95))
    middle = len(data) // 2
    data[middle : middle + 200] = b"\xff\xd9" * 100  # the picture ends here, says the file
    return bytes(data)


BAD: dict[str, tuple[str, Callable[[], bytes], str, str]] = {
    "empty": ("empty.jpg", lambda: b"", "UnreadablePhoto", "empty"),
    "text": ("text.jpg", lambda: b"Dear diary, " * 50, "UnreadablePhoto", "not a picture"),
    "truncated jpeg": (
        "cut.jpg",
        lambda: encoded(crop(200, 200), "JPEG", quality=95)[:9000],
        "UnreadablePhoto",
        "cut off",
    ),
    "cut inside its header": (
        "head.jpg",
        lambda: encoded(crop(), "JPEG")[:30],
        "UnreadablePhoto",
        "cut off",
    ),
    "ends in the middle": ("end.jpg", corrupt_middle, "UnreadablePhoto", "cut off"),
    "truncated png": ("cut.png", lambda: encoded(crop(), "PNG")[:-400], "UnreadablePhoto", "cut off"),
    "truncated webp": ("cut.webp", lambda: encoded(crop(), "WEBP")[:-300], "UnreadablePhoto", "cut off"),
    "truncated tiff": ("cut.tif", lambda: encoded(crop(), "TIFF")[:5000], "UnreadablePhoto", "cut off"),
    "bomb": ("bomb.png", bomb, "PhotoTooLarge", "--max-megapixels"),
    "animated gif": (
        "moving.gif",
        lambda: encoded(crop(), "GIF", save_all=True, append_images=[crop(left=0)]),
        "UnsupportedPhoto",
        "an animation of 2 pictures",
    ),
    "truncated gif": ("cut.gif", lambda: encoded(crop(), "GIF")[:-300], "UnreadablePhoto", "cut off"),
    "truncated bmp": ("cut.bmp", lambda: encoded(crop(), "BMP")[:-300], "UnreadablePhoto", "cut off"),
    "truncated jp2": ("cut.jp2", lambda: encoded(crop(), "JPEG2000")[:-300], "UnreadablePhoto", "cut off"),
    "head of a bmp": ("head.bmp", lambda: b"BM" + bytes(9), "UnreadablePhoto", "cut off"),
    "pdf called jpg": ("pdf.jpg", lambda: b"%PDF-1.7" + bytes(40), "UnsupportedPhoto", "a PDF"),
    "animated webp": (
        "moving.webp",
        lambda: encoded(crop(), "WEBP", save_all=True, append_images=[crop(left=0)]),
        "UnsupportedPhoto",
        "animation",
    ),
    "pages": (
        "pages.tif",
        lambda: encoded(crop(), "TIFF", save_all=True, append_images=[crop(left=0)]),
        "UnsupportedPhoto",
        "2 pictures",
    ),
    "video called jpg": (
        "film.jpg",
        lambda: b"\0\0\0\x18ftypmp42" + bytes(99),
        "UnsupportedPhoto",
        "a video",
    ),
    "raw": ("raw.nef", lambda: b"II*\0" + bytes(99), "UnsupportedPhoto", '--exclude "*.nef"'),
    "truncated avif": ("cut.avif", lambda: encoded(crop(), "AVIF")[:-300], "UnreadablePhoto", "cut off"),
    "float": (
        "hdr.tif",
        lambda: encoded(crop().convert("F"), "TIFF"),
        "UnsupportedPhoto",
        "convert it to 16 bits",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_costs_itself(srbatch: Srbatch, originals: Originals, tmp_path: Path, case: str) -> None:
    name, content, error, said = BAD[case]
    (originals.folder / name).write_bytes(content())
    crop().save(originals.folder / "good.png")
    originals.remember()
    arguments = ("upscale", originals.folder, "--scale", 1, "--out", tmp_path / "hi", "--json")
    result = srbatch(*arguments)
    assert result.code == 3
    record = result.records[name]
    assert (record["status"], record["error"]) == ("failed", error), record
    assert said in record["reason"]
    assert name in result.err
    assert result.records["good.png"]["status"] == "done"
    assert sorted(p.name for p in (tmp_path / "hi").iterdir()) == [".srbatch", "good.png"]
    again = srbatch(*arguments)  # known by now: no try, but told again
    assert again.code == 3
    assert again.records[name]["error"] == error


def test_what_a_decoder_warns_of_is_told(srbatch: Srbatch, originals: Originals, tmp_path: Path) -> None:
    data = encoded(crop(), "JPEG")
    (originals.folder / "odd.jpg").write_bytes(data[:20] + bytes(3) + data[20:])
    originals.remember()
    result = srbatch("upscale", originals.folder, "--scale", 1, "--out", tmp_path / "hi", "--json")
    record = result.records["odd.jpg"]
    assert record["status"] == "done"
    assert "3 extraneous bytes" in record["notes"][0]


def test_a_name_that_says_another_format(srbatch: Srbatch, originals: Originals, tmp_path: Path) -> None:
    (originals.folder / "really.jpg").write_bytes(encoded(crop(), "PNG"))
    originals.remember()
    result = srbatch("upscale", originals.folder, "--scale", 1, "--out", tmp_path / "hi", "--json")
    assert result.code == 0
    assert "its content is png" in result.records["really.jpg"]["notes"][0]
    with Image.open(tmp_path / "hi" / "really.jpg") as image:
        assert image.format == "JPEG"


def test_a_folder_called_like_a_photo(srbatch: Srbatch, originals: Originals, tmp_path: Path) -> None:
    (originals.folder / "x.jpg").mkdir()
    crop().save(originals.folder / "x.jpg" / "inside.png")
    originals.remember()
    assert srbatch("upscale", originals.folder, "--scale", 1, "--out", tmp_path / "hi").code == 0
    assert (tmp_path / "hi" / "x.jpg" / "inside.png").is_file()


def test_things_that_are_not_files(srbatch: Srbatch, originals: Originals, tmp_path: Path) -> None:
    os.mkfifo(originals.folder / "pipe.jpg")
    (originals.folder / "gone.jpg").symlink_to("nowhere.jpg")
    (originals.folder / "round.jpg").symlink_to("round.jpg")
    (originals.folder / "loop").symlink_to(originals.folder)
    crop().save(originals.folder / "good.png")
    originals.remember()
    result = srbatch("upscale", originals.folder, "--scale", 1, "--out", tmp_path / "hi", "--json")
    assert result.code == 3
    assert "not a file" in result.records["pipe.jpg"]["reason"]
    assert "not there" in result.records["gone.jpg"]["reason"]
    assert "leads back to itself" in result.records["round.jpg"]["reason"]
    assert result.records["good.png"]["status"] == "done"


def test_a_codec_that_takes_too_long_is_stopped(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    crop(400, 600, top=0, left=0).resize((6000, 4000)).save(originals.folder / "large.png")
    originals.remember()
    arguments = ("upscale", originals.folder, "--scale", 1, "--out", tmp_path / "hi", "--codec-timeout", 0.02)
    for _ in range(2):
        result = srbatch(*arguments)
        assert result.code == 3
        assert "did not finish within" in result.err
        assert "--codec-timeout" in result.err
        assert "as before" not in result.err, "it may have been the machine's fault"
    assert [p.name for p in (tmp_path / "hi").iterdir()] == [".srbatch"]


def test_what_failed_is_tried_again_when_asked_or_changed(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    path, out = originals.folder / "a.png", tmp_path / "hi"
    path.write_bytes(b"")
    originals.remember()
    arguments = ("upscale", originals.folder, "--scale", 1, "--out", out)
    assert "the file is empty" in srbatch(*arguments).err
    for _ in range(2):
        assert srbatch(*arguments).err.count("as before") == 2  # where it happens, and in the summary
    assert "as before" not in srbatch(*arguments, "--retry-failed").err
    crop().save(path)
    originals.remember()
    assert srbatch(*arguments).code == 0
    assert srbatch("status", out).code == 0


def test_a_photo_that_may_not_be_read_costs_itself_also_where_it_is_named(
    bound: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    for name in ("closed.png", "good.png"):
        crop().save(originals.folder / name)
    originals.remember()
    (originals.folder / "closed.png").chmod(0)
    paths = [originals.folder / name for name in ("closed.png", "good.png")]
    result = bound("upscale", *paths, "--scale", 1, "--out", tmp_path / "hi", "--json")
    (originals.folder / "closed.png").chmod(paths[1].stat().st_mode)
    assert result.code == 3, result.err
    assert "see to its permissions" in result.records["closed.png"]["reason"]
    assert result.records["good.png"]["status"] == "done"


def test_a_ledger_that_may_not_be_seen_is_told_of(bound: Srbatch, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    (out / ".srbatch").mkdir(parents=True, mode=0)
    for arguments in (("status", out), ("verify", out), ("upscale", photos, "--out", out, "--scale", 1)):
        result = bound(*arguments, *(["--dry-run"] if photos in arguments else []))
        assert result.code == 6, result.err
        assert "Permission denied; see to its permissions" in result.err
    (out / ".srbatch").chmod(0o700)
