"""`srbatch inspect`: what is seen of a photo, and the same decisions as a run would take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from srbatch.formats import Format
from srbatch.metadata import profiles
from tests.cli.conftest import Srbatch, as_command
from tests.cli.test_metadata import ICC, camera_exif, save
from tests.conftest import Originals, crop
from tests.files import THUMBNAIL, block, inks, press, segment, splice
from tests.networks import upscaled


@pytest.fixture
def album(originals: Originals) -> Path:
    """One photo of each trait that some format cannot hold."""
    folder = originals.folder
    for suffix in ("jpg", "png", "webp", "tif"):
        save(folder / f"tagged.{suffix}")
    (folder / "tagged.jpg.xmp").write_text("<x/>")
    Image.fromarray(inks(40, 50), "CMYK").save(folder / "inks.jpg", icc_profile=press())
    crop().convert("L").save(folder / "grey.png", icc_profile=profiles.grey_profile("scanner", 1.8))
    clear = crop().convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(folder / "clear.png")
    deep = np.asarray(crop()).astype(np.uint16) * 257
    tifffile.imwrite(folder / "deep.tif", deep, photometric="rgb")
    crop().save(folder / "odd.jpg", "PNG")
    crop().convert("P").save(folder / "still.gif")
    photo = folder / "iptc.jpg"
    crop().save(photo, exif=b"Exif\0\0" + block())
    record = b"\x1c\x02\x50\x00\x04Anna"
    resource = b"8BIM\x04\x04\0\0" + len(record).to_bytes(4, "big") + record + b"\0"
    photo.write_bytes(splice(photo.read_bytes(), 2, segment(0xED, b"Photoshop 3.0\0" + resource)))
    originals.remember()
    return folder


def described(srbatch: Srbatch, *arguments: object) -> dict[str, dict[str, Any]]:
    result = srbatch("inspect", *arguments, "--json")
    return {Path(record["source"]).name: record for record in map(json.loads, result.out.splitlines())}


def test_formats_are_judged_as_a_run_does(srbatch: Srbatch, album: Path, tmp_path: Path) -> None:
    found = described(srbatch, album, "--scale", 1)
    for fmt in (Format.JPEG, Format.PNG, Format.WEBP, Format.TIFF):
        for name, outcome in upscaled(album, tmp_path / fmt.value, 1, format=fmt).items():
            fate = found[name]["formats"][fmt.value]
            if outcome.status == "failed":
                assert (fate["outcome"], fate["because"]) == ("refused", [outcome.reason])
                continue
            sidecars = [note for note in outcome.notes if "sidecar" in note]
            told = {*found[name]["notes"], *fate["because"]}
            assert {*outcome.notes} - {*sidecars} <= told, name
            assert (fate["outcome"] == "kept") is not (bool(fate["because"]) or name == "inks.jpg")


def test_what_is_seen(srbatch: Srbatch, album: Path) -> None:
    found = described(srbatch, album)
    tagged = found["tagged.jpg"]
    assert (tagged["width"], tagged["height"], tagged["orientation"]) == (48, 64, 6)
    assert tagged["profile"] == {
        "description": "sRGB built-in",
        "kind": "RGB, matrix, curve",
        "bytes": len(ICC),
    }
    assert tagged["exif"] == {
        "bytes": len(camera_exif().tobytes()) - 6,
        "camera": "Voigtlaender",
        "dates": {"taken": "1999:08:11 11:59:58", "changed": "1999:08:11 12:00:00"},
        "software": "Scan 1.0",
        "gps": True,
        "maker_note_bytes": 75,
        "thumbnail_bytes": 0,
    }
    assert tagged["xmp"]["digital_source_type"] is None
    assert tagged["sidecars"] == ["tagged.jpg.xmp"]
    assert found["iptc.jpg"]["iptc_bytes"] == 9
    assert found["iptc.jpg"]["exif"]["thumbnail_bytes"] == len(THUMBNAIL)
    assert found["inks.jpg"]["colours"] == "CMYK"
    assert found["inks.jpg"]["profile"]["kind"] == "CMYK, table"
    assert found["grey.png"]["profile"]["kind"] == "grey, gamma 1.8"
    assert found["deep.tif"]["bits"] == 16
    assert found["deep.tif"]["formats"]["jpeg"]["because"] == [
        "of its 16 bits for each colour 8 were kept: jpeg holds no more"
    ]
    assert found["odd.jpg"]["keeps"] == "jpeg"
    assert found["still.gif"]["keeps"] == "png"


def test_the_declaration_of_an_output_is_seen(srbatch: Srbatch, album: Path, tmp_path: Path) -> None:
    upscaled(album, tmp_path / "hi", 1, include=("tagged.jpg",))
    record = described(srbatch, tmp_path / "hi" / "tagged.jpg")["tagged.jpg"]
    assert record["xmp"]["digital_source_type"].endswith("/algorithmicallyEnhanced")
    assert record["exif"]["software"].startswith("srbatch ")
    assert record["orientation"] == 1


def test_what_cannot_be_read_is_told(originals: Originals) -> None:
    crop().save(originals.folder / "a.jpg")
    whole = (originals.folder / "a.jpg").read_bytes()
    (originals.folder / "cut.jpg").write_bytes(whole[:-100])
    (originals.folder / "camera.nef").write_bytes(whole)
    originals.remember()
    result = as_command("inspect", originals.folder)
    assert result.code == 3
    assert "cut.jpg\n  cannot be used: damaged or cut off" in result.out
    assert "camera.nef\n  cannot be used: .nef files are not supported; convert it" in result.out
    assert "a.jpg\n  picture     jpeg, 64 x 48 px, RGB, 8 bits" in result.out
    assert "as jpeg     kept (what it becomes without --format)" in result.out
    assert as_command("inspect", originals.folder / "nothing.jpg").code == 2


def test_one_format_and_another_factor(srbatch: Srbatch, originals: Originals) -> None:
    crop(20, 3_000).resize((3_000, 20)).save(originals.folder / "a.jpg")
    originals.remember()
    found = described(srbatch, originals.folder / "a.jpg", "--format", "webp", "--scale", 8)["a.jpg"]
    assert found["keeps"] == "jpeg"
    assert list(found["formats"]) == ["webp"]
    assert "webp holds 16383 a side" in found["formats"]["webp"]["because"][0]


def test_nothing_is_written_among_originals(srbatch: Srbatch, originals: Originals) -> None:
    crop().save(originals.folder / "a.jpg")
    originals.remember()
    result = srbatch("inspect", originals.folder, "--scratch", originals.folder)
    assert result.code == 2
    assert "--scratch" in result.err
    result = srbatch("inspect", originals.folder, "--include", "*.png")
    assert (result.code, "no photo was found" in result.err) == (2, True)
