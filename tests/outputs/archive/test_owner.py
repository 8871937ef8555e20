"""One run at a time writes to an output folder, wherever its state lies."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from srbatch.errors import DestinationError, LockedError, SrbatchError
from srbatch.options import Options
from srbatch.outputs.archive import looked_into, opened
from srbatch.outputs.commit import temp_path
from tests.conftest import without_privileges
from tests.outputs.archive.conftest import names_below, row_of, with_


def test_a_second_run_is_refused_and_disturbs_nothing(options: Options) -> None:
    with opened(options, "first") as archive:
        temp = temp_path(options.out / "a.jpg")
        temp.write_bytes(b"being written")
        archive.ledger.begin("a.jpg", temp.name)
        with pytest.raises(LockedError, match=f"process {os.getpid()} "), opened(options, "second"):
            pass
        assert temp.exists()
        assert len(archive.ledger.pending()) == 1
        assert archive.scratch.folder.is_dir()


def test_a_second_run_is_told_which_folder_is_taken_where_the_state_lies_elsewhere(
    options: Options, tmp_path: Path
) -> None:
    options = with_(options, state=tmp_path / "elsewhere" / "state")
    with opened(options, "first"), pytest.raises(LockedError) as raised, opened(options, "second"):
        pass
    assert any(str(path) in str(raised.value) for path in (options.out, options.state))


def test_the_state_can_lie_elsewhere(options: Options, tmp_path: Path) -> None:
    with opened(with_(options, state=tmp_path / "state"), "run"):
        assert names_below(options.out) == [".srbatch", ".srbatch/lock"]
    assert (tmp_path / "state").is_dir()


@pytest.mark.parametrize("other", ["other", None], ids=["another --state", "no --state"])
@pytest.mark.parametrize("turned", [False, True], ids=["", "the other way round"])
def test_runs_with_different_states_do_not_write_to_one_output_folder(
    options: Options, tmp_path: Path, other: str | None, turned: bool
) -> None:
    fast = tmp_path / "fast"
    first = with_(options, state=tmp_path / "state", scratch=fast)
    second = with_(options, state=other and tmp_path / other, scratch=fast)
    if turned:
        first, second = second, first
    with opened(first, "first") as archive:
        (archive.scratch.folder / "pixels.raw").write_bytes(b"in use")
        with pytest.raises(LockedError, match=str(options.out)), opened(second, "second"):
            pass
        with looked_into(second):
            pass
        assert (archive.scratch.folder / "pixels.raw").read_bytes() == b"in use"
    with opened(second, "now it is free"):
        pass


@pytest.mark.parametrize("name", ["hi/.srbatch", "link"])
def test_a_state_that_is_the_output_folders_own_is_locked_once(
    options: Options, tmp_path: Path, name: str
) -> None:
    (tmp_path / "link").symlink_to(options.out / ".srbatch")
    options.out.mkdir()
    (options.out / ".srbatch").mkdir()
    with opened(with_(options, state=tmp_path / name), "run"):
        pass


def test_a_process_that_has_ended_is_not_named_as_the_one_that_writes(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(options, "earlier"):
        pass
    monkeypatch.setattr(psutil, "pid_exists", lambda pid: False)
    with (
        opened(with_(options, state=tmp_path / "state"), "run"),
        pytest.raises(LockedError, match="by another process"),
        opened(options, "second"),
    ):
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_an_output_folder_on_a_disk_without_locks_is_told_of_where_the_state_lies_elsewhere(
    options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    import fcntl  # not above: Windows has none

    real = fcntl.flock

    def without_locks(file: int, operation: int) -> None:
        if Path(f"/proc/self/fd/{file}").readlink().is_relative_to(options.out):
            raise OSError(number, os.strerror(number))
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", without_locks)
    with opened(with_(options, state=tmp_path / "state"), "run"):
        pass
    assert "a disk without locks" in caplog.text
    with pytest.raises(DestinationError), opened(options, "run"):
        pass


@pytest.fixture
def shared(public: Path) -> Options:
    """Options of a user whom permissions bind, for an output folder of another where both may write."""
    for name in ("photos", "hi", "home"):
        (public / name).mkdir()
        (public / name).chmod(0o777)
    return Options(inputs=(public / "photos",), out=public / "hi", state=public / "home" / "state")


def test_the_lock_in_an_output_folder_is_open_to_those_who_may_write_there(
    shared: Options, tmp_path: Path
) -> None:
    shared.out.chmod(0o2775)
    if os.geteuid() == 0:
        os.chown(shared.out, -1, 65_534)
    with opened(with_(shared, state=tmp_path / "state"), "run"):
        pass
    above, folder, lock = (path.stat() for path in (shared.out, *sorted(shared.out.rglob("*"))))
    assert (folder.st_mode, folder.st_gid) == (above.st_mode, above.st_gid)
    assert (lock.st_mode & 0o7777, lock.st_gid) == (0o664, above.st_gid)
    (shared.out / ".srbatch").chmod(0o700)
    with opened(with_(shared, state=tmp_path / "state"), "run"):
        pass
    assert (shared.out / ".srbatch").stat().st_mode & 0o7777 == 0o700, "somebody closed it again"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives a folder to any group")
def test_the_lock_is_not_opened_to_another_group_than_may_write_there(shared: Options) -> None:
    shared.out.chmod(0o777)
    os.chown(shared.out, -1, 65_533)
    with without_privileges(), opened(shared, "run"):
        pass
    folder, lock = sorted(shared.out.rglob("*"))
    assert folder.stat().st_gid != 65_533, "it cannot be given to that"
    assert (folder.stat().st_mode & 0o7777, lock.stat().st_mode & 0o7777) == (0o757, 0o646)


def test_nothing_is_opened_that_others_put_in_the_place_of_the_lock(
    shared: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chmod, secret = Path.chmod, tmp_path / "secret"
    secret.write_bytes(b"")
    secret.chmod(0o600)

    def chmod_and_be_overtaken(path: Path, mode: int, **others: bool) -> None:
        chmod(path, mode, **others)
        if path == shared.out / ".srbatch":
            (path / "lock").unlink()
            (path / "lock").symlink_to(secret)

    monkeypatch.setattr(Path, "chmod", chmod_and_be_overtaken)
    with opened(with_(shared, state=tmp_path / "state"), "run"):
        pass
    assert (shared.out / ".srbatch" / "lock").is_symlink(), "they could"
    assert secret.stat().st_mode & 0o777 == 0o600


def closed_to_others(out: Path) -> None:
    (out / ".srbatch" / "lock").chmod(0o444)
    (out / ".srbatch").chmod(0o555)


@pytest.mark.parametrize("closed", [False, True])
def test_users_with_states_of_their_own_write_to_one_output_folder_by_turns(
    shared: Options, tmp_path: Path, closed: bool
) -> None:
    others = with_(shared, state=tmp_path / "state")
    with opened(others, "others"):
        if closed:
            closed_to_others(shared.out)
        with without_privileges(), pytest.raises(LockedError, match=str(shared.out)), opened(shared, "run"):
            pass
    with ExitStack() as stack:
        with without_privileges():
            stack.enter_context(opened(shared, "run"))
        with pytest.raises(LockedError, match=str(shared.out)), opened(others, "others"):
            pass
    with opened(others, "now it is free"):
        pass


@pytest.mark.parametrize("there", [True, False], ids=["may not be looked into", "cannot be made"])
def test_a_lock_that_cannot_be_taken_is_told_of_where_the_state_lies_elsewhere(
    shared: Options, caplog: pytest.LogCaptureFixture, there: bool
) -> None:
    if there:
        (shared.out / ".srbatch").mkdir(mode=0)
    else:
        shared.out.chmod(0o555)
    with without_privileges(), opened(shared, "run"):
        pass
    assert "cannot be taken (" in caplog.text


def test_a_state_folder_of_one_output_folder_does_not_forget_it_for_another(
    options: Options, tmp_path: Path
) -> None:
    first = with_(options, state=tmp_path / "state")
    second = with_(options, state=tmp_path / "state", out=tmp_path / "other")
    with opened(first, "first") as archive:
        archive.ledger.record(row_of(b"first"))
    with contextlib.suppress(SrbatchError), opened(second, "second") as archive:
        archive.ledger.record(row_of(b"second"))
    with opened(first, "first again") as archive:
        assert archive.ledger.row("a.jpg") == row_of(b"first")


def test_an_output_folder_that_cannot_be_made_is_named(options: Options) -> None:
    options.out.write_bytes(b"a file")
    with pytest.raises(DestinationError, match=str(options.out)), opened(options, "run"):
        pass
    assert options.out.read_bytes() == b"a file"
