"""What a watcher of months must not take for granted: that its input is there, and room for its output."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from srbatch.errors import DestinationError, SrbatchError
from srbatch.names import show
from srbatch.outputs.commit import is_full
from srbatch.places import identity

_ROOM = 16 << 20
"""Bytes that must have become free before a full disk is tried again."""


class Presence:
    """Tells whether a folder is there, or away as that of an unmounted share is.

    What is left of an unmounted share is an empty folder that is another one than before.
    """

    def __init__(self, folder: Path, *, by_inode: bool) -> None:
        """``by_inode``: inodes tell folders apart. Some network shares give new ones out now and then."""
        self._folder = folder
        self._by_inode = by_inode
        self._known = self._mark()
        self.is_new = False
        """Whether the folder was away or has become another one; whoever deals with that sets it back."""

    def is_same(self) -> bool:
        """Whether it is the folder that it was, at a glance."""
        return self._mark() == self._known

    def _mark(self) -> tuple[int, int] | int | None:
        return identity(self._folder) if self._by_inode else device_of(self._folder)

    def why_away(self) -> str | None:
        """Why there is nothing to look through; None where there is."""
        try:
            with os.scandir(self._folder) as listing:
                empty = next(listing, None) is None
        except OSError as error:
            self.is_new = True
            return f"{show(self._folder)} cannot be listed: {error.strerror}"
        if (now := self._mark()) != self._known:
            self.is_new = True
            if empty:
                return f"{show(self._folder)} is empty and not the folder it was; is its share unmounted?"
            self._known = now
        return None


def device_of(folder: Path) -> int | None:
    """The number of the mounted file system that a folder is on; None where there is no folder."""
    try:
        return folder.stat().st_dev
    except OSError:
        return None


class OutputPresence:
    """Tells whether the output folder, with its ledger, lies on the disk that it was on when it was taken."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._device = device_of(out)

    def check(self) -> None:
        """Fail where it does not.

        Raises:
            DestinationError: so it is.
        """
        if device_of(self._out) != self._device:
            raise DestinationError(
                f"{show(self._out)} is gone, or on another disk than before; is its own unmounted?"
                " See to it and start again"
            )


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error goes back to a disk without room or a quota that is used up."""
    while error is not None:
        if is_full(error):
            return True
        error = error.__cause__ or (error.__context__ if isinstance(error, SrbatchError) else None)
    return False


class FreeSpace:
    """What is free on the disks that a run writes to, against what was when one of them was full."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._before = {folder: _free(folder) for folder in folders}

    def has_grown(self) -> bool:
        """Whether it is worth another try."""
        return any(_free(folder) >= before + _ROOM for folder, before in self._before.items())


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
