"""A second run: what is done again, what is left alone, what is never replaced."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from tests.cli.conftest import Srbatch
from tests.conftest import Originals, crop


def test_a_second_run_does_nothing(both: Srbatch, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    assert both("upscale", photos, "--scale", 1, "--out", out).code == 0
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.*") if ".srbatch" not in p.parts}
    again = both("upscale", photos, "--scale", 1, "--out", out)
    assert again.code == 0
    assert "0 done, 4 skipped, 0 failed" in again.err
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.*") if ".srbatch" not in p.parts} == before


def test_changed_photo_is_done_again_and_a_touched_one_is_not(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    out = tmp_path / "hi"
    for name in ("touched.png", "changed.png"):
        crop().save(originals.folder / name)
    originals.remember()
    srbatch("upscale", originals.folder, "--scale", 1, "--out", out)
    os.utime(originals.folder / "touched.png", ns=(1, 10**18))
    crop(left=0).save(originals.folder / "changed.png")
    originals.remember()
    records = srbatch("upscale", originals.folder, "--scale", 1, "--out", out, "--json").records
    assert records["touched.png"]["status"] == "skipped"
    assert records["changed.png"]["status"] == "done"
    with Image.open(out / "changed.png") as image, Image.open(originals.folder / "changed.png") as now:
        assert np.abs(np.asarray(image).astype(int) - np.asarray(now)).mean() < 3


def test_a_change_that_keeps_size_and_date_is_found_by_rehash(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    path, out = originals.folder / "a.tif", tmp_path / "hi"
    crop().save(path)
    date = path.stat().st_mtime_ns
    originals.remember()
    srbatch("upscale", originals.folder, "--scale", 1, "--out", out)
    crop(left=0).save(path)
    os.utime(path, ns=(date, date))
    originals.remember()
    arguments = ("upscale", originals.folder, "--scale", 1, "--out", out)
    assert "1 skipped" in srbatch(*arguments).err
    assert "1 done" in srbatch(*arguments, "--rehash").err


def test_other_settings_are_reported_and_redone_only_when_asked(
    srbatch: Srbatch, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "hi"
    srbatch("upscale", photos, "--scale", 1, "--out", out)
    told = srbatch("upscale", photos, "--scale", 2, "--out", out)
    assert told.code == 0
    assert "4 skipped: made with other settings; --redo-changed" in told.err
    with Image.open(out / "a.jpg") as image:
        assert image.size == (64, 48)
    assert "4 done" in srbatch("upscale", photos, "--scale", 2, "--out", out, "--redo-changed").err
    with Image.open(out / "a.jpg") as image:
        assert image.size == (128, 96)


def test_files_that_are_not_ours_are_never_replaced(srbatch: Srbatch, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    out.mkdir()
    (out / "a.jpg").write_bytes(b"somebody's")
    arguments = ("upscale", photos, "--scale", 1, "--out", out, "--json")
    result = srbatch(*arguments)
    assert result.code == 3
    assert result.records["a.jpg"]["error"] == "TargetExists"
    assert (out / "a.jpg").read_bytes() == b"somebody's"
    assert srbatch(*arguments, "--overwrite").records["a.jpg"]["status"] == "done"
    with Image.open(out / "a.jpg") as image:
        image.load()


def test_an_edited_output_is_never_replaced(srbatch: Srbatch, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    srbatch("upscale", photos, "--scale", 1, "--out", out)
    edited = (out / "a.jpg").read_bytes() + b"edited"
    (out / "a.jpg").write_bytes(edited)
    result = srbatch("upscale", photos, "--scale", 2, "--out", out, "--redo-changed", "--json")
    assert result.records["a.jpg"]["error"] == "TargetExists"
    assert "changed it" in result.records["a.jpg"]["reason"]
    assert (out / "a.jpg").read_bytes() == edited


def test_two_archives_into_one_folder_do_not_replace_each_other(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    for year, left in (("2019", 0), ("2020", 200)):
        (originals.folder / year).mkdir()
        crop(left=left).save(originals.folder / year / "IMG_0001.png")
    originals.remember()
    out = tmp_path / "hi"
    srbatch("upscale", originals.folder / "2019", "--scale", 1, "--out", out)
    first = (out / "IMG_0001.png").read_bytes()
    result = srbatch("upscale", originals.folder / "2020", "--scale", 1, "--out", out)
    assert result.code == 3
    assert "made from another photo" in result.err
    assert (out / "IMG_0001.png").read_bytes() == first


def test_a_deleted_output_is_made_again(srbatch: Srbatch, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    srbatch("upscale", photos, "--scale", 1, "--out", out)
    (out / "a.jpg").unlink()
    assert "1 done, 3 skipped" in srbatch("upscale", photos, "--scale", 1, "--out", out).err
    assert (out / "a.jpg").exists()


def test_a_photo_named_like_the_output_of_another(
    srbatch: Srbatch, originals: Originals, tmp_path: Path
) -> None:
    crop().save(originals.folder / "a.jpg")
    crop(left=10).save(originals.folder / "a.jpg.png")
    originals.remember()
    out = tmp_path / "hi"
    result = srbatch("upscale", originals.folder, "--scale", 1, "--format", "png", "--out", out)
    assert result.code == 0, result.err
    assert sorted(p.name for p in out.glob("*.png")) == ["a.jpg.png", "a.jpg.png.png"]
