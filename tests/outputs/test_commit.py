"""An output is whole or absent, and a file that is not ours is never touched."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from srbatch.errors import DestinationError, TargetExists, UnsupportedPhoto
from srbatch.outputs import commit as commit_module
from srbatch.outputs.commit import (
    commit,
    destination_error,
    discard,
    is_full,
    is_temp_name,
    make_folder,
    output_error,
    sha256_of,
    sync_folder,
    temp_path,
    whole,
)
from tests.outputs.conftest import content, failing
from tests.runs import Killed

NO_HARD_LINKS = [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL]
UNFIT_NAME = [errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ]


def without_hard_links(monkeypatch: pytest.MonkeyPatch, number: int = errno.EPERM) -> None:
    monkeypatch.setattr(os, "link", failing(number))


# ---- names ---------------------------------------------------------------------------------------


def test_temporary_names_are_short_hidden_and_beside_the_target(tmp_path: Path) -> None:
    target = tmp_path / ("é" * 125 + ".jpeg")
    assert len(os.fsencode(target.name)) == 255
    temp = temp_path(target)
    assert temp.parent == target.parent
    assert len(temp.name) <= 32
    assert temp.name.startswith(".")


def test_temporary_names_are_unique(target: Path) -> None:
    assert len({temp_path(target) for _ in range(1000)}) == 1000


def test_a_name_of_255_bytes_is_committed(tmp_path: Path) -> None:
    target = tmp_path / ("a" * 251 + ".jpg")
    temp = temp_path(target)
    temp.write_bytes(b"new")
    commit(temp, target, replace=False)
    assert content(tmp_path) == {target.name: b"new"}


# ---- commit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("replace", [True, False])
def test_a_new_file_gets_its_name_and_nothing_is_left_behind(temp: Path, target: Path, replace: bool) -> None:
    commit(temp, target, replace=replace)
    assert content(target.parent) == {"a.jpg": b"new"}


def test_a_file_is_replaced_where_that_is_allowed(temp: Path, target: Path) -> None:
    target.write_bytes(b"old")
    commit(temp, target, replace=True)
    assert content(target.parent) == {"a.jpg": b"new"}


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_file_that_is_not_ours_is_left_alone(
    temp: Path, target: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    target.write_bytes(b"somebody else's")
    if not links:
        without_hard_links(monkeypatch)
    with pytest.raises(TargetExists, match=r"a\.jpg .*--overwrite"):
        commit(temp, target, replace=False)
    discard(temp)
    assert content(target.parent) == {"a.jpg": b"somebody else's"}


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_dangling_link_that_is_not_ours_is_left_alone(
    temp: Path, target: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    target.symlink_to("unplugged disk")
    if not links:
        without_hard_links(monkeypatch)
    with pytest.raises(TargetExists):
        commit(temp, target, replace=False)
    assert target.readlink() == Path("unplugged disk")


@pytest.mark.parametrize("number", NO_HARD_LINKS, ids=errno.errorcode.get)
def test_a_new_file_gets_its_name_where_there_are_no_hard_links(
    temp: Path, target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    without_hard_links(monkeypatch, number)
    commit(temp, target, replace=False)
    assert content(target.parent) == {"a.jpg": b"new"}


def test_replacing_a_link_leaves_what_it_leads_to_alone(temp: Path, target: Path, tmp_path: Path) -> None:
    original = tmp_path / "original.jpg"
    original.write_bytes(b"original")
    target.symlink_to(original)
    commit(temp, target, replace=True)
    assert original.read_bytes() == b"original"
    assert content(target.parent) == {"a.jpg": b"new"}


def test_replacing_a_hard_link_leaves_the_other_name_alone(temp: Path, target: Path, tmp_path: Path) -> None:
    original = tmp_path / "original.jpg"
    original.write_bytes(b"original")
    target.hardlink_to(original)
    commit(temp, target, replace=True)
    assert original.read_bytes() == b"original"


@pytest.mark.parametrize("replace", [True, False])
def test_a_folder_of_the_targets_name_is_left_alone_and_called_a_folder(
    temp: Path, target: Path, replace: bool
) -> None:
    target.mkdir()
    (target / "inside.txt").write_bytes(b"kept")
    with pytest.raises(TargetExists, match="is a folder"):
        commit(temp, target, replace=replace)
    assert content(target) == {"inside.txt": b"kept"}


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EACCES, "may write to"),
        (errno.EPERM, "may write to"),
        (errno.EROFS, "may write to"),
        (errno.EIO, "see to the disk"),
    ],
    ids=lambda value: errno.errorcode.get(value) if isinstance(value, int) else "",
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_refuses_is_named_with_fitting_advice(
    temp: Path, target: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, advice: str
) -> None:
    target.write_bytes(b"old")
    monkeypatch.setattr(os, call, failing(number))
    with pytest.raises(DestinationError) as raised:
        commit(temp, target, replace=True)
    assert str(target) in str(raised.value)
    assert os.strerror(number) in str(raised.value)
    assert advice in str(raised.value)
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("code", "full"),
    [(sqlite3.SQLITE_FULL, True), (sqlite3.SQLITE_FULL | 1 << 8, True), (sqlite3.SQLITE_IOERR_WRITE, False)],
)
def test_a_full_disk_is_known_by_the_kind_of_the_ledgers_error(code: int, full: bool) -> None:
    error = sqlite3.OperationalError("database or disk is full")
    assert not is_full(error), "its code is not known"
    error.sqlite_errorcode = code
    assert is_full(error) is full


def test_a_full_disk_while_linking_leaves_no_file(
    temp: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(errno.ENOSPC))
    with pytest.raises(DestinationError, match="make room"):
        commit(temp, target, replace=False)
    assert not target.exists()


@pytest.mark.parametrize("number", UNFIT_NAME, ids=errno.errorcode.get)
@pytest.mark.parametrize("replace", [True, False])
def test_a_name_that_the_disk_does_not_take_costs_one_photo(
    temp: Path, target: Path, monkeypatch: pytest.MonkeyPatch, replace: bool, number: int
) -> None:
    for call in ("link", "replace"):
        monkeypatch.setattr(os, call, failing(number))
    with pytest.raises(UnsupportedPhoto, match=f"{os.strerror(number)}.*shorter"):
        commit(temp, target, replace=replace)


@pytest.mark.parametrize("number", UNFIT_NAME, ids=errno.errorcode.get)
def test_a_sync_that_fails_so_is_the_disks_fault_and_not_the_names(
    temp: Path, target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("srbatch.outputs.commit.sync_file", failing(number))
    with pytest.raises(DestinationError):
        commit(temp, target, replace=True)


def test_a_folder_of_outputs_that_cannot_have_its_name_costs_one_photo(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 300)
    with pytest.raises(UnsupportedPhoto):
        make_folder(folder, explained=output_error)
    with pytest.raises(DestinationError):
        make_folder(folder)


def test_the_hash_is_of_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "b") is sha256_of(tmp_path) is None
    (tmp_path / "link").symlink_to("a")
    assert sha256_of(tmp_path / "link") is None, "what lies elsewhere is no output"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with a name")
def test_a_pipe_has_no_hash_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    assert sha256_of(tmp_path / "a") is None


def test_a_temporary_file_that_vanished_costs_nothing_that_is_there(temp: Path, target: Path) -> None:
    target.write_bytes(b"old")
    temp.unlink()
    with pytest.raises(DestinationError):
        commit(temp, target, replace=True)
    assert content(target.parent) == {"a.jpg": b"old"}


def after(first: Callable[[], None], call: Callable[..., Any]) -> Callable[..., Any]:
    def both(*args: Any, **others: Any) -> Any:
        first()
        return call(*args, **others)

    return both


@contextmanager
def killed_before_call(number: int) -> Iterator[None]:
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == number:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "fsync", "link", "replace", "rename", "unlink"):
            patch.setattr(os, name, after(step, getattr(os, name)))
        yield


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
@pytest.mark.parametrize("replace", [True, False])
def test_whenever_it_is_killed_the_target_is_the_old_file_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool, links: bool
) -> None:
    if not links:
        without_hard_links(monkeypatch)
    target, old = tmp_path / "a.jpg", b"old" if replace else None
    outcomes = []
    for number in range(1, 20):
        target.unlink(missing_ok=True)
        if old is not None:
            target.write_bytes(old)
        temp = temp_path(target)
        temp.write_bytes(b"new")
        with killed_before_call(number):
            try:
                commit(temp, target, replace=replace)
            except Killed:
                finished = False
            else:
                finished = True
        outcomes.append(target.read_bytes() if target.exists() else None)
        temp.unlink(missing_ok=True)
        if finished:
            break
    assert finished
    assert outcomes[0] == old
    assert outcomes[-1] == b"new"
    assert set(outcomes) == {old, b"new"}


@pytest.mark.parametrize("replace", [True, False])
def test_the_bytes_are_on_disk_before_the_name_is_and_then_the_folder(
    temp: Path, target: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    steps: list[str] = []
    inodes = {temp.stat().st_ino: "sync file", target.parent.stat().st_ino: "sync folder"}
    fsync = os.fsync

    def noted_fsync(descriptor: int) -> None:
        steps.append(inodes[os.fstat(descriptor).st_ino])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    for name in ("link", "replace"):
        monkeypatch.setattr(os, name, after(lambda: steps.append("name"), getattr(os, name)))
    commit(temp, target, replace=replace)
    assert steps == ["sync file", "name", "sync folder"]


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("times", [0, 3, 100])
def test_what_others_hold_open_on_windows_is_waited_for(
    temp: Path, target: Path, monkeypatch: pytest.MonkeyPatch, times: int, replace: bool
) -> None:
    waited, refused = list[float](), list[str]()
    real = {name: getattr(os, name) for name in ("replace", "link")}

    def held(name: str, *paths: Path) -> None:
        if len(refused) < times:
            refused.append(name)
            error = PermissionError(errno.EACCES, "The process cannot access the file")
            error.winerror = 32  # type: ignore[attr-defined]
            raise error
        real[name](*paths)

    for name in real:
        monkeypatch.setattr(os, name, partial(held, name))
    monkeypatch.setattr(commit_module.time, "sleep", waited.append)
    if times < 100:
        commit(temp, target, replace=replace)
        assert target.exists()
        assert len(waited) == times
    else:
        with pytest.raises(DestinationError, match="cannot access the file"):
            commit(temp, target, replace=replace)
        assert 5 < sum(waited) < 20


@pytest.mark.parametrize("known", [True, False])
def test_on_macos_the_drives_own_memory_is_written_out_too(
    temp: Path, target: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    asked: list[str] = []

    def fcntl(descriptor: int, command: int) -> None:
        asked.append(f"fcntl {command}")
        if not known:
            raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setitem(sys.modules, "fcntl", SimpleNamespace(F_FULLFSYNC=51, fcntl=fcntl))
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "fsync", lambda descriptor: asked.append("fsync"))
    commit_module.sync_file(temp)
    commit_module.sync_folder(temp.parent)
    assert asked == (["fcntl 51"] * 2 if known else ["fcntl 51", "fsync"] * 2)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP], ids=errno.errorcode.get)
def test_a_share_that_cannot_sync_folders_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", failing(number))
    sync_folder(tmp_path)


def test_a_file_that_was_written_whole_takes_the_place_of_the_old_one(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = list[int](), os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(descriptor) or fsync(descriptor))
    for data in (b"one", b"another"):
        with whole(target) as temp:
            temp.write_bytes(data)
            assert temp.parent == target.parent
            assert not synced
        assert target.read_bytes() == data
        assert list(target.parent.iterdir()) == [target]
        assert synced, "its bytes are on the disk before the name is"
        synced.clear()


def test_of_a_file_that_was_not_written_whole_nothing_is_left(target: Path) -> None:
    target.write_bytes(b"old")
    with pytest.raises(UnicodeEncodeError), whole(target) as temp:
        temp.write_text("a part, \udcff", encoding="utf-8")
    with pytest.raises(FileNotFoundError), whole(target):
        pass  # nothing was written
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


def test_discarding_what_is_not_there_is_no_error(temp: Path) -> None:
    discard(temp)
    discard(temp)
    assert not temp.exists()


def test_an_odd_name_can_be_shown_in_an_error() -> None:
    error = destination_error(OSError(errno.EIO, "broken"), Path(os.fsdecode(b"caf\xe9.jpg")))
    assert "caf\\xe9.jpg: broken" in str(error)


def test_of_a_file_that_was_written_whole_the_bytes_are_on_disk_before_the_name_is_and_then_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, fsync = list[str](), os.fsync

    def noted_fsync(descriptor: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", after(lambda: steps.append("name"), os.replace))
    with whole(tmp_path / "a.json") as temp:
        temp.write_bytes(b"new")
    assert steps == ["sync file", "name", "sync folder"]


def test_discarding_what_cannot_be_removed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes on top of the error that is on its way."""
    temp = temp_path(tmp_path / "a.jpg")
    temp.write_bytes(b"new")
    monkeypatch.setattr(os, "unlink", failing(errno.EACCES))
    discard(temp)


def test_no_longer_name_is_taken_for_a_temporary_one() -> None:
    name = temp_path(Path("a.jpg")).name
    assert is_temp_name(name)
    assert not any(map(is_temp_name, (f"{name}.jpg", f"a{name}", name.upper(), name[:-1])))
