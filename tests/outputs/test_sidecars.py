"""XMP sidecars, from beside a photo to beside its enlargement."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import srbatch.outputs.sidecars
from srbatch.codecs.codec_pool import CodecPool
from srbatch.errors import WrongOutput
from srbatch.metadata.xmp import PANORAMA_LEFT
from srbatch.outputs.commit import temp_path
from srbatch.outputs.sidecars import (
    Sidecar,
    Stamp,
    Stamps,
    beside,
    details_text,
    has_sidecar,
    is_carried,
    is_missing,
    put_in_place,
    ready_path,
    sidecar_path,
    written_before,
)
from srbatch.placement import SUBJECT_LOST
from srbatch.resume import CURRENT
from tests.conftest import Originals, crop
from tests.files import PACKET
from tests.networks import upscaled
from tests.outputs.conftest import said


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


def test_a_lossless_webp_is_called_so_in_its_history_and_in_a_sidecar_added_later(
    originals: Originals, tmp_path: Path
) -> None:
    crop().save(originals.folder / "a.webp", lossless=True)
    crop().save(originals.folder / "b.webp", quality=90)
    originals.remember()
    out = tmp_path / "hi"
    upscaled(originals.folder, out)
    for name in ("a.webp.xmp", "b.webp.xmp"):
        (originals.folder / name).write_text(PACKET.format("later"))
    originals.remember()
    upscaled(originals.folder, out)
    for name, told in (("a.webp", b"as lossless webp"), ("b.webp", b"as webp of quality 95")):
        assert told in (out / name).read_bytes()
        assert told in (out / f"{name}.xmp").read_bytes()
        assert said(out / f"{name}.xmp")["InstanceID"].encode() in (out / name).read_bytes()


def test_a_sidecar_with_the_whole_name_of_a_photo_is_carried_for_that_one_alone(
    originals: Originals, tmp_path: Path
) -> None:
    for name in ("a.jpg", "a.jpg.png"):
        crop().save(originals.folder / name)
    (originals.folder / "a.jpg.xmp").write_text(PACKET.format(1))
    originals.remember()
    out = tmp_path / "hi"
    upscaled(originals.folder, out)
    made = sorted(path.name for path in out.iterdir() if path.is_file())
    assert made == ["a.jpg", "a.jpg.png", "a.jpg.xmp"]
    assert {outcome.reason for outcome in upscaled(originals.folder, out).values()} == {CURRENT}


@pytest.mark.parametrize(
    ("name", "ending", "carried"),
    [("a.xmp", "NEF", False), ("a.xmp", "JPEG", True), ("a.xmp", "jpg", True), ("a.jpg.xmp", "NEF", True)],
)
def test_a_sidecar_that_says_that_it_is_that_of_a_raw_file_is_not_carried(
    originals: Originals, tmp_path: Path, name: str, ending: str, carried: bool
) -> None:
    crop().save(originals.folder / "a.jpg")
    said = f"xmlns:p='http://ns.adobe.com/photoshop/1.0/' p:SidecarForExtension='{ending}'"
    packet = PACKET.format(1).replace("</rdf:RDF>", f"<rdf:Description {said}/></rdf:RDF>")
    (originals.folder / name).write_text(packet)
    originals.remember()
    out = tmp_path / "hi"
    notes = upscaled(originals.folder, out)["a.jpg"].notes
    assert (out / "a.jpg.xmp").exists() is carried
    told = "the sidecar a.xmp says that it is that of a NEF file and was not carried"
    assert notes == (() if carried else (told,))
    assert {outcome.reason for outcome in upscaled(originals.folder, out).values()} == {CURRENT}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("again", [False, True], ids=["with its photo", "later"])
def test_what_a_sidecar_says_of_places_and_cannot_be_carried_is_told(
    originals: Originals, tmp_path: Path, again: bool, encoding: str
) -> None:
    tags, sidecar = Image.Exif(), originals.folder / "a.jpg.xmp"
    tags[0x0112] = 6
    crop().save(originals.folder / "a.jpg", exif=tags)
    if again:
        originals.remember()
        upscaled(originals.folder, tmp_path / "hi")
    places = (
        ' xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:pano="http://ns.google.com/photos/1.0/panorama/"'
        ' pano:FullPanoWidthPixels="99"><exif:SubjectArea><rdf:Seq><rdf:li>4000</rdf:li><rdf:li>9</rdf:li>'
        "</rdf:Seq></exif:SubjectArea>"
    )
    text = PACKET.format("1").replace('tiff:ImageWidth="64">', places)
    sidecar.write_bytes(text.encode(encoding))
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi").values()
    assert outcome.status == ("skipped" if again else "done")
    assert b"SubjectArea" not in (tmp_path / "hi" / "a.jpg.xmp").read_bytes()
    assert outcome.notes == tuple(
        f"in the sidecar a.jpg.xmp: {note}" for note in (SUBJECT_LOST, PANORAMA_LEFT)
    )


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


@pytest.mark.parametrize("many", [False, True])
def test_sidecars_are_found_in_a_listing_as_they_are_found_one_by_one(tmp_path: Path, many: bool) -> None:
    stamps = Stamps(1000 if many else 1)
    for name in ("a.jpg", "b.jpg", "b.xmp", "c.jpg", "c.XMP", "c.jpg.xmp", "d.jpg"):
        (tmp_path / name).write_text(name)
    (tmp_path / "d.xmp").mkdir()
    for name in ("e.jpg", "e.jpg.xmp", "e.jpg.png", "f.jpg.xmp", "f.jpg.png", "g.2.xmp", "g.2.jpg"):
        (tmp_path / name).write_text(name)
    more = ("e.jpg", "e.jpg.png", "f.jpg.png", "g.2.jpg")
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "x" * 250 + ".jpg", "gone/e.jpg", *more):
        found = beside(tmp_path / name)
        stamp = stamps.of(tmp_path / name)
        assert (stamp[0] if stamp else None) == (found[0].name if found else None)
    assert stamps.of(tmp_path / "b.jpg") == ("b.xmp", 5, (tmp_path / "b.xmp").stat().st_mtime_ns)
    found_of = {name: [path.name for path in beside(tmp_path / name)] for name in more}
    assert found_of == {
        "e.jpg": ["e.jpg.xmp"],
        "e.jpg.png": [],
        "f.jpg.png": ["f.jpg.xmp"],
        "g.2.jpg": ["g.2.xmp"],
    }


def test_only_files_are_sidecars(tmp_path: Path) -> None:
    (tmp_path / "a.jpg.xmp").mkdir()
    assert beside(tmp_path / "a.jpg") == []
    (tmp_path / "a.xmp").touch()
    assert beside(tmp_path / "a.jpg") == [tmp_path / "a.xmp"]
    assert beside(tmp_path / ("x" * 250 + ".jpg")) == []


_name = st.binary(min_size=1, max_size=20).map(os.fsdecode)
_stamp = st.none() | st.tuples(_name, st.integers(0, 2**60), st.integers(-(2**62), 2**62))


@given(_stamp, _stamp, st.none() | st.binary(max_size=4), st.booleans(), st.lists(_name, max_size=3))
@example(None, ("a.xmp", 5, 6), None, False, ['"sidecar_source": ["a.xmp", 5, 6]', '"sidecar_sha256": "'])
def test_what_a_row_keeps_of_a_sidecar_is_read_back(
    stamp: Stamp | None, other: Stamp | None, data: bytes | None, in_the_way: bool, notes: list[str]
) -> None:
    target = Path("nowhere", "a.jpg")
    sidecar = Sidecar(sidecar_path(target), data, source=stamp, in_the_way=in_the_way)
    text = details_text({"notes": notes, **sidecar.details(), "size_in": [1, 2]})
    assert is_carried(text, stamp)
    assert is_carried(text, other) is (stamp == other)
    assert has_sidecar(text) is (data is not None)
    assert is_missing(text, target) is (data is not None or in_the_way)
    assert written_before(json.loads(text)) == sidecar.sha256


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


def test_a_sidecar_that_somebody_makes_in_the_last_moment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, commit = tmp_path / "a.jpg", srbatch.outputs.sidecars.commit
    temp = temp_path(target)
    ready_path(temp).write_bytes(b"ours")

    def overtaken(source: Path, path: Path, *, replace: bool) -> None:
        path.write_bytes(b"somebody's")
        commit(source, path, replace=replace)

    monkeypatch.setattr(srbatch.outputs.sidecars, "commit", overtaken)
    ours = hashlib.sha256(b"ours").hexdigest()
    details, notes = put_in_place({"sidecar_sha256": ours, "sidecar_before": None}, target, temp)
    assert sidecar_path(target).read_bytes() == b"somebody's"
    assert details == {"sidecar_sha256": None, "sidecar_in_the_way": True}
    assert notes == ("a.jpg.xmp was there already and was left alone",)
    assert not ready_path(temp).exists()
