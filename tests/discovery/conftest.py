"""A folder of photos and one for outputs, and what is found of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from srbatch.discovery.found import Found, Photo


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def targets(found: Found) -> list[str]:
    return [photo.relative.as_posix() for photo in found.photos]


def only(found: Found) -> Photo:
    (photo,) = found.photos
    return photo


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make(tmp_path / "photos")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "hi"
