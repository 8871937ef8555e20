"""``srbatch watch``: the batch in a loop over a folder, for months."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from srbatch.errors import DestinationError, ExitCode, Interrupted, UsageError
from srbatch.model import Model
from srbatch.names import show
from srbatch.options import Options
from srbatch.outputs.archive import state_folder
from srbatch.outputs.ledger import Ledger
from srbatch.places import is_folder
from srbatch.preflight import Settings
from srbatch.reporting.report import Several
from srbatch.run import find, session
from srbatch.watch.control import Control
from srbatch.watch.events import Events
from srbatch.watch.heartbeat import Heartbeat
from srbatch.watch.log import Log
from srbatch.watch.loop import Services, Watcher
from srbatch.watch.moving import OriginalsFolder
from srbatch.watch.outcomes import MoveTo, OutcomeCollector
from srbatch.watch.sd_notify import Notifier
from srbatch.watch.status import WatchStatus

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """How ``srbatch watch`` goes about it.

    Raises:
        UsageError: a value is out of range; the message names the flag.
    """

    settle_s: float = 2.0
    """So long size and date of a file must stand still before it is taken."""
    poll_s: float | None = None
    """How often the folder is looked through; None: whenever file events say so."""
    once: bool = False
    """End when nothing is left to do."""
    done: Path | None = None
    """Where finished originals are moved."""
    failed: Path | None = None
    """Where originals are moved that were given up."""
    stop_within_s: float = 20.0
    """Time to finish the photos in hand once we are asked to stop."""
    expect_ledger: bool = False
    """Refuse to begin a new ledger."""

    def __post_init__(self) -> None:
        if not 0 <= self.settle_s < float("inf"):
            raise UsageError(f"--settle {self.settle_s:g}: 0 or more seconds")
        if self.poll_s is not None and not 0 < self.poll_s < float("inf"):
            raise UsageError(f"--poll {self.poll_s:g}: more than 0 seconds")
        if not 0 <= self.stop_within_s < float("inf"):
            raise UsageError(f"--stop-within {self.stop_within_s:g}: 0 or more seconds")


def watch(
    options: Options,
    how: WatchOptions,
    *,
    control: Control,
    notifier: Notifier | None = None,
    command: str = "",
    model_of: Callable[[Options], Model] = Model,
) -> ExitCode:
    """Do what ``srbatch watch`` does, until ``control`` says stop; with ``once``, until all is done.

    Raises:
        SrbatchError: it could not begin or cannot go on; Interrupted only with ``once``.
    """
    (folder,) = options.inputs
    _check_there(folder, once=how.once)
    state = state_folder(options.out, options.state)
    if how.expect_ledger and not Ledger.is_in(state):
        raise DestinationError(
            f"{show(state)} holds no ledger: is the disk of the outputs away? To begin with an output folder,"
            " run once without --expect-ledger"
        )
    notifier = notifier or Notifier(clock=control.now)
    try:
        # Refuses an output inside the input before anything is made.
        find(options, lambda: _check_stopping(control))
    except Interrupted as error:
        return _stopped(error, how)
    settings, move_to = Settings(options, model_of(options)), _where_to_move(how, folder, options.out)
    status = WatchStatus(state, folder, clock=control.now, notify=notifier.status)
    heartbeat, collector = Heartbeat(notifier, options, clock=control.now), OutcomeCollector()
    reporter, check = Several([collector, heartbeat, status, Log()]), _check(control, status, heartbeat)
    going = session(
        settings,
        reporter=reporter,
        check=check,
        command=command,
        goes_on=lambda: control.stopping is None,
    )
    with going as run:
        try:
            with Events(folder, control.wake, poll_s=how.poll_s, recursive=options.recursive) as events:
                _say_hello(options, how, events)
                notifier.ready()
                services = Services(control, events, collector, heartbeat, status)
                return Watcher(run, services, move_to, settle_s=how.settle_s, once=how.once).loop()
        except Interrupted as error:
            return _stopped(error, how)
        finally:
            notifier.stopping()
            status.tell("stopped", queue=0, unsettled=0)


def _check_there(folder: Path, *, once: bool) -> None:
    """A service is started anew after all but wrong flags, and the folder's disk may come back.

    Raises:
        UsageError: it is no folder, or with ``once`` not there.
        DestinationError: it is not there.
    """
    if is_folder(folder):
        return
    # Of a link to a disk that is away, it is not so. Path.exists raises an error where a share fails.
    if once or os.path.exists(folder):  # noqa: PTH110
        raise UsageError(f"{show(folder)} is not a folder; srbatch watch takes one folder")
    raise DestinationError(f"{show(folder)} is not there; srbatch watch takes one folder")


def _check_stopping(control: Control) -> None:
    if control.stopping is not None:
        raise Interrupted(control.stopping)


def _stopped(error: Interrupted, how: WatchOptions) -> ExitCode:
    if how.once:
        raise error
    log.info("stopped; what was done is kept and known")
    return ExitCode.DONE


def _where_to_move(how: WatchOptions, folder: Path, out: Path) -> MoveTo:
    def to(flag: str, place: Path | None) -> OriginalsFolder | None:
        return OriginalsFolder(flag, place, watched=folder, out=out) if place is not None else None

    return MoveTo(done=to("--done", how.done), failed=to("--failed", how.failed))


def _say_hello(options: Options, how: WatchOptions, events: Events) -> None:
    looked = f"looked through every {events.poll_s:g} s" if events.poll_s else "woken by file events"
    end = ", until nothing is left to do" if how.once else ""
    log.info("watching %s, outputs go to %s; %s%s", show(options.inputs[0]), show(options.out), looked, end)


def _check(control: Control, status: WatchStatus, heartbeat: Heartbeat) -> Callable[[], None]:
    """What is called at every step, from several threads."""

    def check() -> None:
        heartbeat.beat()
        if threading.current_thread() is threading.main_thread():
            status.write()
        if not status.in_hand or control.overdue:
            _check_stopping(control)

    return check
