"""Sleep, and the signals that end it."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from srbatch.watch.control import Control


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_sleep(number: int) -> None:
    before = signal.getsignal(number)
    with Control(stop_within_s=5) as control, control.signals():
        timer = threading.Timer(0.05, os.kill, (os.getpid(), number))
        timer.start()
        assert control.sleep(20)
        timer.join()
        assert control.stopping == number
        assert not control.overdue
        control.now = lambda: time.monotonic() + 6  # type: ignore[method-assign]
        assert control.overdue
    assert signal.getsignal(number) is before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_sighup_asks_to_look_again() -> None:
    with Control(stop_within_s=5) as control, control.signals():
        assert not control.take_look_again()
        os.kill(os.getpid(), signal.SIGHUP)
        assert control.sleep(20)
        assert control.take_look_again()
        assert not control.take_look_again()
        assert control.stopping is None


def test_waking_up_from_a_thread_before_during_and_after() -> None:
    with Control(stop_within_s=5) as control:
        for _ in range(100_000):
            control.wake()
        assert control.sleep(20)
        assert not control.sleep(0)
        timer = threading.Timer(0.05, control.wake)
        timer.start()
        assert control.sleep(20)
        timer.join()
    control.wake()
