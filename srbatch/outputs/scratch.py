"""Disk space for pixels on their way between processes."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srbatch.errors import DestinationError
from srbatch.outputs.commit import destination_error, discard, make_folder


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder that is gone afterwards, in ``parent``, which is made, or where the system keeps such.

    Raises:
        DestinationError: ``parent`` cannot be made, or takes no folder.
    """
    if parent is not None:
        make_folder(parent)
    try:
        made = tempfile.TemporaryDirectory(prefix="srbatch-", dir=parent)
    except OSError as error:
        if parent is not None:
            raise destination_error(error, parent) from error
        raise DestinationError(
            f"there is no place for temporary files ({error.strerror or error}); name one with --scratch"
        ) from error
    with made as folder:
        yield Path(folder)


class Scratch:
    """A folder that belongs to one run. What a killed run left there is removed at the start."""

    def __init__(self, folder: Path) -> None:
        """Take over ``folder``, which nothing else uses; its content is deleted.

        Raises:
            DestinationError: it cannot be made.
        """
        self.folder = folder
        discard(folder)  # a link: what it leads to is not ours
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)

    @contextmanager
    def for_photo(self) -> Iterator[PhotoScratch]:
        """Files of one photo, removed when it is done or has failed.

        Raises:
            DestinationError: the disk takes none.
        """
        make_folder(self.folder)  # it may have been tidied away in the months of a watcher
        try:
            # New, whatever lies there: what is deleted afterwards was made here.
            folder = Path(tempfile.mkdtemp(dir=self.folder))
        except OSError as error:
            raise destination_error(error, self.folder) from error
        try:
            yield PhotoScratch(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


class PhotoScratch:
    """Names and arrays in the scratch folder of one photo."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._spooled: dict[tuple[int, ...], Path] = {}

    def path(self) -> Path:
        """A name that is free."""
        return self._folder / f"{next(self._numbers)}.raw"

    def spool(self) -> Callable[[int, int, int], NDArray[np.uint16]]:
        """What gives arrays (height, width, channels) on disk, for one attempt at the photo.

        The next attempt is given the same ones in the same order: what one without room left behind is of no
        use any more, and the disk is counted on for one at a time.

        The function raises:
            DestinationError: the disk is full. Left to the first write into a mapped file, that would
                end the process with SIGBUS.
        """
        numbers = itertools.count()

        def array(height: int, width: int, channels: int) -> NDArray[np.uint16]:
            shape = (height, width, channels)
            place = (next(numbers), *shape)
            if place not in self._spooled:
                self._spooled[place] = self._room_for(int(np.prod(shape)) * 2)
            return np.memmap(self._spooled[place], np.uint16, "r+", shape=shape)

        return array

    def _room_for(self, size: int) -> Path:
        path = self.path()
        try:
            with path.open("wb") as file:
                _allocate(file.fileno(), size)
        except OSError as error:
            raise destination_error(error, path) from error
        return path


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    zeros = bytes(1 << 20)
    for start in range(0, size, len(zeros)):
        os.write(descriptor, zeros[: min(len(zeros), size - start)])
