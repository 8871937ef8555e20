"""The promises, under faults: networks that fail, disks that are full, runs that are killed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from srbatch import batch, codec_pool, commit, encode, run
from srbatch.archive import scratch_folder
from srbatch.commit import destination_error
from srbatch.discover import Photo
from srbatch.errors import (
    DestinationError,
    DeviceError,
    ExitCode,
    Interrupted,
    LockedError,
    SrbatchError,
    UsageError,
)
from srbatch.formats import Format
from srbatch.inspection import status
from srbatch.ledger import STATE_FOLDER, Ledger, LedgerError, locked
from srbatch.options import Options, TargetSize
from srbatch.resume import CURRENT
from tests.conftest import Originals, crop
from tests.networks import FakeModel, Faulty, Local
from tests.runs import Listener, ledger_is_full

XMP = (
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:source>Album</dc:source></rdf:Description></rdf:RDF>'
)


@pytest.fixture
def five(originals: Originals) -> Path:
    """Five photos of a tile or a few each."""
    for index in range(5):
        crop(40 + 40 * index, 150, top=10 * index, left=30 * index).save(originals.folder / f"{index}.png")
    originals.remember()
    return originals.folder


def upscale(
    folder: Path,
    out: Path,
    network: nn.Module | None = None,
    *,
    check: Callable[[], None] = lambda: None,
    model: FakeModel | None = None,
    listener: Listener | None = None,
    **changes: Any,
) -> tuple[ExitCode, Listener]:
    options = Options(**{"inputs": (folder,), "out": out, "size": TargetSize(scale=2), **changes})
    made, listener = model or FakeModel(network or Local()), listener or Listener()
    code = run.upscale(options, reporter=listener, check=check, model_of=lambda _: made)
    return code, listener


def counted_transactions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets an entry for each transaction of the ledgers that are opened from now on."""
    connect, begun = sqlite3.connect, list[str]()

    def traced(*args: Any, **others: Any) -> sqlite3.Connection:
        connection = connect(*args, **others)
        connection.set_trace_callback(lambda said: begun.append(said) if said == "BEGIN IMMEDIATE" else None)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return begun


def outputs(out: Path) -> dict[str, bytes]:
    return {
        p.name: p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file() and ".srbatch" not in p.parts
    }


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The serial path, for faults that strike at a counted call."""
    monkeypatch.setattr(batch, "_BESIDE_CODECS", 0)
    monkeypatch.setattr(codec_pool, "_MOST_WORKERS", 1)


@pytest.fixture
def expected(five: Path, tmp_path: Path) -> dict[str, bytes]:
    """What a run without faults makes of the five."""
    code, _ = upscale(five, tmp_path / "expected")
    assert code is ExitCode.DONE
    return outputs(tmp_path / "expected")


@pytest.mark.parametrize("fault", ["raise", "shape", "nan for good"])
def test_a_fault_in_the_network_costs_one_photo(
    five: Path, tmp_path: Path, expected: dict[str, bytes], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    times = 2 if fault == "nan for good" else 1
    network = Faulty(Local(), 4, fault.split()[0], times=times)
    code, listener = upscale(five, tmp_path / "hi", network)
    assert code is ExitCode.SOME_FAILED
    failed = [name for name, outcome in listener.by_name().items() if outcome.status == "failed"]
    assert len(failed) == 1
    made = outputs(tmp_path / "hi")
    assert made == {name: data for name, data in expected.items() if name != failed[0]}
    code, listener = upscale(five, tmp_path / "hi")
    assert code is ExitCode.DONE
    assert [o.photo.source.name for o in listener.outcomes if o.status == "done"] == failed
    assert outputs(tmp_path / "hi") == expected


def test_out_of_memory_at_any_call_changes_no_picture(
    five: Path, originals: Originals, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    for name in ("1.png", "2.png", "3.png"):
        (five / name).unlink()
    originals.remember()
    counting = Faulty(Local(), -1, "raise")
    upscale(five, tmp_path / "count", counting)
    for k in range(counting.calls):
        out = tmp_path / f"hi{k}"
        model = FakeModel(Faulty(Local(), k, "out of memory"), batch=2)
        code, listener = upscale(five, out, model=model)
        assert code is ExitCode.DONE
        assert listener.summary is not None
        assert listener.pixels == pytest.approx(listener.summary.megapixels * 1e6)
        for name, data in outputs(out).items():
            got, want = (np.asarray(Image.open(_file(d))).astype(int) for d in (data, expected[name]))
            assert np.abs(got - want).max() <= 1, f"k={k} {name}"


def _file(data: bytes) -> Any:
    from io import BytesIO

    return BytesIO(data)


def test_a_device_too_small_for_anything_ends_the_run(five: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no photo fits"):
        upscale(five, tmp_path / "hi", Faulty(Local(), 0, "out of memory", times=10_000))
    assert outputs(tmp_path / "hi") == {}


@pytest.mark.parametrize("workers", [1, 3])
def test_outputs_do_not_depend_on_what_is_done_at_once(
    five: Path, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    for index in range(12):
        crop(30 + 5 * index, 60, top=3 * index, left=9 * index).save(five / f"small{index}.png")
    originals.remember()
    code, listener = upscale(five, tmp_path / "overlapped", workers=workers)
    assert code is ExitCode.DONE
    assert listener.summary is not None
    assert listener.pixels == pytest.approx(listener.summary.megapixels * 1e6)
    monkeypatch.setattr(batch, "_BESIDE_CODECS", 0)
    code, listener = upscale(five, tmp_path / "serial", workers=1)
    assert [o.photo.source.name for o in listener.outcomes] == sorted(listener.by_name())
    assert outputs(tmp_path / "overlapped") == outputs(tmp_path / "serial")


def test_reading_the_device_and_writing_overlap(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans: dict[str, list[tuple[float, float]]] = {"decode": [], "encode": [], "device": []}

    def timed(kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            start = time.monotonic()
            try:
                return call(*arguments, **named)
            finally:
                spans[kind].append((start, time.monotonic()))

        return step

    class Slow(Local):
        def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
            time.sleep(0.1)
            return super().forward(x, scale)

    network = Slow()
    monkeypatch.setattr(network, "forward", timed("device", network.forward))
    for kind in ("decode", "encode"):
        monkeypatch.setattr(batch.CodecPool, kind, timed(kind, getattr(batch.CodecPool, kind)))
    code, _ = upscale(five, tmp_path / "hi", network, workers=1)
    assert code is ExitCode.DONE
    for kind in ("decode", "encode"):
        assert any(a < d and c < b for a, b in spans[kind] for c, d in spans["device"]), kind


def test_every_photo_has_one_outcome_and_one_row(five: Path, tmp_path: Path) -> None:
    (five / "bad.jpg").write_bytes(b"")
    _, listener = upscale(five, tmp_path / "hi", Faulty(Local(), 2, "raise"))
    (five / "bad.jpg").unlink()
    assert sorted(o.photo.source.name for o in listener.outcomes) == sorted(
        [*(f"{index}.png" for index in range(5)), "bad.jpg"]
    )
    ledger = sqlite3.connect(tmp_path / "hi" / ".srbatch" / "ledger.sqlite")
    assert ledger.execute("SELECT count(*) FROM photos").fetchone() == (6,)
    assert ledger.execute("SELECT count(*) FROM pending").fetchone() == (0,)
    ledger.close()


@pytest.mark.parametrize("after", range(0, 40, 6))
def test_interrupted_anywhere_it_goes_on_from_there(
    five: Path, tmp_path: Path, expected: dict[str, bytes], after: int
) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Interrupted(signal.SIGTERM)

    out = tmp_path / "hi"
    with contextlib.suppress(Interrupted):
        upscale(five, out, check=check)
    kept = outputs(out)
    assert kept == {name: expected[name] for name in kept}
    _, listener = upscale(five, out)
    assert {o.photo.source.name for o in listener.outcomes if o.status == "skipped"} == set(kept)
    assert outputs(out) == expected


def test_interrupted_while_photos_are_searched_for_it_does_not_begin(five: Path, tmp_path: Path) -> None:
    def check() -> None:
        raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        upscale(five, tmp_path / "hi", check=check)
    assert not (tmp_path / "hi").exists()


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
    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

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


def test_a_folder_whose_outputs_would_lie_too_deep_costs_its_photos_only(
    originals: Originals, tmp_path: Path
) -> None:
    deep, out = originals.folder, tmp_path / ("o" * 200)
    while len(str(deep)) < 3950:
        deep = deep / ("d" * min(200, 4000 - len(str(deep))))
    deep.mkdir(parents=True)
    for folder in (originals.folder, deep):
        crop(20, 30).save(folder / "a.png")
    originals.remember()
    code, listener = upscale(originals.folder, out)
    assert code is ExitCode.SOME_FAILED
    assert [(o.status, o.error) for o in listener.outcomes] == [
        ("failed", "UnsupportedPhoto"),
        ("done", None),
    ]
    assert list(outputs(out)) == ["a.png"]


@pytest.mark.parametrize("in_the_way", ["a file", "a link", "a file made during the run"])
@pytest.mark.usefixtures("one_at_a_time")
def test_a_file_where_a_folder_of_outputs_is_due_costs_the_photos_of_that_folder(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_the_way: str
) -> None:
    out, decode = tmp_path / "hi", batch.CodecPool.decode
    for name in ("0.png", "1.jpg/a.png", "2/b.png"):
        (originals.folder / name).parent.mkdir(exist_ok=True)
        crop(40, 50).save(originals.folder / name)
    originals.remember()
    out.mkdir()
    decoded = []

    def spoilt(self: Any, source: Path, *others: Any) -> Any:
        decoded.append(source.name)
        if source.name == "a.png":
            (out / "1.jpg").write_bytes(b"kept")
        return decode(self, source, *others)

    monkeypatch.setattr(batch.CodecPool, "decode", spoilt)
    if in_the_way == "a file":
        (out / "1.jpg").write_bytes(b"kept")
    elif in_the_way == "a link":
        (out / "1.jpg").symlink_to("unplugged disk")
    code, listener = upscale(originals.folder, out)
    assert code is ExitCode.SOME_FAILED
    failed = listener.by_name()["a.png"]
    assert (failed.status, failed.error) == ("failed", "TargetExists")
    assert "where a folder of outputs is due" in failed.reason
    assert set(outputs(out)) - {"1.jpg"} == {"0.png", "b.png"}
    assert ("a.png" in decoded) == ("during" in in_the_way), "it is known before any work"
    assert in_the_way == "a link" or (out / "1.jpg").read_bytes() == b"kept"


def test_a_photo_that_is_named_beside_its_folder_is_done_once(five: Path, tmp_path: Path) -> None:
    code, listener = upscale(five, tmp_path / "hi", inputs=(five / "0.png", five))
    assert code is ExitCode.DONE
    names = sorted(outcome.photo.source.name for outcome in listener.outcomes)
    assert names == [f"{n}.png" for n in range(5)]


def test_a_folder_of_outputs_that_is_closed_costs_its_photos_and_sidecars(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "hi"
    for name in ("0.png", "1/a.png"):
        (originals.folder / name).parent.mkdir(exist_ok=True)
        crop(40, 50).save(originals.folder / name)
    originals.remember()
    upscale(originals.folder, out)
    crop(40, 60).save(originals.folder / "1" / "b.png")
    (originals.folder / "1" / "a.xmp").write_text(XMP)
    crop(40, 60).save(originals.folder / "2.png")
    originals.remember()
    with monkeypatch.context() as patch:
        patch.setattr(commit, "_is_open", lambda folder: folder != out / "1")
        code, listener = upscale(originals.folder, out)
    assert code is ExitCode.SOME_FAILED
    assert {name: (o.status, o.error) for name, o in listener.by_name().items()} == {
        "0.png": ("skipped", None),
        "a.png": ("failed", "TargetClosed"),
        "b.png": ("failed", "TargetClosed"),
        "2.png": ("done", None),
    }
    assert set(outputs(out)) == {"0.png", "a.png", "2.png"}
    code, _ = upscale(originals.folder, out)
    assert code is ExitCode.DONE
    assert set(outputs(out)) == {"0.png", "a.png", "a.png.xmp", "b.png", "2.png"}


@pytest.mark.usefixtures("one_at_a_time")
def test_what_a_killed_run_left_goes_even_if_its_photo_is_gone(
    five: Path, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    out = tmp_path / "hi"
    with monkeypatch.context() as patch:
        patch.setattr(batch, "discard", lambda temp: None)
        patch.setattr(batch.Ledger, "drop", killed)
        patch.setattr(batch.Ledger, "about_to_commit", killed)
        with pytest.raises(Killed):
            upscale(five, out)
    (left,) = out.glob(".srbatch-*.part")
    for name in ("0.png", "1.png"):
        (five / name).unlink()
    originals.remember()
    code, _ = upscale(five, out)
    assert code is ExitCode.DONE
    assert not left.exists()
    assert list(outputs(out)) == ["2.png", "3.png", "4.png"]


@pytest.mark.usefixtures("one_at_a_time")
def test_a_file_that_appears_under_the_targets_name_is_not_replaced(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, out = batch.CodecPool.encode, tmp_path / "hi"

    def encode_slowly(self: Any, raw: Path, temp: Path, encoding: encode.Encoding) -> encode.Written:
        (out / "1.png").write_bytes(b"somebody's") if not (out / "1.png").exists() else None
        return real(self, raw, temp, encoding)

    monkeypatch.setattr(batch.CodecPool, "encode", encode_slowly)
    code, listener = upscale(five, out)
    assert code is ExitCode.SOME_FAILED
    assert listener.by_name()["1.png"].error == "TargetExists"
    assert (out / "1.png").read_bytes() == b"somebody's"


@pytest.mark.usefixtures("one_at_a_time")
def test_an_output_that_is_edited_while_it_is_made_again(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, out = batch.CodecPool.encode, tmp_path / "hi"
    upscale(five, out)

    def edit_first(self: Any, raw: Path, temp: Path, encoding: encode.Encoding) -> encode.Written:
        (out / "1.png").write_bytes(b"edited")
        return real(self, raw, temp, encoding)

    monkeypatch.setattr(batch.CodecPool, "encode", edit_first)
    _, listener = upscale(five, out, redo_changed=True, strength=0.5)
    assert listener.by_name()["1.png"].error == "TargetExists"
    assert listener.by_name()["2.png"].status == "done"
    assert (out / "1.png").read_bytes() == b"edited"


def test_an_edit_of_an_output_that_kept_its_size_is_not_replaced(five: Path, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    upscale(five, out)
    edited = bytearray((out / "1.png").read_bytes())
    edited[-1] ^= 1
    (out / "1.png").write_bytes(edited)
    _, listener = upscale(five, out, redo_changed=True, strength=0.5)
    assert listener.by_name()["1.png"].error == "TargetExists"
    assert listener.by_name()["2.png"].status == "done"
    assert (out / "1.png").read_bytes() == edited
    _, listener = upscale(five, out, redo_changed=True, strength=0.5, overwrite=True)
    assert listener.by_name()["1.png"].status == "done"


@pytest.mark.usefixtures("one_at_a_time")
def test_an_encoder_that_writes_something_else_is_found_out(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = batch.CodecPool.encode, 0

    def black(self: Any, raw: Path, temp: Path, encoding: encode.Encoding) -> encode.Written:
        nonlocal calls
        calls += 1
        written = real(self, raw, temp, encoding)
        if calls == 2:
            raw.write_bytes(bytes(raw.stat().st_size))
            temp.unlink()
            black_file = real(self, raw, temp, encoding)
            assert black_file.sha256 != written.sha256
        return written

    monkeypatch.setattr(batch.CodecPool, "encode", black)
    upscale(five, tmp_path / "hi")
    from srbatch.inspection import verify

    assert [target for target, _ in verify(tmp_path / "hi", None).problems] == ["1.png"]


def test_a_photo_that_changes_while_it_is_read(
    five: Path, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = batch.CodecPool.decode

    def vanish(self: Any, source: Path, raw: Path, max_pixels: float) -> Any:
        if source.name == "2.png":
            source.unlink()
            originals.remember()
        return real(self, source, raw, max_pixels)

    monkeypatch.setattr(batch.CodecPool, "decode", vanish)
    code, listener = upscale(five, tmp_path / "hi")
    assert code is ExitCode.SOME_FAILED
    assert listener.by_name()["2.png"].error == "PhotoChanged"
    assert len(outputs(tmp_path / "hi")) == 4


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("date_ns", [2**63 + 10**18, -(10**19)], ids=["2294", "1653"])
def test_a_photo_of_any_date_is_done_once(
    originals: Originals, tmp_path: Path, date_ns: int, damaged: bool
) -> None:
    path = originals.folder / "a.png"
    crop(40, 50).save(path)
    if damaged:
        path.write_bytes(b"no picture")
    path.with_name("a.png.xmp").write_text(XMP)
    for file in originals.folder.iterdir():
        os.utime(file, ns=(date_ns, date_ns))
    originals.remember()
    code = ExitCode.SOME_FAILED if damaged else ExitCode.DONE
    assert upscale(originals.folder, tmp_path / "hi")[0] is code
    again, listener = upscale(originals.folder, tmp_path / "hi")
    assert again is code
    (outcome,) = listener.outcomes
    assert "as before" in outcome.reason if damaged else outcome.reason == CURRENT


@pytest.mark.parametrize(
    "fault",
    [OSError(errno.EINVAL, os.strerror(errno.EINVAL)), OverflowError("timestamp out of range")],
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


def test_a_scratch_folder_that_was_tidied_away_is_made_again(
    five: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd-tmpfiles does below /tmp in the months of a watcher."""
    real = batch.prepare

    def tidied(*arguments: Any) -> Any:
        shutil.rmtree(tmp_path / "scratch")
        return real(*arguments)

    monkeypatch.setattr(batch, "prepare", tidied)
    code, _ = upscale(five, tmp_path / "hi", scratch=tmp_path / "scratch")
    assert code is ExitCode.DONE
    assert outputs(tmp_path / "hi") == expected


@pytest.mark.usefixtures("one_at_a_time")
def test_a_reporter_that_nobody_hears_any_more_is_not_the_disks_fault(five: Path, tmp_path: Path) -> None:
    class Deaf(Listener):
        def progress(self, photo: Photo, pixels: float) -> None:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    with pytest.raises(BrokenPipeError):
        upscale(five, tmp_path / "hi", listener=Deaf())
    code, _ = upscale(five, tmp_path / "hi")
    assert code is ExitCode.DONE


def test_the_whole_tree_can_move(five: Path, tmp_path: Path) -> None:
    upscale(five, tmp_path / "hi")
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(tmp_path / "photos", tmp_path / "elsewhere" / "photos")
    (tmp_path / "hi").rename(tmp_path / "elsewhere" / "hi")
    _, listener = upscale(tmp_path / "elsewhere" / "photos", tmp_path / "elsewhere" / "hi")
    assert {o.status for o in listener.outcomes} == {"skipped"}


def test_state_and_scratch_elsewhere(five: Path, tmp_path: Path) -> None:
    state, scratch = tmp_path / "state", tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "not-ours").write_text("keep")
    code, _ = upscale(five, tmp_path / "hi", state=state, scratch=scratch)
    assert code is ExitCode.DONE
    assert [p.name for p in (tmp_path / "hi" / ".srbatch").iterdir()] == ["lock"]
    assert (state / "ledger.sqlite").exists()
    assert [p.name for p in scratch.iterdir()] == ["not-ours"]


def other_name(archive: Path, tmp_path: Path, name: str) -> Path:
    """Another name of the folder of photos."""
    if name == "a hard link":
        (archive / "linked").mkdir()
        (archive / "linked" / "0.png").hardlink_to(archive / "in" / "0.png")
        return archive / "linked"
    (tmp_path / "link").symlink_to(archive / "in" if name == "a link" else archive)
    return tmp_path / "link" if name == "a link" else tmp_path / "link" / "in"


@pytest.mark.parametrize("name", ["a link", "a link further up", "a hard link"])
def test_a_photo_that_was_edited_is_done_again_also_by_another_name(
    archive: Path, tmp_path: Path, name: str
) -> None:
    (archive / "in" / "0.png").write_bytes((archive / "in" / "1.png").read_bytes())
    folder = other_name(archive, tmp_path, name)
    code, listener = upscale(folder, archive / "out", state=archive / "state")
    assert (code, listener.by_name()["0.png"].status) == (ExitCode.DONE, "done")
    (archive / "out" / "0.png").write_bytes(b"edited")
    (archive / "in" / "0.png").write_bytes((archive / "in" / "2.png").read_bytes())
    assert upscale(archive / "in", archive / "out", state=archive / "state")[0] is ExitCode.SOME_FAILED
    assert (archive / "out" / "0.png").read_bytes() == b"edited"


@pytest.mark.parametrize("gone", [True, False])
def test_an_output_of_a_photo_that_lies_elsewhere_or_is_gone_is_kept(archive: Path, gone: bool) -> None:
    before = outputs(archive / "out")
    shutil.copytree(archive / "in", archive / "other")
    if gone:
        shutil.rmtree(archive / "in")
    (archive / "other" / "0.png").write_bytes((archive / "other" / "1.png").read_bytes())
    code, listener = upscale(archive / "other", archive / "out", state=archive / "state")
    assert code is ExitCode.SOME_FAILED
    reason = listener.by_name()["0.png"].reason
    assert f"was made from another photo, ../in/0.png{', which is gone' if gone else ''};" in reason
    assert outputs(archive / "out") == before
    known = {name for name, outcome in listener.by_name().items() if outcome.reason == CURRENT}
    assert known == {"1.png", "2.png", "3.png", "4.png"}


@pytest.fixture
def archive(five: Path, tmp_path: Path) -> Path:
    """A folder with photos, outputs and the state of their run, each in a folder of its own."""
    folder = tmp_path / "archive"
    shutil.copytree(five, folder / "in")
    upscale(folder / "in", folder / "out", state=folder / "state")
    return folder


@pytest.mark.parametrize("moved", ["all", "the outputs"])
def test_a_state_of_its_own_goes_with_an_output_folder_that_was_moved(
    archive: Path, tmp_path: Path, moved: str
) -> None:
    known = tmp_path / "known"
    (archive if moved == "all" else archive / "out").rename(known)
    top, out = (known, known / "out") if moved == "all" else (archive, known)
    for _ in range(2):
        code, listener = upscale(top / "in", out, state=top / "state")
        assert {outcome.reason for outcome in listener.outcomes} == {CURRENT}
        assert code is ExitCode.DONE


def test_scratch_of_a_killed_run_goes_with_a_state_that_was_moved(archive: Path, tmp_path: Path) -> None:
    options = Options(inputs=(archive / "in",), out=archive / "out", state=archive / "state")
    left = scratch_folder(options)
    (left / "0").mkdir(parents=True)
    archive.rename(tmp_path / "moved")
    upscale(tmp_path / "moved" / "in", tmp_path / "moved" / "out", state=tmp_path / "moved" / "state")
    assert not (tmp_path / "moved" / "state" / left.name).exists()


@pytest.mark.parametrize("why", ["its own is on a disk that is away", "its own was copied"])
def test_a_state_is_not_taken_up_for_another_output_folder(archive: Path, tmp_path: Path, why: str) -> None:
    out, state = tmp_path / "other", archive / "state"
    if why == "its own was copied":
        shutil.copytree(archive / "out", out)
    else:
        (archive / "out").rename(tmp_path / "away")
    before = (state / "output-folder").read_bytes()
    with pytest.raises(UsageError, match=f"{out} is that folder, .* delete {state / 'output-folder'}"):
        upscale(archive / "in", out, state=state)
    assert (state / "output-folder").read_bytes() == before
    (state / "output-folder").unlink()
    upscale(archive / "in", out, state=state)


def test_a_state_whose_owner_was_not_noted_yet_is_taken(archive: Path) -> None:
    (archive / "state" / "output-folder").write_bytes(b"")  # the disk was full
    assert upscale(archive / "in", archive / "out", state=archive / "state")[0] is ExitCode.DONE


@pytest.mark.parametrize(
    "flags", [{"state": "s"}, {"scratch": "new/s"}, {"report": "r.csv"}], ids=lambda flags: next(iter(flags))
)
@pytest.mark.parametrize("alias", [False, True], ids=["plainly", "by a link"])
def test_nothing_of_ours_is_written_into_the_inputs(
    five: Path, tmp_path: Path, flags: dict[str, str], alias: bool
) -> None:
    ((flag, name),) = flags.items()
    folder = five
    if alias:
        folder = tmp_path / "link"
        folder.symlink_to(five)
    with pytest.raises(UsageError, match=f"--{flag} .* lies inside the input"):
        upscale(five, tmp_path / "hi", **{flag: folder / name})
    assert not (tmp_path / "hi").exists()


def test_a_ledger_that_a_link_would_lay_among_the_originals_is_refused(five: Path, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    out.mkdir()
    (out / STATE_FOLDER).symlink_to(five)
    with pytest.raises(UsageError, match=r"--state .* lies inside the input"):
        upscale(five, out)


@pytest.mark.usefixtures("one_at_a_time")
def test_a_link_to_the_originals_that_is_made_during_the_run_costs_the_photos_behind_it(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, decode = tmp_path / "hi", batch.CodecPool.decode
    for name in ("0.png", "sub/1.png"):
        (originals.folder / name).parent.mkdir(exist_ok=True)
        crop(40, 50).save(originals.folder / name)
    originals.remember()

    def linked(self: Any, source: Path, *others: Any) -> Any:
        if source.name == "1.png":
            (out / "sub").symlink_to(originals.folder / "sub")
        return decode(self, source, *others)

    monkeypatch.setattr(batch.CodecPool, "decode", linked)
    code, listener = upscale(originals.folder, out, format=Format.JPEG)
    assert code is ExitCode.SOME_FAILED
    failed = listener.by_name()["1.png"]
    assert (failed.error, "among the originals" in failed.reason) == ("TargetExists", True)
    assert list(outputs(out)) == ["0.png.jpg"]


def test_reporters_hear_of_photos_once_the_output_folder_is_the_runs_own(five: Path, tmp_path: Path) -> None:
    out, refused = tmp_path / "hi", Listener()
    with locked(out / STATE_FOLDER), pytest.raises(LockedError):
        upscale(five, out, listener=refused)
    assert not refused.owns
    assert refused.summary is not None
    _, listener = upscale(five, out)
    assert listener.owns


def test_errors_of_a_run_name_their_exit_code() -> None:
    def all_of(kind: type[SrbatchError]) -> list[type[SrbatchError]]:
        return [kind, *(c for below in kind.__subclasses__() for c in all_of(below))]

    for kind in all_of(SrbatchError):
        assert isinstance(kind.exit_code, ExitCode)


def test_a_rerun_writes_no_row_of_what_still_cannot_be_done(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would wait for the disk: minutes, in an archive of RAW files."""
    for name in ("a.cr2", "b.psd"):
        (originals.folder / name).write_bytes(b"no photo that is read here")
    originals.remember()
    first, _ = upscale(originals.folder, tmp_path / "out")
    recorded: list[str] = []
    monkeypatch.setattr(Ledger, "record_all", lambda _, rows: recorded.extend(row.target for row in rows))
    again, listener = upscale(originals.folder, tmp_path / "out")
    assert (first, again) == (ExitCode.SOME_FAILED, ExitCode.SOME_FAILED)
    assert {outcome.error for outcome in listener.outcomes} == {"UnsupportedPhoto"}
    assert recorded == []


def failed(out: Path) -> list[str]:
    """What ``srbatch status`` lists."""
    return [source for source, _ in status(out, None).failures]


def test_a_photo_damaged_after_it_was_done_has_failed_until_it_is_whole(
    five: Path, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out", (five / "0.png").read_bytes()
    upscale(five, out)
    made = outputs(out)
    (five / "0.png").write_bytes(whole[:40])
    originals.remember()
    assert upscale(five, out)[0] is ExitCode.SOME_FAILED
    assert failed(out) == ["../photos/0.png"]
    assert status(out, None).counts == {"done": 5, "failed": 1}
    with monkeypatch.context() as patch:
        patch.setattr(codec_pool.CodecPool, "hash", lambda *_: pytest.fail("it was read"))
        patch.setattr(codec_pool.CodecPool, "probe", lambda *_: pytest.fail("it was read"))
        transactions = counted_transactions(patch)
        code, listener = upscale(five, out)
    assert code is ExitCode.SOME_FAILED
    assert "(as before; " in listener.by_name()["0.png"].reason
    assert transactions == []
    assert upscale(five, out, retry_failed=True)[1].by_name()["0.png"].error == "UnreadablePhoto"
    (five / "0.png").write_bytes(whole)
    originals.remember()
    code, listener = upscale(five, out)
    assert (code, listener.by_name()["0.png"].reason) == (ExitCode.DONE, CURRENT)
    assert failed(out) == []
    assert outputs(out) == made, "they have been the output of a whole photo all the time"


def test_edited_outputs_are_failures_on_record_until_they_are_settled(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    upscale(five, out)
    made = outputs(out)
    for name in made:
        (out / name).write_bytes(b"edited")
    assert upscale(five, out)[0] is ExitCode.SOME_FAILED
    assert failed(out) == [f"../photos/{name}" for name in sorted(made)]
    with monkeypatch.context() as patch:
        transactions = counted_transactions(patch)
        upscale(five, out)
    assert transactions == []
    (out / "0.png").unlink()
    (out / "1.png").write_bytes(made["1.png"])
    upscale(five, out)
    assert failed(out) == [f"../photos/{index}.png" for index in (2, 3, 4)]
    assert upscale(five, out, overwrite=True)[0] is ExitCode.DONE
    assert failed(out) == []


def test_a_failure_with_other_settings_is_none_without_them(five: Path, tmp_path: Path) -> None:
    out, larger = tmp_path / "out", {"size": TargetSize(long_edge=2000)}
    upscale(five, out)
    for _ in range(2):
        assert upscale(five, out, **larger, redo_changed=True)[0] is ExitCode.SOME_FAILED
    assert len(failed(out)) == 5
    code, listener = upscale(five, out, **larger)
    assert {outcome.status for outcome in listener.outcomes} == {"skipped"}
    assert code is ExitCode.DONE
    assert failed(out) == []


def test_a_done_photo_that_need_not_be_enlarged_any_more_has_not_failed(
    five: Path, originals: Originals, tmp_path: Path
) -> None:
    out, size = tmp_path / "out", {"size": TargetSize(long_edge=300)}
    upscale(five, out, **size)
    (five / "0.png").write_bytes(b"damaged")
    originals.remember()
    upscale(five, out, **size)
    assert failed(out) == ["../photos/0.png"]
    crop(300, 200).save(five / "0.png")
    originals.remember()
    assert upscale(five, out, **size)[0] is ExitCode.DONE
    assert failed(out) == []


def test_a_failure_of_a_photo_that_is_gone_is_forgotten(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, names = tmp_path / "out", ("a.png", "b.png", "1999/c.png")
    (originals.folder / "1999").mkdir()
    for name in names:
        (originals.folder / name).write_bytes(b"damaged")
    upscale(originals.folder, out)
    assert len(failed(out)) == 3
    for name in ("a.png", "1999/c.png"):
        (originals.folder / name).unlink()
    originals.remember()
    upscale(originals.folder / "1999", out)
    assert failed(out) == ["../photos/a.png", "../photos/b.png"], "these do not lie there"
    upscale(originals.folder, out)
    assert failed(out) == ["../photos/b.png"]
    real = codec_pool.CodecPool.probe

    def unmounted_first(self: codec_pool.CodecPool, paths: list[Path], max_pixels: float) -> Any:
        for path in paths:
            path.unlink()
        return real(self, paths, max_pixels)

    crop().save(originals.folder / "d.png")
    (originals.folder / "b.png").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(codec_pool.CodecPool, "probe", unmounted_first)
        assert upscale(originals.folder, out)[0] is ExitCode.SOME_FAILED
    assert failed(out) == ["../photos/d.png"], "what a run tells of is on record until the next one"
    originals.remember()
    assert upscale(originals.folder, out)[0] is ExitCode.DONE
    assert failed(out) == []


def test_many_photos_that_need_no_work_are_noted_together(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each note by itself would wait for the disk: minutes, where 40,000 photos are as large already."""
    transactions = counted_transactions(monkeypatch)
    for index in range(70):
        Image.new("L", (8, 8), index).save(originals.folder / f"{index:03}.png")
        (originals.folder / f"{index:03}.cr2").write_bytes(b"no photo that is read here")
    originals.remember()
    out = tmp_path / "out"
    _, listener = upscale(originals.folder, out, size=TargetSize(long_edge=8))
    assert {outcome.status for outcome in listener.outcomes} == {"skipped", "failed"}
    ledger = Ledger.open_readonly(out / STATE_FOLDER)
    noted = {row.target: row.reason for row in ledger.rows()}
    ledger.close()
    assert noted == {o.photo.relative.as_posix(): o.reason for o in listener.outcomes}
    assert len(noted) == 140
    assert len(transactions) < 10


def test_many_photos_with_another_date_are_noted_together(
    five: Path, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    upscale(five, out)
    for photo in five.iterdir():
        os.utime(photo, (1_600_000_000, 1_600_000_000))
    originals.remember()
    transactions = counted_transactions(monkeypatch)
    _, listener = upscale(five, out)
    assert {outcome.reason for outcome in listener.outcomes} == {CURRENT}
    assert len(transactions) == 1
    ledger = Ledger.open_readonly(out / STATE_FOLDER)
    assert {row.mtime_ns for row in ledger.rows()} == {1_600_000_000_000_000_000}
    ledger.close()


def test_what_was_judged_before_an_interruption_is_noted(originals: Originals, tmp_path: Path) -> None:
    for index in range(5):
        (originals.folder / f"{index}.cr2").write_bytes(b"no photo that is read here")
    originals.remember()
    listener = Listener()

    def check() -> None:
        if len(listener.outcomes) == 3:
            raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        upscale(originals.folder, tmp_path / "out", check=check, listener=listener)
    ledger = Ledger.open_readonly(tmp_path / "out" / STATE_FOLDER)
    assert [row.target for row in ledger.rows()] == ["0.cr2", "1.cr2", "2.cr2"]
    ledger.close()
