"""Folders of outputs: made, synced, and held by one run."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from srbatch.errors import DestinationError, LockedError, TargetClosed, TargetExists
from srbatch.outputs.commit import (
    LOCK,
    commit,
    held_by_reading,
    make_folder,
    temp_path,
    unfit_folder,
)
from tests.conftest import without_privileges
from tests.outputs.conftest import content, failing


def test_missing_parents_are_made(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()


def test_making_a_folder_that_is_there_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_bytes(b"kept")
    make_folder(tmp_path)
    assert content(tmp_path) == {"kept.txt": b"kept"}


def test_a_relative_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder(Path("x/y"))
    assert (tmp_path / "x" / "y").is_dir()


def test_the_folder_around_each_new_folder_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino]


@pytest.mark.parametrize("below", ["", "b", "b/c"])
def test_a_file_in_the_way_of_a_folder_is_named_and_kept(tmp_path: Path, below: str) -> None:
    (tmp_path / "a").write_bytes(b"a file")
    with pytest.raises(DestinationError, match=str(tmp_path / "a")):
        make_folder(tmp_path / "a" / below)
    assert (tmp_path / "a").read_bytes() == b"a file"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "mkdir", failing(number))
    with pytest.raises(DestinationError, match=str(tmp_path / "new")):
        make_folder(tmp_path / "new")


def test_a_folder_below_one_that_may_not_be_entered_is_a_destination_error(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    try:
        with without_privileges(), pytest.raises(DestinationError, match="may write to"):
            make_folder(closed / "hi")
    finally:
        closed.chmod(0o700)


@pytest.mark.parametrize("below", ["", "b", "b/c"])
def test_a_file_or_a_link_where_a_folder_of_outputs_is_due_costs_what_lies_there(
    tmp_path: Path, below: str
) -> None:
    (tmp_path / "a").write_bytes(b"a file")
    (tmp_path / "link").symlink_to("unplugged disk")
    for name, what in (("a", "is a file"), ("link", "is a link that leads to no folder")):
        unfit = unfit_folder(tmp_path / name / below, tmp_path)
        assert isinstance(unfit, TargetExists)
        assert f"{tmp_path / name} {what}" in str(unfit)
        assert unfit_folder(tmp_path / name / below, tmp_path / name) is None, "that is no fault of a photo"


@pytest.mark.parametrize("mode", [0o555, 0o666, 0])
def test_a_folder_of_outputs_that_is_closed_costs_what_lies_there(public: Path, mode: int) -> None:
    with without_privileges():
        (public / "open").mkdir()
        (public / "closed").mkdir(mode=mode)
        for folder in (public / "closed", public / "closed" / "deep"):
            assert isinstance(unfit_folder(folder, public), TargetClosed)
        for folder in (public / "open" / "new", public / "new" / "newer"):
            assert unfit_folder(folder, public) is None
        public.chmod(0o555)
        assert unfit_folder(public / "closed", public) is None, "the folder of all outputs is closed too"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with a name")
def test_a_pipe_in_the_place_of_anothers_lock_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOCK)
    with pytest.raises(OSError, match="not a regular file"), held_by_reading(tmp_path, str):
        pass


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_a_folder_whose_entries_do_not_get_onto_the_disk_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    target, fsync = tmp_path / "a.jpg", os.fsync
    temp = temp_path(target)
    temp.write_bytes(b"new")

    def fsync_of_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync_of_files)
    with pytest.raises(DestinationError, match=os.strerror(number)):
        commit(temp, target, replace=False)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_of_two_that_may_only_read_a_lock_one_holds_the_folder(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    with (
        held_by_reading(tmp_path, lambda: "taken"),
        pytest.raises(LockedError, match="taken"),
        held_by_reading(tmp_path, lambda: "taken"),
    ):
        pass
    with held_by_reading(tmp_path, lambda: "taken"):
        pass
