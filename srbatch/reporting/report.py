"""Who hears of a run while it goes on, and what people are told in plain lines.

Standard output is for data (:mod:`srbatch.reporting.report_files`), standard error for people. Nothing else
prints.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, Protocol

from srbatch.discovery.found import Found, Photo
from srbatch.reporting.outcome import Outcome, Summary, duration, outcome_line, summary_lines

_PLAIN_EVERY_S = 30.0
_MANY_PHOTOS = 1000


class Reporter(Protocol):
    """Hears of a run. Several photos may be in hand at once; the calls come one at a time."""

    def found(self, found: Found) -> None:
        """The photos of the run are known, and the output folder belongs to it. Not called for a dry run."""

    def begin(self, photos: int, pixels: int) -> None:
        """That many photos, with that many pixels, are going to be done."""

    def started(self, photo: Photo, pixels: int) -> None:
        """A photo with that many pixels is being done."""

    def progress(self, photo: Photo, pixels: float) -> None:
        """So many more pixels of it are done; fewer, where it had to start again."""

    def finished(self, outcome: Outcome) -> None:
        """A photo has ended."""

    def end(self, summary: Summary) -> None:
        """The run is over, or was interrupted."""


class Silent:
    """Hears and says nothing; the base of the others."""

    def found(self, found: Found) -> None: ...
    def begin(self, photos: int, pixels: int) -> None: ...
    def started(self, photo: Photo, pixels: int) -> None: ...
    def progress(self, photo: Photo, pixels: float) -> None: ...
    def finished(self, outcome: Outcome) -> None: ...
    def end(self, summary: Summary) -> None: ...


class Several(Silent):
    """Passes everything on, from whatever thread it comes, one call at a time."""

    def __init__(self, reporters: Iterable[Reporter]) -> None:
        self._reporters = tuple(reporters)
        self._turn = threading.Lock()

    def found(self, found: Found) -> None:
        self._tell(lambda reporter: reporter.found(found))

    def begin(self, photos: int, pixels: int) -> None:
        self._tell(lambda reporter: reporter.begin(photos, pixels))

    def started(self, photo: Photo, pixels: int) -> None:
        self._tell(lambda reporter: reporter.started(photo, pixels))

    def progress(self, photo: Photo, pixels: float) -> None:
        self._tell(lambda reporter: reporter.progress(photo, pixels))

    def finished(self, outcome: Outcome) -> None:
        self._tell(lambda reporter: reporter.finished(outcome))

    def end(self, summary: Summary) -> None:
        self._tell(lambda reporter: reporter.end(summary))

    def _tell(self, what: Callable[[Reporter], None]) -> None:
        with self._turn:
            for reporter in self._reporters:
                what(reporter)


@dataclass(slots=True)
class InHand:
    """A photo that was begun."""

    pixels: int
    done: float = 0.0


class Pace:
    """How far a run is and how long it will take, by pixels: photos differ a hundredfold in size."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self.in_hand: dict[Photo, InHand] = {}
        """In the order in which they were begun."""
        self._ended = 0
        self._start = time.monotonic()

    def started(self, photo: Photo, pixels: int) -> None:
        """A photo of that many pixels begins."""
        self.in_hand[photo] = InHand(pixels)

    def progress(self, photo: Photo, pixels: float) -> None:
        """So many more of its pixels are done."""
        self.in_hand[photo].done += pixels

    def finished(self, photo: Photo) -> None:
        """A photo has ended, however; all of it counts. One that was not begun counts for nothing."""
        ended = self.in_hand.pop(photo, None)
        if ended is not None:
            self._ended += ended.pixels

    @property
    def done(self) -> float:
        """Pixels done."""
        return self._ended + sum(known.done for known in self.in_hand.values())

    @property
    def rate(self) -> float:
        """Pixels per second."""
        return self.done / max(time.monotonic() - self._start, 1e-3)

    @property
    def left_s(self) -> float | None:
        """Seconds to go, once something is done."""
        return (self.pixels - self.done) / self.rate if self.done >= 1 else None

    def __str__(self) -> str:
        left = f", {duration(self.left_s)} to go" if self.left_s is not None else ""
        return (
            f"{self.done / 1e6:.1f} of {self.pixels / 1e6:.1f} megapixels,"
            f" {self.rate / 1e6:.3f} megapixels/s{left}"
        )


class ForPeople(Several):
    """Passes on to a reporter that people read: a terminal that goes away, or a full log, ends no run."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__([reporter])

    def _tell(self, what: Callable[[Reporter], None]) -> None:
        with contextlib.suppress(OSError):
            super()._tell(what)


def found_line(found: Found) -> str | None:
    """What is said once the photos are known, if they are so many that to look at them all takes a while."""
    if len(found.photos) < _MANY_PHOTOS:
        return None
    return f"{len(found.photos):,} photos found; looking at which of them there is something to do"


class Plain(Silent):
    """Lines on standard error, for logs: each photo as it ends, and now and then how far it is."""

    def __init__(self, stream: IO[str] | None = None, *, quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._pace = Pace(0)
        self._last = time.monotonic()

    def found(self, found: Found) -> None:
        if line := found_line(found):
            self._say(line)

    def begin(self, photos: int, pixels: int) -> None:
        self._pace = Pace(pixels)
        self._say(f"{photos} {'photo' if photos == 1 else 'photos'} to do, {pixels / 1e6:.1f} megapixels")

    def started(self, photo: Photo, pixels: int) -> None:
        self._pace.started(photo, pixels)

    def progress(self, photo: Photo, pixels: float) -> None:
        self._pace.progress(photo, pixels)
        now = time.monotonic()
        if now - self._last >= _PLAIN_EVERY_S:
            self._last = now
            self._say(str(self._pace))

    def finished(self, outcome: Outcome) -> None:
        self._pace.finished(outcome.photo)
        if outcome.status != "skipped" or outcome.notes:
            self._say(outcome_line(outcome))

    def end(self, summary: Summary) -> None:
        for line in summary_lines(summary):
            self._write(line)

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._write(line)

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()
