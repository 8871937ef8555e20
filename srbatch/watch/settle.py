"""Which files have been written to their end, as far as can be told from outside."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from srbatch.discovery.found import Photo
from srbatch.names import show

log = logging.getLogger(__name__)

FileVersion = tuple[int, int, str]
"""What a file is taken by: its size, its date in nanoseconds, and why it cannot be done, if that is known."""

_PATIENCE_S = 600.0
"""So long a file is waited for that somebody has open for writing without writing to it."""

_UNTOLD_S = 60.0
"""So long a file must stand still where the system does not tell whether it is still being written."""

_LOCAL = frozenset("ext2 ext3 ext4 xfs btrfs f2fs zfs tmpfs".split())
NETWORK = frozenset("nfs nfs4 cifs smb3 smbfs afs 9p ceph glusterfs fuse.sshfs fuse.glusterfs afpfs".split())
"""File systems whose changes by other machines cause no events here."""


def version_of(photo: Photo) -> FileVersion:
    """The version of a photo as it was found."""
    return photo.size, photo.mtime_ns, str(photo.problem or "")


@dataclass(slots=True)
class _Seen:
    version: FileVersion
    since: float
    due: float
    """When it is to be looked at."""
    settled: bool = False


class Settling:
    """Lets a photo pass once its size and date stood still for a while, by this process's own clock.

    Dates of files are compared with one another and never with the time of day, so that neither may jump.
    """

    def __init__(
        self,
        settle_s: float,
        *,
        clock: Callable[[], float],
        busy: Callable[[Path], bool | None] = lambda path: False,
    ) -> None:
        """``busy`` tells of a file that stood still whether somebody may still write to it; None: unknown."""
        self._settle_s = settle_s
        self._clock = clock
        self._busy = busy
        self._seen: dict[Path, _Seen] = {}
        self._is_untold_said = False

    def look(self, photos: Iterable[Photo]) -> list[Photo]:
        """Those of the photos there now that stand still; what is not among them is forgotten."""
        now, seen, settled = self._clock(), {}, []
        for photo in photos:
            known, version = self._seen.get(photo.source), version_of(photo)
            if known is None or known.version != version:
                known = _Seen(version, now, now + self._settle_s)
            if not known.settled and now >= known.due:
                self._judge(known, photo.source, now)
            seen[photo.source] = known
            if known.settled:
                settled.append(photo)
        self._seen = seen
        return settled

    def _judge(self, known: _Seen, source: Path, now: float) -> None:
        still_s, busy = now - known.since, self._busy(source)
        if busy is None:
            self._say_untold(source)
            busy = still_s < _UNTOLD_S
        known.settled = still_s >= self._settle_s + _PATIENCE_S or not busy
        known.due = now + max(self._settle_s, 1.0)

    def _say_untold(self, source: Path) -> None:
        if not self._is_untold_said:
            self._is_untold_said = True
            log.warning(
                "%s belongs to another user, so the system does not tell whether it is still being written;"
                " such files must stand still for %.0f s. With the capability CAP_LEASE it tells",
                show(source),
                max(_UNTOLD_S, self._settle_s),
            )

    @property
    def waiting(self) -> int:
        """How many do not stand still yet."""
        return sum(not known.settled for known in self._seen.values())

    @property
    def due(self) -> float | None:
        """When the next one may have settled, by the clock."""
        return min((known.due for known in self._seen.values() if not known.settled), default=None)


def open_for_writing(path: Path) -> bool | None:
    """Whether some process has the file open for writing; False where the system has no way to tell.

    Linux grants a read lease on a file exactly if nobody has it open for writing (fcntl(2), F_SETLEASE), and
    that to its owner, or with CAP_LEASE: None where it is another's. It is given back at once. Use it on
    local disks only: a network share may refuse every lease.
    """
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # Somebody who opens it meanwhile is told by a signal, which is to be one that ends nothing.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError as error:
        return None if error.errno in (errno.EACCES, errno.EPERM) else False
    else:
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    finally:
        os.close(descriptor)


def file_system(folder: Path) -> str:
    """The kind of file system that a folder lies on, such as ext4; empty where it is not known."""
    real, best = os.path.realpath(folder), ("", "")
    for part in psutil.disk_partitions(all=True):
        below = real == part.mountpoint or real.startswith(part.mountpoint.rstrip(os.sep) + os.sep)
        if below and len(part.mountpoint) >= len(best[0]):
            best = (part.mountpoint, part.fstype)
    return best[1]


def busy_test(folder: Path) -> Callable[[Path], bool | None]:
    """:func:`open_for_writing` for the files of a folder on a local disk, and no test for all others."""
    if file_system(folder) not in _LOCAL:
        return lambda path: False
    device = folder.stat().st_dev

    def busy(path: Path) -> bool | None:
        try:
            return open_for_writing(path) if path.stat().st_dev == device else False
        except OSError:
            return False

    return busy
