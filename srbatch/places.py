"""Which place on the disk a path leads to, whatever names it is known by.

Names alone do not tell: links, bind mounts and a file system that takes ``Photos`` for ``photos`` give one
folder several. The numbers of a file alone do not either: what does not exist yet has none.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Set
from io import BufferedReader
from pathlib import Path

_OF_THE_DISK = frozenset(
    getattr(errno, name)
    for name in ("EIO", "ESTALE", "ETIMEDOUT", "ENOTCONN", "ENXIO", "ENODEV", "EHOSTDOWN", "ECONNRESET")
    if hasattr(errno, name)  # Windows has not all of them
)
Mark = str | tuple[int, int]
"""The path with all links followed, or what :func:`identity` says."""


def identity(path: Path) -> tuple[int, int] | None:
    """What all names of a file or folder share; None where there is none, or its file system has no such."""
    try:
        return identity_of(path.stat())
    except OSError:
        return None


def identity_of(status: os.stat_result) -> tuple[int, int] | None:
    """The same of a file or folder that was looked at already."""
    return (status.st_dev, status.st_ino) if status.st_ino else None


def marks(path: Path) -> frozenset[Mark]:
    """What a place is known by; two paths lead to the same one exactly if they share a mark."""
    # realpath, since resolve() raises where a link leads back to itself.
    found = identity(path)
    return frozenset([os.path.realpath(path)] if found is None else [os.path.realpath(path), found])


def surroundings(path: Path) -> frozenset[Mark]:
    """The marks of a place, which need not exist yet, and of all folders above it."""
    real = Path(os.path.realpath(path))
    return frozenset().union(*(marks(place) for place in (real, *real.parents)))


def is_within(path: Path, folder: Path) -> bool:
    """Whether a path is a folder or lies somewhere below it."""
    return not marks(folder).isdisjoint(surroundings(path))


class Within:
    """Tells which of many paths lie within some folders; each folder on the way is looked at once."""

    def __init__(self, folders: Set[Mark]) -> None:
        """``folders``: their marks."""
        self._folders = folders
        self._known: dict[str, bool] = {}

    def __call__(self, path: Path) -> bool:
        """Whether a path, which need not exist yet, is one of the folders or lies somewhere below."""
        real = Path(os.path.realpath(path))
        within, new = False, []
        for place in (real, *real.parents):
            name = str(place)
            if name in self._known:
                within = self._known[name]
                break
            new.append(name)
            if name in self._folders or identity(place) in self._folders:
                within = True
                break
        self._known.update(dict.fromkeys(new, within))
        return within


def is_folder(path: Path) -> bool:
    """Whether a folder is there, by all that one may see; Path.is_dir() raises where one may not look."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def is_gone(path: Path) -> bool:
    """Whether nothing has that name any more, which a disk that cannot be asked does not say."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: no file can have that name
        return True
    except OSError:
        pass
    return False


def nearest_folder(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    while not is_folder(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def open_file(path: Path, *, follow_links: bool = True) -> BufferedReader:
    """Open a regular file to be read, and nothing else: opening a pipe would wait for its other end.

    Looking first would not do, as another file may have the name by then.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    flags = getattr(os, "O_NONBLOCK", 0) | (0 if follow_links else getattr(os, "O_NOFOLLOW", 0))
    file = open(path, "rb", opener=lambda name, mode: os.open(name, mode | flags))  # noqa: SIM115
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    except BaseException:
        file.close()
        raise
    return file


def is_of_the_disk(error: Exception) -> bool:
    """Whether an error says that a file could not be read, and nothing of what is in it."""
    return isinstance(error, OSError) and error.errno in _OF_THE_DISK
