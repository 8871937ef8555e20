"""XMP sidecars, from beside a photo to beside its enlargement."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from srbatch.codec_pool import CodecPool
from srbatch.errors import WrongOutput
from srbatch.sidecars import beside
from tests.conftest import Originals, crop
from tests.networks import upscaled

PACKET = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/" tiff:Orientation="6" tiff:ImageWidth="64">'
    "<dc:source>Album {}</dc:source></rdf:Description></rdf:RDF></x:xmpmeta>"
)


@pytest.fixture
def album(originals: Originals) -> Path:
    """A photo on its side with two sidecars, one with one, and one with a broken one."""
    tags = Image.Exif()
    tags[0x0112] = 6
    crop().save(originals.folder / "a.jpg", exif=tags)
    for name in ("b.png", "c.png"):
        crop().save(originals.folder / name)
    (originals.folder / "a.jpg.xmp").write_text(PACKET.format(1))
    (originals.folder / "a.xmp").write_text(PACKET.format(2))
    (originals.folder / "b.XMP").write_text(PACKET.format(3))
    (originals.folder / "c.xmp").write_text("<x>")
    os.utime(originals.folder / "a.jpg.xmp", ns=(10**18, 10**18))
    originals.remember()
    return originals.folder


def said(path: Path) -> dict[str, str]:
    """The simple properties of a packet."""
    found = {}
    for description in ElementTree.parse(path).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    ):
        found |= description.attrib | {child.tag: child.text or "" for child in description}
    return {name.rpartition("}")[2]: value for name, value in found.items()}


def test_sidecars_are_corrected_and_lie_beside_the_outputs(album: Path, tmp_path: Path) -> None:
    outcomes = upscaled(album, tmp_path / "hi")
    made = said(tmp_path / "hi" / "a.jpg.xmp")
    assert (made["source"], made["Orientation"], made["ImageWidth"]) == ("Album 1", "1", "96")
    assert made["DigitalSourceType"].endswith("algorithmicallyEnhanced")
    assert made["InstanceID"].encode() in (tmp_path / "hi" / "a.jpg").read_bytes()
    assert (tmp_path / "hi" / "a.jpg.xmp").stat().st_mtime_ns == 10**18
    other = said(tmp_path / "hi" / "b.png.xmp")
    assert (other["source"], other["Orientation"], other["ImageWidth"]) == ("Album 3", "6", "128")
    assert sorted(path.name for path in (tmp_path / "hi").iterdir() if path.is_file()) == [
        *("a.jpg", "a.jpg.xmp", "b.png", "b.png.xmp", "c.png")
    ]
    assert outcomes["a.jpg"].notes == ("the sidecar a.xmp was not carried: a.jpg.xmp comes first",)
    assert outcomes["b.png"].notes == ()
    (note,) = outcomes["c.png"].notes
    assert note.startswith("the sidecar c.xmp is not well-formed")


def test_without_provenance_only_sizes_are_corrected(album: Path, tmp_path: Path) -> None:
    upscaled(album, tmp_path / "hi", provenance=False)
    expected = PACKET.format(3).replace('"64"', '"128"')
    assert (tmp_path / "hi" / "b.png.xmp").read_text() == expected


def test_what_was_there_already_is_left_alone(album: Path, tmp_path: Path) -> None:
    (tmp_path / "hi").mkdir()
    (tmp_path / "hi" / "b.png.xmp").write_text("mine")
    outcomes = upscaled(album, tmp_path / "hi", overwrite=True)
    assert outcomes["b.png"].notes == ("b.png.xmp was there already and was left alone",)
    assert (tmp_path / "hi" / "b.png.xmp").read_text() == "mine"


def test_our_own_is_replaced_unless_somebody_changed_it(album: Path, tmp_path: Path) -> None:
    upscaled(album, tmp_path / "hi")
    with (tmp_path / "hi" / "b.png.xmp").open("a") as file:
        file.write("<!-- 5 stars -->")
    outcomes = upscaled(album, tmp_path / "hi", scale=4, redo_changed=True)
    assert said(tmp_path / "hi" / "a.jpg.xmp")["ImageWidth"] == "192"
    assert said(tmp_path / "hi" / "b.png.xmp")["ImageWidth"] == "128"
    assert outcomes["b.png"].notes == ("b.png.xmp was there already and was left alone",)


def test_a_photo_that_failed_leaves_no_sidecar(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise WrongOutput("injected")

    monkeypatch.setattr(CodecPool, "encode", failing)
    assert {outcome.status for outcome in upscaled(album, tmp_path / "hi").values()} == {"failed"}
    assert [path for path in (tmp_path / "hi").iterdir() if path.is_file()] == []


def test_a_name_too_long_for_a_sidecar_costs_the_sidecar_only(originals: Originals, tmp_path: Path) -> None:
    stem = "x" * 248
    crop().save(originals.folder / f"{stem}.jpg")
    (originals.folder / f"{stem}.xmp").write_text(PACKET.format(1))
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi").values()
    assert outcome.status == "done"
    assert outcome.notes == (f"the sidecar {stem}.xmp would have too long a name and was not carried",)


def test_only_files_are_sidecars(tmp_path: Path) -> None:
    (tmp_path / "a.jpg.xmp").mkdir()
    assert beside(tmp_path / "a.jpg") == []
    (tmp_path / "a.xmp").touch()
    assert beside(tmp_path / "a.jpg") == [tmp_path / "a.xmp"]
    assert beside(tmp_path / ("x" * 250 + ".jpg")) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such permissions")
@pytest.mark.parametrize(("mode", "kept"), [(0o640, 0o640), (0o404, 0o604), (0o4755, 0o755)])
def test_permissions_are_kept_where_asked_for(
    originals: Originals, tmp_path: Path, mode: int, kept: int
) -> None:
    crop().save(originals.folder / "a.jpg")
    (originals.folder / "a.jpg.xmp").write_text(PACKET.format(1))
    (originals.folder / "a.jpg").chmod(mode)
    originals.remember()
    upscaled(originals.folder, tmp_path / "hi", keep_permissions=True)
    for name in ("a.jpg", "a.jpg.xmp"):
        assert (tmp_path / "hi" / name).stat().st_mode & 0o7777 == kept
