"""The loop of the watcher, with a clock that the test moves: whole months pass in no time."""

from __future__ import annotations

import copy
import errno
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from PIL import Image
from torch import nn

from srbatch import encode, picture, run
from srbatch.encode import Encoding, Written
from srbatch.errors import (
    DestinationError,
    DeviceError,
    ExitCode,
    Interrupted,
    LockedError,
    PhotoError,
    UnreadablePhoto,
    UsageError,
)
from srbatch.ledger import STATE_FOLDER, Ledger, Row, locked
from srbatch.options import Options, TargetSize
from srbatch.picture import Header, Picture
from srbatch.watch import daemon, loop
from srbatch.watch.agenda import PAUSES_S
from srbatch.watch.control import Control
from srbatch.watch.daemon import WatchOptions
from srbatch.watch.moving import Shelf
from srbatch.watch.status import read
from tests.conftest import crop
from tests.networks import FakeModel, Faulty, Nothing

Act = Callable[[], object]


class InProcess:
    """The codecs without processes of their own, which take a second to start."""

    workers = 1

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def checked_by(self, check: Callable[[], None]) -> InProcess:
        view = copy.copy(self)
        view._check = check
        return view

    def probe(self, paths: Sequence[Path], max_pixels: float) -> list[Header | PhotoError]:
        return [self._probe(path, max_pixels) for path in paths]

    def _probe(self, path: Path, max_pixels: float) -> Header | PhotoError:
        try:
            return picture.probe(path, max_pixels)
        except PhotoError as error:
            return error

    def decode(self, source: Path, raw: Path, max_pixels: float) -> Picture:
        self._check()
        return picture.decode(source, raw, max_pixels)

    def hash(self, source: Path) -> str:
        return picture.sha256_of(source)

    def encode(self, raw: Path, temp: Path, encoding: Encoding) -> Written:
        self._check()
        return encode.encode(raw, temp, encoding)


class Script(Control):
    """Sleeps in no time. What happens at which second stands in ``at``; after the last, SIGTERM comes."""

    def __init__(self, at: dict[float, Act], *, until: float, events: bool) -> None:
        super().__init__(stop_within_s=20)
        self.time = 0.0
        self._at = sorted({**at, until: self._end}.items())
        self._events = events

    def _end(self) -> None:
        self.stopping = signal.SIGTERM
        self._deadline = self.time + 20

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> bool:
        until = self.time + max(seconds, 0.01)
        if not self._at or self._at[0][0] > until:
            self.time = until
            return False
        when, act = self._at.pop(0)
        self.time = max(self.time, when)
        act()
        return self._events or self.stopping is not None


class World:
    """A drop folder, an output folder and a daemon over them."""

    def __init__(self, top: Path) -> None:
        self.top, self.drop, self.out = top, top / "drop", top / "hi"
        self.drop.mkdir()
        self.control: Script

    def watch(
        self,
        at: dict[float, Act] | None = None,
        *,
        until: float = 30,
        network: nn.Module | None = None,
        events: bool = True,
        **how: Any,
    ) -> ExitCode:
        """Let the daemon run until that second."""
        options = Options(inputs=(self.drop,), out=self.out, size=TargetSize(scale=2))
        chosen = WatchOptions(**how)
        with Script(at or {}, until=until, events=events) as self.control:
            return daemon.watch(
                options,
                chosen,
                control=self.control,
                model_of=lambda _: FakeModel(network or Nothing()),  # type: ignore[arg-type, return-value]
            )

    def photo(self, name: str, colour: int = 0) -> None:
        path = self.drop / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (colour, 0, 0)).save(path)

    def outputs(self) -> dict[str, int]:
        """The outputs, and the colour that each is of."""
        found = {}
        for path in sorted(self.out.rglob("*")):
            name = path.relative_to(self.out).as_posix()
            if path.is_file() and not name.startswith(STATE_FOLDER):
                with Image.open(path) as image:
                    assert image.size == (16, 12), name
                    found[name] = image.getpixel((0, 0))[0]  # type: ignore[index]
        return found

    def files(self, folder: str) -> list[str]:
        top = self.top / folder
        return sorted(p.relative_to(top).as_posix() for p in top.rglob("*") if p.is_file())

    def row(self, target: str) -> Row | None:
        ledger = Ledger.open_readonly(self.out / STATE_FOLDER)
        found = ledger.row(target)
        ledger.close()
        return found


class NoEvents:
    """Events come from the script."""

    poll_s: float | None = None

    def __init__(self, folder: Path, wake: Act, *, poll_s: float | None, recursive: bool) -> None:
        self.poll_s = poll_s

    def __enter__(self) -> NoEvents:
        return self

    def __exit__(self, *_: object) -> None: ...
    def check(self) -> None: ...
    def renew(self) -> None: ...


@pytest.fixture
def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[World]:
    monkeypatch.setattr(run, "_codecs", lambda options, check: InProcess(check))
    monkeypatch.setattr(daemon, "Events", NoEvents)
    caplog.set_level(logging.INFO, "srbatch")
    threads = set(threading.enumerate())
    yield World(tmp_path)
    assert not set(threading.enumerate()) - threads, "a thread was left behind"


@pytest.fixture
def looks(world: World, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the folder was looked through."""
    found: list[float] = []
    real = loop.find

    def find(options: Options) -> Any:
        found.append(world.control.now())
        return real(options)

    monkeypatch.setattr(loop, "find", find)
    return found


# ---- what is taken -------------------------------------------------------------------------------


def test_a_backlog_and_what_comes_later(world: World) -> None:
    world.photo("a.png", 1)
    at = {10.0: lambda: world.photo("b/c.png", 2), 15.0: lambda: world.photo("d.png", 3)}
    assert world.watch(at) is ExitCode.DONE
    assert world.outputs() == {"a.png": 1, "b/c.png": 2, "d.png": 3}
    assert (world.drop / "a.png").exists(), "nothing is moved unless asked"
    found = read(world.out / STATE_FOLDER)
    assert found is not None
    assert (found.state, found.done, found.queue) == ("stopped", 3, 0)


def test_without_any_event_it_is_found_by_looking(world: World, looks: list[float]) -> None:
    world.watch({20.0: lambda: world.photo("a.png")}, until=1000, events=False)
    assert world.outputs() == {"a.png": 0}
    assert len(looks) < 10, "it sleeps most of the time"


def test_polling(world: World) -> None:
    world.watch({20.0: lambda: world.photo("a.png")}, until=30, events=False, poll_s=4)
    assert world.outputs() == {"a.png": 0}


def test_a_copy_that_stalls_for_a_minute_is_never_taken_half(world: World, monkeypatch: Any) -> None:
    crop(40, 50).save(world.top / "whole.jpg")
    data, path = (world.top / "whole.jpg").read_bytes(), world.drop / "a.jpg"
    seen = []

    def piece(start: int, end: int) -> Act:
        def write() -> None:
            seen.append((world.out / "a.jpg").exists())
            with path.open("ab") as file:
                file.write(data[start:end])

        return write

    bounds = [len(data) * n // 10 for n in range(11)]
    times = [1, 1.5, 2, 3, 4, 64, 65, 66, 67, 68]
    at = {float(t): piece(s, e) for t, s, e in zip(times, bounds, bounds[1:], strict=False)}
    world.watch(at, until=100)
    assert seen == [False] * 10
    with Image.open(world.out / "a.jpg") as image:
        assert image.size == (100, 80)
        image.load()
    assert list(world.out.rglob("*.part")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_copy_that_stalls_with_the_file_open_is_not_even_tried(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.photo("whole.png")
    data = (world.drop / "whole.png").read_bytes()
    (world.drop / "whole.png").unlink()
    with (world.drop / "a.png").open("wb") as file:
        from srbatch.watch.settle import open_for_writing

        if not open_for_writing(world.drop / "a.png"):
            pytest.skip("this file system grants no leases")
        file.write(data[:-30])
        file.flush()

        def finish() -> None:
            file.write(data[-30:])
            file.close()

        world.watch({60.0: finish}, until=90)
    assert world.outputs() == {"a.png": 0}
    assert "failed" not in caplog.text


def test_moves_renames_rewrites_and_whole_folders(world: World) -> None:
    for index in range(6):
        world.photo(f"{index}.png", index)
    whole = world.top / "roll"
    whole.mkdir()
    for index in range(12):
        Image.new("RGB", (8, 6), (100 + index, 0, 0)).save(whole / f"{index}.png")
    at: dict[float, Act] = {
        6.0: lambda: (world.drop / "0.png").rename(world.drop / "new.png"),
        6.1: lambda: (world.drop / "1.png").rename(world.drop / "2.png"),
        6.2: lambda: world.photo("3.png", 33),
        6.3: lambda: (world.drop / "a").mkdir(),
        6.4: lambda: (world.drop / "4.png").rename(world.drop / "a" / "4.png"),
        6.5: lambda: whole.rename(world.drop / "roll"),
        8.0: lambda: (world.drop / "roll" / "7.png").rename(world.drop / "roll" / "77.png"),
    }
    world.watch(at)
    made = world.outputs()
    now = {path: made[path] for path in world.files("drop")}
    assert now["new.png"] == 0
    assert now["2.png"] == 1
    assert now["3.png"] == 33
    assert now["a/4.png"] == 4
    assert [now[f"roll/{index}.png"] for index in (0, 11)] == [100, 111]
    assert now["roll/77.png"] == 107
    assert len(now) == 17
    ledger = Ledger.open_readonly(world.out / STATE_FOLDER)
    assert ledger.failures() == []
    ledger.close()


def test_a_photo_that_goes_away_while_it_is_due_is_no_failure(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.photo("a.png")
    world.photo("b.png")
    real = InProcess.probe

    def rename_first(self: InProcess, paths: Sequence[Path], max_pixels: float) -> Any:
        if (world.drop / "a.png").exists():
            (world.drop / "a.png").rename(world.drop / "c.png")
        return real(self, paths, max_pixels)

    monkeypatch.setattr(InProcess, "probe", rename_first)
    world.watch()
    assert list(world.outputs()) == ["b.png", "c.png"]
    assert world.row("a.png") is None


def test_a_clock_that_jumps_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for index, name in enumerate(("past.png", "now.png", "future.png")):
        world.photo(name, index)
        os.utime(world.drop / name, (0, time.time() * index))
    jumps = iter([1e9, -1e9] * 1000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    world.watch()
    assert world.outputs() == {"future.png": 2, "now.png": 1, "past.png": 0}


def test_links_in_the_tree_are_done_and_stay(world: World, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = world.top / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (8, 6), (9, 0, 0)).save(elsewhere / "x.png")
    (world.drop / "a.png").symlink_to(elsewhere / "x.png")
    (world.drop / "folder").symlink_to(elsewhere)
    (world.drop / "loop").symlink_to(world.drop)
    (world.drop / "broken.png").symlink_to("nowhere")
    world.watch(done=world.top / "done", until=1300)
    assert world.outputs() == {"a.png": 9, "folder/x.png": 9}
    assert world.files("done") == []
    assert caplog.text.count("a link leads to it") == 2, "it is said once for each"
    row = world.row("broken.png")
    assert row is not None
    assert row.status == "failed"


# ---- failures ------------------------------------------------------------------------------------


def test_a_file_that_keeps_failing_is_given_up_and_set_aside(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    (world.drop / "bad.jpg").write_bytes(b"garbage")
    (world.drop / "raw.nef").write_bytes(b"raw")
    world.photo("good.png")
    world.watch(failed=world.top / "failed", until=20)
    assert world.files("failed") == ["raw.nef", "raw.nef.txt"], "time does not mend that"
    assert world.files("drop") == ["bad.jpg", "good.png"]
    caplog.clear()
    (world.drop / "bad.jpg").write_bytes(b"other garbage")
    world.watch(failed=world.top / "failed", until=sum(PAUSES_S) + 100)
    assert world.files("drop") == ["good.png"]
    assert "bad.jpg is given up" in caplog.text
    assert "is tried again in 10 min" in caplog.text
    text = (world.top / "failed" / "bad.jpg.txt").read_text()
    assert "bad.jpg could not be upscaled: its content is not a picture" in text
    row = world.row("bad.jpg")
    assert row is not None
    assert (row.status, row.source) == ("failed", "../failed/bad.jpg")
    (world.top / "failed" / "bad.jpg").unlink()
    world.watch(failed=world.top / "failed")
    assert world.row("bad.jpg") is None, "what is gone is no failure any more"


def test_a_failure_is_remembered_over_a_restart_until_the_file_changes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    (world.drop / "bad.png").write_bytes(b"garbage")
    world.watch(until=5)
    assert "tried again in 30 s" in caplog.text
    caplog.clear()
    world.watch({100.0: lambda: world.photo("bad.png", 5)}, until=120)
    assert "is given up until it changes" in caplog.text
    assert world.outputs() == {"bad.png": 5}


def test_a_photo_too_large_for_the_device_does_not_end_the_daemon(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.photo("a.png", 1)
    network = Faulty(Nothing(), 0, "out of memory", times=2)
    world.watch({5.0: lambda: world.photo("b.png", 2)}, network=network, until=200)
    assert world.outputs() == {"a.png": 1, "b.png": 2}
    assert "even in the smallest tiles" in caplog.text


def test_a_lost_device_ends_it_with_its_own_exit_code(world: World) -> None:
    class Lost(nn.Module):
        def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
            raise DeviceError("cuda:0 failed: unspecified launch failure")

    world.photo("a.png")
    with pytest.raises(DeviceError) as caught:
        world.watch(network=Lost())
    assert caught.value.exit_code == 5
    found = read(world.out / STATE_FOLDER)
    assert found is not None
    assert found.state == "stopped"


# ---- moved originals -----------------------------------------------------------------------------


def test_a_counter_that_wraps_never_costs_an_output(world: World) -> None:
    at: dict[float, Act] = {}
    for index, colour in enumerate([1, 2, 1, 3, 2]):
        at[1 + 10.0 * index] = lambda colour=colour: world.photo("IMG_0001.png", colour)  # type: ignore[misc]
    world.watch(at, until=60, done=world.top / "done")
    made = world.outputs()
    assert made.pop("IMG_0001.png") == 1
    assert sorted(made.values()) == [2, 3]
    assert all(len(name) == len("IMG_0001.12345678.png") for name in made)
    assert world.files("drop") == []
    assert len(world.files("done")) == 5, "no original is lost, not even a second copy"
    again = world.outputs()
    world.watch({1.0: lambda: world.photo("IMG_0001.png", 3)}, done=world.top / "done")
    assert world.outputs() == again, "names are stable over restarts"


def test_the_moved_photos_of_an_earlier_run_are_safe_without_the_option(world: World) -> None:
    world.photo("a.png", 1)
    world.watch(done=world.top / "done")
    world.photo("a.png", 2)
    world.watch()
    made = world.outputs()
    assert made.pop("a.png") == 1
    assert list(made.values()) == [2]


def test_a_crash_between_the_output_and_the_move_is_healed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(self: Shelf, photo: Any, *, before: Callable[[Path], None], **others: Any) -> Path:
        before(world.top / "done" / "a.png")  # the ledger has its note already
        raise Killed

    world.photo("a.png", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "move", killed)
        with pytest.raises(Killed):
            world.watch(done=world.top / "done")
    assert world.files("drop") == ["a.png"]
    inode = (world.out / "a.png").stat().st_ino
    world.watch(done=world.top / "done")
    assert world.files("drop") == []
    assert world.files("done") == ["a.png"]
    assert (world.out / "a.png").stat().st_ino == inode, "it was not done again"
    world.photo("a.png", 2)
    world.watch(done=world.top / "done")
    assert sorted(world.outputs().values()) == [1, 2]


def test_what_is_rewritten_while_it_is_due_is_moved_with_its_own_output(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = InProcess.decode

    def rewrite_first(self: InProcess, source: Path, raw: Path, max_pixels: float) -> Picture:
        if world.control.now() < 5:
            world.control.time = 5
            world.photo("a.png", 2)
        return real(self, source, raw, max_pixels)

    world.photo("a.png", 1)
    monkeypatch.setattr(InProcess, "decode", rewrite_first)
    world.watch(done=world.top / "done")
    assert world.outputs() == {"a.png": 2}
    assert world.files("done") == ["a.png"]
    assert Image.open(world.top / "done" / "a.png").getpixel((0, 0)) == (2, 0, 0)


def test_a_photo_that_cannot_be_moved_is_told_of_and_stays_its_outputs(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from srbatch.watch import moving

    def refused(source: Path, target: Path) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    world.photo("a.png", 1)
    with monkeypatch.context() as patch:
        patch.setattr(moving, "move_new", refused)
        world.watch({10.0: lambda: world.photo("a.png", 2)}, done=world.top / "done", until=1300)
    assert world.outputs() == {"a.png": 2}, "rewritten in place, it is made again"
    assert caplog.text.count("was not moved") == 1
    world.watch(done=world.top / "done")
    assert world.files("done") == ["a.png"]


# ---- manners -------------------------------------------------------------------------------------


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
    monkeypatch.setattr(loop.Room, "has_grown", lambda self: not full)
    world.watch({300.0: make_room}, until=400)
    assert world.outputs() == {"0.png": 0, "1.png": 1, "2.png": 2}
    assert caplog.text.count("the disk is full") == 1


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
        world.watch()


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
    real = loop.Watcher._sleep

    def spy(self: loop.Watcher, *, is_away: bool) -> None:
        handles.append(psutil.Process().num_fds())
        found[:] = [self]
        real(self, is_away=is_away)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Watcher, "_sleep", spy)
        world.watch(at, until=60, done=world.top / "done")
    assert handles[-1] <= handles[5]
    (daemon,) = found
    assert daemon._settling.waiting == 0
    assert not daemon._agenda._entries
    assert len(daemon._settling._seen) <= 1, "what was there at the latest look"
    assert not daemon._aftermath._left
