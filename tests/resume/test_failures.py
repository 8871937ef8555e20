"""Which failures come again, so that a photo is not tried in vain, also one that has an output of before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from srbatch.discovery.discover import discover
from srbatch.outputs.rows import Row
from srbatch.resume import Settled, is_remembered
from tests.resume.cases import MTIME_NS, NEW, RECIPE, Case, judged


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


def failure_of(*, touched: bool, recipe: str) -> Row:
    """What has failed since the output was made: the photo as it was then, or with a later date."""
    known = Case(row="failed").known()
    assert known is not None
    return replace(known, mtime_ns=MTIME_NS + touched, recipe=recipe)


@pytest.mark.parametrize(
    ("case", "recipe", "expected", "reads"),
    [
        # It was rewritten, and could not be read.
        (Case(photo="changed"), RECIPE, "failed as before", 0),
        (Case(photo="changed", flags="retry_failed"), RECIPE, "replace", 1),
        (Case(photo="changed", flags="rehash"), RECIPE, "replace", 1),
        # Other settings were asked for once, and that failed; they are asked for again.
        (Case(recipe=NEW, flags="redo_changed"), NEW, "failed as before", 0),
        (Case(recipe=NEW, flags="redo_changed retry_failed"), NEW, "replace", 0),
        (Case(photo="changed", recipe=NEW, flags="redo_changed"), NEW, "failed as before", 0),
        # They are not wanted any more: it has its output, whatever other ones led to.
        (Case(recipe=NEW), NEW, "other settings", 0),
        (Case(photo="touched", recipe=NEW), NEW, "other settings", 1),
        (Case(), NEW, "current", 0),
        # Its output is gone.
        (Case(photo="changed", target=None), RECIPE, "failed as before", 0),
        (Case(photo="changed", target=None), NEW, "make", 0),
    ],
)
def test_a_photo_with_an_output_of_before_is_not_tried_in_vain(
    tmp_path: Path, case: Case, recipe: str, expected: str, reads: int
) -> None:
    found = judged(case, tmp_path, failure_of(touched=case.date_differs, recipe=recipe))
    assert (found.word, found.reads) == (expected, reads)


def test_a_photo_that_is_as_it_was_has_not_failed_any_more(tmp_path: Path) -> None:
    """Noted again, the row of its output puts an end to the failure."""
    found = judged(Case(), tmp_path, failure_of(touched=True, recipe=RECIPE))
    assert isinstance(found.verdict, Settled)
    assert (found.word, found.verdict.refreshed) == ("current", Case().known())
