"""The loop of ``srbatch watch``.

Each round looks through the folder, takes what stands still and is not dealt with yet, and hands it to
:func:`srbatch.batch.run_all`; the ledger decides what there is to do. File events and signals only end the
sleep between two rounds, so nothing depends on their coming.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from srbatch.archive import put_right, state_folder
from srbatch.batch import Run, run_all
from srbatch.discover import Found, Photo
from srbatch.errors import (
    DestinationError,
    DeviceError,
    DeviceOutOfMemory,
    ExitCode,
    PhotoError,
    SrbatchError,
    UsageError,
)
from srbatch.ledger import LedgerError, Row
from srbatch.names import collision_key, show
from srbatch.preflight import source_name
from srbatch.report import Outcome, Silent, Summary
from srbatch.resume import is_remembered
from srbatch.run import find
from srbatch.watch.control import Control
from srbatch.watch.events import Events
from srbatch.watch.heartbeat import Heartbeat
from srbatch.watch.outcomes import MoveTo, OutcomeHandler, has_changed
from srbatch.watch.presence import Presence, Room, check_output_is_there, device_of, is_disk_full
from srbatch.watch.renamed import placed
from srbatch.watch.schedule import RetrySchedule
from srbatch.watch.settle import Settling, busy_test
from srbatch.watch.status import WatchStatus

log = logging.getLogger(__name__)

_AT_ONCE = 32
"""Photos handed to the batch together: between two such handfuls, finished originals are moved."""
_LOOK_EVERY_S = 60.0
"""How often the folder is looked through while there is always something to do."""
_SAFETY_S = 600.0
"""How often it is looked through although no event came, and everything compared with the ledger again."""
_CALM_S = 0.5
"""The least time between two looks, however many events come; and so many times as long as a look takes:"""
_CALM_FACTOR = 5.0
_GLANCE_S = 10.0
"""How often it is seen whether input and output are there: of that no event comes."""
_SAY_AGAIN_S = 300.0
_ROOM_EVERY_S = 5.0
"""How often it is seen whether a full disk has room again."""
_FULL_S = 600.0
"""After this long it is tried all the same: a quota does not show in what is free."""


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


@dataclass(frozen=True, slots=True)
class Services:
    """What the loop hears through and speaks to."""

    control: Control
    events: Events
    collector: OutcomeCollector
    heartbeat: Heartbeat
    status: WatchStatus


class Watcher:
    """Everything that is known between two rounds; it grows with the folder, not with time."""

    def __init__(self, run: Run, services: Services, move_to: MoveTo, *, settle_s: float, once: bool) -> None:
        self._run, self._once = run, once
        self._control, self._events, self._collector = services.control, services.events, services.collector
        self._heartbeat, self._status = services.heartbeat, services.status
        (self._folder,) = run.options.inputs
        self._out = run.options.out
        self._out_device = device_of(self._out)
        self._presence = Presence(self._folder, by_inode=self._events.poll_s is None)
        now = self._control.now
        self._settling = Settling(settle_s, clock=now, busy=busy_test(self._folder))
        self._retries = RetrySchedule(clock=now)
        self._handler = OutcomeHandler(run, self._retries, move_to, once=once)
        self._photos: list[Photo] = []
        """Of the latest look."""
        self._natural: set[str] | None = None
        """Keys of the targets that they would have by their own names, once they are asked for."""
        self._away_said = float("-inf")
        self._looked, self._look_s = float("-inf"), 0.0
        self._judged_all = float("-inf")
        self._unlisted: list[tuple[Path, str]] = []
        self._go_on = False
        """Whether there is more to do at once."""

    def loop(self) -> ExitCode:
        """Go on until ``check`` raises, or with ``once`` until nothing is left to do.

        Raises:
            SrbatchError: what only a new start may mend.
        """
        while True:
            self._run.check()
            try:
                self._put_right()
                found = self._look()
                if found is not None and not self._work(found) and self._once and self._settling.due is None:
                    failed = self._handler.failures or found.unreadable_folders
                    return ExitCode.SOME_FAILED if failed else ExitCode.DONE
            except (DestinationError, LedgerError) as error:
                if self._once or not is_disk_full(error):
                    raise
                self._await_room(error)
            else:
                self._sleep(is_away=found is None)

    def _put_right(self) -> None:
        """Finish or forget what the last round left half done, before any photo is judged again.

        An output that got its name as the disk ran full would otherwise pass for somebody else's file.
        """
        check_output_is_there(self._out, self._out_device)  # else its outputs would seem never to have been
        put_right(self._run.ledger, self._out)

    # ---- looking ----------------------------------------------------------------------------------

    def _look(self) -> Found | None:
        """What is in the folder; None while it is away, which is said now and then."""
        start, away, found = self._control.now(), self._presence.why_away(), None
        if away is None:
            try:
                found = find(self._run.options)
            except UsageError as error:
                away = str(error)
        if found is None or away is not None:
            self._say_away(away or "")
            return None
        if self._presence.is_new:
            log.info("%s is there", show(self._folder))
            self._presence.is_new = False
            self._events.renew()
        self._away_said = float("-inf")
        self._looked = self._control.now()
        self._look_s = self._looked - start
        self._say_unlisted(found)
        return found

    def _say_away(self, why: str) -> None:
        if self._once:
            raise UsageError(why)
        self._status.tell(f"waiting for the input: {why}")
        if self._control.now() - self._away_said >= _SAY_AGAIN_S:
            self._away_said = self._control.now()
            log.warning("waiting: %s", why)

    def _say_unlisted(self, found: Found) -> None:
        for folder, why in found.unreadable_folders:
            if (folder, why) not in self._unlisted:
                log.warning("folder %s could not be listed: %s", show(folder), why)
        self._unlisted = found.unreadable_folders

    # ---- working ----------------------------------------------------------------------------------

    def _work(self, found: Found) -> bool:
        """Do what there is to do, a handful at a time; returns whether there was anything.

        Ends early when it is time to look again.
        """
        asked = self._control.take_look_again()
        everything = asked or self._looked - self._judged_all >= _SAFETY_S
        settled = self._settling.look(found.photos)
        judged, again = self._retries.pick(settled, everything=everything)
        self._photos, self._natural = found.photos, None
        self._handler.keep_unmoved(set() if asked else {photo.source for photo in found.photos})
        if everything:
            self._judged_all = self._looked
            self._handler.forget_vanished()
        work = [(handful, False) for handful in _handfuls(judged)] + [(h, True) for h in _handfuls(again)]
        queue = len(judged) + len(again)
        self._go_on = self._once and bool(work)
        for handful, is_retry in work:
            self._status.tell("at work", queue=queue, unsettled=self._settling.waiting)
            self._do(handful, is_retry=is_retry)
            queue -= len(handful)
            if self._control.now() - self._looked >= _LOOK_EVERY_S or self._presence.why_away():
                self._go_on |= queue > 0
                break
        self._status.tell(self._at_rest(), queue=queue, unsettled=self._settling.waiting)
        return bool(work)

    def _at_rest(self) -> str:
        return "waiting for files to be whole" if self._settling.waiting else "idle"

    def _do(self, photos: Sequence[Photo], *, is_retry: bool) -> None:
        """Hand photos to the batch and see what became of each."""
        taken = [self._placed(photo) for photo in photos if not has_changed(photo)]
        known = {photo.source for photo in taken if not is_retry and self._failed_before(photo)}
        self._go_on |= len(taken) < len(photos)
        run = self._retrying() if is_retry else self._run
        try:
            run_all(run, taken, Summary())
        except DeviceError:
            ended = self._collector.outcomes
            if len(ended) < len(taken) or not any(o.error == DeviceOutOfMemory.__name__ for o in ended):
                raise  # the device is lost; otherwise these photos are too large for it and others may not be
        finally:
            self._heartbeat.nothing_in_hand()
            outcomes = self._collector.take()
            if self._control.stopping is not None:
                self._handler.forget_failures(outcomes)
        for outcome in outcomes:
            self._go_on |= self._handler.handle(outcome, failed_before=outcome.photo.source in known)

    def _retrying(self) -> Run:
        options = replace(self._run.options, retry_failed=True)
        return replace(self._run, settings=replace(self._run.settings, options=options))

    def _failed_before(self, photo: Photo) -> bool:
        """Whether the ledger remembers a failure of this very file, so that it is not tried."""
        row = self._row(photo)
        if row is None or row.status != "failed" or self._run.options.retry_failed:
            return False
        return is_remembered(row.error) and (row.size, row.mtime_ns) == (photo.size, photo.mtime_ns)

    def _placed(self, photo: Photo) -> Photo:
        """The photo with the target that is its own, also where one of its name was moved away."""
        row = self._row(photo)
        source = source_name(photo, self._out)
        if photo.problem or row is None or row.status != "done" or row.source == source:
            return photo
        if not os.path.lexists(photo.target):
            return photo
        try:
            sha256 = self._run.codecs.hash(photo.source)
        except PhotoError:
            return photo  # the batch will say why it cannot be read
        return placed(
            photo,
            sha256,
            to=self._run.options.format,
            row_of=self._run.ledger.row,
            is_taken=self._is_taken,
        )

    def _is_taken(self, relative: PurePath) -> bool:
        if self._natural is None:
            self._natural = {collision_key(photo.relative) for photo in self._photos}
        return collision_key(relative) in self._natural or os.path.lexists(self._out / relative)

    def _row(self, photo: Photo) -> Row | None:
        return self._run.ledger.row(photo.relative.as_posix())

    # ---- waiting ----------------------------------------------------------------------------------

    def _sleep(self, *, is_away: bool) -> None:
        """Wait for a reason to look again, and not less than it is decent."""
        if not is_away:
            self._events.check()
        now = self._control.now()
        every_s = _GLANCE_S if is_away else self._events.poll_s or _SAFETY_S
        calm = self._looked + max(_CALM_S, _CALM_FACTOR * self._look_s)
        reasons = [] if is_away else [self._settling.due, self._retries.due, now if self._go_on else None]
        last = now if is_away else self._looked
        due = max(calm, min([last + every_s, *(reason for reason in reasons if reason is not None)]))
        while (left := due - self._control.now()) > 0:
            woken = self._control.sleep(min(left, _GLANCE_S, max(self._heartbeat.every_s, 0.1)))
            if not is_away and (woken or not self._presence.is_same()):
                due = min(due, calm)
            self._run.check()
            self._status.write()
            check_output_is_there(self._out, self._out_device)

    def _await_room(self, error: SrbatchError) -> None:
        """Wait for a full disk to get room; what was in hand is done again then."""
        options = self._run.options
        folders = {self._out, state_folder(self._out, options.state), options.scratch or self._out}
        room, until = Room(folders), self._control.now() + _FULL_S
        log.error("the disk is full: %s; going on when there is room", error)
        self._status.tell("waiting: the disk is full")
        while not room.has_grown() and self._control.now() < until:
            self._control.sleep(_ROOM_EVERY_S)
            self._run.check()
        log.info("going on")


def _handfuls(photos: Sequence[Photo]) -> Iterator[Sequence[Photo]]:
    for start in range(0, len(photos), _AT_ONCE):
        yield photos[start : start + _AT_ONCE]
