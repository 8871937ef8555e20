"""When the folder is looked through again, and when a photo that failed is tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from srbatch.discovery.found import Photo
from srbatch.watch.settle import FileVersion, version_of

PAUSES_S = (30.0, 120.0, 600.0)
"""After its first, second and third failure a photo is tried again; after a fourth, when it has changed."""


_LOOK_EVERY_S = 60.0
"""How often the folder is looked through while there is always something to do."""
_SAFETY_S = 600.0
"""How often it is looked through although no event came, and everything compared with the ledger again."""
_CALM_S = 0.5
"""The least time between two looks, however many events come; and so many times as long as a look takes:"""
_CALM_FACTOR = 5.0


class LookSchedule:
    """When the folder was looked through, and when it is again."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._looked = self._compared = float("-inf")
        self._took_s = 0.0

    def looked(self, *, since: float) -> None:
        """It was looked through just now; that began at ``since``."""
        self._looked = self._clock()
        self._took_s = self._looked - since

    def compared(self) -> None:
        """All photos of the latest look are compared with the ledger."""
        self._compared = self._looked

    @property
    def is_comparison_due(self) -> bool:
        """Whether that was so long ago that it is to be done with those of the latest look."""
        return self._looked - self._compared >= _SAFETY_S

    @property
    def is_overdue(self) -> bool:
        """Whether it is time to look although there is still work from the latest look."""
        return self._clock() - self._looked >= _LOOK_EVERY_S

    @property
    def earliest(self) -> float:
        """Before this it is not looked through again, whatever happens."""
        return self._looked + max(_CALM_S, _CALM_FACTOR * self._took_s)

    def due(self, photos_due: Iterable[float | None], *, poll_s: float | None) -> float:
        """When it is looked through again, if nothing happens before.

        Args:
            photos_due: when photos are due, by the clock; None for none.
            poll_s: seconds between two looks; None where events come.
        """
        latest = self._looked + (poll_s or _SAFETY_S)
        return max(self.earliest, min([latest, *(due for due in photos_due if due is not None)]))


@dataclass(slots=True)
class _Entry:
    version: FileVersion
    failures: int = 0
    endless: bool = False
    """Whether it is tried again after any number of such failures."""
    due: float | None = None
    """When it is tried again; None: not until it changes."""


class RetrySchedule:
    """What the watcher has made of each version of a photo, and when it turns to it again.

    Keeps as many entries as there are photos, so it does not grow with time.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[Path, _Entry] = {}

    def pick(
        self, photos: Sequence[Photo], *, everything: bool = False, also: Set[Path] = frozenset()
    ) -> tuple[list[Photo], list[Photo]]:
        """Of all photos that stand still, (those to be judged, those that failed and are due again).

        Judged are new and changed ones; with ``everything`` also those that were done or skipped, or else of
        these the ones whose files are ``also`` named. What is not among ``photos`` is forgotten.
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
            elif (everything or photo.source in also) and not entry.failures:
                judged.append(photo)
        self._entries = kept
        return judged, again

    def ended(self, photo: Photo) -> None:
        """It was done, or there was nothing to do."""
        self._entries[photo.source] = _Entry(version_of(photo))

    def failed(self, photo: Photo, *, final: bool, endless: bool = False) -> float | None:
        """It failed: seconds until it is tried again, or None where it is given up until it changes.

        Args:
            final: it is given up at once.
            endless: it is never given up, and these failures do not count among the others.
        """
        version, known = version_of(photo), self._entries.get(photo.source)
        again = known is not None and (known.version, known.endless) == (version, endless)
        failures = known.failures + 1 if known and again else 1
        pauses = PAUSES_S[failures - 1 :] or (PAUSES_S[-1:] if endless else ())
        pause_s = pauses[0] if pauses and not final else None
        due = None if pause_s is None else self._clock() + pause_s
        self._entries[photo.source] = _Entry(version, failures, endless, due)
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
