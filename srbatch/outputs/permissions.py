"""Permissions of photos, for outputs that shall have the same."""

from __future__ import annotations

import os
import stat
import struct
import sys
from pathlib import Path

from srbatch.errors import PhotoChanged

_ALL = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO
_OWNERS = stat.S_IRUSR | stat.S_IWUSR
_THE_GROUP, _MASK = 0x04, 0x10  # entries of a list, as Linux stores them


def for_owner_alone(name: str, flags: int) -> int:
    """What ``open`` makes a new file by that nobody else may read until it gets its permissions."""
    return os.open(name, flags, _OWNERS)


def permissions_of(photo: Path) -> int:
    """The mode bits for the output of a photo: its own, and its owner may always read and write it.

    A file that is being written must be writable, and one that nobody may write could not be replaced
    everywhere. Where the photo has an access control list, which is not carried, the bits of its group are
    those that the list has for it: the mode shows the most that anybody named in the list may do.

    Raises:
        PhotoChanged: the photo is gone.
    """
    try:
        mode = photo.stat().st_mode & _ALL | _OWNERS
        group = _group_by_list(photo)
        return mode if group is None else mode & ~stat.S_IRWXG | group << 3
    except OSError as error:
        raise PhotoChanged(f"its permissions cannot be read: {error.strerror}") from error


def _group_by_list(photo: Path) -> int | None:
    """What an access control list lets the photo's group do; None where there is no list."""
    if sys.platform != "linux":
        return None
    try:
        entries = os.getxattr(photo, "system.posix_acl_access")[4:]
    except OSError:  # no list, or a disk that has none
        return None
    allowed: dict[int, int] = {tag: bits for tag, bits, _ in struct.iter_unpack("<HHI", entries)}
    return allowed.get(_THE_GROUP, 0) & allowed.get(_MASK, 0o7)
