"""Runs whose photos overlap, under faults at random places; and codecs whose processes are killed."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import nn

from srbatch import run
from srbatch.codecs import codec_pool, encode, picture
from srbatch.codecs.codec_pool import CodecPool
from srbatch.codecs.encode import Encoding, Written
from srbatch.codecs.picture import Header, Picture
from srbatch.errors import (
    ExitCode,
    Interrupted,
    PhotoError,
    SrbatchError,
    UnreadablePhoto,
    UnsupportedPhoto,
    WrongOutput,
)
from srbatch.options import Options, TargetSize
from srbatch.outputs.ledger import Ledger
from srbatch.reporting.inspection import verify
from srbatch.reporting.report import Plain, Several
from tests.conftest import crop
from tests.files import PACKET
from tests.networks import FakeModel, Local
from tests.processes import wait_until
from tests.runs import Listener

PHOTOS = 24
WITH_SIDECAR = 3
"""Each third photo has one."""
SEEDS = range(8)
HANG_S = 60.0


# ---- a run under random faults -------------------------------------------------------------------


class Dice:
    """Says when something goes wrong. Several threads may ask."""

    def __init__(self, seed: int) -> None:
        self._random, self._turn = random.Random(seed), threading.Lock()
        self.chances = {
            kind: self._random.choice((0, 0, chance))
            for kind, chance in {
                "network": 0.1,
                "out of memory": 0.15,
                "decode": 0.1,
                "encode": 0.1,
                "disk full": 0.05,
                "ledger": 0.02,
                "interrupt": 0.003,
            }.items()
        }
        self.devices = self._random.randint(1, 3)
        self.batch = self._random.choice((1, 4))
        self.workers = self._random.randint(1, 3)
        self.fell: set[str] = set()

    def fall(self, kind: str) -> bool:
        """Whether it happens now."""
        with self._turn:
            fell = self._random.random() < self.chances[kind]
            if fell:
                self.fell.add(kind)
            return fell


class FaultyNetwork(nn.Module):
    def __init__(self, dice: Dice) -> None:
        super().__init__()
        self.inner, self.dice = Local(), dice

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        if self.dice.fall("network"):
            raise ZeroDivisionError("injected")
        if self.dice.fall("out of memory"):
            raise torch.OutOfMemoryError("injected")
        result: torch.Tensor = self.inner(x, scale)
        return result


class ThreadCodecs(CodecPool):
    """Codecs without processes, which would take most of the time."""

    def __init__(self, dice: Dice, check: Callable[[], None]) -> None:
        self.workers, self._dice, self._check = dice.workers, dice, check

    def __exit__(self, *_: object) -> None:
        pass

    def probe(self, paths: Any, max_pixels: float) -> list[Header | PhotoError]:
        self._check()
        return [picture.probe(path, max_pixels) for path in paths]

    def decode(self, source: Path, raw: Path, max_pixels: float) -> Picture:
        self._check()
        if self._dice.fall("decode"):
            raise UnreadablePhoto("injected")
        return picture.decode(source, raw, max_pixels)

    def encode(self, raw: Path, temp: Path, encoding: Encoding) -> Written:
        if self._dice.fall("disk full"):
            temp.write_bytes(b"the beginning")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = encode.encode(raw, temp, encoding)
        if self._dice.fall("encode"):
            raise WrongOutput("injected")
        self._check()
        return written


class FaultyConnection:
    """Of SQLite, to write to."""

    def __init__(self, inner: sqlite3.Connection, dice: Dice) -> None:
        self._inner, self._dice = inner, dice

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def execute(self, query: str, *values: Any) -> Any:
        if not query.startswith(("SELECT", "ROLLBACK")) and self._dice.fall("ledger"):
            raise sqlite3.OperationalError("injected")
        return self._inner.execute(query, *values)


def run_with(dice: Dice, folder: Path, out: Path, patch: pytest.MonkeyPatch) -> tuple[Listener, Any]:
    """One run; what it told, and how it ended: its exit code or its error."""
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set() or dice.fall("interrupt"):
            stopped.set()
            raise Interrupted(signal.SIGINT)

    patch.setattr(CodecPool, "of", lambda options, check: ThreadCodecs(dice, check))
    connect = Ledger.__init__
    patch.setattr(Ledger, "__init__", lambda self, db, path: connect(self, FaultyConnection(db, dice), path))
    model = FakeModel(FaultyNetwork(dice), batch=dice.batch)
    model.upscalers *= 1
    for _ in range(dice.devices - 1):
        model.upscalers += FakeModel(FaultyNetwork(dice), batch=dice.batch).upscalers
    listener = Listener()
    with (Path(os.devnull)).open("w") as nowhere:
        try:
            ended: Any = run.upscale(
                Options(inputs=(folder,), out=out, size=TargetSize(scale=2)),
                reporter=Several([listener, Plain(nowhere)]),
                check=check,
                model_of=lambda _: model,
            )
        except SrbatchError as error:
            ended = error
    return listener, ended


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Print all stacks and end the process where the body hangs: nothing less ends a thread that waits."""
    import faulthandler

    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def check_what_is_left(out: Path, listener: Listener, ended: Any, dice: Dice) -> None:
    """One outcome for each photo, and nothing left over, however the run ended."""
    told = [outcome.photo.relative.name for outcome in listener.outcomes]
    assert len(told) == len(set(told))
    if isinstance(ended, ExitCode):
        assert len(told) == PHOTOS
    done = {outcome.photo.relative.name for outcome in listener.outcomes if outcome.status == "done"}
    assert listener.summary is not None
    assert listener.summary.counts["done"] == len(done)
    left = {path.name for path in out.iterdir() if path.name != ".srbatch"}
    sidecars = {name for name in left if name.endswith(".xmp")}
    left -= sidecars
    assert not {name for name in left if name.endswith(".part")}
    assert not list((out / ".srbatch").glob("srbatch-*"))
    with closing(sqlite3.connect(out / ".srbatch" / "ledger.sqlite")) as ledger:
        (pending,) = ledger.execute("SELECT count(*) FROM pending").fetchone()
        known = {os.fsdecode(t) for (t,) in ledger.execute("SELECT target FROM photos WHERE status='done'")}
    if "ledger" not in dice.fell:
        assert pending == 0
        assert known == done == left
        assert sidecars == {f"{name}.xmp" for name in left if int(name[:2]) % WITH_SIDECAR == 0}
    assert known <= left
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("srbatch")]


def work_through(folder: Path, out: Path, seed: int) -> str:
    """A run with faults, and one without that finishes the work; returns how the first one ended."""
    dice, calm = Dice(seed), Dice(seed)
    calm.chances = dict.fromkeys(calm.chances, 0)
    with in_time(HANG_S):
        with pytest.MonkeyPatch.context() as patch:
            listener, ended = run_with(dice, folder, out, patch)
        if (out / ".srbatch" / "ledger.sqlite").exists():
            check_what_is_left(out, listener, ended, dice)
        with pytest.MonkeyPatch.context() as patch:
            listener, again = run_with(calm, folder, out, patch)
        retried = {o.photo.relative.name for o in listener.outcomes if o.status == "failed"}
        assert isinstance(again, ExitCode)
        assert all("as before" in o.reason for o in listener.outcomes if o.status == "failed")
        assert len(verify(out, None).problems) == 0
        assert verify(out, None).sound == PHOTOS - len(retried)
    return str(ended)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "photos"
    folder.mkdir()
    fill(folder)
    return folder


def fill(folder: Path) -> None:
    """Small photos, some of which share a batch, and a larger one."""
    for index in range(PHOTOS):
        crop(12 + index % 7, 16 + index, top=5 * index, left=9 * index).save(folder / f"{index:02}.png")
        if index % WITH_SIDECAR == 0:
            (folder / f"{index:02}.xmp").write_text(PACKET.format(index))
    crop(150, 130).save(folder / "00.png")


@pytest.mark.parametrize("seed", SEEDS)
def test_under_random_faults_each_photo_has_one_outcome_and_nothing_is_left(
    archive: Path, tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    ended = work_through(archive, tmp_path / "hi", seed)
    assert "a bug" not in ended


# ---- codecs --------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_while_idle_costs_no_photo(tmp_path: Path) -> None:
    """As the system may choose it when memory runs out."""
    crop().save(tmp_path / "a.png")
    with CodecPool(timeout_s=30, memory_mb=1024, workers=2) as pool:
        worker = pool._run(os.getpid, (), 30, UnreadablePhoto)
        process = psutil.Process(worker)
        wait_until(lambda: process.status() == psutil.STATUS_SLEEPING)  # it waits for the next photo
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(worker))  # that is noticed
        checked = pool.checked_by(lambda: None)
        for number, codecs in enumerate((pool, checked, pool)):
            raw = tmp_path / f"{number}.raw"
            assert codecs.decode(tmp_path / "a.png", raw, 1e9).header.width == 64


def _end_at_once(memory_mb: int) -> None:
    os._exit(1)


def test_workers_that_cannot_begin_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_pool, "_start_worker", _end_at_once)
    with (
        CodecPool(timeout_s=30, memory_mb=1024, workers=1) as pool,
        pytest.raises(SrbatchError, match="time and again"),
    ):
        pool.hash(Path("a.png"))


def _write_late(raw: Path, temp: Path, encoding: Encoding) -> Written:
    """Just as it is stopped, which is after nobody waits for it any more."""

    def begin(*_: object) -> None:
        temp.write_bytes(b"the beginning")
        os._exit(1)

    signal.signal(signal.SIGTERM, begin)
    raw.touch()
    time.sleep(60)
    raise AssertionError


def test_what_a_worker_begins_to_write_after_an_interrupt_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, temp = tmp_path / "raw", tmp_path / "temp"
    monkeypatch.setattr(codec_pool.encode, "encode", _write_late)

    def check() -> None:
        if raw.exists():
            raise Interrupted(signal.SIGINT)

    encoding: Any = picture.Header(picture.Format.PNG, 1, 1, 3, 8)
    with CodecPool(timeout_s=30, memory_mb=1024, workers=1) as pool:
        with pytest.raises(Interrupted):
            pool.checked_by(check).encode(raw, temp, encoding)
        wait_until(temp.exists)
    assert not temp.exists()


def test_what_a_codec_says_just_as_it_is_asked_is_no_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Future[None]):
        def done(self) -> bool:
            self.end()
            return super().done()

        def end(self) -> None:
            if not super().done():
                self.set_exception(UnsupportedPhoto("it has layers"))

    class Pool:
        active = True

        def schedule(self, *_: Any, **__: Any) -> Late:
            return future

    future = Late()
    pool = CodecPool(timeout_s=30, memory_mb=1024, workers=1, check=future.end)
    monkeypatch.setattr(pool._processes, "_pool", Pool())
    with pytest.raises(UnsupportedPhoto, match="it has layers"):
        pool.hash(Path("a.png"))


def _fail_on_a_share() -> None:
    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


def test_a_share_that_does_not_answer_is_not_a_codec_that_hangs() -> None:
    with (
        CodecPool(timeout_s=30, memory_mb=1024, workers=1) as pool,
        pytest.raises(OSError, match=os.strerror(errno.ETIMEDOUT)),
    ):
        pool._run(_fail_on_a_share, (), 30, WrongOutput)
