"""Interrupt and run again: nothing that is not ours is overwritten, nothing is done without need, and
nothing is called done that is not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srbatch.resume import Settled, Todo
from tests.resume.cases import MOVED, NEW, RECIPE, SOURCE, TOO_LARGE, Case, judged

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
