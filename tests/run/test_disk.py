"""Disks that are full, refuse, or take neither a name nor a date."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from srbatch import batch
from srbatch.errors import (
    DestinationError,
    ExitCode,
    LedgerError,
)
from srbatch.outputs import commit
from srbatch.outputs.commit import destination_error
from srbatch.outputs.ledger import STATE_FOLDER
from srbatch.resume import CURRENT
from tests.conftest import Originals
from tests.run.conftest import outputs, upscale
from tests.runs import Killed, killed, ledger_is_full


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("where", ["encode", "commit"])
@pytest.mark.usefixtures("one_at_a_time")
def test_a_disk_that_refuses_ends_the_run_and_loses_nothing(
    five: Path,
    tmp_path: Path,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    where: str,
) -> None:
    calls = 0

    def full(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **named)

    if where == "encode":
        real = batch.CodecPool.encode
        monkeypatch.setattr(batch.CodecPool, "encode", full)
    else:
        real = os.link
        monkeypatch.setattr(os, "link", full)
    with pytest.raises(DestinationError, match=os.strerror(number)):
        upscale(five, tmp_path / "hi")
    made = outputs(tmp_path / "hi")
    assert made == {name: expected[name] for name in ("0.png", "1.png")}
    code, _ = upscale(five, tmp_path / "hi")
    assert code is ExitCode.DONE
    assert outputs(tmp_path / "hi") == expected


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Lets the disk be one of so many bytes, of which so many are free."""

    def of(total: int, free: int) -> None:
        usage = shutil._ntuple_diskusage(total, total - free, free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    return of


@pytest.fixture
def six(five: Path, originals: Originals) -> Path:
    """With one more, which needs 15 MB; the others need less than one."""
    Image.new("1", (1500, 1500)).save(five / "0-huge.png")
    originals.remember()
    return five


@pytest.mark.parametrize("total", [5_000_000, 1 << 40], ids=["small", "large"])
def test_a_photo_that_does_not_fit_on_the_disk_costs_no_other(
    expected: dict[str, bytes],
    six: Path,
    tmp_path: Path,
    disk: Callable[[int, int], None],
    total: int,
) -> None:
    disk(total, 5_000_000)
    code, listener = upscale(six, tmp_path / "hi")
    assert code is ExitCode.SOME_FAILED
    assert outputs(tmp_path / "hi") == expected
    failed = listener.by_name()["0-huge.png"]
    assert (failed.status, failed.error) == ("failed", "NoRoom")
    space = f"MB of scratch space and for its output in {tmp_path / 'hi' / STATE_FOLDER}, more than is free"
    assert f"{space} there; make room, or choose another --scratch or a smaller --scale" in failed.reason
    disk(1 << 40, 1 << 39)
    code, listener = upscale(six, tmp_path / "hi")
    assert code is ExitCode.DONE, "it is tried again"
    assert listener.by_name()["0-huge.png"].status == "done"


def test_a_photo_that_its_disk_could_never_hold_fails_alone(
    six: Path, tmp_path: Path, disk: Callable[[int, int], None]
) -> None:
    disk(5_000_000, 4_000_000)
    code, listener = upscale(six / "0-huge.png", tmp_path / "hi")
    assert code is ExitCode.SOME_FAILED
    assert [outcome.error for outcome in listener.outcomes] == ["NoRoom"]


@pytest.mark.parametrize("total", [0, 10_000_000], ids=["that does not say", "small"])
def test_a_disk_without_room_for_any_photo_is_full(
    five: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    disk: Callable[[int, int], None],
    total: int,
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    disk(total, 0)
    with monkeypatch.context() as patch:
        patch.setattr(batch.CodecPool, "encode", full)
        with pytest.raises(DestinationError, match="make room"):
            upscale(five, tmp_path / "hi")
    assert upscale(five, tmp_path / "hi")[0] is ExitCode.DONE


def test_a_disk_of_the_outputs_alone_that_has_no_room_for_one(
    six: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("another disk is needed")
    usage, small = shutil.disk_usage("/"), shutil._ntuple_diskusage(2_000_000, 0, 2_000_000)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: small if tmp_path in (path, *path.parents) else usage
    )
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        code, listener = upscale(six, tmp_path / "hi", scratch=Path(scratch))
    assert code is ExitCode.SOME_FAILED
    failed = listener.by_name()["0-huge.png"]
    assert failed.error == "NoRoom"
    assert failed.reason.startswith("its output needs about")


def test_the_message_of_a_full_disk_says_what_to_do() -> None:
    error = destination_error(OSError(errno.ENOSPC, "No space left on device"), Path("x"))
    assert "make room and run the same command again" in str(error)


@pytest.mark.usefixtures("one_at_a_time")
def test_killed_between_the_rename_and_the_note(
    five: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "hi"
    with monkeypatch.context() as patch:
        patch.setattr(batch.Ledger, "record", killed)
        with pytest.raises(Killed):
            upscale(five, out)
    assert list(outputs(out)) == ["0.png"]
    before = (out / "0.png").stat()
    _, listener = upscale(five, out)
    assert listener.by_name()["0.png"].status == "skipped"
    assert (out / "0.png").stat().st_ino == before.st_ino
    assert outputs(out) == expected


@pytest.mark.usefixtures("one_at_a_time")
def test_a_disk_that_is_full_between_the_rename_and_the_note(
    five: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "hi"
    with monkeypatch.context() as patch:
        patch.setattr(batch.Ledger, "_insert", ledger_is_full)
        with pytest.raises(LedgerError, match="full"):
            upscale(five, out)
    before = (out / "0.png").stat()
    _, listener = upscale(five, out)
    assert listener.by_name()["0.png"].reason == CURRENT
    assert (out / "0.png").stat().st_ino == before.st_ino
    assert outputs(out) == expected


@pytest.mark.usefixtures("one_at_a_time")
def test_a_bug_just_after_the_rename_does_not_make_the_output_a_strangers(
    five: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, out = batch.commit, tmp_path / "hi"

    def buggy(temp: Path, target: Path, *, replace: bool) -> None:
        real(temp, target, replace=replace)
        if target.name == "1.png":
            raise ZeroDivisionError("injected")

    with monkeypatch.context() as patch:
        patch.setattr(batch, "commit", buggy)
        _, listener = upscale(five, out)
    assert listener.by_name()["1.png"].error == "ZeroDivisionError"
    code, listener = upscale(five, out)
    assert code is ExitCode.DONE
    assert {o.reason for o in listener.outcomes} == {CURRENT}
    assert outputs(out) == expected


@pytest.mark.parametrize("again", [False, True], ids=["first time", "made again"])
@pytest.mark.usefixtures("one_at_a_time")
def test_a_folder_that_cannot_be_synced_after_the_rename(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    out, sync_folder = tmp_path / "hi", commit.sync_folder
    flags = {"redo_changed": True, "strength": 0.5} if again else {}
    if again:
        upscale(five, out)

    def broken(folder: Path) -> None:
        if folder == out and (out / "0.png").exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync_folder(folder)

    with monkeypatch.context() as patch:
        patch.setattr(commit, "sync_folder", broken)
        with pytest.raises(DestinationError, match=os.strerror(errno.EIO)):
            upscale(five, out, **flags)
    made = (out / "0.png").stat()
    assert [path.name for path in out.iterdir() if path.suffix == ".part"] == []
    code, listener = upscale(five, out, **flags)
    assert code is ExitCode.DONE
    assert listener.by_name()["0.png"].status == "skipped"
    assert (out / "0.png").stat().st_ino == made.st_ino
    assert {o.status for name, o in listener.by_name().items() if name != "0.png"} == {"done"}


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ], ids=errno.errorcode.get)
def test_a_name_that_the_disk_does_not_take_costs_one_photo(
    five: Path,
    tmp_path: Path,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    def picky(call: Callable[..., None]) -> Callable[..., None]:
        def rename(source: Path, target: Path, **others: Any) -> None:
            if Path(target).name == "2.png":
                raise OSError(number, os.strerror(number), str(target))
            call(source, target, **others)

        return rename

    out = tmp_path / "hi"
    with monkeypatch.context() as patch:
        for call in ("link", "replace"):
            patch.setattr(os, call, picky(getattr(os, call)))
        code, listener = upscale(five, out)
    assert code is ExitCode.SOME_FAILED
    failed = listener.by_name()["2.png"]
    assert (failed.status, failed.error) == ("failed", "UnsupportedPhoto")
    assert "shorter, plainer names" in failed.reason
    assert outputs(out) == {name: data for name, data in expected.items() if name != "2.png"}
    _, listener = upscale(five, out)
    assert "as before" in listener.by_name()["2.png"].reason
    _, listener = upscale(five, out, retry_failed=True)
    assert outputs(out) == expected


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.EINVAL, os.strerror(errno.EINVAL)),
        PermissionError(errno.EPERM, os.strerror(errno.EPERM)),
        OverflowError("timestamp out of range"),
    ],
    ids=repr,
)
def test_a_disk_that_does_not_take_the_date_of_a_photo_gets_its_output(
    five: Path,
    tmp_path: Path,
    expected: dict[str, bytes],
    fault: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr(os, "utime", refuse)
    code, _ = upscale(five, tmp_path / "hi")
    assert code is ExitCode.DONE
    assert outputs(tmp_path / "hi") == expected
    assert "2.png is dated today" in caplog.text
