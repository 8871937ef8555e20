"""Shares and disks that go away, and room that comes back."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from srbatch.errors import DestinationError, LedgerError
from srbatch.outputs.commit import destination_error
from srbatch.watch import presence
from srbatch.watch.presence import FreeSpace, Presence, is_disk_full


def test_an_unmounted_share_is_told_from_an_empty_folder(drop: Path) -> None:
    found = Presence(drop, by_inode=True)
    assert found.why_away() is None
    (drop / "1999").rmdir()
    assert found.why_away() is None, "an empty folder is one without photos"
    drop.rename(drop.with_name("elsewhere"))
    assert "cannot be listed" in (found.why_away() or "")
    drop.mkdir()
    assert "share unmounted" in (found.why_away() or "")
    assert found.is_new
    drop.rmdir()
    drop.with_name("elsewhere").rename(drop)
    assert found.why_away() is None
    drop.rename(drop.with_name("elsewhere"))
    drop.mkdir()
    (drop / "a.jpg").write_bytes(b"")
    assert found.why_away() is None, "another folder with something in it is taken"


def test_a_share_that_gives_out_new_inodes_is_the_same(drop: Path) -> None:
    found = Presence(drop, by_inode=False)
    drop.rename(drop.with_name("elsewhere"))
    assert not found.is_same()
    drop.mkdir()
    assert found.is_same()
    assert found.why_away() is None


def test_a_full_disk_is_known_by_its_cause() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for cause, expected in ((full, True), (OSError(errno.EDQUOT, ""), True), (OSError(errno.EIO, ""), False)):
        error = destination_error(cause, Path("x"))
        error.__cause__ = cause
        assert is_disk_full(error) is expected
    cause = sqlite3.OperationalError("database or disk is full")
    cause.sqlite_errorcode = sqlite3.SQLITE_FULL
    error = LedgerError("x")
    error.__cause__ = cause
    assert is_disk_full(error)
    assert not is_disk_full(DestinationError("x"))


def test_a_full_disk_is_known_where_an_error_of_ours_came_of_it_without_naming_it() -> None:
    errors: list[BaseException] = []
    for kind in (LedgerError, OSError):
        try:
            try:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                raise kind("x")  # noqa: B904
        except (LedgerError, OSError) as error:
            errors.append(error)
    assert [is_disk_full(error) for error in errors] == [True, False]


def test_room_is_worth_a_try_when_it_has_grown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free = 1000
    monkeypatch.setattr(presence, "_free", lambda folder: free)
    room = FreeSpace([tmp_path])
    assert not room.has_grown()
    free += presence._ROOM
    assert room.has_grown()


def test_room_on_one_of_several_disks_is_worth_a_try(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The ledger may be what had none, and the outputs lie elsewhere."""
    free = {tmp_path / "hi": 1000, tmp_path / "state": 0}
    monkeypatch.setattr(presence, "_free", lambda folder: free[folder])
    room = FreeSpace(free)
    free[tmp_path / "state"] += presence._ROOM
    assert room.has_grown()


def test_a_folder_that_was_away_is_new_also_where_it_is_the_one_that_it_was(drop: Path) -> None:
    """Events of it may not come any more."""
    found = Presence(drop, by_inode=True)
    drop.rename(drop.with_name("elsewhere"))
    assert found.why_away()
    drop.with_name("elsewhere").rename(drop)
    assert found.why_away() is None
    assert found.is_new
