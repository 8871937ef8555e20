"""The watcher's sleep, and what may end it: file events and signals."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOP = ("SIGINT", "SIGTERM")
_LOOK_AGAIN = "SIGHUP"


class Control:
    """Sleeps until woken. A context manager; ``signals`` is used in the main thread."""

    def __init__(self, *, stop_within_s: float) -> None:
        self._stop_within_s = stop_within_s
        self._deadline = 0.0
        # A byte through a socket is what both a signal handler and another thread can send at any moment.
        self._wake_receiver, self._wake_sender = socket.socketpair()
        for end in (self._wake_receiver, self._wake_sender):
            end.setblocking(False)
        self.stopping: int | None = None
        """The signal that asked us to stop."""
        self._look_again = False

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self._wake_receiver.close()
        self._wake_sender.close()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Listen to SIGINT, SIGTERM and SIGHUP; a second SIGINT or SIGTERM ends the process at once."""
        handlers = dict.fromkeys(_STOP, self._on_stop) | {_LOOK_AGAIN: self._on_look_again}
        numbers = {getattr(signal, name): on for name, on in handlers.items() if hasattr(signal, name)}
        previous = {number: signal.signal(number, on) for number, on in numbers.items()}
        # Written to at the very moment of a signal, also where the sleep does not end by itself (Windows).
        wakeup = signal.set_wakeup_fd(self._wake_sender.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def now(self) -> float:
        """Seconds of a clock that never jumps."""
        return time.monotonic()

    def sleep(self, seconds: float) -> bool:
        """Wait, but not longer than until woken; returns whether that was so."""
        ready, _, _ = select.select([self._wake_receiver], [], [], max(seconds, 0.0))
        if ready:
            with contextlib.suppress(BlockingIOError):
                while self._wake_receiver.recv(4096):
                    pass
        return bool(ready)

    def wake(self) -> None:
        """End the sleep, or the next one; from any thread."""
        with contextlib.suppress(OSError):  # full: it will wake up anyway; closed: nobody sleeps
            self._wake_sender.send(b"!")

    @property
    def overdue(self) -> bool:
        """Whether the time to finish what is in hand is over."""
        return self.stopping is not None and self.now() >= self._deadline

    def take_look_again(self) -> bool:
        """Whether SIGHUP came since the last call."""
        asked, self._look_again = self._look_again, False
        return asked

    def _on_stop(self, number: int, _: FrameType | None) -> None:
        if self.stopping is not None:
            os._exit(128 + number)  # outputs are whole or absent at any moment, so this is safe
        self._deadline = self.now() + self._stop_within_s
        self.stopping = number

    def _on_look_again(self, number: int, _: FrameType | None) -> None:
        self._look_again = True
