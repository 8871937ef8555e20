"""How the daemon waits, ends and is refused."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image
from torch import nn

from srbatch.codecs.encode import Encoding, Written
from srbatch.codecs.picture import Picture
from srbatch.errors import (
    DestinationError,
    ExitCode,
    Interrupted,
    LedgerError,
    LockedError,
    UnreadablePhoto,
    UsageError,
)
from srbatch.outputs.ledger import STATE_FOLDER, Ledger
from srbatch.outputs.ledger_lock import locked
from srbatch.outputs.rows import Row
from srbatch.reporting.snapshot import read
from srbatch.watch import loop
from srbatch.watch.daemon import WatchOptions
from tests.conftest import without_privileges
from tests.networks import Nothing
from tests.runs import ledger_is_full
from tests.watch.world import Act, InProcess, World


def test_an_input_that_is_unmounted_is_waited_for(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for index in range(3):
        world.photo(f"{index}.png", index)
    away = world.top / "away"

    def unmount() -> None:
        world.drop.rename(away)
        world.drop.mkdir()

    def mount() -> None:
        world.drop.rmdir()
        away.rename(world.drop)
        world.photo("new.png", 7)

    at = {10.0: unmount, 100.0: lambda: world.drop.rmdir(), 200.0: lambda: world.drop.mkdir(), 400.0: mount}
    world.watch(at, until=500, events=False)
    assert world.outputs() == {"0.png": 0, "1.png": 1, "2.png": 2, "new.png": 7}
    assert caplog.text.count("waiting: ") == 2, "it is said now and then"
    assert "drop is there" in caplog.text
    assert sum(record.message.startswith("done ") for record in caplog.records) == 4, "nothing was done twice"


def test_an_input_that_goes_away_while_photos_are_due_costs_none_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(3):
        world.photo(f"{index}.png", index)
    real, away = InProcess.probe, world.top / "away"

    def unmount_first(self: InProcess, paths: Sequence[Path], max_pixels: float) -> Any:
        if not away.exists() and world.control.now() < 10:
            world.drop.rename(away)
        return real(self, paths, max_pixels)

    monkeypatch.setattr(InProcess, "probe", unmount_first)
    world.watch({50.0: lambda: away.rename(world.drop)}, until=80)
    assert world.outputs() == {"0.png": 0, "1.png": 1, "2.png": 2}
    ledger = Ledger.open_readonly(world.out / STATE_FOLDER)
    assert ledger.failures() == []
    ledger.close()


def test_a_full_disk_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(3):
        world.photo(f"{index}.png", index)
    real, full = InProcess.encode, True

    def encode_unless_full(self: InProcess, raw: Path, temp: Path, encoding: Encoding) -> Written:
        if full:
            temp.write_bytes(b"a part of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, raw, temp, encoding)

    def make_room() -> None:
        nonlocal full
        assert list(world.out.rglob("*.part")) == []
        found = read(world.out / STATE_FOLDER)
        assert found is not None
        assert found.state == "waiting: the disk is full"
        full = False

    monkeypatch.setattr(InProcess, "encode", encode_unless_full)
    monkeypatch.setattr(loop.FreeSpace, "has_grown", lambda self: not full)
    world.watch({300.0: make_room}, until=400)
    assert world.outputs() == {"0.png": 0, "1.png": 1, "2.png": 2}
    assert caplog.text.count("the disk is full") == 1


def test_a_photo_that_its_disk_could_never_hold_costs_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("1", (4000, 4000)).save(world.drop / "a.png")
    world.photo("b.png", 1)
    usage = shutil._ntuple_diskusage(10_000_000, 1_000_000, 9_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert world.watch({10.0: lambda: world.photo("c.png", 2)}, until=25) is ExitCode.DONE
    assert world.outputs() == {"b.png": 1, "c.png": 2}
    assert "0.10 GB of scratch space" in caplog.text
    assert "a.png is tried again in 30 s" in caplog.text
    caplog.clear()
    world.watch(until=25)
    assert "a.png is tried again in 30 s" in caplog.text, "it is no damaged file"


@pytest.mark.parametrize("before", [None, 10], ids=["new", "rewritten"])
def test_an_output_that_got_its_name_as_the_disk_ran_full_is_known_when_there_is_room(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, before: int | None
) -> None:
    real, full = Ledger._insert, False
    originals = {name: world.top / name for name in ("done", "failed")}
    made: dict[str, int] = {}

    def insert_unless_full(self: Ledger, row: Row) -> None:
        if full:
            ledger_is_full()
        real(self, row)

    def make_room() -> None:
        nonlocal full
        full = False
        made.update({n: (world.out / n).stat().st_ino for n, colour in world.outputs().items() if colour < 3})

    monkeypatch.setattr(Ledger, "_insert", insert_unless_full)
    monkeypatch.setattr(
        loop.FreeSpace, "has_grown", lambda self: False
    )  # it is tried now and then, at first in vain
    if before is not None:
        for index in range(3):
            world.photo(f"{index}.png", before + index)
        world.watch()
    for index in range(3):
        world.photo(f"{index}.png", index)
    full = True
    world.watch({1000.0: make_room}, until=2000, **originals)
    assert "the disk is full" in caplog.text
    assert made, "one was in place as the disk ran full"
    assert made.items() <= {path.name: path.stat().st_ino for path in world.out.iterdir()}.items()
    assert world.outputs() == {"0.png": 0, "1.png": 1, "2.png": 2}
    assert world.files("done") == ["0.png", "1.png", "2.png"]
    assert world.files("failed") == []


def test_an_output_that_is_unmounted_while_room_is_awaited_ends_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "_insert", ledger_is_full)
    monkeypatch.setattr(loop.FreeSpace, "has_grown", lambda self: False)
    world.photo("a.png")
    with pytest.raises(DestinationError, match="is its own unmounted"):
        world.watch({100.0: lambda: world.out.rename(world.top / "gone")}, until=2000)
    assert not world.out.exists()


def test_another_failure_of_the_disk_ends_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: InProcess, raw: Path, temp: Path, encoding: Encoding) -> Written:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(InProcess, "encode", broken)
    world.photo("a.png")
    with pytest.raises(DestinationError):
        world.watch()


def test_an_output_that_is_unmounted_ends_it(world: World) -> None:
    with pytest.raises(DestinationError, match="is its own unmounted"):
        world.watch({5.0: lambda: world.out.rename(world.top / "gone")})
    assert not world.out.exists()


def test_a_second_daemon_is_refused(world: World) -> None:
    with locked(world.out / STATE_FOLDER), pytest.raises(LockedError):
        world.watch()


@pytest.mark.parametrize("name", ["drop/hi", "drop", ""])
def test_an_output_in_or_around_the_input_is_refused(world: World, name: str) -> None:
    world.out = world.top / name
    with pytest.raises(UsageError):
        world.watch()
    assert world.files("") == []


def test_an_input_that_is_no_folder_is_refused(world: World) -> None:
    world.drop.rmdir()
    with pytest.raises(UsageError, match="not a folder"):
        world.watch(once=True)
    world.drop.write_text("a file")
    with pytest.raises(UsageError, match="not a folder"):
        world.watch()


def test_an_input_whose_disk_is_away_at_the_start_is_no_wrong_flag(world: World) -> None:
    """A service manager begins anew after all but those, until the disk is back."""
    world.drop.rmdir()
    with pytest.raises(DestinationError, match="drop is not there"):
        world.watch()
    world.drop.symlink_to(world.top / "a share that is away")
    with pytest.raises(DestinationError, match="drop is not there"):
        world.watch()


def test_an_output_folder_without_its_ledger_is_not_begun_anew_where_one_is_expected(world: World) -> None:
    """Its disk may be away, and below the mount point originals would be done for nobody, and moved."""
    world.photo("a.png", 1)
    done = world.top / "done"
    for _ in range(2):
        with pytest.raises(DestinationError, match="holds no ledger: is the disk of the outputs away"):
            world.watch(done=done, expect_ledger=True)
    assert (world.files("drop"), world.files("hi")) == (["a.png"], [])
    world.watch(done=done)
    world.photo("b.png", 2)
    world.watch(done=done, expect_ledger=True)
    assert world.outputs() == {"a.png": 1, "b.png": 2}


def test_a_ledger_that_is_expected_and_empty_is_none(world: World) -> None:
    (world.out / STATE_FOLDER).mkdir(parents=True)
    (world.out / STATE_FOLDER / "ledger.sqlite").touch()
    with pytest.raises(DestinationError, match="holds no ledger"):
        world.watch(expect_ledger=True)


def test_a_ledger_that_is_expected_and_may_not_be_looked_at_is_told_as_such(public: Path) -> None:
    world = World(public)
    (world.out / STATE_FOLDER).mkdir(parents=True, mode=0)
    with without_privileges(), pytest.raises(LedgerError, match="see to its permissions"):
        world.watch(expect_ledger=True)


@pytest.mark.parametrize("flag", ["settle_s", "poll_s", "stop_within_s"])
def test_a_value_out_of_range_is_refused_by_the_name_of_its_flag(flag: str) -> None:
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=f"--{flag.removesuffix('_s').replace('_', '-')}"):
            WatchOptions(**{flag: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0, 20])
def test_asked_to_stop_it_finishes_what_is_in_hand_or_drops_it(world: World, seconds: float) -> None:
    class Slow(nn.Module):
        def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
            world.control.stopping = signal.SIGTERM
            world.control._deadline = world.control.time + seconds
            return Nothing()(x, scale)

    world.photo("a.png", 1)
    assert world.watch(network=Slow()) is ExitCode.DONE
    assert world.outputs() == ({"a.png": 1} if seconds else {})
    assert list(world.out.rglob("*.part")) == []
    assert world.watch() is ExitCode.DONE
    assert world.outputs() == {"a.png": 1}


@pytest.mark.parametrize("at", [3, 9], ids=["the first look", "a later look"])
def test_asked_to_stop_it_does_not_look_through_the_rest_of_the_folder(
    world: World, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    for index in range(6):
        world.photo(f"{index}/a.png", index)
    real, listed = os.scandir, list[str]()

    def scandir(folder: Any) -> Any:
        if isinstance(folder, Path) and world.drop in folder.parents:
            listed.append(folder.name)
            if len(listed) == at:
                world.control.stopping = signal.SIGTERM
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert world.watch() is ExitCode.DONE
    assert len(listed) == at


def test_a_photo_whose_codec_was_stopped_with_us_has_not_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: InProcess, source: Path, raw: Path, max_pixels: float) -> Picture:
        world.control.stopping = signal.SIGTERM
        world.control._deadline = world.control.time + 20
        raise UnreadablePhoto("its codec crashed")

    world.photo("a.png", 1)
    with monkeypatch.context() as patch:
        patch.setattr(InProcess, "decode", stopped)
        world.watch()
    assert world.row("a.png") is None
    world.watch()
    assert world.outputs() == {"a.png": 1}


def test_sighup_looks_at_everything_again(world: World) -> None:
    def look_again() -> None:
        (world.out / "a.png").unlink()
        world.control._look_again = True

    world.photo("a.png", 1)
    world.watch({10.0: look_again})
    assert world.outputs() == {"a.png": 1}


def test_a_comparison_that_takes_longer_than_a_minute_comes_to_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_all, judged = loop.run_all, list[str]()

    def slow(run: Any, photos: Sequence[Any], summary: Any) -> Any:
        world.control.time += 2 * len(photos)
        judged.extend(photo.source.name for photo in photos)
        return run_all(run, photos, summary)

    def lose_the_last() -> None:
        judged.clear()
        (world.out / names[-1]).unlink()

    names = [f"{number:03}.png" for number in range(70)]
    for number, name in enumerate(names):
        world.photo(name, number)
    world.watch(until=20)
    monkeypatch.setattr(loop, "run_all", slow)
    world.watch({1000.0: lose_the_last}, until=2500)
    assert names[-1] in world.outputs()
    assert max(judged.count(name) for name in names) <= 4, "none is compared all the time"


def test_once_drains_and_tells_of_failures(world: World) -> None:
    world.photo("a.png", 1)
    assert world.watch(once=True, until=1e6) is ExitCode.DONE
    assert world.control.time < 20
    (world.drop / "bad.png").write_bytes(b"garbage")
    failed = {"failed": world.top / "failed"}
    assert world.watch(once=True, until=1e6, **failed) is ExitCode.SOME_FAILED
    assert world.files("drop") == ["a.png", "bad.png"], "it may still be on its way"
    assert world.watch(once=True, until=1e6, **failed) is ExitCode.SOME_FAILED
    assert world.files("failed") == ["bad.png", "bad.png.txt"]
    assert world.watch(once=True, until=1e6, **failed) is ExitCode.DONE
    with pytest.raises(Interrupted):
        world.watch(once=True, until=0)


def test_scans_are_few_however_many_events_come(world: World, looks: list[float]) -> None:
    at: dict[float, Act] = {5 + n / 100: (lambda: None) for n in range(500)}
    world.watch(at, until=60)
    assert len(looks) <= 14


def test_nothing_grows_with_time(world: World) -> None:
    at: dict[float, Act] = {}
    for n in range(9):
        at[1 + 5.0 * n] = lambda n=n: world.photo(f"{n}.png", n)  # type: ignore[misc]
        at[4 + 5.0 * n] = lambda n=n: world.photo("bad.png", n)  # type: ignore[misc]
    handles: list[int] = []
    found: list[loop.Watcher] = []
    real = loop.Watcher._await_next_look

    def spy(self: loop.Watcher, *, at_once: bool) -> None:
        handles.append(psutil.Process().num_fds())
        found[:] = [self]
        real(self, at_once=at_once)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Watcher, "_await_next_look", spy)
        world.watch(at, until=60, done=world.top / "done")
    assert handles[-1] <= handles[5]
    (daemon,) = found
    assert daemon._settling.waiting == 0
    assert not daemon._retries._entries
    assert len(daemon._settling._seen) <= 1, "what was there at the latest look"
    assert not daemon._handler._unmoved
