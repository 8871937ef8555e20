"""What the watcher is doing, in a small file in the state folder, for ``srbatch status``."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import psutil

from srbatch.discovery.found import Photo
from srbatch.names import show
from srbatch.outputs.commit import discard
from srbatch.reporting.outcome import Outcome
from srbatch.reporting.report import Silent
from srbatch.reporting.snapshot import FILE, Snapshot

_EVERY_S = 1.0
_ERRORS = 10
_RATE_OF = 50
"""The latest photos, from which the rate follows."""
_MOST_NAMES = 8


class WatchStatus(Silent):
    """Hears of the photos and writes the file: when something has changed, at most once a second.

    Nothing is written while nothing happens, so that the disks of a NAS may sleep.
    """

    def __init__(
        self,
        state: Path,
        folder: Path,
        *,
        clock: Callable[[], float],
        notify: Callable[[str], None],
    ) -> None:
        """``notify`` is told of each new state."""
        process = psutil.Process()
        self._path = state / FILE
        self._clock, self._notify = clock, notify
        self._now = Snapshot(
            socket.gethostname(), process.pid, process.create_time(), show(folder.absolute()), "starting"
        )
        self._turn = threading.Lock()
        self._in_hand: dict[Path, str] = {}
        self._errors: deque[tuple[float, str, str]] = deque(maxlen=_ERRORS)
        self._ended: deque[tuple[float, float]] = deque(maxlen=_RATE_OF)  # (when, megapixels)
        self._changed, self._last = False, float("-inf")

    @property
    def in_hand(self) -> int:
        """Photos that are being done."""
        return len(self._in_hand)

    def started(self, photo: Photo, pixels: int) -> None:
        with self._turn:
            if not self._ended:
                self._ended.append((self._clock(), 0.0))
            self._in_hand[photo.source] = show(photo.relative)
            self._changed = True

    def finished(self, outcome: Outcome) -> None:
        with self._turn:
            self._in_hand.pop(outcome.photo.source, None)
            self._now.queue = max(self._now.queue - 1, 0)
            if outcome.status == "done" and outcome.size_in:
                megapixels = outcome.size_in[0] * outcome.size_in[1] / 1e6
                self._now.done += 1
                self._now.megapixels += megapixels
                self._ended.append((self._clock(), megapixels))
            elif outcome.status == "failed":
                self._now.failed += 1
                self._errors.append((time.time(), show(outcome.photo.source), outcome.reason))
            self._changed = True

    def tell(
        self, state: str | None = None, *, queue: int | None = None, unsettled: int | None = None
    ) -> None:
        """Something is another than before; what is not named stays."""
        with self._turn:
            other_state = state is not None and state != self._now.state
            if state is not None and other_state:
                self._now.state = state
                self._notify(state)
                self._in_hand.clear()  # whatever was cut off; and the rate is that of one spell of work
                self._ended.clear()
            numbers = (self._now.queue, self._now.unsettled)
            self._now.queue = self._now.queue if queue is None else queue
            self._now.unsettled = self._now.unsettled if unsettled is None else unsettled
            self._changed |= other_state or numbers != (self._now.queue, self._now.unsettled)
        self.write(now=other_state)

    def write(self, *, now: bool = False) -> None:
        """Write the file if it is due; a full disk or the like is no reason to end."""
        with self._turn:
            if not self._changed or (self._clock() - self._last < _EVERY_S and not now):
                return
            self._changed, self._last = False, self._clock()
            self._now.written = round(time.time(), 3)
            self._now.in_hand = sorted(self._in_hand.values())[:_MOST_NAMES]
            self._now.errors = list(self._errors)
            self._now.rate = self._rate()
            text = json.dumps(asdict(self._now))
        temp = self._path.with_suffix(".part")
        discard(temp)  # a link: what it leads to is not ours
        with contextlib.suppress(OSError):
            with temp.open("x", encoding="utf-8") as file:
                file.write(text)
            temp.replace(self._path)

    def _rate(self) -> float:
        if len(self._ended) < 2:
            return 0.0
        seconds = self._ended[-1][0] - self._ended[0][0]
        return round(sum(megapixels for _, megapixels in list(self._ended)[1:]) / max(seconds, 1e-3), 3)
