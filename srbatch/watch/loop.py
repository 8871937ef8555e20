"""The loop of ``srbatch watch``.

Each round looks through the folder, takes what stands still and is not dealt with yet, and hands it to
:func:`srbatch.batch.run_all`; the ledger decides what there is to do. File events and signals only end the
sleep between two rounds, so nothing depends on their coming.

What a photo can be, who knows it, and what moves it on:

==============  =======================================  ===================================================
unsettled       ``Settling``                             it stands still and nobody writes to it: *new*
new             ``RetrySchedule`` has nothing of this    the batch: *done*, *to be retried* or *given up*;
                version of the file                      gone or written to meanwhile: *unsettled*
done, skipped   ``RetrySchedule``: no failure            every 10 minutes and with SIGHUP it is compared
                the ledger: done or skipped              with the ledger, as if *new*; ``--done``: *moved*
to be retried   ``RetrySchedule``: failures, due time    its time: the batch, as if *new*, whatever failure
                the ledger: failed                       the ledger remembers
given up        ``RetrySchedule``: failures, no time     ``--failed``: *moved*; else nothing but a change
                the ledger: failed
moved           the ledger: a source elsewhere           nothing; another photo of its name is *unsettled*
                                                         and gets an output of another name
not moved       ``OutcomeHandler``, beside *done* or     SIGHUP, if it is *done*, or a new start: it is tried
                *given up*                               once more
==============  =======================================  ===================================================

A file that changes is *unsettled* again, whatever it was; one that is gone is forgotten by all but the
ledger, which forgets its failures alone. A photo is *given up* at its first failure if time does not mend
it, or if the ledger remembers it from before the start; but never for want of a place for its output. With
``once`` no due time of a retry is waited for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from srbatch.batch import Run, run_all
from srbatch.discovery.found import Found, Photo
from srbatch.errors import (
    DestinationError,
    DeviceError,
    DeviceOutOfMemory,
    ExitCode,
    LedgerError,
    SrbatchError,
)
from srbatch.outputs.archive import put_right, state_folder
from srbatch.reporting.outcome import Summary
from srbatch.watch.control import Control
from srbatch.watch.events import Events
from srbatch.watch.heartbeat import Heartbeat
from srbatch.watch.input_folder import InputFolder
from srbatch.watch.outcomes import MoveTo, OutcomeCollector, OutcomeHandler, has_changed
from srbatch.watch.presence import FreeSpace, OutputPresence, is_disk_full
from srbatch.watch.renamed import OutputNames
from srbatch.watch.schedule import LookSchedule, RetrySchedule
from srbatch.watch.settle import Settling, busy_test
from srbatch.watch.status import WatchStatus

log = logging.getLogger(__name__)

_AT_ONCE = 32
"""Photos handed to the batch together: between two such handfuls, finished originals are moved."""
_GLANCE_S = 10.0
"""How often it is seen whether input and output are there: of that no event comes."""
_ROOM_EVERY_S = 5.0
"""How often it is seen whether a full disk has room again."""
_FULL_S = 600.0
"""After this long it is tried all the same: a quota does not show in what is free."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the loop is told by, and what tells others of it."""

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
        now = self._control.now
        self._input = InputFolder(
            run.options, run.check, self._control, self._events, self._status, once=once
        )
        self._output = OutputPresence(run.options.out)
        self._names = OutputNames(run)
        self._looks = LookSchedule(clock=now)
        self._settling = Settling(settle_s, clock=now, busy=busy_test(self._input.folder))
        self._retries = RetrySchedule(clock=now)
        self._handler = OutcomeHandler(run, self._retries, move_to, once=once)
        self._uncompared: set[Path] = set()
        """What is left of a comparison with the ledger that was cut off by the time of the next look."""

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
                at_once = found is not None and self._work(found)
            except (DestinationError, LedgerError) as error:
                if self._once or not is_disk_full(error):
                    raise
                self._await_room(error)
                continue
            if found is None:
                self._await_input()
            elif self._once and not at_once and self._settling.due is None:
                failed = self._handler.failures or found.unreadable_folders
                return ExitCode.SOME_FAILED if failed else ExitCode.DONE
            else:
                self._await_next_look(at_once=at_once)

    def _put_right(self) -> None:
        """Finish or forget what the last round left half done, before any photo is judged again.

        An output that got its name as the disk ran full would otherwise pass for somebody else's file.
        """
        self._output.check()  # else its outputs would seem never to have been
        put_right(self._run.ledger, self._run.options)

    def _look(self) -> Found | None:
        start = self._control.now()
        found = self._input.look()
        if found is not None:
            self._looks.looked(since=start)
        return found

    # ---- working ----------------------------------------------------------------------------------

    def _work(self, found: Found) -> bool:
        """Do what there is to do, a handful at a time; returns whether to look again at once.

        Ends early when it is time to look again.
        """
        asked = self._control.take_look_again()
        # One that takes long is gone on with, and not begun anew: its end would never be reached.
        everything = asked or (self._looks.is_comparison_due and not self._uncompared)
        judged, again = self._retries.pick(
            self._settling.look(found.photos), everything=everything, also=self._uncompared
        )
        self._names.note_photos(found.photos)
        self._handler.keep_told(set() if asked else {photo.source for photo in found.photos})
        if everything:
            self._looks.compared()
            self._handler.forget_vanished()
        work = [(handful, False) for handful in _handfuls(judged)] + [(h, True) for h in _handfuls(again)]
        queue = len(judged) + len(again)
        at_once = self._once and bool(work)
        self._uncompared = {photo.source for photo in judged} if everything or self._uncompared else set()
        for handful, is_retry in work:
            self._status.tell("at work", queue=queue, unsettled=self._settling.waiting)
            at_once |= self._do(handful, is_retry=is_retry)
            queue -= len(handful)
            self._uncompared.difference_update(photo.source for photo in handful)
            if self._looks.is_overdue or self._input.is_away():
                at_once |= queue > 0
                break
        at_rest = "waiting for files to be whole" if self._settling.waiting else "idle"
        self._status.tell(at_rest, queue=queue, unsettled=self._settling.waiting)
        return at_once

    def _do(self, photos: Sequence[Photo], *, is_retry: bool) -> bool:
        """Hand photos to the batch and see what became of each; returns whether some changed meanwhile."""
        taken = [self._names.placed(photo) for photo in photos if not has_changed(photo)]
        known = {photo.source for photo in taken if not is_retry and self._handler.failed_before(photo)}
        try:
            run_all(self._retrying() if is_retry else self._run, taken, Summary())
        except DeviceError:
            ended = self._collector.outcomes
            if len(ended) < len(taken) or not any(o.error == DeviceOutOfMemory.__name__ for o in ended):
                raise  # the device is lost; otherwise these photos are too large for it and others may not be
        finally:
            self._heartbeat.nothing_in_hand()
            outcomes = self._collector.take()
            if self._control.stopping is not None:
                self._handler.forget_failures(outcomes)
        changed = [self._handler.handle(o, failed_before=o.photo.source in known) for o in outcomes]
        return len(taken) < len(photos) or any(changed)

    def _retrying(self) -> Run:
        options = replace(self._run.options, retry_failed=True)
        return replace(self._run, settings=replace(self._run.settings, options=options))

    # ---- waiting ----------------------------------------------------------------------------------

    def _await_next_look(self, *, at_once: bool) -> None:
        """Wait for a reason to look again, and not less than it is decent."""
        self._events.check()
        photos_due = (self._settling.due, self._retries.due)
        due = self._looks.earliest if at_once else self._looks.due(photos_due, poll_s=self._events.poll_s)
        while self._control.now() < due:
            if self._sleep(until=due) or not self._input.is_same():
                due = min(due, self._looks.earliest)

    def _await_input(self) -> None:
        due = max(self._looks.earliest, self._control.now() + _GLANCE_S)
        while self._control.now() < due:
            self._sleep(until=due)

    def _sleep(self, *, until: float) -> bool:
        """Sleep until then, or until somebody must hear of us again; returns whether woken."""
        left = until - self._control.now()
        woken = self._control.sleep(min(left, _GLANCE_S, max(self._heartbeat.every_s, 0.1)))
        self._run.check()
        self._status.write()
        self._output.check()
        return woken

    def _await_room(self, error: SrbatchError) -> None:
        """Wait for a full disk to get room; what was in hand is done again then."""
        options = self._run.options
        folders = {options.out, state_folder(options.out, options.state), options.scratch or options.out}
        space, until = FreeSpace(folders), self._control.now() + _FULL_S
        log.error("the disk is full: %s; going on when there is room", error)
        self._status.tell("waiting: the disk is full")
        while not space.has_grown() and self._control.now() < until:
            self._control.sleep(_ROOM_EVERY_S)
            self._run.check()
        log.info("going on")


def _handfuls(photos: Sequence[Photo]) -> Iterator[Sequence[Photo]]:
    for start in range(0, len(photos), _AT_ONCE):
        yield photos[start : start + _AT_ONCE]
