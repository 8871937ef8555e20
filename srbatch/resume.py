"""What there is to do for a photo, given what the ledger knows and what lies in the output folder."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace

from srbatch import errors
from srbatch.discover import Photo, show
from srbatch.errors import PhotoError, TargetExists
from srbatch.ledger import Row
from srbatch.options import Options

CURRENT = "done before, and nothing has changed"
OTHER_SETTINGS = "made with other settings; --redo-changed makes it again"


@dataclass(frozen=True, slots=True)
class Todo:
    """The photo has to be done."""

    replace: bool
    """Whether a file under the target's name may be replaced: it is ours, or the user said so."""
    ours_size: int | None = None
    """Size of our own output that is there, in bytes, where that is why it may be replaced."""

    def check_still_ours(self, photo: Photo) -> None:
        """Between the decision and the end of the work lie hours in which somebody may edit the output.

        Raises:
            TargetExists: it is not as it was.
        """
        if self.ours_size is None:
            return
        target = _Target.of(photo, None)
        if target.taken and target.size != self.ours_size:
            raise TargetExists(
                f"{show(photo.target)} was changed by somebody meanwhile; --overwrite replaces it"
            )


@dataclass(frozen=True, slots=True)
class Settled:
    """There is nothing to do."""

    status: str
    """skipped or failed"""
    reason: str
    error: str | None = None
    """The class of a failure."""
    refreshed: Row | None = None
    """The row with the photo's new date, where the file is another but its content is the same."""

    @classmethod
    def failure(cls, error: PhotoError) -> Settled:
        """A failure that needs no try."""
        return cls("failed", str(error), type(error).__name__)


def recipe(options: Options, weights_sha256: str, *, lossy: bool) -> str:
    """What the user asked that changes pixels, as text that is equal exactly if the pixels will be."""
    return json.dumps(
        {
            "model": weights_sha256,
            "size": str(options.size),
            "strength": options.strength,
            "quality": options.quality if lossy else None,
        },
        sort_keys=True,
    )


def judge(
    photo: Photo, source: str, row: Row | None, recipe: str, options: Options, hash_source: Callable[[], str]
) -> Todo | Settled:
    """Decide without opening the photo, unless its size or date differ from the ledger's or ``--rehash``.

    ``source`` is how the ledger names the photo; ``hash_source`` reads it.

    Raises:
        PhotoError: the photo had to be read and could not be.
    """
    if photo.problem:
        return Settled.failure(photo.problem)
    target = _Target.of(photo, row)
    if row is not None and row.status == "done" and not target.ours:
        row = None  # what it tells of is gone
    if row is not None:
        seen = (photo.size, photo.mtime_ns, source)
        refreshed = None
        if options.rehash or seen != (row.size, row.mtime_ns, row.source):
            if row.sha256 is None:
                row = None  # it failed or was skipped without being read
            elif hash_source() == row.sha256:
                refreshed = replace(row, size=photo.size, mtime_ns=photo.mtime_ns, source=source)
            elif row.source != source and not options.overwrite:
                return Settled.failure(_another_source(photo, row))
            else:
                return target.todo(options)
        settled = row and _settled_by(row, recipe, options, refreshed)
        if settled and (row is None or row.status != "failed" or not target.taken or options.overwrite):
            return settled
    if target.taken and not target.ours and not options.overwrite:
        return Settled.failure(_not_ours(photo, target))
    return target.todo(options)


def _settled_by(row: Row, recipe: str, options: Options, refreshed: Row | None) -> Settled | None:
    """What the row says of a photo whose content is the same as then."""
    if row.recipe != recipe:
        if row.status == "done" and not options.redo_changed:
            return Settled("skipped", OTHER_SETTINGS, refreshed=refreshed)
        return None
    if row.status == "done":
        return Settled("skipped", CURRENT, refreshed=refreshed)
    if row.status == "skipped":
        return Settled("skipped", row.reason or "", refreshed=refreshed)
    if is_remembered(row.error) and not options.retry_failed:
        return Settled("failed", f"{row.reason} (as before; --retry-failed tries again)", row.error)
    return None


def is_remembered(error: str | None) -> bool:
    """Whether a failure of this class would come again with the same file."""
    return bool(getattr(getattr(errors, error or "", None), "remembered", False))


def _not_ours(photo: Photo, target: _Target) -> TargetExists:
    if target.known:
        why = "is not as srbatch wrote it: somebody changed it"
    else:
        why = "exists already and was not made by a run that is on record here"
    return TargetExists(f"{show(photo.target)} {why}; --overwrite replaces it")


def _another_source(photo: Photo, row: Row) -> TargetExists:
    return TargetExists(
        f"{show(photo.target)} was made from another photo, {show(row.source)};"
        " choose another --out, or replace it with --overwrite"
    )


@dataclass(frozen=True, slots=True)
class _Target:
    """What lies under the output's name."""

    size: int | None
    """Of a regular file there."""
    taken: bool
    """Whether anything is there."""
    known: bool
    """Whether the ledger has an output of that name."""
    ours: bool
    """Whether it is that output, as it was written."""

    @classmethod
    def of(cls, photo: Photo, row: Row | None) -> _Target:
        """Look."""
        known = row is not None and row.status == "done"
        try:
            status = os.lstat(photo.target)
        except OSError:
            return cls(None, taken=False, known=known, ours=False)
        size = status.st_size if stat.S_ISREG(status.st_mode) else None
        return cls(size, taken=True, known=known, ours=known and row is not None and row.target_size == size)

    def todo(self, options: Options) -> Todo:
        """The photo is to be done, with what is there replaced if it may be."""
        if options.overwrite:
            return Todo(replace=True)
        return Todo(self.ours, self.size if self.ours else None)
