"""An output is whole or absent: written beside its target, checked, synced and renamed into place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from srbatch.errors import (
    DestinationError,
    LockedError,
    PhotoError,
    SrbatchError,
    TargetClosed,
    TargetExists,
    UnsupportedPhoto,
)
from srbatch.names import show
from srbatch.places import is_folder, nearest_folder, open_file

TEMP_PREFIX, TEMP_SUFFIX = ".srbatch-", ".part"
_TEMP_NAME = re.compile(rf"{re.escape(TEMP_PREFIX)}[0-9a-f]{{12}}{re.escape(TEMP_SUFFIX)}")
LOCK = "lock"
"""The file in a folder that is locked while somebody holds the folder."""
MAKE_ROOM = "make room and run the same command again: what is finished is kept"

_HELD_BY_OTHERS = (5, 32, 33)
"""Windows' numbers for access denied, and for files that others have open or locked."""
_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 3.2)

_FULL = {errno.ENOSPC, errno.EDQUOT}

_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
"""EINVAL may be the name's fault instead; then the rename, which is tried next, says so."""

_UNFIT_NAME = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}
"""A name or path too long for this file system, or with characters that it does not take."""


def temp_path(target: Path) -> Path:
    """A new name in the target's folder, so that the rename stays within one file system.

    It is short whatever the target's name, and hidden, so that neither a viewer nor a later run over
    the folder takes it for a photo.
    """
    return target.with_name(f"{TEMP_PREFIX}{secrets.token_hex(6)}{TEMP_SUFFIX}")


def is_full(error: BaseException) -> bool:
    """Whether this error itself says that a disk has no room, or that a quota is used up."""
    if isinstance(error, sqlite3.Error):
        # The lowest byte is the kind; the others say more of it.
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in _FULL


def is_temp_name(name: str) -> bool:
    """Whether a file's name is one of those that :func:`temp_path` makes."""
    return _TEMP_NAME.fullmatch(name) is not None


def destination_error(error: OSError, path: Path) -> DestinationError:
    """What the user reads when the output folder does not take a file."""
    if is_full(error):
        advice = MAKE_ROOM
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "choose a folder that you may write to"
    else:
        advice = "see to the disk and run the same command again: what is finished is kept"
    return DestinationError(f"{show(path)}: {error.strerror or error}; {advice}")


def output_error(error: OSError, target: Path) -> SrbatchError:
    """The same for one output: where its name is at fault, that costs one photo and not the run."""
    return unfit_name(error) or destination_error(error, target)


def unfit_name(error: OSError) -> UnsupportedPhoto | None:
    """The failure of a photo whose output cannot have its name, if that is what a file system says."""
    if error.errno not in _UNFIT_NAME:
        return None
    return UnsupportedPhoto(
        f"the disk of --out does not take its output's path: {error.strerror};"
        " give the photo or its folders shorter, plainer names, or choose another --out"
    )


def unfit_folder(folder: Path, out: Path) -> PhotoError | None:
    """The failure of a photo whose output cannot lie in ``folder``, if what is there now is in its way.

    That costs the photos of this folder alone. What ails ``out``, the folder of all outputs, is none of it.
    """
    while folder != out and folder != folder.parent and not os.path.lexists(folder):
        folder = folder.parent
    if folder == out or out not in folder.parents:
        return None
    if not is_folder(folder):
        what = "a link that leads to no folder" if folder.is_symlink() else "a file"
        return TargetExists(
            f"{show(folder)} is {what} where a folder of outputs is due; move it away or choose another --out"
        )
    if _is_open(out) and not _is_open(folder):
        return TargetClosed(
            f"nothing may be written into {show(folder)}; see to its permissions or choose another --out"
        )
    return None


def _is_open(folder: Path) -> bool:
    """Whether files can be made in it, as far as that can be told without trying."""
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def make_folder(
    folder: Path, *, explained: Callable[[OSError, Path], SrbatchError] = destination_error
) -> None:
    """Create a folder and its parents, durably.

    Raises:
        SrbatchError: it cannot be created; a DestinationError unless ``explained`` says otherwise.
    """
    try:
        above = nearest_folder(folder)
        for new in reversed([path for path in (folder, *folder.parents) if above in path.parents]):
            new.mkdir(exist_ok=True)
            sync_folder(new.parent)
    except OSError as error:
        raise explained(error, folder) from error


@contextlib.contextmanager
def held(folder: Path, refusal: Callable[[], str]) -> Iterator[None]:
    """Make a folder and hold its lock; the system lets go of it whenever the process ends.

    Raises:
        LockedError: somebody else has it; ``refusal`` makes the message.
        DestinationError: the folder cannot be made, or its disk has no locks.
    """
    make_folder(folder)
    # Where the system has no locks, filelock's own way is a file that a killed process leaves behind.
    lock = FileLock(folder / LOCK, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LockedError(refusal()) from None
    except OSError as error:
        raise destination_error(error, folder) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def held_by_reading(folder: Path, refusal: Callable[[], str]) -> Iterator[None]:
    """Hold a folder whose lock is there and may be read but not written, as another user's may.

    Raises:
        LockedError: somebody else has it; ``refusal`` makes the message.
        OSError: there is no lock, it may not be read either, or its disk or system has no such locks.
    """
    if sys.platform == "win32":
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    import fcntl

    with open_file(folder / LOCK) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(refusal()) from None
        yield


def commit(temp: Path, target: Path, *, replace: bool) -> None:
    """Put a finished temporary file under its final name, so that a crash leaves the old state or the new.

    Raises:
        TargetExists: ``replace`` is False and somebody made a file of that name in the meantime.
        UnsupportedPhoto: the file system does not take the target's name.
        DestinationError: it refused for another reason, perhaps after the file had got its name.
    """
    try:
        _patiently(partial(sync_file, temp))
        _rename(temp, target, replace=replace)
        sync_folder(target.parent)
    except OSError as error:
        raise destination_error(error, target) from error


@contextlib.contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Within, a name to write a file under, which then takes the place of ``target``.

    After an error nothing is left of it.

    Raises:
        OSError: it could not be put in its place.
    """
    temp = temp_path(target)
    try:
        yield temp
        _patiently(partial(sync_file, temp))
        _patiently(partial(Path.replace, temp, target))
        sync_folder(target.parent)
    finally:
        discard(temp)


def _rename(temp: Path, target: Path, *, replace: bool) -> None:
    try:
        _patiently(partial(Path.replace if replace else _rename_new, temp, target))
    except (FileExistsError, IsADirectoryError):
        if target.is_dir():
            raise TargetExists(f"{show(target)} is a folder; move it away or choose another --out") from None
        raise TargetExists(
            f"{show(target)} was made by something else while this photo was being done;"
            " --overwrite replaces it"
        ) from None
    except OSError as error:
        raise output_error(error, target) from error


def _rename_new(temp: Path, target: Path) -> None:
    """Rename without replacing: a hard link is the portable call that fails where the name is taken."""
    if os.name == "nt":
        temp.rename(target)
        return
    try:
        os.link(temp, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(target):  # FAT and some shares have no links; a small window is left there
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        temp.replace(target)
    else:
        temp.unlink()


def discard(temp: Path) -> None:
    """Remove a temporary file that is not wanted, if it is there."""
    with contextlib.suppress(OSError):
        temp.unlink()


def sync_file(path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    descriptor = os.open(path, os.O_RDWR)  # Windows syncs only what is open for writing
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def flush(descriptor: int) -> None:
    """Wait until what was written is on the disk itself."""
    if sys.platform == "darwin":
        # There, fsync leaves it in the drive's own memory, and its manual page advises this instead.
        import fcntl

        with contextlib.suppress(OSError):  # shares and some disks do not know it
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _patiently(step: Callable[[], object]) -> None:
    """Try again what Windows refuses while a virus scanner, an indexer or a viewer looks at a new file."""
    for pause in _PAUSES_S:
        try:
            step()
        except OSError as error:
            if getattr(error, "winerror", None) not in _HELD_BY_OTHERS:
                raise
        else:
            return
        time.sleep(pause)
    step()


def sync_folder(folder: Path) -> None:
    """Wait until the folder's entries are on the disk, where the system can say so."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        flush(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network shares cannot
            raise
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str | None:
    """The hash of an output that is there, or None where none can be read; a link or a pipe is none."""
    try:
        with open_file(path, follow_links=False) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
