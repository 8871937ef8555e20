"""Photographs to work on, and the promise that no test may break: originals stay as they are."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from srbatch import weights
from srbatch.formats import Format

settings.register_profile("srbatch", deadline=None)  # how long an example takes is the machine's business
settings.load_profile("srbatch")

WRITTEN = [Format.JPEG, Format.PNG, Format.WEBP, Format.TIFF]
"""The formats that outputs can have; AVIF and HEIC, which are slower, have tests of their own."""


@functools.cache
def sample(name: str = "china.jpg") -> np.ndarray:
    """One of scikit-learn's two photographs, 427 x 640 x 3."""
    from sklearn.datasets import load_sample_image

    return load_sample_image(name)


def crop(
    height: int = 48, width: int = 64, *, top: int = 150, left: int = 300, name: str = "china.jpg"
) -> Image.Image:
    """A small piece of a photograph."""
    return Image.fromarray(sample(name)[top : top + height, left : left + width])


@dataclass
class Originals:
    """A folder of photos whose files must be the same at the end of the test, down to their dates."""

    folder: Path
    _before: dict[Path, tuple[str, int, int]] = field(default_factory=dict)

    def remember(self) -> None:
        """Take the files as they are now for the originals."""
        self._before = self._now()

    def check(self) -> None:
        """Fail if one of them was changed, moved or joined by another file."""
        assert self._now() == self._before

    def _now(self) -> dict[Path, tuple[str, int, int]]:
        found = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                status = path.stat()
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[path] = (digest, status.st_mtime_ns, status.st_mode)
        return found


@pytest.fixture
def originals(tmp_path: Path) -> Iterator[Originals]:
    """An empty folder for photos, checked at the end. Call ``remember()`` when it is filled."""
    folder = tmp_path / "photos"
    folder.mkdir()
    found = Originals(folder)
    yield found
    found.check()


@pytest.fixture
def photos(originals: Originals) -> Path:
    """A small archive of the four formats in a tree."""
    folder = originals.folder
    (folder / "1999" / "summer").mkdir(parents=True)
    crop().save(folder / "a.jpg", quality=90)
    crop(left=100).save(folder / "1999" / "b.png")
    crop(top=20).convert("L").save(folder / "1999" / "summer" / "grey.tif")
    crop(name="flower.jpg").save(folder / "1999" / "summer" / "c.webp", quality=90)
    originals.remember()
    return folder


@pytest.fixture(autouse=True, scope="session")
def _load_weights_once() -> Iterator[None]:
    """Loading those that are shipped takes a second; tests in one process may share what they only read.

    Others are not kept: a training leaves half a gigabyte of them.
    """
    patch, load = pytest.MonkeyPatch(), weights.load
    shipped = {path for path, _ in weights.released()}
    cached: Callable[[Path], weights.Weights] = functools.cache(load)
    patch.setattr(weights, "load", lambda path: cached(path) if path in shipped else load(path))
    yield
    patch.undo()


@contextmanager
def without_privileges() -> Iterator[None]:
    """Be a user whom permissions bind."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65_534)
    except OSError:
        pytest.skip("there is no other user here")
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder of the user that :func:`without_privileges` is, who may not enter those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            os.chown(folder, 65_534, -1)
        try:
            yield Path(folder)
        finally:
            for path, folders, _ in os.walk(folder):
                for name in folders:
                    (Path(path) / name).chmod(0o700)


class Clock:
    """Goes only when told."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()
