"""Another name for the output of a photo that has the name of one that was moved away.

Cameras begin again at IMG_0001 after IMG_9999. The new name holds a piece of the photo's own hash, so that
the same photo always gets the same name, whenever and however often it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath

from srbatch.discover import Photo, target_name
from srbatch.errors import TargetExists
from srbatch.formats import Format
from srbatch.ledger import Row
from srbatch.names import show

_DIGITS = (8, 16, 64)
"""Of the hash, in hexadecimal: more of them where fewer are taken."""


def with_tag(name: str, tag: str) -> str:
    """A file name with something before its ending.

    >>> with_tag("IMG_0001.JPG", "5f2c9a31")
    'IMG_0001.5f2c9a31.JPG'
    """
    path = PurePath(name)
    return f"{path.stem}.{tag}{path.suffix}"


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
        to: the format asked for, as in :func:`srbatch.discover.target_name`.
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
