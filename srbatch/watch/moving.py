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
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from srbatch.dates import mtime_of
from srbatch.discovery.found import Photo
from srbatch.discovery.target_names import is_picture
from srbatch.errors import UsageError
from srbatch.names import MAX_NAME_BYTES, show
from srbatch.outputs.commit import flush, make_folder, sync_folder, temp_path
from srbatch.outputs.sidecars import beside, is_anothers, is_of_another_kind
from srbatch.places import is_within
from srbatch.watch.renamed import with_tag

_AT_FDCWD = -2 if sys.platform == "darwin" else -100
_RENAME_NOREPLACE = 1  # renameat2(2)
_RENAME_EXCL = 4  # renameatx_np(2) of macOS
_NOT_OFFERED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
_MOST_NAMES = 10_000
_BY_DESCRIPTOR = {os.open, os.stat, os.link, os.rename, os.unlink} <= os.supports_dir_fd
_A_LINK = "a link leads to it, and what lies elsewhere is not moved"


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
            tag: goes into its name where that is taken, or a sidecar that is another photo's.
            text: why it could not be done; is written beside it, to its name, shortened where that is due,
                and ``.txt``.
            before: is told the new path just before the move.

        Raises:
            NotMoved: it is a link or lies behind one, it has changed since it was found, or the file system
                refused. It and its sidecars lie where they lay, but for what the text says.
            SrbatchError: the new folder cannot be made; or ``before`` raised it.
        """
        with self._opened(photo) as folder:
            _check_moveable(photo, folder)
            try:
                sidecars = _sidecars_due(photo.source, folder)
                for target in self._free_names(photo.source, sidecars, tag, text):
                    make_folder(target.parent)
                    before(target)
                    with contextlib.suppress(FileExistsError):  # somebody made one a moment ago
                        _move_to(target, photo, folder, sidecars, text)
                        return target
            except OSError as error:
                raise NotMoved(error.strerror or str(error)) from error
        raise NotMoved(f"{show(self.top)} has files of all names that it could get")

    @contextlib.contextmanager
    def _opened(self, photo: Photo) -> Iterator[_Folder]:
        """The folder that a photo lies in, which no link below the watched one leads to."""
        if not _BY_DESCRIPTOR:
            real = Path(os.path.realpath(self._watched)) / photo.source.relative_to(self._watched)
            if os.path.realpath(photo.source) != os.fspath(real):
                raise NotMoved(_A_LINK)
            yield _Folder(photo.source.parent)
            return
        try:
            descriptor = _open_folder(self._watched, photo.source.relative_to(self._watched).parts[:-1])
        except OSError as error:
            why = _A_LINK if error.errno in (errno.ELOOP, errno.ENOTDIR) else error.strerror
            raise NotMoved(why) from error
        try:
            yield _Folder(photo.source.parent, descriptor)
        finally:
            os.close(descriptor)

    def _free_names(
        self, source: Path, sidecars: Sequence[_MovedAlong], tag: str, text: str
    ) -> Iterator[Path]:
        below = source.relative_to(self._watched)
        names = [below.name, *([with_tag(below.name, tag)] if tag else [])]
        numbered = (with_tag(names[-1], str(number)) for number in range(2, _MOST_NAMES))
        for name in itertools.chain(names, numbered):
            target = self.top / below.with_name(name)
            if (
                not os.path.lexists(target)
                and (not text or _can_hold(_note_beside(target), text))
                and _keeps_sidecars_apart(target, sidecars)
            ):
                yield target


def _open_folder(top: Path, below: tuple[str, ...]) -> int:
    """A descriptor of the folder some steps below ``top``; none of them may be a link."""
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for name in below:
        try:
            step = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = step
    return descriptor


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder of originals, kept open where the system can, so that nothing else is taken for it later."""

    path: Path
    descriptor: int | None = None

    def at(self, name: str) -> Path:
        """What the system finds a file by, together with the descriptor."""
        return self.path / name if self.descriptor is None else Path(name)

    def status(self, name: str) -> os.stat_result:
        """Of a file, or of a link itself."""
        return os.stat(self.at(name), dir_fd=self.descriptor, follow_symlinks=False)

    def names(self) -> list[str]:
        return os.listdir(self.path if self.descriptor is None else self.descriptor)  # noqa: PTH208

    def take(self, name: str, target: Path) -> None:
        move_new(self.at(name), target, src_dir_fd=self.descriptor)

    def put_back(self, target: Path, name: str) -> None:
        move_new(target, self.at(name), dst_dir_fd=self.descriptor)

    def sync(self) -> None:
        if self.descriptor is None:
            sync_folder(self.path)
        else:
            flush(self.descriptor)


def _check_moveable(photo: Photo, folder: _Folder) -> None:
    try:
        status = folder.status(photo.source.name)
    except OSError:
        raise NotMoved("it has changed meanwhile") from None
    if stat.S_ISLNK(status.st_mode):
        raise NotMoved(_A_LINK)
    if not _is_of(photo, status):
        raise NotMoved("it has changed meanwhile")


@dataclass(frozen=True, slots=True)
class _MovedAlong:
    """A sidecar that goes where its photo goes."""

    name: str
    whole: bool
    """Whether it has the photo's whole name, with its ending."""

    def beside(self, target: Path) -> Path:
        """Its new path, by that of the photo."""
        return target.with_name((target.name if self.whole else target.stem) + PurePath(self.name).suffix)


def _move_to(target: Path, photo: Photo, folder: _Folder, sidecars: Sequence[_MovedAlong], text: str) -> None:
    """Sidecars come first: cut off here, the next round moves the photo to where they are."""
    if text:
        _note_beside(target).write_text(text, encoding="utf-8", errors="backslashreplace")
    name, moved = photo.source.name, list[tuple[str, Path]]()
    try:
        for sidecar in sidecars:
            folder.take(sidecar.name, new := sidecar.beside(target))
            moved.append((sidecar.name, new))
        folder.take(name, target)
        if not _is_of(photo, target.lstat()):  # another file had taken its name in the last moment
            _put_back(target, name, folder)
            raise NotMoved("another file has its name now")
    except (OSError, NotMoved):
        for old, new in reversed(moved):
            with contextlib.suppress(OSError):
                folder.put_back(new, old)
        raise
    with contextlib.suppress(OSError):  # it is done all the same
        sync_folder(target.parent)
        folder.sync()


def is_as_found(photo: Photo, path: Path) -> bool:
    """Whether the file at a path is, by size and date, the one that was found as ``photo``."""
    try:
        status = path.stat()
    except OSError:
        return False
    return _is_of(photo, status)


def _is_of(photo: Photo, status: os.stat_result) -> bool:
    return (status.st_size, mtime_of(status)) == (photo.size, photo.mtime_ns)


def _put_back(target: Path, name: str, folder: _Folder) -> None:
    try:
        folder.put_back(target, name)
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


def _sidecars_due(source: Path, folder: _Folder) -> list[_MovedAlong]:
    """Sidecars that move along.

    One that a photo shares with others of its name but for the ending stays as long as they do.
    """
    found = (
        _MovedAlong(path.name, path.stem == source.name)
        for path in beside(source)
        if not is_of_another_kind(path, source)
    )
    return [
        sidecar
        for sidecar in found
        if sidecar.whole or not _is_others_too(source.with_name(sidecar.name), source, folder.names())
    ]


def _keeps_sidecars_apart(target: Path, sidecars: Sequence[_MovedAlong]) -> bool:
    """Whether there, too, each photo has the sidecars that it has.

    One that is there and of no photo was moved ahead of its photo, before that was cut off.
    """
    for new in (sidecar.beside(target) for sidecar in sidecars):
        if os.path.lexists(new) or is_anothers(new.stem, target):
            return False
    return not any(
        _is_others_too(path, target, os.listdir(target.parent))  # noqa: PTH208 - names are all that is wanted
        for path in beside(target)
    )


def _is_others_too(sidecar: Path, photo: Path, names: Iterable[str]) -> bool:
    """Whether a sidecar is that of a photo among ``names``, which are of the same folder, too."""
    stem, start = sidecar.stem, f"{sidecar.stem}."
    near = (name for name in names if name == stem or name.startswith(start))  # paths would cost much more
    others = (name for name in near if name != photo.name and stem in (name, PurePath(name).stem))
    return any(is_picture(name) for name in others)


def move_new(
    source: Path, target: Path, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    """Rename within a file system; a file that is there already is never replaced.

    Args:
        source: looked up in the folder of the descriptor ``src_dir_fd``, if that is given.
        target: likewise, in that of ``dst_dir_fd``.

    Raises:
        FileExistsError: the new name is taken.
        OSError: the file system refuses, also where it cannot promise that.
    """
    if os.name == "nt":
        source.rename(target)
        return
    try:
        _rename_exclusively(source, target, src_dir_fd, dst_dir_fd)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
        move_by_links(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


def _rename_exclusively(source: Path, target: Path, src: int | None, dst: int | None) -> None:
    libc, old, new = ctypes.CDLL(None, use_errno=True), os.fsencode(source), os.fsencode(target)
    at_old, at_new = (_AT_FDCWD if descriptor is None else descriptor for descriptor in (src, dst))
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        failed = libc.renameat2(at_old, old, at_new, new, _RENAME_NOREPLACE)
    elif sys.platform == "darwin":
        failed = libc.renameatx_np(at_old, old, at_new, new, _RENAME_EXCL)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(source), None, os.fspath(target))


def move_by_links(
    source: Path, target: Path, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    """The same where only hard links refuse to replace, as on NFS.

    Unlinking ``source`` could hit a file that took its name a moment ago. So it is renamed out of the way,
    looked at, and put back if it is not the one that was linked.
    """
    there: dict[str, Any] = {"src_dir_fd": src_dir_fd, "dst_dir_fd": dst_dir_fd}
    back: dict[str, Any] = {"src_dir_fd": dst_dir_fd, "dst_dir_fd": src_dir_fd}
    os.link(source, target, **there, follow_symlinks=False)
    aside = temp_path(target)
    os.rename(source, aside, **there)  # noqa: PTH104 - Path knows no descriptors

    def status(path: Path) -> os.stat_result:
        return os.stat(path, dir_fd=dst_dir_fd, follow_symlinks=False)

    if not os.path.samestat(status(aside), status(target)):
        try:
            os.link(aside, source, **back, follow_symlinks=False)
        except OSError as error:
            raise NotMoved(f"another file had its name, and lies at {show(aside)} now") from error
    os.unlink(aside, dir_fd=dst_dir_fd)
