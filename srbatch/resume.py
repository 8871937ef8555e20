"""What there is to do for a photo, given what the ledger knows and what lies in the output folder."""

from __future__ import annotations

import json
import os
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
        if self.ours_size is not None and _size_of(photo) not in (None, self.ours_size):
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
    target_size = _size_of(photo)
    ours = row is not None and row.status == "done" and row.target_size == target_size
    todo = Todo(options.overwrite or ours, target_size if ours and not options.overwrite else None)
    if target_size is not None and not todo.replace:
        return Settled.failure(_not_ours(photo, row))
    if row is None or (row.status == "done" and target_size is None):
        return todo
    refreshed = None
    if options.rehash or (row.size, row.mtime_ns) != (photo.size, photo.mtime_ns):
        if row.sha256 is None or hash_source() != row.sha256:
            return todo if row.source == source or options.overwrite else _another_source(photo, row)
        refreshed = replace(row, size=photo.size, mtime_ns=photo.mtime_ns, source=source)
    return _settled_by(row, recipe, options, refreshed) or todo


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


def _not_ours(photo: Photo, row: Row | None) -> TargetExists:
    if row is not None and row.status == "done":
        why = "is not as srbatch wrote it: somebody changed it"
    else:
        why = "exists already and was not made by a run that is on record here"
    return TargetExists(f"{show(photo.target)} {why}; --overwrite replaces it")


def _another_source(photo: Photo, row: Row) -> Settled | Todo:
    if row.status != "done":
        return Todo(replace=False)
    return Settled.failure(
        TargetExists(
            f"{show(photo.target)} was made from another photo, {show(row.source)};"
            " choose another --out, or replace it with --overwrite"
        )
    )


def _size_of(photo: Photo) -> int | None:
    try:
        return os.lstat(photo.target).st_size
    except OSError:
        return None
