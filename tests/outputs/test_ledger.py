"""What is remembered: any name, through any crash, for one run at a time."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srbatch.errors import ExitCode, LedgerError, UnfitRow
from srbatch.outputs.ledger import Ledger
from srbatch.outputs.rows import Row
from srbatch.watch.presence import is_disk_full
from tests.outputs.conftest import row


def file_of(state: Path) -> Path:
    (path,) = (path for path in state.iterdir() if path.suffix == ".sqlite")
    return path


# ---- rows ----------------------------------------------------------------------------------------

_path = st.binary(min_size=1, max_size=40).map(lambda name: os.fsdecode(name.replace(b"\0", b"?")))
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_integer = st.integers(-(2**63), 2**63 - 1)
_rows = st.builds(
    Row,
    target=_path,
    status=st.sampled_from(["done", "skipped", "failed"]),
    source=_path,
    size=_integer,
    mtime_ns=_integer,
    sha256=st.none() | _text,
    recipe=_text,
    target_size=st.none() | _integer,
    target_sha256=st.none() | _text,
    error=st.none() | _text,
    reason=st.none() | _text,
    details=_text,
    finished=st.floats(allow_nan=False, allow_infinity=False),
)


@given(_rows)
def test_a_row_comes_back_as_it_was_whatever_the_names(noted: Row) -> None:
    ledger = Ledger.in_memory()
    ledger.record(noted)
    assert ledger.row(noted.target) == noted
    assert list(ledger.rows()) == [noted]
    ledger.close()


@given(_rows, _path)
def test_a_row_to_come_comes_back_as_it_was_whatever_the_names(coming: Row, temp: str) -> None:
    ledger = Ledger.in_memory()
    ledger.begin(coming.target, temp)
    ledger.about_to_commit(coming)
    assert ledger.pending() == [(coming.target, temp, coming)]
    ledger.close()


@settings(max_examples=30)
@given(
    st.lists(
        st.builds(replace, _rows, target=st.sampled_from("ab") | _path, source=st.sampled_from("xy") | _path),
        max_size=8,
    )
)
def test_the_last_outcome_of_each_target_counts_and_a_failure_costs_no_output_its_row(
    noted: list[Row],
) -> None:
    """A failure lasts until its photo, or another with its target, has another outcome."""
    ledger, last, failed = Ledger.in_memory(), dict[str, Row](), dict[str, Row]()
    for outcome in noted:
        ledger.record(outcome)
        target = outcome.target
        for known in (last, failed):
            for other in list(known.values()):
                if other.source == outcome.source and other.target != target and other.status == "failed":
                    del known[other.target]
        if outcome.status == "failed" and target in last and last[target].status == "done":
            failed[target] = outcome
        else:
            last[target] = outcome
            failed.pop(target, None)
        assert ledger.look_up(target) == (last[target], failed.get(target))
        assert ledger.latest(target) == outcome
    assert {found.target: found for found in ledger.rows()} == last
    failures = [row for row in last.values() if row.status == "failed"] + list(failed.values())
    assert {found.target: found for found in ledger.failures()} == {row.target: row for row in failures}
    ledger.forget_failures([row.target for row in noted])
    assert ledger.failures() == []
    assert list(ledger.rows()) == [row for row in ledger.rows() if row.status != "failed"]
    assert {row.target for row in ledger.rows()} == {r.target for r in last.values() if r.status != "failed"}
    ledger.close()


def test_names_that_differ_in_case_or_composition_are_two_targets(ledger: Ledger) -> None:
    names = ["a.jpg", "A.jpg", "\u00e9.jpg", "e\u0301.jpg", os.fsdecode(b"\xe9.jpg")]
    for name in names:
        ledger.record(row(name))
    assert sorted(found.target for found in ledger.rows()) == sorted(names)


def test_what_is_not_known_is_none(ledger: Ledger) -> None:
    assert ledger.row("unknown.jpg") is None
    assert ledger.pending() == []
    assert ledger.last_run() is None


def test_rows_are_still_there_when_it_is_opened_again(state: Path) -> None:
    first = Ledger.open(state)
    first.record(row())
    first.close()
    second = Ledger.open(state)
    assert second.row("a.jpg") == row()
    second.close()


# ---- writes in hand ------------------------------------------------------------------------------


def test_a_write_is_pending_from_its_begin_to_its_record(ledger: Ledger) -> None:
    ledger.begin("a.jpg", ".srbatch-1.part")
    assert ledger.pending() == [("a.jpg", ".srbatch-1.part", None)]
    ledger.about_to_commit(row())
    assert ledger.pending() == [("a.jpg", ".srbatch-1.part", row())]
    assert ledger.row("a.jpg") is None
    ledger.record(row())
    assert ledger.pending() == []
    assert ledger.row("a.jpg") == row()


def test_a_dropped_write_leaves_the_earlier_row(ledger: Ledger) -> None:
    ledger.record(row())
    ledger.begin("a.jpg", ".srbatch-1.part")
    ledger.about_to_commit(row(sha256="ef" * 32))
    ledger.drop("a.jpg")
    assert ledger.pending() == []
    assert ledger.row("a.jpg") == row()


def test_a_write_that_begins_again_replaces_the_one_before(ledger: Ledger) -> None:
    ledger.begin("a.jpg", ".srbatch-1.part")
    ledger.about_to_commit(row())
    ledger.begin("a.jpg", ".srbatch-2.part")
    assert ledger.pending() == [("a.jpg", ".srbatch-2.part", None)]


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_what_is_no_output_leaves_the_note_of_one_that_may_be_there(ledger: Ledger, status: str) -> None:
    ledger.begin("a.jpg", ".srbatch-1.part")
    ledger.about_to_commit(row())
    ledger.record(row(status=status))
    assert ledger.pending() == [("a.jpg", ".srbatch-1.part", row())]
    ledger.begin("a.jpg", ".srbatch-2.part")
    ledger.record(row(status=status))
    assert ledger.pending() == [], "nothing was renamed"


def test_writes_of_other_targets_stay_pending(ledger: Ledger) -> None:
    ledger.begin("a.jpg", ".srbatch-1.part")
    ledger.begin("b.jpg", ".srbatch-2.part")
    ledger.record(row("a.jpg"))
    assert ledger.pending() == [("b.jpg", ".srbatch-2.part", None)]


# ---- runs ----------------------------------------------------------------------------------------


def test_the_last_run_is_this_process(ledger: Ledger) -> None:
    ledger.start_run("srbatch upscale photos")
    last = ledger.last_run()
    assert last is not None
    assert last[:2] == (socket.gethostname(), os.getpid())


def test_a_command_with_a_name_that_is_not_text_is_noted(ledger: Ledger) -> None:
    ledger.start_run("srbatch upscale " + os.fsdecode(b"caf\xe9"))
    assert ledger.last_run() is not None


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such permissions")
@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_who_may_write_to_a_new_ledger_is_what_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        Ledger.open(tmp_path).close()
    finally:
        os.umask(before)
    assert (tmp_path / "ledger.sqlite").stat().st_mode & 0o777 == mode


# ---- other ways to open it -----------------------------------------------------------------------


def test_a_copy_in_memory_leaves_the_original_alone(state: Path, ledger: Ledger) -> None:
    ledger.record(row())
    before = file_of(state).read_bytes()
    copy = Ledger.copy_in_memory(state)
    copy.record(row("b.jpg"))
    copy.record(row("a.jpg", status="failed"))
    copy.close()
    assert file_of(state).read_bytes() == before
    assert list(ledger.rows()) == [row()]


def test_a_copy_in_memory_knows_what_the_original_knows(state: Path, ledger: Ledger) -> None:
    ledger.record(row())
    ledger.begin("b.jpg", ".srbatch-1.part")
    copy = Ledger.copy_in_memory(state)
    assert copy.row("a.jpg") == row()
    assert copy.pending() == [("b.jpg", ".srbatch-1.part", None)]
    assert str(file_of(state)) in str(copy.damaged("x")), "it says which file is to be mended"
    copy.close()


def test_reading_where_there_is_no_ledger_is_an_error_that_makes_nothing(state: Path) -> None:
    with pytest.raises(LedgerError, match="holds no ledger"):
        Ledger.open_readonly(state)
    assert list(state.iterdir()) == []


def test_what_was_opened_to_read_cannot_be_written(state: Path, ledger: Ledger) -> None:
    ledger.record(row())
    reader = Ledger.open_readonly(state)
    with pytest.raises(LedgerError):
        reader.record(row("b.jpg"))
    reader.close()
    assert list(ledger.rows()) == [row()]


def test_a_slow_reader_does_not_stop_the_run_that_writes(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def impatient(*args: object, **others: object) -> sqlite3.Connection:
        return connect(*args, **{**others, "timeout": 0.1})  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sqlite3, "connect", impatient)
    writer = Ledger.open(state)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        writer.record(row(name))
    reader = Ledger.open_readonly(state)
    rows = reader.rows()
    next(rows)  # and now it hashes a large output
    try:
        writer.record(row("d.jpg"))
    finally:
        rows.close()  # type: ignore[attr-defined]
        reader.close()
        writer.close()


# ---- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", [Ledger.open, Ledger.open_readonly, Ledger.copy_in_memory])
def test_a_file_that_is_no_ledger_is_an_error_that_says_what_to_do(state: Path, opened: object) -> None:
    Ledger.open(state).close()
    path = file_of(state)
    path.write_bytes(b"not a database " * 500)
    with pytest.raises(LedgerError, match="move the ledger away") as raised:
        opened(state)  # type: ignore[operator]
    assert str(path) in str(raised.value)
    assert raised.value.exit_code is ExitCode.DESTINATION
    assert path.read_bytes() == b"not a database " * 500


@pytest.mark.parametrize("change", [{"mtime_ns": "yesterday"}, {"size": None}, {"source": 3}], ids=str)
def test_what_could_not_be_read_again_is_not_recorded(ledger: Ledger, change: dict[str, object]) -> None:
    """As of a damaged row that was to come."""
    ledger.record(row("b.jpg"))
    with pytest.raises(UnfitRow, match="cannot hold what it was given"):
        ledger.record(row(**change))
    assert list(ledger.rows()) == [row("b.jpg")]


def test_a_page_that_was_damaged_is_an_error(state: Path) -> None:
    ledger = Ledger.open(state)
    for number in range(40):
        ledger.record(row(f"{number}.jpg"))
    ledger.close()
    path = file_of(state)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(LedgerError, match=re.escape(f"{path}: ")):  # noqa: PT012
        damaged = Ledger.open(state)
        try:
            list(damaged.rows())
        finally:
            damaged.close()


def test_a_ledger_from_before_there_was_a_table_of_failures_is_read_and_gets_one(
    state: Path, ledger: Ledger
) -> None:
    ledger.record(row())
    ledger.record(row("b.jpg", status="failed"))
    ledger._db.execute("DROP TABLE failures")
    before = file_of(state).read_bytes()
    reader, copy = Ledger.open_readonly(state), Ledger.copy_in_memory(state)
    assert reader.failures() == [row("b.jpg", status="failed")]
    assert copy.look_up("a.jpg") == (row(), None)
    reader.close()
    copy.close()
    assert file_of(state).read_bytes() == before
    again = Ledger.open(state)
    again.record(row(status="failed"))
    assert again.look_up("a.jpg") == (row(), row(status="failed"))
    again.close()


@pytest.mark.parametrize("opened", [Ledger.open, Ledger.open_readonly, Ledger.copy_in_memory])
def test_a_ledger_of_a_newer_version_is_left_alone(state: Path, opened: object) -> None:
    Ledger.open(state).close()
    newer = sqlite3.connect(file_of(state))
    newer.execute("PRAGMA user_version=99")
    newer.close()
    before = file_of(state).read_bytes()
    with pytest.raises(LedgerError, match="newer srbatch"):
        opened(state)  # type: ignore[operator]
    assert file_of(state).read_bytes() == before


def test_a_database_of_another_program_is_left_alone(state: Path) -> None:
    Ledger.open(state).close()
    path = file_of(state)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE photos (id INTEGER)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError):
        Ledger.open(state)
    assert path.read_bytes() == before


def test_a_ledger_that_was_just_begun_when_the_power_failed_is_begun_again(state: Path) -> None:
    Ledger.open(state).close()
    file_of(state).write_bytes(b"")
    again = Ledger.open(state)
    again.record(row())
    assert again.row("a.jpg") == row()
    again.close()


def test_the_output_folder_can_be_moved(state: Path, tmp_path: Path) -> None:
    ledger = Ledger.open(state)
    ledger.record(row("sub/a.jpg"))
    ledger.close()
    shutil.move(state.parent, tmp_path / "moved")
    moved = Ledger.open(tmp_path / "moved" / state.name)
    assert moved.row("sub/a.jpg") == row("sub/a.jpg")
    moved.close()


# ---- a disk without room -------------------------------------------------------------------------


def test_a_full_disk_is_told_as_such_and_the_ledger_goes_on_when_there_is_room(ledger: Ledger) -> None:
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(LedgerError, match="disk is full; make room and run") as raised:
        ledger.record(row(details="x" * 50_000))
    assert "move the ledger away" not in str(raised.value), "then no output would be known any more"
    assert is_disk_full(raised.value)
    ledger._db.execute("PRAGMA max_page_count=100000")
    ledger.record(row("after.jpg"))
    assert ledger.row("after.jpg") == row("after.jpg")


@pytest.mark.parametrize("pages", range(1, 12))
def test_a_ledger_that_is_made_as_the_disk_runs_full_is_begun_again_when_there_is_room(
    state: Path, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    """Half of it would be taken for a damaged one, and then no run could ever write there."""
    connect = sqlite3.connect

    def with_little_room(*args: object, **others: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **others)  # type: ignore[call-overload]
        connection.execute(f"PRAGMA max_page_count={pages}")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", with_little_room)
        with pytest.raises(LedgerError) as raised, closing(Ledger.open(state)) as full:
            full.record(row(details="x" * 50_000))
    assert is_disk_full(raised.value)
    with closing(Ledger.open(state)) as again:
        again.record(row())
        assert list(again.rows()) == [row()]


def test_a_ledger_that_another_program_has_open_is_not_to_be_moved_away(ledger: Ledger, state: Path) -> None:
    ledger._db.execute("PRAGMA busy_timeout=50")
    with closing(sqlite3.connect(file_of(state), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerError, match="another program has it open") as raised:
            ledger.record(row())
    assert "move the ledger away" not in str(raised.value)


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be removed there")
def test_a_ledger_whose_folder_was_removed_during_the_run_is_told_as_such(
    ledger: Ledger, state: Path
) -> None:
    shutil.rmtree(state)
    with pytest.raises(LedgerError, match="moved or removed during the run") as raised:
        ledger.record(row())
    assert str(raised.value).startswith(f"{state / 'ledger.sqlite'}: ")
    assert "move the ledger away" not in str(raised.value)


def test_a_ledger_that_may_not_be_written_is_told_as_such(ledger: Ledger) -> None:
    ledger._db.execute("PRAGMA query_only=ON")
    with pytest.raises(LedgerError, match="you may not write to it"):
        ledger.record(row())


def test_a_commit_that_fails_leaves_no_transaction_open(state: Path) -> None:
    """Another program that reads for a long time holds up a commit, but not what comes before it."""
    ledger = Ledger.open(state)
    ledger._db.execute("PRAGMA busy_timeout=50")
    reader = sqlite3.connect(file_of(state))
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM photos").fetchall()
    with pytest.raises(LedgerError, match="locked"):
        ledger.record(row())
    reader.close()
    ledger.record(row())
    assert ledger.row("a.jpg") == row()
    ledger.close()


def test_each_note_waits_for_the_disk(state: Path) -> None:
    """An output of which the ledger lost the note when the power failed would pass for somebody else's."""
    with closing(Ledger.open(state)) as ledger:
        assert ledger._db.execute("PRAGMA synchronous").fetchone() >= (2,), "FULL"
        assert ledger._db.execute("PRAGMA fullfsync").fetchone() == (1,), "macOS alone knows the difference"
        assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("delete",), "shares know no other"
