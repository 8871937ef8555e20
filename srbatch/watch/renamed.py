"""Another name for the output of a photo that has the name of one that was moved away.

Cameras begin again at IMG_0001 after IMG_9999. The new name holds a piece of the photo's own hash, so that
the same photo always gets the same name, whenever and however often it comes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePath

from srbatch.batch import Run
from srbatch.discovery.found import Photo
from srbatch.discovery.target_names import target_name
from srbatch.errors import PhotoError, TargetExists
from srbatch.formats import Format
from srbatch.names import collision_key, show
from srbatch.outputs.rows import Row
from srbatch.preflight import source_name
from srbatch.resume import is_of

_DIGITS = (8, 16, 64)
"""Of the hash, in hexadecimal: more of them where fewer are taken."""


def with_tag(name: str, tag: str) -> str:
    """A file name with something before its ending.

    >>> with_tag("IMG_0001.JPG", "5f2c9a31")
    'IMG_0001.5f2c9a31.JPG'
    """
    path = PurePath(name)
    return f"{path.stem}.{tag}{path.suffix}"


class OutputNames:
    """Gives each photo a target that is its own, also where one of its name was moved away."""

    def __init__(self, run: Run) -> None:
        self._ledger, self._codecs, self._options = run.ledger, run.codecs, run.options
        self._photos: Sequence[Photo] = []
        self._natural: set[str] | None = None
        """Keys of the targets that these would have by their own names, once they are asked for."""

    def note_photos(self, photos: Sequence[Photo]) -> None:
        """These are there now."""
        self._photos, self._natural = photos, None

    def placed(self, photo: Photo) -> Photo:
        """The photo with its own target."""
        row = self._ledger.row(photo.relative.as_posix())
        source = source_name(photo, self._options.out)
        if photo.problem or row is None or row.status != "done":
            return photo
        if is_of(photo, source, row, self._options.out):
            return photo
        if not os.path.lexists(photo.target):
            return photo
        try:
            sha256 = self._codecs.hash(photo.source)
        except PhotoError:
            return photo  # the batch will say why it cannot be read
        to, row_of = self._options.format, self._ledger.row
        return placed(photo, sha256, to=to, row_of=row_of, is_taken=self._is_taken)

    def _is_taken(self, relative: PurePath) -> bool:
        if self._natural is None:
            self._natural = {collision_key(photo.relative) for photo in self._photos}
        return collision_key(relative) in self._natural or os.path.lexists(self._options.out / relative)


def placed(
    photo: Photo,
    sha256: str,
    *,
    to: Format | None,
    row_of: Callable[[str], Row | None],
    is_taken: Callable[[PurePath], bool],
) -> Photo:
    """The photo with a target that no other photo's output has.

    Args:
        sha256: of the photo's bytes.
        to: the format asked for, as in :func:`srbatch.discovery.target_names.target_name`.
        row_of: what the ledger says of a target below the output folder.
        is_taken: whether the target below it is another photo's, or is there without the ledger's knowledge.
    """
    name = photo.source.name
    names = [photo.relative.name, *(target_name(with_tag(name, sha256[:n]), to) for n in _DIGITS)]
    for number, candidate in enumerate(names):
        relative = photo.relative.with_name(candidate)
        row = row_of(relative.as_posix())
        if row is not None and row.status == "done":
            free = row.sha256 == sha256
        else:
            free = number > 0 and not is_taken(relative)
        if free:
            return (
                replace(photo, relative=relative, target=photo.target.with_name(candidate))
                if number
                else photo
            )
    problem = TargetExists(f"all names for its output are taken, {show(names[-1])} too; rename the photo")
    return replace(photo, problem=problem)
