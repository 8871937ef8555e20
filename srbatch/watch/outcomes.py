"""What the watcher does about a photo once the batch is through with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from pathlib import Path

from srbatch.batch import Run
from srbatch.discovery.found import Photo
from srbatch.errors import DestinationError, PhotoTooLarge, UnsupportedPhoto, is_of_output, one_line
from srbatch.names import show
from srbatch.preflight import forget_vanished, source_name
from srbatch.reporting.outcome import Outcome, duration, outcome_line
from srbatch.reporting.report import Silent
from srbatch.resume import HAS_OUTPUT, comes_again, is_remembered
from srbatch.watch.moving import NotMoved, OriginalsFolder, is_as_found
from srbatch.watch.schedule import RetrySchedule

log = logging.getLogger(__name__)

_FOREVER = (UnsupportedPhoto.__name__, PhotoTooLarge.__name__)
"""Failures that time does not mend."""


@dataclass(frozen=True, slots=True)
class MoveTo:
    """Where originals are moved; None: they stay where they are."""

    done: OriginalsFolder | None = None
    failed: OriginalsFolder | None = None


class OutcomeCollector(Silent):
    """Keeps the outcomes of one handful of photos."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def finished(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def take(self) -> list[Outcome]:
        """Those since the last call."""
        taken, self.outcomes = self.outcomes, []
        return taken


class OutcomeHandler:
    """Notes what became of photos, has failed ones tried again, and moves originals."""

    def __init__(self, run: Run, retries: RetrySchedule, move_to: MoveTo, *, once: bool) -> None:
        self._ledger, self._out, self._folder = run.ledger, run.options.out, run.options.inputs[0]
        self._retries, self._move_to, self._once = retries, move_to, once
        self._options = run.options
        self._moved_failures = 0
        self._unmoved: set[Path] = set()
        """Originals that could not be moved, which was said."""
        self._without_place: dict[Path, str] = {}
        """Originals whose outputs have no place, and why, as was said."""

    @property
    def failures(self) -> int:
        """How many photos failed and are not done since."""
        return self._retries.failures + self._moved_failures

    def keep_told(self, there: Set[Path]) -> None:
        """What was said of originals is not said again, nor tried, as long as they are in ``there``."""
        self._unmoved &= there
        for source in self._without_place.keys() - there:
            del self._without_place[source]

    def failed_before(self, photo: Photo) -> bool:
        """Whether the ledger remembers a failure of this very file, so that it is not tried."""
        row = self._ledger.latest(photo.relative.as_posix())
        if row is None or row.status != "failed" or self._options.retry_failed:
            return False
        return comes_again(row, self._options) and (row.size, row.mtime_ns) == (photo.size, photo.mtime_ns)

    def handle(self, outcome: Outcome, *, failed_before: bool) -> bool:
        """Deal with one; returns whether its photo has changed meanwhile.

        ``failed_before``: the ledger knew the failure, and the photo was not tried.
        """
        photo = outcome.photo
        if has_changed(photo):  # it went away or was written to; the next look sees what it is now
            self.forget_failures([outcome])
            self._retries.forget(photo)
            return True
        if not is_of_output(outcome.error):
            self._without_place.pop(photo.source, None)
        if outcome.status != "failed":
            self._retries.ended(photo)
            has_output = outcome.status == "done" or outcome.reason in HAS_OUTPUT
            if self._move_to.done and has_output:
                self._move(photo, self._move_to.done)
        else:
            self._failed(outcome, failed_before=failed_before)
        return False

    def _failed(self, outcome: Outcome, *, failed_before: bool) -> None:
        photo = outcome.photo
        if is_of_output(outcome.error):
            self._say_why_it_waits(outcome, self._retries.failed(photo, final=False, endless=True))
            return
        pause_s = self._retries.failed(photo, final=failed_before or outcome.error in _FOREVER)
        if pause_s is None:
            log.warning("%s is given up until it changes", show(photo.called))
            if self._move_to.failed and self._is_at_fault(outcome):
                self._move(photo, self._move_to.failed, reason=outcome.reason.partition(" (as before;")[0])
        elif not self._once:
            log.info("%s is tried again in %s", show(photo.called), duration(pause_s))

    def _say_why_it_waits(self, outcome: Outcome, pause_s: float | None) -> None:
        """Once, as it comes again every 10 minutes, and may be so of all photos of a folder."""
        photo = outcome.photo
        if self._without_place.get(photo.source) == outcome.reason:
            return
        self._without_place[photo.source] = outcome.reason
        log.warning("%s", outcome_line(outcome), extra={"photo": outcome.as_record()})
        if not self._once and pause_s is not None:
            until = "until its output has a place"
            log.info("%s is tried again in %s, and %s", show(photo.called), duration(pause_s), until)

    def _is_at_fault(self, outcome: Outcome) -> bool:
        """Whether it is the file that is to be mended, and not, of one that was done, something beside it."""
        photo = outcome.photo
        row = self._ledger.row(photo.relative.as_posix())
        if row is None or row.status != "done":
            return True
        return is_remembered(outcome.error) and (row.size, row.mtime_ns) != (photo.size, photo.mtime_ns)

    def _move(self, photo: Photo, folder: OriginalsFolder, *, reason: str = "") -> None:
        """Move an original away; the ledger hears of it first, so that its output stays its own.

        Cut off in between, the next round knows the photo by its hash and moves it.
        """
        row = self._ledger.latest(photo.relative.as_posix())
        if photo.source in self._unmoved or row is None:
            return

        def note(path: Path) -> None:
            if (row.status == "failed") == bool(reason):  # otherwise it is of what was there before
                moved = replace(photo, source=path)
                self._ledger.record(replace(row, source=source_name(moved, self._out)))

        try:
            moved = folder.move(photo, tag=(row.sha256 or "")[:8], text=_words(photo, reason), before=note)
        except (NotMoved, DestinationError) as error:
            note(photo.source)
            self._unmoved.add(photo.source)
            log.warning("%s was not moved to %s: %s", show(photo.source), show(folder.top), error)
        else:
            self._retries.forget(photo)
            self._moved_failures += bool(reason)
            log.info("%s was moved to %s", show(photo.called), show(moved))

    def forget_failures(self, outcomes: Iterable[Outcome]) -> None:
        """What failed because it went away, or because a signal hit the codecs with us, has not failed."""
        self._ledger.forget_failures(o.photo.relative.as_posix() for o in outcomes if o.status == "failed")

    def forget_vanished(self) -> None:
        """Failures of files that are there no more are none."""
        failed = self._move_to.failed
        tops = (self._folder, failed.top) if failed else (self._folder,)
        forget_vanished(self._ledger, self._out, tops)


def has_changed(photo: Photo) -> bool:
    """Whether a photo is not any more what it was found as; one that could not be looked at never is."""
    return photo.size >= 0 and not is_as_found(photo, photo.source)


def _words(photo: Photo, reason: str) -> str:
    if not reason:
        return ""
    advice = "Put it back, mended, to have it tried again."
    return f"{show(photo.called)} could not be upscaled: {one_line(reason)}\n{advice}\n"
