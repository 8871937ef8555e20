"""Originals on their way out of the watched folder: the one place in the package that moves any.

A move is a rename within one file system that never replaces a file. It can be cut off at any moment
without an original being lost: at each there is a name that leads to it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from srbatch.commit import make_folder, sync_folder, temp_path
from srbatch.dates import mtime_of
from srbatch.discover import Photo, is_picture
from srbatch.errors import UsageError
from srbatch.names import MAX_NAME_BYTES, show
from srbatch.places import is_within
from srbatch.sidecars import beside
from srbatch.watch.renamed import with_tag

_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # renameat2(2)
_RENAME_EXCL = 4  # renamex_np(2) of macOS
_NOT_OFFERED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
_MOST_NAMES = 10_000


class NotMoved(Exception):
    """The original stays where it is; the text says why."""


class OriginalsFolder:
    """A folder, laid out like the watched one, for originals that were done or were given up."""

    def __init__(self, flag: str, folder: Path, *, watched: Path, out: Path) -> None:
        """Make the folder; ``flag`` is the option that names it.

        Raises:
            UsageError: it lies in the watched folder or the output or around them, or on another disk.
            DestinationError: it cannot be made.
        """
        self.top = folder
        self._watched = watched
        for what, place in (("the watched folder", watched), ("--out", out)):
            if is_within(folder, place) or is_within(place, folder):
                raise UsageError(
                    f"{flag} {show(folder)} and {what} {show(place)}: neither may lie in the other"
                )
        make_folder(folder)
        if folder.stat().st_dev != watched.stat().st_dev:
            raise UsageError(
                f"{flag} {show(folder)} lies on another disk than the watched folder {show(watched)};"
                " originals are only renamed, never copied: choose a folder on the same one"
            )

    def move(
        self,
        photo: Photo,
        *,
        tag: str = "",
        text: str = "",
        before: Callable[[Path], None],
    ) -> Path:
        """Move a photo's original and its sidecars; returns the new path.

        Args:
            tag: goes into its name where that is taken.
            text: why it could not be done; is written beside it, to its name, shortened where that is due,
                and ``.txt``.
            before: is told the new path just before the move.

        Raises:
            NotMoved: it is a link, it has changed since it was found, or the file system refused.
            SrbatchError: the new folder cannot be made; or ``before`` raised it.
        """
        source = photo.source
        self._check_moveable(photo)
        for target in self._free_names(source, tag, text):
            make_folder(target.parent)
            before(target)
            try:
                self._move_to(target, photo, text)
            except FileExistsError:
                continue  # somebody made one a moment ago
            except OSError as error:
                raise NotMoved(error.strerror or str(error)) from error
            return target
        raise NotMoved(f"{show(self.top)} has files of all names that it could get")

    def _check_moveable(self, photo: Photo) -> None:
        real = Path(os.path.realpath(self._watched)) / photo.source.relative_to(self._watched)
        if os.path.realpath(photo.source) != os.fspath(real):
            raise NotMoved("a link leads to it, and what lies elsewhere is not moved")
        if not is_as_found(photo, photo.source):
            raise NotMoved("it has changed meanwhile")

    def _free_names(self, source: Path, tag: str, text: str) -> Iterator[Path]:
        below = source.relative_to(self._watched)
        names = [below.name, *([with_tag(below.name, tag)] if tag else [])]
        numbered = (with_tag(names[-1], str(number)) for number in range(2, _MOST_NAMES))
        for name in itertools.chain(names, numbered):
            target = self.top / below.with_name(name)
            if not os.path.lexists(target) and (not text or _can_hold(_note_beside(target), text)):
                yield target

    def _move_to(self, target: Path, photo: Photo, text: str) -> None:
        if text:
            _note_beside(target).write_text(text, encoding="utf-8", errors="backslashreplace")
        _move_sidecars(photo.source, target)
        move_new(photo.source, target)
        if not is_as_found(photo, target):  # another file had taken its name in the last moment
            _put_back(target, photo.source)
            raise NotMoved("another file has its name now")
        with contextlib.suppress(OSError):  # it is done all the same
            for folder in {target.parent, photo.source.parent}:
                sync_folder(folder)


def is_as_found(photo: Photo, path: Path) -> bool:
    """Whether the file at a path is, by size and date, the one that was found as ``photo``."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, mtime_of(status)) == (photo.size, photo.mtime_ns)


def _put_back(target: Path, source: Path) -> None:
    try:
        move_new(target, source)
    except OSError:
        raise NotMoved(f"another file had its name, and lies at {show(target)} now") from None


def _note_beside(target: Path) -> Path:
    """The text file of a moved original; of a very long name it has the beginning and a hash of the whole."""
    start, end = target.name, ".txt"
    if len(os.fsencode(start + end)) > MAX_NAME_BYTES:
        end = f".{hashlib.sha256(os.fsencode(start)).hexdigest()[:8]}{end}"
        while len(os.fsencode(start + end)) > MAX_NAME_BYTES:
            start = start[:-1]
    return target.with_name(start + end)


def _can_hold(note: Path, text: str) -> bool:
    """Whether it is free, or has this very text, left there by a move that was cut off."""
    if not os.path.lexists(note):
        return True
    try:
        return note.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _move_sidecars(source: Path, target: Path) -> None:
    """Before the photo: cut off here, the next round moves the photo to where they are.

    One that a photo shares with others of its name but for the ending stays as long as they do.
    """
    for sidecar in beside(source):
        whole = sidecar.name.startswith(source.name)
        if whole or not _others_of_stem(source):
            new = target.with_name((target.name if whole else target.stem) + sidecar.suffix)
            if not os.path.lexists(new):
                move_new(sidecar, new)


def _others_of_stem(source: Path) -> bool:
    stem, start = source.stem, f"{source.stem}."
    with os.scandir(source.parent) as listing:  # a path of each name would cost four times as much
        names = (entry.name for entry in listing if entry.name.startswith(start))
        return any(is_picture(name) for name in names if name != source.name and Path(name).stem == stem)


def move_new(source: Path, target: Path) -> None:
    """Rename within a file system; a file that is there already is never replaced.

    Raises:
        FileExistsError: the new name is taken.
        OSError: the file system refuses, also where it cannot promise that.
    """
    if os.name == "nt":
        source.rename(target)
        return
    try:
        _rename_exclusively(source, target)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
        move_by_links(source, target)


def _rename_exclusively(source: Path, target: Path) -> None:
    libc, old, new = ctypes.CDLL(None, use_errno=True), os.fsencode(source), os.fsencode(target)
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, old, _AT_FDCWD, new, _RENAME_NOREPLACE)
    elif sys.platform == "darwin":
        failed = libc.renamex_np(old, new, _RENAME_EXCL)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(source), None, os.fspath(target))


def move_by_links(source: Path, target: Path) -> None:
    """The same where only hard links refuse to replace, as on NFS.

    Unlinking ``source`` could hit a file that took its name a moment ago. So it is renamed out of the way,
    looked at, and put back if it is not the one that was linked.
    """
    os.link(source, target, follow_symlinks=False)
    aside = temp_path(target)
    source.rename(aside)
    if os.path.samestat(aside.lstat(), target.lstat()):
        aside.unlink()
        return
    try:
        os.link(aside, source, follow_symlinks=False)
    except OSError as error:
        raise NotMoved(f"another file had its name, and lies at {show(aside)} now") from error
    aside.unlink()
