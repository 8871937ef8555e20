"""What a photo says beside its pixels, through the whole program, read by Pillow and by exiftool."""

from __future__ import annotations

import json
import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from srbatch.containers.blocks import C2PA_LOST
from srbatch.formats import Format
from tests.cli.conftest import Srbatch
from tests.conftest import Originals, crop
from tests.files import block as exif_block
from tests.files import chunk, segment, splice
from tests.networks import upscaled

MAKE, ORIENTATION, SOFTWARE, DATE, GPS, EXIF_IFD = 0x010F, 0x0112, 0x0131, 0x0132, 0x8825, 0x8769
TAKEN, WIDTH, HEIGHT, MAKER_NOTE, LENS = 0x9003, 0xA002, 0xA003, 0x927C, 0xA434
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    b' xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6">'
    b'<dc:title><rdf:Alt><rdf:li xml:lang="x-default">Grandmother, 1953</rdf:li></rdf:Alt></dc:title>'
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def camera_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[MAKE], exif[ORIENTATION], exif[DATE], exif[SOFTWARE] = (
        "Voigtlaender",
        6,
        "1999:08:11 12:00:00",
        "Scan 1.0",
    )
    details = exif.get_ifd(EXIF_IFD)
    details[TAKEN], details[WIDTH], details[HEIGHT] = "1999:08:11 11:59:58", 64, 48
    details[MAKER_NOTE], details[LENS] = b"secret \0\xff bytes" * 5, "Heliar 50"
    place = exif.get_ifd(GPS)
    place[1], place[2], place[3], place[4] = "N", (48.0, 12.0, 30.0), "E", (16.0, 22.0, 15.0)
    return exif


def save(path: Path) -> None:
    options: dict[str, Any] = {"exif": camera_exif(), "icc_profile": ICC}
    if path.suffix == ".tif":
        options["exif"][700] = XMP
        options["exif"] = options["exif"].tobytes()  # as an object, Pillow leaves the sub-directories out
    elif path.suffix in (".jpg", ".webp"):
        options["xmp"] = XMP
    elif path.suffix == ".png":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    crop().save(path, **options)


@pytest.fixture
def tagged(originals: Originals) -> Path:
    for suffix in ("jpg", "png", "webp", "tif"):
        save(originals.folder / f"photo.{suffix}")
    originals.remember()
    return originals.folder


def check(path: Path) -> None:
    """Everything is there, and what depends on the size or the orientation is right."""
    with Image.open(path) as image:
        assert image.size == (96, 128)  # upright, and twice as large
        exif = image.getexif()
        assert exif[MAKE] == "Voigtlaender"
        assert exif[DATE] == "1999:08:11 12:00:00"
        assert exif.get(ORIENTATION, 1) == 1
        assert exif[SOFTWARE].startswith("srbatch ")
        details = exif.get_ifd(EXIF_IFD)
        assert details[TAKEN] == "1999:08:11 11:59:58"
        assert details[LENS] == "Heliar 50"
        assert details[MAKER_NOTE] == b"secret \0\xff bytes" * 5
        assert (details[WIDTH], details[HEIGHT]) == (96, 128)
        place = exif.get_ifd(GPS)
        assert (place[1], place[3]) == ("N", "E")
        assert tuple(map(float, place[2])) == (48, 12, 30)
        assert image.info["icc_profile"] == ICC
        xmp = image.tag_v2[700] if image.format == "TIFF" else image.info["xmp"]
        xmp = xmp.encode() if isinstance(xmp, str) else xmp
        assert b"Grandmother, 1953" in xmp
        assert b'tiff:Orientation="6"' not in xmp
        assert b"digitalsourcetype/algorithmicallyEnhanced" in xmp


def test_metadata_survives_in_every_pair_of_formats(srbatch: Srbatch, tagged: Path, tmp_path: Path) -> None:
    for name in ("keep", "jpeg", "png", "webp", "tiff"):
        result = srbatch(
            "upscale", tagged, "--scale", 2, "--format", name, "--out", tmp_path / name, "--json"
        )
        assert result.code == 0, result.err
        for record in result.records.values():
            check(Path(record["target"]))


def test_pixels_are_turned_upright_once(srbatch: Srbatch, tagged: Path, tmp_path: Path) -> None:
    srbatch("upscale", tagged, "--scale", 1, "--out", tmp_path / "hi")
    for path in tagged.iterdir():
        with Image.open(tmp_path / "hi" / path.name) as made, Image.open(path) as before:
            assert (
                np.abs(
                    np.asarray(ImageOps.exif_transpose(made)).astype(int)
                    - np.asarray(ImageOps.exif_transpose(before))
                ).mean()
                < 4
            )


def test_the_old_thumbnail_is_gone(srbatch: Srbatch, originals: Originals, tmp_path: Path) -> None:
    thumbnail = BytesIO()
    crop(24, 32).save(thumbnail, "JPEG")
    block = bytearray(camera_exif().tobytes())
    assert block.startswith(b"Exif\0\0MM")
    tiff = block[6:]
    # A second directory behind the first, as cameras write it, that points to the thumbnail.
    first = int.from_bytes(tiff[4:8], "big")
    link = first + 2 + 12 * int.from_bytes(tiff[first : first + 2], "big")
    at = len(tiff)
    tiff[link : link + 4] = at.to_bytes(4, "big")
    entries = [(0x0103, 3, 6), (0x0201, 4, at + 2 + 36 + 4), (0x0202, 4, len(thumbnail.getvalue()))]
    tiff += (3).to_bytes(2, "big")
    for tag, kind, value in entries:
        tiff += tag.to_bytes(2, "big") + kind.to_bytes(2, "big") + (1).to_bytes(4, "big")
        tiff += value.to_bytes(4, "big")
    tiff += bytes(4) + thumbnail.getvalue()
    crop().save(originals.folder / "a.jpg", exif=b"Exif\0\0" + bytes(tiff))
    originals.remember()
    assert srbatch("upscale", originals.folder, "--scale", 2, "--out", tmp_path / "hi").code == 0
    assert thumbnail.getvalue()[20:] in (originals.folder / "a.jpg").read_bytes()
    assert thumbnail.getvalue()[20:] not in (tmp_path / "hi" / "a.jpg").read_bytes()


def test_a_resolution_that_only_exif_tells_is_kept(originals: Originals, tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x011A], tags[0x011B], tags[0x0128], tags[ORIENTATION] = 300.0, 150.0, 2, 6
    crop().save(originals.folder / "a.webp", exif=tags)
    originals.remember()
    for fmt in (Format.JPEG, Format.PNG, Format.TIFF):
        (outcome,) = upscaled(originals.folder, tmp_path / fmt.value, format=fmt).values()
        with Image.open(outcome.photo.target) as image:
            assert image.info["dpi"] == pytest.approx((150, 300), abs=0.1)  # it lay on its side


def test_a_c2pa_manifest_is_missed_in_words(originals: Originals, tmp_path: Path) -> None:
    manifest = b"\0\0\0\x1cjumb\0\0\0\x14jumdc2pa"
    places = {
        "a.jpg": (2, segment(0xEB, b"JP\0\1\0\0\0\1" + manifest)),
        "a.png": (33, chunk(b"caBX", manifest)),
    }
    for name, (place, extra) in places.items():
        path = originals.folder / name
        crop().save(path)
        path.write_bytes(splice(path.read_bytes(), place, extra))
    originals.remember()
    for name, outcome in upscaled(originals.folder, tmp_path / "hi").items():
        assert outcome.notes == (C2PA_LOST,)
        assert b"jumb" not in (tmp_path / "hi" / name).read_bytes()


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_exiftool_reads_the_same_before_and_after(srbatch: Srbatch, tagged: Path, tmp_path: Path) -> None:
    srbatch("upscale", tagged, "--scale", 2, "--out", tmp_path / "hi")
    wanted = ("Make", "DateTimeOriginal", "LensModel", "GPSLatitude", "GPSLongitude", "Title", "ModifyDate")
    for path in tagged.iterdir():
        before, after = (_exiftool(p) for p in (path, tmp_path / "hi" / path.name))
        assert after.get("Warning") == before.get("Warning")  # of the made-up maker note
        assert {k: after.get(k) for k in wanted} == {k: before.get(k) for k in wanted}
        assert after["DigitalSourceType"].endswith("algorithmicallyEnhanced")


def test_a_text_without_an_end_is_carried_into_tiff(originals: Originals, tmp_path: Path) -> None:
    """Some programs leave out the zero behind it, and libtiff warns of that."""
    path = originals.folder / "a.jpg"
    crop().save(path)
    block = exif_block(extra=[(0x013B, 2, 7, b"J. DOE.")])
    path.write_bytes(splice(path.read_bytes(), 2, segment(0xE1, b"Exif\0\0" + block)))
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", format=Format.TIFF).values()
    assert outcome.status == "done", outcome.reason
    with Image.open(tmp_path / "hi" / "a.jpg.tif") as image:
        assert image.getexif()[0x013B] == "J. DOE."


def _exiftool(path: Path) -> dict[str, Any]:
    done = subprocess.run(["exiftool", "-j", "-n", path], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found
