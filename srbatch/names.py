"""Names of files: how they are told, and which of them may be one."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path, PurePath

from srbatch.errors import one_line

MAX_NAME_BYTES = 255
"""What every file system in use can hold."""

_LIKE_A_BYTE = re.compile(rb"\\(?=x[0-9a-f]{2})")


def as_text(path: Path | str) -> str:
    r"""A path as text that can be encoded whatever bytes its name holds; for machines.

    No two give the same: a byte that is no UTF-8 becomes ``\xNN``, and so does a backslash before what would
    look like one (not on Windows, where it parts folders).
    """
    name = os.fsencode(path)
    if os.sep == "/":
        name = _LIKE_A_BYTE.sub(rb"\\x5c", name)
    return name.decode("utf-8", "backslashreplace")


def show(path: Path | str) -> str:
    """A path for people: one line, and nothing in it that moves a terminal's cursor."""
    return one_line(as_text(path))


def stays_below(relative: str) -> bool:
    """Whether a path, joined to a folder, is of something below it; links on the way may lead elsewhere."""
    path = PurePath(relative)
    return bool(path.parts) and not path.anchor and ".." not in path.parts and "\0" not in relative


def collision_key(path: os.PathLike[str]) -> str:
    """Equal for paths that a file system which ignores case, or normalises names, takes for one."""
    return unicodedata.normalize("NFC", PurePath(path).as_posix()).casefold()
