"""Permissions of photos, for outputs that shall have the same."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from srbatch.errors import PhotoChanged

_ALL = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO
_OWNERS = stat.S_IRUSR | stat.S_IWUSR


def for_owner_alone(name: str, flags: int) -> int:
    """What ``open`` makes a new file by that nobody else may read until it gets its permissions."""
    return os.open(name, flags, _OWNERS)


def permissions_of(photo: Path) -> int:
    """The mode bits for the output of a photo: its own, and its owner may always read and write it.

    A file that is being written must be writable, and one that nobody may write could not be replaced
    everywhere.

    Raises:
        PhotoChanged: the photo is gone.
    """
    try:
        return photo.stat().st_mode & _ALL | _OWNERS
    except OSError as error:
        raise PhotoChanged(f"its permissions cannot be read: {error.strerror}") from error
