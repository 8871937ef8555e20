"""What there is to do for a photo, given what the ledger knows and what lies in the output folder."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from srbatch import __version__, errors
from srbatch.discovery.found import Photo
from srbatch.errors import PhotoError, TargetExists
from srbatch.names import show
from srbatch.options import Options
from srbatch.outputs.commit import sha256_of, unfit_name
from srbatch.outputs.rows import Row
from srbatch.outputs.sidecars import Stamp, is_carried, is_missing
from srbatch.places import identity, is_gone
from srbatch.reporting.outcome import Status

CURRENT = "done before, and nothing has changed"
SIDECAR = "done before, and only its sidecar has changed, which is carried again"
SIDECAR_GONE = "done before, and only its sidecar beside the output is gone, which is carried again"
SIDECAR_LEFT = "done before; its sidecar has changed and was not carried again"
OTHER_SETTINGS = "made with other settings; --redo-changed makes it again"
HAS_OUTPUT = (CURRENT, OTHER_SETTINGS, SIDECAR, SIDECAR_GONE, SIDECAR_LEFT)
"""Reasons to skip a photo that has its output."""


@dataclass(frozen=True, slots=True)
class Todo:
    """The photo has to be done."""

    replace: bool
    """Whether a file under the target's name may be replaced: it is ours, or the user said so."""
    ours_sha256: str | None = None
    """Of our own output that is there, where that is why it may be replaced."""

    def check_still_ours(self, photo: Photo) -> None:
        """Look into it just before it is replaced: an edit may have kept its size, or be more recent.

        Raises:
            TargetExists: it is not what srbatch wrote.
        """
        if self.ours_sha256 is None or not os.path.lexists(photo.target):
            return
        if sha256_of(photo.target) != self.ours_sha256:
            raise TargetExists(f"{show(photo.target)} was changed by somebody; --overwrite replaces it")


@dataclass(frozen=True, slots=True)
class Settled:
    """There is nothing to do."""

    status: Status
    reason: str
    error: str | None = None
    """The class of a failure."""
    on_record: bool = False
    """Whether the ledger has this outcome already."""
    refreshed: Row | None = None
    """The row with the photo's new date, where the file is another but its content is the same; or the row
    alone, where the photo has failed since: noted again, it puts an end to that."""
    sidecar_due: Row | None = None
    """The row of a photo whose sidecar is another than the one carried, or gone beside the output."""

    @classmethod
    def failure(cls, error: PhotoError) -> Settled:
        """A failure that needs no try."""
        return cls("failed", str(error), type(error).__name__)


@dataclass(frozen=True, slots=True)
class Looks:
    """How more is found out about a photo."""

    sha256: Callable[[], str]
    """Reads it; raises PhotoError."""
    sidecar: Callable[[], Stamp | None]
    """Looks beside it."""


def judge(
    photo: Photo,
    source: str,
    row: Row | None,
    recipe: str,
    options: Options,
    looks: Looks,
    failure: Row | None = None,
) -> Todo | Settled:
    """Decide without opening the photo, unless its size or date differ from the ledger's or ``--rehash``.

    Args:
        source: how the ledger names the photo.
        row: what the ledger knows of the target.
        failure: what has failed since, if the row is that of an output.

    Raises:
        PhotoError: the photo had to be read and could not be.
    """
    if photo.problem:
        return Settled.failure(photo.problem)
    target = _Target.of(photo)
    if row is not None and target.is_output_of(row):
        return _judge_output(photo, source, row, recipe, options, looks, failure)
    if row and row.status == "skipped" and _is_same(photo, source, row, recipe, options):
        return Settled("skipped", row.reason or "")
    free = not target.taken or options.overwrite
    if free and (again := _as_before(photo, source, failure or row, recipe, options)):
        return again
    if target.taken and not options.overwrite:
        return Settled.failure(_not_ours(photo, row))
    return Todo(replace=options.overwrite)


def _judge_output(
    photo: Photo,
    source: str,
    row: Row,
    recipe: str,
    options: Options,
    looks: Looks,
    failure: Row | None,
) -> Todo | Settled:
    """The output on record lies there. It stays if it is of this photo, unless other settings are wanted."""
    todo = Todo(replace=True, ours_sha256=None if options.overwrite else row.target_sha256)
    refreshed = row if failure else None
    again = _as_before(photo, source, failure, recipe, options)
    if _may_differ(photo, source, row, options):
        if again and (row.recipe == recipe or options.redo_changed):
            return again
        if looks.sha256() != row.sha256:
            if options.overwrite or is_of(photo, source, row, options.out):
                return todo
            return Settled.failure(_another_source(photo, row, options.out))
        refreshed = replace(row, size=photo.size, mtime_ns=photo.mtime_ns, source=source)
    if row.recipe == recipe:
        if not is_carried(row.details, looks.sidecar()):
            return Settled("skipped", SIDECAR, refreshed=refreshed, sidecar_due=refreshed or row)
        if is_missing(row.details, photo.target):
            return Settled("skipped", SIDECAR_GONE, refreshed=refreshed, sidecar_due=refreshed or row)
        return Settled("skipped", CURRENT, refreshed=refreshed)
    if not options.redo_changed:
        return Settled("skipped", OTHER_SETTINGS, refreshed=refreshed)
    return again or todo


def is_of(photo: Photo, source: str, row: Row, out: os.PathLike[str]) -> bool:
    """Whether a row is of this very file, if need be by another name of it or of its folder.

    One that is gone may have been another photo than this, whose output must not be lost.
    """
    if source == row.source:
        return True
    mark = identity(photo.source)
    return mark is not None and mark == identity(source_path(row, out))


def source_path(row: Row, out: os.PathLike[str]) -> Path:
    """Where the photo of a row lies, or lay."""
    # By the names, as the row's own path was made, and not through links in them.
    return Path(os.path.normpath(Path(os.path.abspath(out), row.source)))


def _may_differ(photo: Photo, source: str, row: Row, options: Options) -> bool:
    """Whether only reading it tells if the photo is the one that the row is of."""
    return options.rehash or (photo.size, photo.mtime_ns, source) != (row.size, row.mtime_ns, row.source)


def _is_same(photo: Photo, source: str, row: Row, recipe: str, options: Options) -> bool:
    """Whether a row is of the same file, by all that is seen without reading it, and of these settings."""
    return row.recipe == recipe and not _may_differ(photo, source, row, options)


def _as_before(photo: Photo, source: str, known: Row | None, recipe: str, options: Options) -> Settled | None:
    """The failure on record, if it would come again."""
    if known is None or options.retry_failed or not comes_again(known, options):
        return None
    if not _is_same(photo, source, known, recipe, options):
        return None
    told = f"{known.reason} (as before; --retry-failed tries again)"
    return Settled("failed", told, known.error, on_record=True)


def comes_again(failure: Row, options: Options) -> bool:
    """Whether the same file would fail again, as it is not what the run allows now that made it fail."""
    return is_remembered(failure.error) and failure.details == tried_with(options)


def tried_with(options: Options) -> str:
    """What lets a photo fail or not, beside itself and its recipe: the details of a failure, as JSON.

    With a higher limit, a library that was missing or another srbatch, it is worth another try.
    """
    within = {
        "srbatch": __version__,
        "heif": find_spec("pillow_heif") is not None,
        "max_megapixels": options.max_megapixels,
        "codec_timeout_s": options.codec_timeout_s,
        "codec_memory_mb": options.codec_memory_mb,
    }
    return json.dumps({"tried_with": within})


def is_remembered(error: str | None) -> bool:
    """Whether a failure of this class would come again with the same file."""
    return bool(getattr(getattr(errors, error or "", None), "remembered", False))


def _not_ours(photo: Photo, row: Row | None) -> TargetExists:
    if row is not None and row.status == "done":
        why = "is not as srbatch wrote it: somebody changed it"
    else:
        why = "exists already and was not made by a run that is on record here"
    return TargetExists(f"{show(photo.target)} {why}; --overwrite replaces it")


def _another_source(photo: Photo, row: Row, out: os.PathLike[str]) -> TargetExists:
    gone = ", which is gone" if is_gone(source_path(row, out)) else ""
    return TargetExists(
        f"{show(photo.target)} was made from another photo, {show(row.source)}{gone};"
        " choose another --out, or replace it with --overwrite"
    )


@dataclass(frozen=True, slots=True)
class _Target:
    """What lies under the output's name."""

    taken: bool
    """Whether anything is there."""
    size: int | None = None
    """Of a regular file there, in bytes."""

    @classmethod
    def of(cls, photo: Photo) -> _Target:
        """Look.

        Raises:
            UnsupportedPhoto: no file can have that name there.
        """
        try:
            status = os.lstat(photo.target)
        except OSError as error:
            if unfit := unfit_name(error):
                raise unfit from error
            return cls(taken=False)
        return cls(taken=True, size=status.st_size if stat.S_ISREG(status.st_mode) else None)

    def is_output_of(self, row: Row) -> bool:
        """Whether it is the output on record, as far as can be told without reading it."""
        return row.status == "done" and self.size is not None and self.size == row.target_size
