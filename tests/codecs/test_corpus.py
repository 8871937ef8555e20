"""Every kind of photo through the real batch, each output looked at by independent readers.

A part of the corpus, the same one each time; SRBATCH_CORPUS=full does all of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tifffile
from PIL import Image

from srbatch.containers.exif import EXIF_IFD, GPS_IFD
from srbatch.formats import Format
from srbatch.reporting.outcome import Outcome
from tests.corpus import HOLD_IPTC, Case, cases, formats
from tests.files import MAKER_NOTE
from tests.networks import upscaled

if Format.HEIC in formats():
    import pillow_heif

    pillow_heif.register_heif_opener()

PART = 1 if os.environ.get("SRBATCH_CORPUS") == "full" else 6
TARGETS = (Format.JPEG, Format.PNG, Format.WEBP, Format.TIFF)
SCALE = 2


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Case]]:
    """A folder of photos, and what each of them is."""
    folder = tmp_path_factory.mktemp("corpus")
    chosen = [
        case
        for case in cases()
        if case.number() % PART == 0 or (case.channels == 3 and not case.format.written)
    ]
    return folder, {case.write(folder).name: case for case in chosen}


def test_each_kind_of_photo_comes_out_as_it_was(corpus: tuple[Path, dict[str, Case]], tmp_path: Path) -> None:
    folder, kinds = corpus
    outcomes = upscaled(folder, tmp_path, SCALE)
    assert outcomes.keys() == kinds.keys()
    seen = by_exiftool(tmp_path)
    for name, case in kinds.items():
        outcome = outcomes[name]
        assert (outcome.status, outcome.reason) == ("done", ""), name
        target = case.format if case.format.written else Format.PNG
        check(case, target, outcome.photo.target, seen)


@pytest.mark.parametrize("turn", range(len(TARGETS)))
def test_each_kind_of_photo_in_another_format(
    corpus: tuple[Path, dict[str, Case]], tmp_path: Path, turn: int
) -> None:
    """Each photo goes into one format but its own; what that cannot hold is refused, and nothing else."""
    folder, kinds = corpus
    target = TARGETS[turn]
    mine = {name: case for name, case in kinds.items() if other_format(case) is target}
    outcomes = upscaled(folder, tmp_path, SCALE, format=target, include=tuple(mine))
    assert outcomes.keys() == mine.keys()
    seen = by_exiftool(tmp_path)
    for name, case in mine.items():
        outcome = outcomes[name]
        if wants := reason_to_refuse(case, target):
            assert (outcome.status, outcome.error) == ("failed", "UnsupportedPhoto"), name
            assert wants in outcome.reason
            continue
        assert outcome.status == "done", (name, outcome.reason)
        check(case, target, outcome.photo.target, seen)
        check_told(case, target, outcome)


def other_format(case: Case) -> Format:
    others = [fmt for fmt in TARGETS if fmt is not case.format]
    return others[case.number() // PART % len(others)]


def reason_to_refuse(case: Case, target: Format) -> str:
    if case.channels in (2, 4) and not target.alpha:
        return "transparency"
    if case.channels <= 2 and case.profile and not target.grey:
        return "grey profile"
    return "IPTC" if case.has_iptc and target not in HOLD_IPTC else ""


def check(case: Case, target: Format, path: Path, seen: dict[str, dict[str, Any]]) -> None:
    """What Pillow, tifffile and exiftool read from an output."""
    encoded_anew = case.profile in ("linear", "grey linear") and target.bits < 16
    bits = min(case.bits, target.bits)
    stored = 16 if bits > 8 else 8
    assert depth(path, target) in (stored, None), path.name
    if seen:
        check_seen(case, target, seen[path.name])
    if target is Format.TIFF and bits == 16 and case.channels == 2:
        return  # Pillow knows no such TIFF
    with Image.open(path) as image:
        image.load()
        assert image.size == tuple(SCALE * side for side in case.size), path.name
        assert (image.info.get("icc_profile") == case.icc) is not encoded_anew, path.name
        tags = image.getexif()
        assert tags.get(0x0112, 1) == 1
        if case.metadata != "none":
            below = tags.get_ifd(EXIF_IFD)
            assert below[0x9003] == "1998:07:04 12:34:56"
            assert below[0x927C] == MAKER_NOTE
            assert tuple(map(float, tags.get_ifd(GPS_IFD)[2])) == (48, 8, 15)


def depth(path: Path, target: Format) -> int | None:
    """Bits for each channel, by the format's own words; None where only its codec knows."""
    if target is Format.PNG:
        return path.read_bytes()[24]
    if target is Format.TIFF:
        return int(tifffile.imread(path).dtype.itemsize) * 8
    return None


def by_exiftool(folder: Path) -> dict[str, dict[str, Any]]:
    """All that exiftool says, by file; empty where it is not installed."""
    if not shutil.which("exiftool"):
        return {}
    done = subprocess.run(
        ["exiftool", "-j", "-a", "-G1", "-n", folder], capture_output=True, text=True, check=False
    )
    return {Path(record["SourceFile"]).name: record for record in json.loads(done.stdout or "[]")}


def check_seen(case: Case, target: Format, found: dict[str, Any]) -> None:
    assert "ExifTool:Error" not in found, found
    if case.metadata == "none":
        return
    assert found["IFD0:Make"] == "Camera"
    assert found["GPS:GPSLatitude"] == pytest.approx(48 + 8 / 60 + 15 / 3600)
    assert found["ExifIFD:DateTimeOriginal"] == "1998:07:04 12:34:56"
    assert (found["ExifIFD:ExifImageWidth"], found["ExifIFD:ExifImageHeight"]) == tuple(
        SCALE * side for side in case.size
    )
    assert not any(key.startswith("IFD1:") for key in found)
    if case.metadata == "all":
        assert found["XMP-dc:Title"] == "Grandmother, 1953"
        assert found["XMP-iptcExt:DigitalSourceType"].endswith("/algorithmicallyEnhanced")
    assert (found.get("IPTC:City") == "Wien") is case.has_iptc


def check_told(case: Case, target: Format, outcome: Outcome) -> None:
    """What was lost, people are told."""
    assert any("bits" in note for note in outcome.notes) is (case.bits > target.bits)
