"""The watched folder: what is in it, or that it is away."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from srbatch.discovery.found import Found
from srbatch.errors import UsageError
from srbatch.names import show
from srbatch.options import Options
from srbatch.run import find
from srbatch.watch.control import Control
from srbatch.watch.events import Events
from srbatch.watch.presence import Presence
from srbatch.watch.status import WatchStatus

log = logging.getLogger(__name__)

_SAY_AGAIN_S = 300.0
"""How often it is said that the folder is away."""


class InputFolder:
    """Looks through the folder, and tells people while it is away."""

    def __init__(
        self,
        options: Options,
        check: Callable[[], None],
        control: Control,
        events: Events,
        status: WatchStatus,
        *,
        once: bool,
    ) -> None:
        """``check`` is called on the way and may end the search; with ``once`` a folder away is an error."""
        (self.folder,) = options.inputs
        self._options, self._check, self._once = options, check, once
        self._control, self._events, self._status = control, events, status
        self._presence = Presence(self.folder, by_inode=events.poll_s is None)
        self._away_said = float("-inf")
        self._unlisted: list[tuple[Path, str]] = []

    def look(self) -> Found | None:
        """What is in the folder; None while it is away.

        Raises:
            UsageError: it is away, with ``once``.
        """
        if why := self._presence.why_away():
            self._say_away(why)
            return None
        try:
            found = find(self._options, self._check)
        except UsageError as error:
            self._say_away(str(error))
            return None
        if self._presence.is_new:
            log.info("%s is there", show(self.folder))
            self._presence.is_new = False
            self._events.renew()
        self._away_said = float("-inf")
        self._say_unlisted(found)
        return found

    def is_away(self) -> bool:
        """Whether there is nothing to look through."""
        return self._presence.why_away() is not None

    def is_same(self) -> bool:
        """Whether it is the folder that it was, at a glance."""
        return self._presence.is_same()

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
