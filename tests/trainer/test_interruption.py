"""Which signals a run ends by, and with what it says."""

from __future__ import annotations

import signal
import sys

import pytest

from trainer.interruption import Interrupt

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")


@pytest.mark.parametrize(("first", "code"), [("SIGHUP", 129), ("SIGTERM", 143)])
def test_a_terminal_that_is_closed_is_told_of_twice(first: str, code: int) -> None:
    interrupt = Interrupt()
    before = signal.getsignal(signal.SIGHUP)
    with interrupt.listening():
        assert not interrupt.pending
        signal.raise_signal(signal.Signals[first])
        signal.raise_signal(signal.SIGHUP)
        assert interrupt.pending
    assert interrupt.error().exit_code == code
    assert signal.getsignal(signal.SIGHUP) == before


def test_under_nohup_a_terminal_may_be_closed() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interrupt = Interrupt()
        with interrupt.listening():
            signal.raise_signal(signal.SIGHUP)
        assert not interrupt.pending
    finally:
        signal.signal(signal.SIGHUP, before)
