"""Names of files: how they are told, and which of them may be one."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePath

from srbatch.errors import one_line

MAX_NAME_BYTES = 255
"""What every file system in use can hold."""


def as_text(path: Path | str) -> str:
    """A path as text that can be encoded whatever bytes its name holds; for machines."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


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
