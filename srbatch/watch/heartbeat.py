"""What keeps the service manager from restarting the watcher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from srbatch.codecs.codec_pool import encode_limit_s
from srbatch.discovery.found import Photo
from srbatch.options import MAX_FACTOR, Options
from srbatch.reporting.outcome import Outcome
from srbatch.reporting.report import Silent
from srbatch.watch.sd_notify import Notifier

_STUCK_S = 600.0


class Heartbeat(Silent):
    """Tells the service manager that we are alive, as long as photos in hand get on.

    Being asked at every step is not enough: while one thread waits in vain for a device that hangs, others
    go on asking. So when no photo began, got on or ended for longer than its codec may take, it falls silent.
    """

    def __init__(self, notifier: Notifier, options: Options, *, clock: Callable[[], float]) -> None:
        self._notifier, self._clock = notifier, clock
        self._factor = options.size.scale or MAX_FACTOR
        self._limit_s = max(_STUCK_S, options.codec_timeout_s)
        self._moved, self._in_hand = clock(), dict[Path, int]()

    def started(self, photo: Photo, pixels: int) -> None:
        self._in_hand[photo.source] = pixels
        self._moved = self._clock()

    def progress(self, photo: Photo, pixels: float) -> None:
        self._moved = self._clock()

    def finished(self, outcome: Outcome) -> None:
        self._in_hand.pop(outcome.photo.source, None)
        self._moved = self._clock()

    def nothing_in_hand(self) -> None:
        """The batch has ended, however."""
        self._in_hand.clear()

    @property
    def every_s(self) -> float:
        """How often ``beat`` has to be called."""
        return self._notifier.ping_every_s

    def beat(self) -> None:
        """Tell it, unless photos are stuck."""
        largest = max(tuple(self._in_hand.values()), default=None)
        patience_s = None if largest is None else encode_limit_s(largest * self._factor**2, self._limit_s)
        if patience_s is None or self._clock() - self._moved < patience_s:
            self._notifier.ping()
