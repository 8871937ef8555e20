"""Photos of a drop folder, and a daemon whose clock the test moves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from srbatch.codecs.codec_pool import CodecPool
from srbatch.discovery.found import Photo
from srbatch.formats import Format
from srbatch.options import Options
from srbatch.watch import daemon, input_folder
from srbatch.watch.moving import OriginalsFolder
from tests.watch.world import Act, InProcess, NoEvents, World


def photo(name: str = "a.jpg", size: int = 10, mtime_ns: int = 5) -> Photo:
    return Photo(Path("drop", name), Path(name), Path("hi", name), Format.JPEG, size, mtime_ns)


def lying(path: Path, data: bytes = b"photo") -> Photo:
    path.write_bytes(data)
    status = path.stat()
    return replace(photo(path.name), source=path, size=status.st_size, mtime_ns=status.st_mtime_ns)


def originals_folder(drop: Path) -> OriginalsFolder:
    return OriginalsFolder("--done", drop.parent / "done", watched=drop, out=drop.parent / "hi")


def quiet(path: Path) -> None:
    pass


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    (tmp_path / "drop" / "1999").mkdir(parents=True)
    return tmp_path / "drop"


@pytest.fixture
def world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[World]:
    monkeypatch.setattr(CodecPool, "of", lambda options, check: InProcess(check))
    monkeypatch.setattr(daemon, "Events", NoEvents)
    caplog.set_level(logging.INFO, "srbatch")
    threads = set(threading.enumerate())
    yield World(tmp_path)
    assert not set(threading.enumerate()) - threads, "a thread was left behind"


@pytest.fixture
def looks(world: World, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the folder was looked through."""
    found: list[float] = []
    real = input_folder.find

    def find(options: Options, check: Act) -> Any:
        found.append(world.control.now())
        return real(options, check)

    monkeypatch.setattr(input_folder, "find", find)
    return found
