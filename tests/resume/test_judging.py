"""What a verdict says, and what it goes by: odd files in the place of an output, failures, sidecars."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from srbatch.discovery.discover import discover
from srbatch.discovery.found import Photo
from srbatch.errors import PhotoChanged, TargetExists, UnsupportedPhoto
from srbatch.formats import Format
from srbatch.options import Options
from srbatch.outputs.ledger import STATE_FOLDER, Ledger
from srbatch.outputs.sidecars import Stamp
from srbatch.resume import CURRENT, OTHER_SETTINGS, SIDECAR, Settled, Todo, judge
from tests.resume.cases import HASH, MOVED, MTIME_NS, NEW, OUTPUT, RECIPE, SIZE, SOURCE, Case, judged, looks


@pytest.mark.parametrize("recipe_now", [RECIPE, NEW], ids=["same settings", "other settings"])
@pytest.mark.parametrize("source", [SOURCE, MOVED])
def test_a_new_date_of_the_same_content_is_remembered(tmp_path: Path, source: str, recipe_now: str) -> None:
    case = Case(photo="touched", source=source, recipe=recipe_now)
    verdict = judged(case, tmp_path).verdict
    known = case.known()
    assert known is not None
    assert isinstance(verdict, Settled)
    assert verdict.refreshed == replace(known, mtime_ns=MTIME_NS + 1, source=source)


def test_without_a_new_date_no_row_is_written(tmp_path: Path) -> None:
    verdict = judged(Case(), tmp_path).verdict
    assert isinstance(verdict, Settled)
    assert verdict.refreshed is None


def test_a_failure_as_before_says_why_and_how_to_try_again(tmp_path: Path) -> None:
    verdict = judged(Case(row="failed", target=None), tmp_path).verdict
    assert isinstance(verdict, Settled)
    assert (verdict.status, verdict.error) == ("failed", "UnreadablePhoto")
    assert "it is damaged" in verdict.reason
    assert "--retry-failed" in verdict.reason


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (Case(row=None, target="edited"), ["was not made by a run", "--overwrite"]),
        (Case(target="edited"), ["somebody changed it", "--overwrite"]),
        (Case(source=MOVED, photo="changed"), ["another photo", SOURCE, "--overwrite"]),
    ],
    ids=["unknown", "edited", "another photo's"],
)
def test_a_name_that_is_taken_is_explained(tmp_path: Path, case: Case, words: list[str]) -> None:
    verdict = judged(case, tmp_path).verdict
    assert isinstance(verdict, Settled)
    assert all(word in verdict.reason for word in (str(tmp_path / "a.jpg"), *words))


def test_a_problem_that_is_known_is_a_failure_whatever_is_on_record(tmp_path: Path) -> None:
    photo = Photo(tmp_path / "a.heic", Path("a.heic"), tmp_path / "hi" / "a.heic", None, 1, 1)
    photo = replace(photo, problem=UnsupportedPhoto(".heic files are not supported"))
    options = Options(inputs=(tmp_path,), out=tmp_path / "hi", overwrite=True, retry_failed=True)
    verdict = judge(photo, SOURCE, Case().known(), RECIPE, options, looks(lambda: HASH))
    assert verdict == Settled("failed", ".heic files are not supported", "UnsupportedPhoto")


def test_a_photo_that_cannot_be_read_any_more_is_the_callers_failure(tmp_path: Path) -> None:
    def gone() -> str:
        raise PhotoChanged("it is not there")

    photo = Photo(tmp_path / "a.jpg", Path("a.jpg"), tmp_path / "hi" / "a.jpg", Format.JPEG, -1, -1)
    photo.target.parent.mkdir()
    photo.target.write_bytes(OUTPUT)
    options = Options(inputs=(tmp_path,), out=tmp_path / "hi")
    with pytest.raises(PhotoChanged):
        judge(photo, SOURCE, Case().known(), RECIPE, options, looks(gone))


def test_a_folder_in_the_outputs_place_is_not_the_output(tmp_path: Path) -> None:
    photo = Photo(tmp_path / "a.jpg", Path("a.jpg"), tmp_path / "hi" / "a.jpg", Format.JPEG, SIZE, MTIME_NS)
    photo.target.mkdir(parents=True)
    known = Case().known()
    assert known is not None
    row = replace(known, target_size=photo.target.lstat().st_size)
    options = Options(inputs=(tmp_path,), out=tmp_path / "hi")
    verdict = judge(photo, SOURCE, row, RECIPE, options, looks(lambda: HASH))
    assert isinstance(verdict, Settled)
    assert (verdict.status, verdict.error) == ("failed", "TargetExists")


def test_a_link_in_the_outputs_place_is_not_the_output(tmp_path: Path) -> None:
    photo = Photo(tmp_path / "a.jpg", Path("a.jpg"), tmp_path / "hi" / "a.jpg", Format.JPEG, SIZE, MTIME_NS)
    photo.target.parent.mkdir()
    photo.target.symlink_to("x" * len(OUTPUT))
    options = Options(inputs=(tmp_path,), out=tmp_path / "hi")
    verdict = judge(photo, SOURCE, Case().known(), RECIPE, options, looks(lambda: HASH))
    assert isinstance(verdict, Settled)
    assert (verdict.status, verdict.error) == ("failed", "TargetExists")


def test_an_archive_that_was_moved_is_still_done(tmp_path: Path) -> None:
    home = tmp_path / "home"
    source, out = home / "photos" / "sub" / "a.jpg", home / "hi"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"original")
    (out / "sub").mkdir(parents=True)
    (out / "sub" / "a.jpg").write_bytes(OUTPUT)
    (out / STATE_FOLDER).mkdir()
    ledger = Ledger.open(out / STATE_FOLDER)
    status = source.stat()
    known = Case().known()
    assert known is not None
    ledger.record(
        replace(
            known,
            target="sub/a.jpg",
            source=os.path.relpath(source, out),
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
        )
    )
    ledger.close()

    away = Path(shutil.move(home, tmp_path / "another disk"))
    (photo,) = discover((away / "photos",), away / "hi").photos
    ledger = Ledger.open(away / "hi" / STATE_FOLDER)
    row = ledger.row(photo.relative.as_posix())
    ledger.close()
    options = Options(inputs=(away / "photos",), out=away / "hi")
    source_now = os.path.relpath(photo.source, away / "hi")
    verdict = judge(photo, source_now, row, RECIPE, options, looks(lambda: pytest.fail("it was read")))
    assert verdict == Settled("skipped", CURRENT)


def test_an_output_that_is_edited_while_the_photo_is_done_again_is_kept(tmp_path: Path) -> None:
    verdict = judged(Case(photo="changed"), tmp_path).verdict
    photo = Photo(tmp_path / "in.jpg", Path("a.jpg"), tmp_path / "a.jpg", Format.JPEG, SIZE, MTIME_NS)
    assert isinstance(verdict, Todo)
    verdict.check_still_ours(photo)
    photo.target.write_bytes(b"edited meanwhile")
    with pytest.raises(TargetExists, match="--overwrite"):
        verdict.check_still_ours(photo)


@pytest.mark.parametrize(
    "case", [Case(photo="changed"), Case(recipe=NEW, flags="redo_changed")], ids=["another photo", "redo"]
)
def test_an_edit_that_kept_the_size_is_found_before_it_is_replaced(tmp_path: Path, case: Case) -> None:
    photo = Photo(tmp_path / "in.jpg", Path("a.jpg"), tmp_path / "a.jpg", Format.JPEG, SIZE, MTIME_NS)
    verdict = judged(case, tmp_path).verdict
    assert isinstance(verdict, Todo)
    photo.target.write_bytes(OUTPUT[::-1])
    with pytest.raises(TargetExists, match="--overwrite"):
        verdict.check_still_ours(photo)


def test_a_link_that_took_the_outputs_place_is_kept(tmp_path: Path) -> None:
    photo = Photo(tmp_path / "in.jpg", Path("a.jpg"), tmp_path / "a.jpg", Format.JPEG, SIZE, MTIME_NS)
    verdict = judged(Case(photo="changed"), tmp_path).verdict
    assert isinstance(verdict, Todo)
    photo.target.rename(tmp_path / "moved.jpg")
    photo.target.symlink_to("moved.jpg")
    with pytest.raises(TargetExists):
        verdict.check_still_ours(photo)
    photo.target.unlink()
    verdict.check_still_ours(photo)


def test_what_the_user_lets_be_replaced_is_not_compared(tmp_path: Path) -> None:
    verdict = judged(Case(photo="changed", flags="overwrite"), tmp_path).verdict
    assert verdict == Todo(replace=True)


@pytest.mark.parametrize("length", [300, 5000], ids=["name", "path"])
def test_an_output_that_cannot_have_its_name_is_known_before_the_work(tmp_path: Path, length: int) -> None:
    long = Path("/".join(["x" * 200] * (length // 200)) if length > 4096 else "x" * length)
    photo = Photo(tmp_path / "a.jpg", long, tmp_path / "hi" / long, Format.JPEG, SIZE, MTIME_NS)
    (tmp_path / "hi").mkdir()
    with pytest.raises(UnsupportedPhoto, match="shorter"):
        judge(
            photo,
            SOURCE,
            None,
            RECIPE,
            Options(inputs=(Path("photos"),), out=tmp_path / "hi"),
            looks(lambda: HASH),
        )


# ---- sidecars ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("carried", "there", "is_due"),
    [
        (None, None, False),
        (None, ("a.xmp", 5, 6), True),
        (("a.xmp", 5, 6), ("a.xmp", 5, 6), False),
        (("a.xmp", 5, 6), ("a.xmp", 5, 7), True),
        (("a.xmp", 5, 6), ("a.xmp", 55, 6), True),
        (("a.xmp", 5, 6), ("a.jpg.xmp", 5, 6), True),
        (("a.xmp", 5, 6), None, True),
        ("not noted", None, False),  # by an earlier version
        ("not noted", ("a.xmp", 5, 6), True),
    ],
)
@pytest.mark.parametrize("flags", [{}, {"overwrite": True, "redo_changed": True}])
def test_a_sidecar_that_is_another_than_the_one_carried_is_due(
    tmp_path: Path, carried: Any, there: Stamp | None, is_due: bool, flags: dict[str, bool]
) -> None:
    details = {"notes": ['"sidecar_source": ["a.xmp", 5, 7]']}
    if carried != "not noted":
        details["sidecar_source"] = carried
    row = replace(Case().known(), details=json.dumps(details))  # type: ignore[type-var]
    (tmp_path / "a.jpg").write_bytes(OUTPUT)
    photo = Photo(tmp_path / SOURCE, Path("a.jpg"), tmp_path / "a.jpg", Format.JPEG, SIZE, MTIME_NS)
    options = Options(inputs=(tmp_path,), out=tmp_path, **flags)
    verdict = judge(photo, SOURCE, row, RECIPE, options, looks(lambda: HASH, there))
    assert isinstance(verdict, Settled)
    assert (verdict.reason, verdict.sidecar_due) == ((SIDECAR, row) if is_due else (CURRENT, None))
    touched = replace(photo, mtime_ns=MTIME_NS + 1)
    verdict = judge(touched, SOURCE, row, RECIPE, options, looks(lambda: HASH, there))
    assert isinstance(verdict, Settled)
    refreshed = replace(row, mtime_ns=MTIME_NS + 1)
    assert verdict.refreshed == refreshed
    assert verdict.sidecar_due == (refreshed if is_due else None)
    verdict = judge(photo, SOURCE, row, NEW, replace(options, redo_changed=False), looks(lambda: HASH, there))
    assert verdict == Settled("skipped", OTHER_SETTINGS)
