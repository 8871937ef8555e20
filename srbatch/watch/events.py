"""File events, which only wake the watcher: what has changed is found by looking."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from srbatch.names import show
from srbatch.watch.settle import NETWORK, file_system

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)

_IN_DELETE_SELF = 0x400  # inotify(7); any event would do

FALLBACK_POLL_S = 30.0
"""How often the folder is looked through where events cannot be had."""


class Events:
    """Calls ``wake``, from another thread, whenever something below a folder changes. A context manager."""

    def __init__(
        self, folder: Path, wake: Callable[[], None], *, poll_s: float | None, recursive: bool = True
    ) -> None:
        """With ``poll_s`` there are no events, and the folder is to be looked through that often."""
        self._asked_poll_s = poll_s
        self.poll_s = poll_s
        """Seconds between two looks, where only looking tells; None where events come."""
        self._folder = folder
        self._wake = wake
        self._recursive = recursive
        self._observer: BaseObserver | None = None

    def __enter__(self) -> Events:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def begin(self) -> None:
        """Listen; where that is impossible, say so and have the folder polled from now on."""
        self.poll_s = self._asked_poll_s
        if self.poll_s is not None:
            return
        kind = file_system(self._folder)
        if kind in NETWORK:
            self._poll_instead(f"{kind} tells nothing of changes made by other machines")
            return
        try:
            self._observer = _observer(self._folder, self._recursive, self._wake)
        except Exception as error:  # OSError of inotify's limits; others have errors of their own
            self._poll_instead(f"{error}")
        self.check()

    def end(self) -> None:
        """Stop listening; no thread is left behind."""
        observer, self._observer = self._observer, None
        if observer is not None and observer.is_alive():
            observer.stop()
            observer.join()

    def renew(self) -> None:
        """Listen anew: the folder is another one than before."""
        self.end()
        self.begin()

    def check(self) -> None:
        """Find out whether events come from everywhere, also from folders that were made since."""
        observer = self._observer
        if observer is None:
            return
        if not (observer.is_alive() and all(emitter.is_alive() for emitter in observer.emitters)):
            why = "they stopped coming"
        elif _is_limit_reached(self._folder):
            why = "the limit of inotify is reached; see fs.inotify.max_user_watches in inotify(7)"
        else:
            return
        self.end()
        self._poll_instead(why)

    def _poll_instead(self, why: str) -> None:
        self.poll_s = FALLBACK_POLL_S
        log.warning(
            "no file events for %s (%s): it is looked through every %.0f s; --poll sets how often",
            show(self._folder),
            why,
            self.poll_s,
        )


def _observer(folder: Path, recursive: bool, wake: Callable[[], None]) -> BaseObserver:
    from watchdog import events
    from watchdog.observers import Observer

    class Handler(events.FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            wake()

    # Not of opening and reading, which our own looks would cause without end.
    wanted: list[type[FileSystemEvent]] = [
        events.FileCreatedEvent,
        events.FileModifiedEvent,
        events.FileMovedEvent,
        events.FileDeletedEvent,
        events.FileClosedEvent,
        events.DirCreatedEvent,
        events.DirMovedEvent,
    ]
    observer = Observer()
    observer.schedule(Handler(), str(folder), recursive=recursive, event_filter=wanted)
    try:
        observer.start()
    except BaseException:
        observer.unschedule_all()
        raise
    return observer


def _is_limit_reached(folder: Path) -> bool:
    """Whether no further folder can be watched.

    watchdog passes over, without a word, sub-folders that it cannot watch; so we try one more ourselves.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    instance = libc.inotify_init1(os.O_CLOEXEC)
    if instance < 0:
        return ctypes.get_errno() == errno.EMFILE
    try:
        watched = libc.inotify_add_watch(instance, os.fsencode(folder), _IN_DELETE_SELF)
        return watched < 0 and ctypes.get_errno() == errno.ENOSPC
    finally:
        os.close(instance)
