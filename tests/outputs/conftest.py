"""Places to write to, a ledger, and photos with sidecars."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from srbatch.outputs.commit import temp_path
from srbatch.outputs.ledger import Ledger
from srbatch.outputs.rows import Row
from tests.conftest import Originals, crop
from tests.files import PACKET


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "hi"
    folder.mkdir()
    return folder / "a.jpg"


@pytest.fixture
def temp(target: Path) -> Path:
    path = temp_path(target)
    path.write_bytes(b"new")
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "hi" / ".srbatch"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def ledger(state: Path) -> Iterator[Ledger]:
    opened = Ledger.open(state)
    yield opened
    opened.close()


def row(target: str = "a.jpg", **changes: object) -> Row:
    done = Row(
        target=target,
        status="done",
        source="../photos/a.jpg",
        size=1234,
        mtime_ns=1_700_000_000_123_456_789,
        sha256="ab" * 32,
        recipe='{"size": "x4"}',
        target_size=5678,
        target_sha256="cd" * 32,
        finished=1_700_000_000.5,
    )
    return replace(done, **changes)  # type: ignore[arg-type]


@pytest.fixture
def album(originals: Originals) -> Path:
    """A photo on its side with two sidecars, one with one, and one with a broken one."""
    tags = Image.Exif()
    tags[0x0112] = 6
    crop().save(originals.folder / "a.jpg", exif=tags)
    for name in ("b.png", "c.png"):
        crop().save(originals.folder / name)
    (originals.folder / "a.jpg.xmp").write_text(PACKET.format(1))
    (originals.folder / "a.xmp").write_text(PACKET.format(2))
    (originals.folder / "b.XMP").write_text(PACKET.format(3))
    (originals.folder / "c.xmp").write_text("<x>")
    os.utime(originals.folder / "a.jpg.xmp", ns=(10**18, 10**18))
    originals.remember()
    return originals.folder


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def said(path: Path) -> dict[str, str]:
    """The simple properties of a packet."""
    found = {}
    for description in ElementTree.parse(path).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    ):
        found |= description.attrib | {child.tag: child.text or "" for child in description}
    return {name.rpartition("}")[2]: value for name, value in found.items()}
