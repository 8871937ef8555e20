"""Photos whose outputs would take one another's place: they fail before any work is done."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Set
from dataclasses import replace
from pathlib import Path

from srbatch.discovery.found import Found, Photo
from srbatch.errors import TargetExists
from srbatch.names import collision_key, show
from srbatch.places import Mark, identity, nearest_folder


def without_collisions(found: Found, sources: Set[Mark]) -> Found:
    """Fail photos whose outputs would be one file, a folder of outputs, or one of the photos ``sources``."""
    _fail_where_a_folder_is_due(found)
    _fail_where_a_photo_is(found, sources)
    tells_case_apart = functools.cache(_tells_case_apart)  # it may list a folder
    groups: dict[str, list[int]] = {}
    for index, photo in enumerate(found.photos):
        if photo.problem is None:
            groups.setdefault(collision_key(photo.relative), []).append(index)
    for indices in groups.values():
        if len(indices) > 1 and _collide([found.photos[i] for i in indices], tells_case_apart):
            _fail_collided(found, indices)
    return found


def _fail_where_a_folder_is_due(found: Found) -> None:
    folders = {parent for photo in found.photos for parent in photo.relative.parents}
    for index, photo in enumerate(found.photos):
        if photo.relative in folders:
            problem = TargetExists(
                f"its output {show(photo.relative)} would have the name of a folder of outputs; rename one"
            )
            found.photos[index] = replace(photo, problem=problem)


def _fail_where_a_photo_is(found: Found, sources: Set[Mark]) -> None:
    """However links are arranged, no output may take the place of a photo."""
    for index, photo in enumerate(found.photos):
        if identity(photo.target) in sources:
            problem = TargetExists(
                f"its output {show(photo.target)} is one of the photos; originals are never written to:"
                " choose another --out"
            )
            found.photos[index] = replace(photo, problem=problem)


def _collide(photos: list[Photo], tells_case_apart: Callable[[Path], bool]) -> bool:
    names = {os.fspath(photo.relative) for photo in photos}
    if len(names) < len(photos):
        return True
    if len({name.casefold() for name in names}) == len(names):  # they differ in Unicode's composition alone
        return sys.platform == "darwin"
    return not tells_case_apart(photos[0].target.parent)


def _tells_case_apart(folder: Path) -> bool:
    """Whether the file system of a folder, or of its nearest parent, keeps ``a`` and ``A`` apart."""
    folder = nearest_folder(folder)
    try:
        listed = list(folder.iterdir())
    except OSError:
        listed = []
    for path in (*listed, folder.resolve()):
        swapped = path.with_name(path.name.swapcase()) if path.name else path
        if swapped.name != path.name:
            try:
                return not swapped.samefile(path)
            except OSError:
                return True
    return True


def _fail_collided(found: Found, indices: list[int]) -> None:
    for index in indices:
        photo = found.photos[index]
        other = next(found.photos[i] for i in indices if i != index)
        problem = TargetExists(
            f"its output {show(photo.relative)} would be the same file as that of {show(other.source)};"
            " rename one of them or upscale them into different folders"
        )
        found.photos[index] = replace(photo, problem=problem)
