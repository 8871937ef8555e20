"""A look at an output folder leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from srbatch.errors import LedgerError
from srbatch.options import Options
from srbatch.outputs.archive import looked_into, opened, state_folder
from tests.conftest import without_privileges
from tests.outputs.archive.conftest import killed_while_writing, names_below, row_of, with_


def test_a_look_at_a_new_output_folder_makes_nothing(options: Options, tmp_path: Path) -> None:
    before = names_below(tmp_path)
    with looked_into(options) as archive:
        archive.ledger.record(row_of(b"whole"))
    assert names_below(tmp_path) == before


def test_a_look_changes_nothing_and_takes_no_lock(options: Options) -> None:
    temp = killed_while_writing(options)
    before = {name: (options.out / name).stat().st_mtime_ns for name in names_below(options.out)}
    with looked_into(options) as archive:
        archive.ledger.record(row_of(b"whole"))
    assert {name: (options.out / name).stat().st_mtime_ns for name in names_below(options.out)} == before
    assert temp.exists()


def test_a_look_knows_what_is_on_record(options: Options) -> None:
    with opened(options, "run") as archive:
        archive.ledger.record(row_of(b"whole"))
    with looked_into(options) as looked:
        assert looked.ledger.row("a.jpg") == row_of(b"whole")


def test_a_look_knows_what_a_killed_run_had_finished(options: Options) -> None:
    killed_while_writing(options, row=row_of(b"whole"))
    (options.out / "a.jpg").write_bytes(b"whole")
    with looked_into(options) as archive:
        assert archive.ledger.row("a.jpg") == row_of(b"whole")


def test_a_look_at_a_ledger_that_one_may_not_see_does_not_take_it_for_none(
    options: Options, public: Path
) -> None:
    with without_privileges():
        (public / "closed").mkdir(mode=0)
        with (
            pytest.raises(LedgerError, match="Permission denied; see to its permissions"),
            looked_into(with_(options, state=public / "closed")),
        ):
            pass


def test_a_look_at_a_folder_whose_first_run_was_killed_at_once_finds_nothing_done(tmp_path: Path) -> None:
    options = Options(inputs=(tmp_path / "photos",), out=tmp_path / "hi")
    state_folder(options.out, None).mkdir(parents=True)
    (state_folder(options.out, None) / "ledger.sqlite").touch()
    with looked_into(options) as archive:
        assert list(archive.ledger.rows()) == []
