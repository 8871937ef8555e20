"""The output folder of a run: its lock, its ledger, its scratch space, and what a killed run left there."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePath

from srbatch.discovery.apart import marks_of_folders
from srbatch.discovery.target_names import is_file_target
from srbatch.errors import DestinationError, LedgerError, UnfitRow, UsageError
from srbatch.names import show, stays_below
from srbatch.options import Options
from srbatch.outputs.commit import (
    LOCK,
    destination_error,
    discard,
    is_temp_name,
    make_folder,
    sha256_of,
    whole,
)
from srbatch.outputs.ledger import STATE_FOLDER, Ledger
from srbatch.outputs.ledger_lock import locked
from srbatch.outputs.rows import Row
from srbatch.outputs.scratch import Scratch, temporary_folder
from srbatch.outputs.sidecars import details_text, put_in_place, ready_path
from srbatch.places import is_folder, is_gone, marks, open_file, surroundings

log = logging.getLogger(__name__)

_SCRATCH = "scratch"
_OLD_SCRATCH = re.compile("srbatch-[0-9a-f]{16}")
"""The same as earlier versions named it, by where the output folder lay."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Of some network shares; that may be why the state lies elsewhere."""
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True, slots=True)
class Archive:
    """An output folder that belongs to this run."""

    ledger: Ledger
    scratch: Scratch


def state_folder(out: Path, state: Path | None) -> Path:
    """Where the ledger of an output folder lies."""
    return state if state is not None else out / STATE_FOLDER


@contextmanager
def opened(options: Options, command: str) -> Iterator[Archive]:
    """Take the output folder for this run and put right what a killed run left half done.

    For a single file as target nothing is remembered, and no folder of ours is made beside it.

    Raises:
        LockedError: another run has it.
        DestinationError: it cannot be written.
        LedgerError: the ledger is damaged.
    """
    if is_file_target(options.inputs, options.out):
        with temporary_folder(options.scratch) as folder, closing(Ledger.in_memory()) as ledger:
            yield Archive(ledger, Scratch(folder / _SCRATCH))
        return
    state = state_folder(options.out, options.state)
    make_folder(options.out)
    with locked(state, options.out):
        _check_owner(state, options)
        with _claimed(options.out, state), closing(Ledger.open(state)) as ledger:
            ledger.start_run(command)
            put_right(ledger, options)
            _remove_scratch(options)
            with closing(Scratch(scratch_folder(options))) as scratch:
                yield Archive(ledger, scratch)


@contextmanager
def looked_into(options: Options) -> Iterator[Archive]:
    """The same for ``--dry-run``: nothing is written but into scratch space, not even a lock.

    Raises:
        LedgerError: the ledger is damaged, or may not be looked at.
        DestinationError: there can be no scratch space.
    """
    state = state_folder(options.out, options.state)
    known = not is_file_target(options.inputs, options.out) and Ledger.is_in(state)
    ledger = Ledger.copy_in_memory(state) if known else Ledger.in_memory()
    with closing(ledger), temporary_folder(options.scratch) as folder:
        put_right(ledger, options, keep_files=True)
        yield Archive(ledger, Scratch(folder / _SCRATCH))


def scratch_folder(options: Options) -> Path:
    """Where the pixels of a run into a folder lie."""
    folder = options.scratch or options.state
    if folder is None:  # our own by its lock, whatever name it has by then
        return options.out / STATE_FOLDER / _SCRATCH
    # Others may use the same folder; what is deleted at the start must be this output folder's own.
    return folder / _scratch_name(os.path.realpath(options.out))


def _scratch_name(out: str) -> str:
    return f"srbatch-{hashlib.sha256(os.fsencode(out)).hexdigest()[:16]}"


def _remove_scratch(options: Options) -> None:
    """Remove what a killed run left in the output folder's own state folder."""
    if options.state is None:
        for path in (options.out / STATE_FOLDER).glob("*"):
            if path.name == _SCRATCH or _OLD_SCRATCH.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)  # no link is followed


@contextmanager
def _claimed(out: Path, state: Path) -> Iterator[None]:
    """Hold the lock in the output folder itself: runs with other state folders, or none, may write there too.

    Nothing but that lock is made there where the state lies elsewhere. Other users may have made it.
    """
    own = out / STATE_FOLDER
    with ExitStack() as stack:
        if marks(own).isdisjoint(marks(state)):  # otherwise it is held already
            _claim(own, out, stack)
        yield


def _claim(own: Path, out: Path, stack: ExitStack) -> None:
    new = not os.path.lexists(own)
    try:
        stack.enter_context(locked(own, out))
    except DestinationError as error:
        number = getattr(error.__cause__, "errno", None)
        if number in _CLOSED:
            _claim_by_reading(own, out, stack)
        elif number in _NO_LOCKS:
            log.warning(
                "%s lies on a disk without locks: let no run with another --state write there", show(out)
            )
        else:
            raise
    else:
        if new:
            _open_like(out, own)


def _claim_by_reading(own: Path, out: Path, stack: ExitStack) -> None:
    """Hold the lock that somebody else made; where that cannot be done either, say so and go on."""
    try:
        stack.enter_context(locked(own, out, by_reading=True))
    except OSError as error:
        log.warning(
            "the lock in %s cannot be taken (%s): let no run with another --state write there",
            show(own),
            error.strerror,
        )


def _open_like(out: Path, own: Path) -> None:
    """Open the new folder of the lock to those who may write to the output folder, as far as we may."""
    if os.name == "nt":
        return
    with suppress(OSError):
        above = out.stat()
        # The folder last: once it is open, others may put a link in the place of the lock.
        for path, most in ((own / LOCK, 0o666), (own, 0o7777)):
            mode = above.st_mode & most
            try:
                os.chown(path, -1, above.st_gid)
            except OSError:
                mode &= ~stat.S_IWGRP  # it would be given to another group
            path.chmod(mode)


def _check_owner(state: Path, options: Options) -> None:
    """A ledger's paths are relative to one output folder; elsewhere, a note says which."""
    if options.state is None:
        return
    note, owner = state / "output-folder", os.path.realpath(options.out)
    try:
        known = _read(note) if note.exists() else ""
        if known == owner:
            return
        if known and not _has_moved(state, known, options.out):
            raise UsageError(
                f"--state {show(state)} belongs to the output folder {show(known)}; give each output folder"
                f" a state folder of its own. If {show(options.out)} is that folder, moved or copied,"
                f" delete {show(note)}"
            )
        if known:
            shutil.rmtree(state / _scratch_name(known), ignore_errors=True)
        with whole(note) as temp:  # in the place of a link: what that leads to is not ours
            temp.write_bytes(os.fsencode(owner))
    except OSError as error:
        raise destination_error(error, note) from error


def _read(note: Path) -> str:
    with open_file(note) as file:
        return os.fsdecode(file.read())


def _has_moved(state: Path, old: str, out: Path) -> bool:
    """Whether ``out`` is the folder that had the name ``old``: that is gone, and its outputs are here.

    It may be gone with the disk that it is on, and ``out`` be another one.
    """
    if not is_gone(Path(old)):
        return False
    if not Ledger.is_in(state):
        return True
    with closing(Ledger.open_readonly(state)) as ledger:
        done = (row for row in ledger.rows() if row.status == "done")
        first = next(done, None)
        return first is None or any(_has_output(out, row) for row in chain([first], done))


def _has_output(out: Path, row: Row) -> bool:
    try:
        return (out / row.target).lstat().st_size == row.target_size
    except (OSError, ValueError):
        return False


def put_right(ledger: Ledger, options: Options, *, keep_files: bool = False) -> None:
    """Finish or forget what was cut off, by a kill or a full disk. Nothing may be in hand meanwhile.

    Between the rename and the ledger's note of it, the output is whole and only the note is missing, and
    perhaps its sidecar, which lies ready. The output's hash, taken before the rename, tells that from the
    file that was there earlier.

    A ledger may come from others, together with the outputs. A note that no run of ours wrote is forgotten
    with a warning, and no file that it names is touched.

    Raises:
        LedgerError: the ledger takes no note; what is still to be put right stays known.
        DestinationError: the disk does not take a sidecar; so does this.
    """
    out = options.out
    for target, temp, row in ledger.pending():
        if not _is_ours(target, temp, row):
            log.warning(
                "the ledger says that %s was being written as %s, which no srbatch does; that was forgotten,"
                " and no file was touched: let nobody else write to %s",
                show(target),
                show(temp),
                show(out),
            )
            ledger.drop(target)
            continue
        if not is_folder((out / target).parent):
            continue  # behind a link, it may be on a disk that is away for now
        is_finished = row is not None and _has_its_name(row, ledger, out)
        if not keep_files:
            if row is not None and is_finished:
                row = _with_sidecar(row, temp, ledger, options)
            discard(out / temp)
            discard(ready_path(out / temp))
        if row is not None and is_finished:
            try:
                ledger.record(row)
                log.info("%s had been finished, and only the note of it was missing", show(target))
                continue
            except UnfitRow as error:
                log.warning("%s had been finished, and no note of it can be made: %s", show(target), error)
        ledger.drop(target)


def _has_its_name(row: Row, ledger: Ledger, out: Path) -> bool:
    """Whether the output of a row to come is in its place."""
    if sha256_of(out / row.target) == row.target_sha256:
        return True
    # Its sidecar alone was written; what somebody may have made of the output is no matter.
    known = ledger.row(row.target)
    return known is not None and known.status == "done" and known.target_sha256 == row.target_sha256


def _with_sidecar(row: Row, temp: str, ledger: Ledger, options: Options) -> Row:
    """The row once the sidecar beside its output is as the row says, which it is not among the originals."""
    target = options.out / row.target
    try:
        details = ledger.details(row)
    except LedgerError:
        return row  # the ledger will not take it, or somebody else wrote it
    if not marks_of_folders(options.inputs).isdisjoint(surroundings(target.parent)):
        return row
    details, notes = put_in_place(details, target, options.out / temp)
    for note in notes:
        log.warning("%s: %s", show(row.target), note)
    return replace(row, details=details_text(details))


def _is_ours(target: str, temp: str, row: Row | None) -> bool:
    """Whether a run may have noted that.

    Outputs may lie behind a link within the output folder, so where a path really leads does not tell; but
    the last part of ``temp`` is a name that no other file has.
    """
    file = PurePath(temp)
    beside = stays_below(target) and file.parent == PurePath(target).parent
    return beside and is_temp_name(file.name) and (row is None or row.target == target)
