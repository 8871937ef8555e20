"""Interrupt and run again: nothing that is not ours is overwritten, nothing is done without need, and
nothing is called done that is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srbatch.discovery.discover import discover
from srbatch.discovery.found import Photo
from srbatch.errors import PhotoChanged, TargetExists, UnsupportedPhoto
from srbatch.formats import Format
from srbatch.options import Options
from srbatch.outputs.ledger import STATE_FOLDER, Ledger
from srbatch.outputs.rows import Row
from srbatch.outputs.sidecars import Stamp
from srbatch.resume import (
    CURRENT,
    OTHER_SETTINGS,
    SIDECAR,
    Looks,
    Settled,
    Todo,
    is_remembered,
    judge,
    tried_with,
)

SOURCE, RECIPE = "../photos/a.jpg", "the recipe"
HASH, OTHER_HASH = "aa" * 32, "bb" * 32
SIZE, MTIME_NS = 1000, 1_700_000_000_000_000_000
OUTPUT = b"the output as it was written"
OUTPUT_HASH = hashlib.sha256(OUTPUT).hexdigest()
TOO_LARGE = "as large as x4 already"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is on record, what lies there, and what was asked."""

    row: str | None = "done"
    """done, skipped, failed (of a kind that is remembered), or failed for now."""
    target: str | None = "ours"
    """ours, edited, or not there."""
    photo: str = "same"
    """same, touched (another date, the same content), changed (another date and content), or crept (the
    same date, another content)."""
    source: str = SOURCE
    recipe: str = RECIPE
    flags: str = ""

    @property
    def date_differs(self) -> bool:
        return self.photo in ("touched", "changed")

    @property
    def content_differs(self) -> bool:
        return self.photo in ("changed", "crept")

    def known(self) -> Row | None:
        if self.row is None:
            return None
        row = Row(
            target="a.jpg",
            status="failed" if self.row == "failed for now" else self.row,
            source=SOURCE,
            size=SIZE,
            mtime_ns=MTIME_NS,
            sha256=None,
            recipe=RECIPE,
        )
        if self.row == "done":
            return replace(row, sha256=HASH, target_size=len(OUTPUT), target_sha256=OUTPUT_HASH)
        if self.row == "skipped":
            return replace(row, reason=TOO_LARGE)
        error = "UnreadablePhoto" if self.row == "failed" else "PhotoChanged"
        within = tried_with(Options(inputs=(Path(),), out=Path()))
        return replace(row, error=error, reason="it is damaged", details=within)


@dataclass
class Judged:
    """What ``judge`` said, in a word, and how often it read the photo."""

    verdict: Todo | Settled
    reads: int

    @property
    def word(self) -> str:
        verdict = self.verdict
        if isinstance(verdict, Todo):
            return "replace" if verdict.replace else "make"
        if verdict.status == "skipped":
            return {CURRENT: "current", OTHER_SETTINGS: "other settings"}.get(verdict.reason, verdict.reason)
        return "failed as before" if "as before" in verdict.reason else str(verdict.error)


def looks(sha256: Callable[[], str], sidecar: Stamp | None = None) -> Looks:
    return Looks(sha256, lambda: sidecar)


def judged(case: Case, folder: Path) -> Judged:
    target = folder / "a.jpg"
    target.unlink(missing_ok=True)
    if case.target is not None:
        target.write_bytes(OUTPUT if case.target == "ours" else b"edited")
    mtime_ns = MTIME_NS + case.date_differs
    photo = Photo(folder / case.source, Path("a.jpg"), target, Format.JPEG, SIZE, mtime_ns)
    flags = dict.fromkeys(case.flags.split(), True)
    options = Options(inputs=(folder,), out=folder, **flags)  # type: ignore[arg-type]
    reads = 0

    def hash_source() -> str:
        nonlocal reads
        reads += 1
        return OTHER_HASH if case.content_differs else HASH

    verdict = judge(photo, case.source, case.known(), case.recipe, options, looks(hash_source))
    return Judged(verdict, reads)


MOVED = "../moved/a.jpg"
NEW = "another recipe"
TABLE = [
    # Nothing on record: a file that is there is not ours.
    (Case(row=None, target=None), "make"),
    (Case(row=None, target="edited"), "TargetExists"),
    (Case(row=None, target="edited", flags="redo_changed retry_failed rehash"), "TargetExists"),
    (Case(row=None, target="edited", flags="overwrite"), "replace"),
    # Done, and the output lies there as it was written.
    (Case(), "current"),
    (Case(flags="overwrite"), "current"),
    (Case(flags="redo_changed retry_failed"), "current"),
    (Case(flags="rehash"), "current"),
    (Case(photo="touched"), "current"),
    (Case(photo="changed"), "replace"),
    (Case(photo="crept"), "current"),  # nobody can know without reading
    (Case(photo="crept", flags="rehash"), "replace"),
    (Case(recipe=NEW), "other settings"),
    (Case(recipe=NEW, flags="overwrite retry_failed"), "other settings"),
    (Case(recipe=NEW, flags="rehash"), "other settings"),
    (Case(recipe=NEW, flags="redo_changed"), "replace"),
    (Case(recipe=NEW, photo="touched"), "other settings"),
    (Case(recipe=NEW, photo="touched", flags="redo_changed"), "replace"),
    (Case(recipe=NEW, photo="changed"), "replace"),
    # Done, but the output is gone: whatever else, it has to be made.
    (Case(target=None), "make"),
    (Case(target=None, photo="touched"), "make"),
    (Case(target=None, photo="changed"), "make"),
    (Case(target=None, recipe=NEW), "make"),
    (Case(target=None, source=MOVED), "make"),
    # Done, but somebody changed the output: theirs, until the user says otherwise.
    (Case(target="edited"), "TargetExists"),
    (Case(target="edited", photo="changed"), "TargetExists"),
    (Case(target="edited", recipe=NEW), "TargetExists"),
    (Case(target="edited", flags="redo_changed retry_failed rehash"), "TargetExists"),
    (Case(target="edited", source=MOVED), "TargetExists"),
    (Case(target="edited", flags="overwrite"), "replace"),
    (Case(target="edited", flags="overwrite rehash"), "replace"),
    (Case(target="edited", photo="touched", flags="overwrite"), "replace"),
    (Case(target="edited", photo="changed", flags="overwrite"), "replace"),
    (Case(target="edited", recipe=NEW, flags="overwrite"), "replace"),
    (Case(target="edited", recipe=NEW, flags="overwrite redo_changed"), "replace"),
    # Done from a photo of another path: only its content tells whether it is the same photo.
    (Case(source=MOVED), "current"),
    (Case(source=MOVED, photo="touched"), "current"),
    (Case(source=MOVED, recipe=NEW), "other settings"),
    (Case(source=MOVED, recipe=NEW, flags="redo_changed"), "replace"),
    (Case(source=MOVED, photo="changed"), "TargetExists"),
    (Case(source=MOVED, photo="changed", flags="redo_changed retry_failed rehash"), "TargetExists"),
    (Case(source=MOVED, photo="changed", flags="overwrite"), "replace"),
    (Case(source=MOVED, photo="crept"), "TargetExists"),
    (Case(source=MOVED, photo="crept", flags="overwrite"), "replace"),
    (Case(source=MOVED, photo="crept", flags="rehash"), "TargetExists"),
    # Failed in a way that would come again with the same file.
    (Case(row="failed", target=None), "failed as before"),
    (Case(row="failed", target=None, flags="overwrite redo_changed"), "failed as before"),
    (Case(row="failed", target=None, flags="retry_failed"), "make"),
    (Case(row="failed", target=None, flags="rehash"), "make"),  # its content is not on record
    (Case(row="failed", target=None, photo="touched"), "make"),
    (Case(row="failed", target=None, photo="changed"), "make"),
    (Case(row="failed", target=None, recipe=NEW), "make"),
    (Case(row="failed", target=None, source=MOVED), "make"),
    (Case(row="failed", target="edited"), "TargetExists"),
    (Case(row="failed", target="edited", flags="retry_failed"), "TargetExists"),
    (Case(row="failed", target="edited", flags="overwrite"), "failed as before"),
    (Case(row="failed", target="edited", flags="overwrite retry_failed"), "replace"),
    # Failed in a way that may have been put right since.
    (Case(row="failed for now", target=None), "make"),
    (Case(row="failed for now", target=None, photo="touched"), "make"),
    (Case(row="failed for now", target="edited"), "TargetExists"),
    (Case(row="failed for now", target="edited", flags="overwrite"), "replace"),
    # Skipped: no output is wanted, so a file of its name is in nobody's way.
    (Case(row="skipped", target=None), TOO_LARGE),
    (Case(row="skipped", target=None, flags="overwrite redo_changed retry_failed"), TOO_LARGE),
    (Case(row="skipped", target="edited"), TOO_LARGE),
    (Case(row="skipped", target="edited", flags="overwrite"), TOO_LARGE),
    (Case(row="skipped", target=None, photo="touched"), "make"),  # its content is not on record
    (Case(row="skipped", target=None, recipe=NEW), "make"),
    (Case(row="skipped", target=None, source=MOVED), "make"),
    (Case(row="skipped", target="edited", recipe=NEW), "TargetExists"),
    (Case(row="skipped", target="edited", recipe=NEW, flags="overwrite"), "replace"),
]


def _words(case: Case) -> str:
    changes = [f"{name}={value}" for name, value in vars(case).items() if value != getattr(Case(), name)]
    return ", ".join(changes).replace(MOVED, "moved") or "same"


@pytest.mark.parametrize(
    ("case", "expected"), TABLE, ids=[f"{_words(case)}: {expected}" for case, expected in TABLE]
)
def test_verdict(case: Case, expected: str, tmp_path: Path) -> None:
    assert judged(case, tmp_path).word == expected


_cases = st.builds(
    Case,
    row=st.sampled_from([None, "done", "skipped", "failed", "failed for now"]),
    target=st.sampled_from(["ours", "edited", None]),
    photo=st.sampled_from(["same", "touched", "changed", "crept"]),
    source=st.sampled_from([SOURCE, MOVED]),
    recipe=st.sampled_from([RECIPE, NEW]),
    flags=st.sets(st.sampled_from(["overwrite", "redo_changed", "retry_failed", "rehash"])).map(
        lambda flags: " ".join(sorted(flags))
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@given(_cases.filter(lambda case: "overwrite" not in case.flags))
def test_a_file_is_never_replaced_unasked_unless_it_is_as_we_wrote_it(folder: Path, case: Case) -> None:
    verdict = judged(case, folder).verdict
    if isinstance(verdict, Todo) and verdict.replace:
        assert case.row == "done"
        assert case.target == "ours"
    if isinstance(verdict, Todo) and case.target is not None:
        assert verdict.replace  # else days of work would end in a name that is taken


@given(_cases)
def test_a_photo_is_current_only_if_its_output_is_there_of_its_content_and_settings(
    folder: Path, case: Case
) -> None:
    if judged(case, folder).word == "current":
        assert case.row == "done"
        assert case.target == "ours"
        assert case.recipe == RECIPE
        # A change that left path, size and date alone is found by --rehash only.
        unseen = case.photo == "crept" and case.source == SOURCE and "rehash" not in case.flags
        assert unseen or not case.content_differs


@given(_cases)
def test_an_output_that_is_current_is_never_made_again(folder: Path, case: Case) -> None:
    case = replace(case, row="done", target="ours", photo="same")
    if case.recipe == RECIPE or "redo_changed" not in case.flags:
        assert isinstance(judged(case, folder).verdict, Settled)


@given(_cases.filter(lambda case: "rehash" not in case.flags))
def test_a_photo_with_its_old_size_and_date_is_not_read(folder: Path, case: Case) -> None:
    if not case.date_differs and case.source == SOURCE:
        assert judged(case, folder).reads == 0


@given(_cases)
def test_a_photo_is_read_at_most_once(folder: Path, case: Case) -> None:
    assert judged(case, folder).reads <= 1


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


# ---- which failures come again -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "again"),
    [
        ("UnreadablePhoto", True),
        ("UnsupportedPhoto", True),
        ("PhotoTooLarge", True),
        ("PhotoChanged", False),
        ("TargetExists", False),
        ("WrongOutput", False),
        ("DeviceOutOfMemory", False),
        ("ZeroDivisionError", False),
        ("annotations", False),
        ("", False),
        (None, False),
    ],
)
def test_only_failures_that_lie_in_the_file_are_remembered(error: str | None, again: bool) -> None:
    assert is_remembered(error) is again


def test_photos_that_met_are_tried_again_once_one_of_them_was_renamed(tmp_path: Path) -> None:
    for folder in ("1/scans", "2/scans"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.jpg").write_bytes(b"original")
    inputs = (tmp_path / "1" / "scans", tmp_path / "2" / "scans")
    for photo in discover(inputs, tmp_path / "hi").photos:
        assert photo.problem is not None
        assert not is_remembered(type(photo.problem).__name__)


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
