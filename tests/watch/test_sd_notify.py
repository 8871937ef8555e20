"""What a service manager is told, and when it is told nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from srbatch.options import Options
from srbatch.reporting.outcome import Outcome
from srbatch.watch.heartbeat import Heartbeat
from srbatch.watch.sd_notify import Notifier
from tests.conftest import Clock
from tests.watch.conftest import photo


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(os.fspath(tmp_path / "notify"))
        listener.settimeout(0.01)
        yield listener


def heard(listener: socket.socket) -> list[str]:
    said = []
    while True:
        try:
            said.append(listener.recv(4096).decode())
        except TimeoutError:
            return said


def test_what_a_service_manager_is_told(tmp_path: Path, manager: socket.socket, clock: Clock) -> None:
    named = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
    notifier = Notifier(named, clock=clock)
    notifier.ready()
    notifier.status("idle")
    notifier.ping()
    notifier.ping()
    clock.time += 30
    notifier.ping()
    notifier.stopping()
    assert heard(manager) == ["READY=1", "STATUS=idle", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}],
)
def test_where_nobody_asked_nothing_is_sent(
    environ: dict[str, str], tmp_path: Path, manager: socket.socket, clock: Clock
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), **environ}, clock=clock)
    notifier.ping()
    assert heard(manager) == []
    silent = Notifier(environ, clock=clock)
    silent.ready()
    Notifier({"NOTIFY_SOCKET": "@nobody-listens-here"}, clock=clock).ready()


def test_a_photo_that_is_stuck_silences_the_heartbeat(clock: Clock) -> None:
    class Counting(Notifier):
        pings = 0

        def ping(self) -> None:
            self.pings += 1

    notifier = Counting({}, clock=clock)
    heartbeat = Heartbeat(notifier, Options(inputs=(Path("a"),), out=Path("b")), clock=clock)
    clock.time += 1e6
    heartbeat.beat()
    assert notifier.pings == 1, "nothing in hand, nothing stuck"
    heartbeat.started(photo(), 1_000_000)
    clock.time += 600 + 16 * 6 - 1
    heartbeat.progress(photo(), 1)
    clock.time += 600 + 16 * 6 - 1
    heartbeat.beat()
    assert notifier.pings == 2
    clock.time += 2
    heartbeat.beat()
    assert notifier.pings == 2
    heartbeat.finished(Outcome(photo(), "done"))
    heartbeat.beat()
    assert notifier.pings == 3
