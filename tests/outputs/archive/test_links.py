"""A link where a file of the state folder is due: what it leads to is never written to."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

import pytest

from srbatch.errors import DestinationError, LedgerError
from srbatch.options import Options
from srbatch.outputs.archive import opened
from srbatch.reporting.snapshot import read
from srbatch.watch.status import WatchStatus
from tests.conftest import Clock
from tests.outputs.archive.conftest import with_


def test_a_note_of_the_output_folder_that_is_a_link_to_an_original_is_replaced_itself(
    options: Options, photos: Path, tmp_path: Path
) -> None:
    note = tmp_path / "state" / "output-folder"
    note.parent.mkdir()
    note.symlink_to(photos / "a.jpg")
    with opened(with_(options, state=note.parent), "run"):
        pass
    assert (photos / "a.jpg").read_bytes() == b"original"
    assert note.read_bytes() == os.fsencode(os.path.realpath(options.out))


@pytest.mark.parametrize("catalogue", [False, True], ids=["an empty file", "another program's database"])
def test_a_ledger_that_is_a_link_is_refused(options: Options, photos: Path, catalogue: bool) -> None:
    file = photos / "a.lrcat"
    file.touch()
    if catalogue:
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE images (id)")
        database.close()
    before = file.read_bytes()
    (options.out / ".srbatch").mkdir(parents=True)
    (options.out / ".srbatch" / "ledger.sqlite").symlink_to(file)
    with pytest.raises(LedgerError, match="is a link"), opened(options, "run"):
        pass
    assert file.read_bytes() == before


def test_the_status_of_a_watcher_never_goes_to_where_a_link_leads(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "watch.part").symlink_to(photos / "a.jpg")
    (tmp_path / "watch.json").symlink_to(photos / "a.jpg")
    WatchStatus(tmp_path, Path("drop"), clock=Clock(), notify=lambda _: None).tell("at work")
    assert (photos / "a.jpg").read_bytes() == b"original"
    found = read(tmp_path)
    assert found is not None
    assert found.state == "at work"


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such pipes")
def test_a_pipe_where_a_file_of_ours_is_due_holds_nobody_up(options: Options, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "watch.part")
    WatchStatus(tmp_path, Path("drop"), clock=Clock(), notify=lambda _: None).tell("at work")
    assert read(tmp_path) is not None
    os.mkfifo(tmp_path / "output-folder")
    with (
        pytest.raises(DestinationError, match="not a regular file"),
        opened(with_(options, state=tmp_path), "run"),
    ):
        pass
