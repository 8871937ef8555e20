"""What the watcher has made of each photo, and when it turns to it again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from srbatch.discover import Photo
from srbatch.watch.settle import FileVersion, version_of

PAUSES_S = (30.0, 120.0, 600.0)
"""After its first, second and third failure a photo is tried again; after a fourth, when it has changed."""


@dataclass(slots=True)
class _Entry:
    version: FileVersion
    failures: int = 0
    due: float | None = None
    """When it is tried again; None: not until it changes."""


class RetrySchedule:
    """Keeps as many entries as there are photos, so it does not grow with time."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[Path, _Entry] = {}

    def pick(self, photos: Sequence[Photo], *, everything: bool = False) -> tuple[list[Photo], list[Photo]]:
        """Of all photos that stand still, (those to be judged, those that failed and are due again).

        Judged are new and changed ones; with ``everything`` also those that were done or skipped. What is
        not among ``photos`` is forgotten.
        """
        now, kept = self._clock(), {}
        judged, again = [], []
        for photo in photos:
            entry = self._entries.get(photo.source)
            if entry is None or entry.version != version_of(photo):
                judged.append(photo)
                continue
            kept[photo.source] = entry
            if entry.due is not None:
                if now >= entry.due:
                    again.append(photo)
            elif everything and not entry.failures:
                judged.append(photo)
        self._entries = kept
        return judged, again

    def ended(self, photo: Photo) -> None:
        """It was done, or there was nothing to do."""
        self._entries[photo.source] = _Entry(version_of(photo))

    def failed(self, photo: Photo, *, final: bool) -> float | None:
        """It failed: seconds until it is tried again, or None where it is given up until it changes."""
        known = self._entries.get(photo.source)
        failures = known.failures + 1 if known and known.version == version_of(photo) else 1
        pause_s = None if final or failures > len(PAUSES_S) else PAUSES_S[failures - 1]
        due = None if pause_s is None else self._clock() + pause_s
        self._entries[photo.source] = _Entry(version_of(photo), failures, due)
        return pause_s

    def forget(self, photo: Photo) -> None:
        """Judge it anew when it is seen again."""
        self._entries.pop(photo.source, None)

    @property
    def failures(self) -> int:
        """How many photos have failed and are not done since."""
        return sum(entry.failures > 0 for entry in self._entries.values())

    @property
    def due(self) -> float | None:
        """When the next failed photo is due, by the clock."""
        return min((entry.due for entry in self._entries.values() if entry.due is not None), default=None)
