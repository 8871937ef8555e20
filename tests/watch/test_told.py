"""What people are told: the status file, the live view, the log."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from srbatch.outputs.ledger import Ledger
from srbatch.reporting.outcome import Outcome
from srbatch.reporting.snapshot import Snapshot, read
from srbatch.watch.log import Log, configure
from srbatch.watch.status import WatchStatus
from tests.conftest import Clock
from tests.watch.conftest import photo


def test_the_status_file_is_whole_and_rarely_written(tmp_path: Path, clock: Clock) -> None:
    said: list[str] = []
    status = WatchStatus(tmp_path, Path("drop"), clock=clock, notify=said.append)
    assert read(tmp_path) is None
    status.tell("at work", queue=2, unsettled=1)
    status.started(photo(), 1000)
    status.write()
    found = read(tmp_path)
    assert found is not None
    assert (found.state, found.queue, found.unsettled, found.in_hand) == ("at work", 2, 1, [])
    clock.time += 2
    status.write()
    assert (read(tmp_path) or found).in_hand == ["a.jpg"]
    clock.time += 2
    status.finished(Outcome(photo(), "done", size_in=(1000, 1000)))
    status.finished(Outcome(photo("b.jpg"), "failed", "is damaged", "UnreadablePhoto"))
    status.write()
    found = read(tmp_path)
    assert found is not None
    assert (found.done, found.failed, found.queue, found.in_hand) == (1, 1, 0, [])
    assert found.rate == pytest.approx(1 / 4)
    assert found.errors[0][1:] == (os.fspath(Path("drop", "b.jpg")), "is damaged")
    assert found.alive
    assert "at work" in found.headline
    assert json.loads(json.dumps(found.as_record()))["errors"][0]["reason"] == "is damaged"
    before = (tmp_path / "watch.json").stat().st_mtime_ns
    clock.time += 100
    status.write()
    assert (tmp_path / "watch.json").stat().st_mtime_ns == before, "nothing has changed"
    status.tell("idle")
    assert said == ["at work", "idle"]
    assert [path.name for path in tmp_path.iterdir()] == ["watch.json"]


def test_what_a_watcher_that_has_ended_left_is_known(tmp_path: Path) -> None:
    mine = Snapshot(socket.gethostname(), os.getpid(), psutil.Process().create_time(), "drop", "idle")
    assert mine.alive is True
    assert replace(mine, begun=mine.begun - 100).alive is False, "its number was given to another process"
    assert replace(mine, pid=2**22 + 1).alive is False
    assert "has ended" in replace(mine, pid=2**22 + 1).headline
    assert replace(mine, host="elsewhere").alive is None
    assert "by its word of" in replace(mine, host="elsewhere").headline
    (tmp_path / "watch.json").write_text("{")
    assert read(tmp_path) is None


def snapshot(**changes: object) -> str:
    return json.dumps({**asdict(Snapshot("host", 1, 2.0, "drop", "idle", written=3.0)), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "5",
        snapshot(pid="1"),
        snapshot(host=None),
        snapshot(rate="fast"),
        snapshot(errors=[[1.0, "a.jpg"]]),
        snapshot(errors=[["now", "a.jpg", "is damaged"]]),
        snapshot(in_hand=[1]),
        snapshot(another=1),
    ],
    ids=lambda text: text[:20],
)
def test_a_status_file_that_no_watcher_wrote_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "watch.json").write_text(text)
    assert read(tmp_path) is None


def test_a_status_file_forges_no_line(tmp_path: Path) -> None:
    bad = "\x1b[2J\nwatching \x9b"
    text = snapshot(host=bad, folder=bad, state=bad, in_hand=[bad], errors=[[1.0, bad, bad]])
    (tmp_path / "watch.json").write_text(text)
    found = read(tmp_path)
    assert found is not None
    assert found.headline.isprintable()
    told = r"\x1b[2J\nwatching \x9b"
    assert (found.in_hand, found.errors) == ([told], [(1.0, told, told)])


@pytest.mark.parametrize("number", [-5, 2**62, 10**30])
def test_a_status_file_of_impossible_numbers_is_told(tmp_path: Path, number: int) -> None:
    text = snapshot(host=socket.gethostname(), pid=number, written=1e300, rate=float("inf"))
    (tmp_path / "watch.json").write_text(text)
    found = read(tmp_path)
    assert found is not None
    assert found.alive is False
    assert "has ended" in found.headline
    assert "1e+300" in replace(found, host="elsewhere").headline
    assert "inf megapixels" in found.numbers


def test_a_status_that_cannot_be_written_ends_nothing(tmp_path: Path, clock: Clock) -> None:
    status = WatchStatus(tmp_path / "missing", Path("drop"), clock=clock, notify=lambda state: None)
    status.tell("idle")


def test_the_live_view(tmp_path: Path) -> None:
    from rich.console import Console

    from srbatch.watch import live_view

    class Enough(Exception):
        pass

    def enough() -> None:
        if now.time > 1030:
            raise Enough

    def pass_time(seconds: float) -> None:
        now.time += seconds
        if 1010 < now.time < 1010.3:
            status.tell("at work", queue=3)
            status.started(photo("in hand.jpg"), 100)
            status.finished(Outcome(photo("bad.jpg"), "failed", "is [bold]damaged", "UnreadablePhoto"))
            status.write(now=True)

    now, state = Clock(), tmp_path / ".srbatch"
    state.mkdir()
    Ledger.open(state).close()
    status = WatchStatus(state, Path("drop"), clock=now, notify=lambda state: None)
    console = Console(record=True, width=100, force_terminal=True, file=io.StringIO())
    with pytest.raises(Enough):
        live_view.show(tmp_path, None, check=enough, console=console, clock=now, sleep=pass_time)
    text = console.export_text()
    for said in ("no srbatch watch ever wrote", "at work", "2 waiting", "in hand.jpg", "is [bold]damaged"):
        assert said in text
    assert "0 done, 0 skipped, 0 failed in all" in text


@pytest.fixture
def logging_restored() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("srbatch")
    before = (root.handlers[:], ours.level)
    yield
    root.handlers[:] = before[0]
    ours.setLevel(before[1])
    logging.getLogger("watchdog").setLevel(logging.NOTSET)


@pytest.mark.usefixtures("logging_restored")
def test_the_log_in_both_its_forms(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Outcome(photo(), "failed", "is\ndamaged", "UnreadablePhoto")
    configure("info", as_json=True)
    Log().finished(failed)
    Log().finished(Outcome(photo(), "skipped", "done before"))
    (line,) = capsys.readouterr().err.splitlines()
    record = json.loads(line)
    assert (record["level"], record["status"], record["error"]) == ("warning", "failed", "UnreadablePhoto")
    assert record["time"].endswith("Z")
    configure("warning", as_json=False)
    Log().finished(Outcome(photo(), "done"))
    Log().finished(failed)
    assert capsys.readouterr().err.startswith(time.strftime("%Y-"))
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    configure("warning", as_json=False)
    Log().finished(failed)
    assert capsys.readouterr().err.startswith("WARNING failed")
