"""Photos and outputs are kept apart: none is written among the originals, none is taken for a photo."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from srbatch.discovery.found import Found
from srbatch.errors import UsageError
from srbatch.names import show
from srbatch.places import Mark, Within, is_folder, is_within, marks, surroundings


def check_apart(inputs: tuple[Path, ...], out: Path) -> None:
    """No output may lie among the originals, nor they among the outputs.

    Raises:
        UsageError: the output folder is an input, or one of the two lies inside the other.
    """
    at_out, around_out = marks(out), surroundings(out)
    for path in inputs:
        known = marks(path)
        if not known.isdisjoint(at_out):
            raise UsageError(f"--out {show(out)} is the input itself; originals are never written to")
        if not known.isdisjoint(around_out):
            raise UsageError(
                f"--out {show(out)} lies inside the input {show(path)}; choose a folder outside of it"
            )
        if is_folder(path) and is_within(path, out):
            raise UsageError(
                f"the input {show(path)} lies inside --out {show(out)}; choose an output folder of its own"
            )


def marks_of_folders(inputs: tuple[Path, ...]) -> set[Mark]:
    """The marks of those inputs that are folders: below them no output may lie."""
    return set().union(*(marks(path) for path in inputs if is_folder(path)))


def check_targets_apart(found: Found, originals: set[Mark]) -> None:
    """No link within the output folder may lead back to the originals: outputs would become photos.

    Raises:
        UsageError: one does.
    """
    if not originals:
        return
    within = Within(originals)
    for folder in dict.fromkeys(photo.target.parent for photo in found.photos):
        if within(folder):
            raise UsageError(f"--out: {among_originals(folder)}")


def among_originals(folder: Path) -> str:
    """What is said of a folder for outputs that lies within an input."""
    real = os.path.realpath(folder)
    return (
        f"outputs in {show(folder)} would lie among the originals, in {show(real)};"
        " remove the link that leads there, or choose another --out"
    )


def check_outside(inputs: tuple[Path, ...], places: Mapping[str, Path | None]) -> None:
    """Nothing is written into a folder of originals; ``places`` are what is written, by the flag.

    Raises:
        UsageError: one lies inside an input.
    """
    folders = [path for path in inputs if is_folder(path)]
    for flag, place in places.items():
        for folder in folders:
            if place is not None and is_within(place, folder):
                raise UsageError(
                    f"{flag} {show(place)} lies inside the input {show(folder)}; choose a place outside of it"
                )
