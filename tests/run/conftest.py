"""Runs over a few photos, and what they leave."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from srbatch import batch, run
from srbatch.codecs import codec_pool
from srbatch.errors import ExitCode
from srbatch.options import Options, TargetSize
from tests.conftest import Originals, crop
from tests.networks import FakeModel, Local
from tests.runs import Listener

XMP = (
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:source>Album</dc:source></rdf:Description></rdf:RDF>'
)


@pytest.fixture
def five(originals: Originals) -> Path:
    """Five photos of a tile or a few each."""
    for index in range(5):
        crop(40 + 40 * index, 150, top=10 * index, left=30 * index).save(originals.folder / f"{index}.png")
    originals.remember()
    return originals.folder


def upscale(
    folder: Path,
    out: Path,
    network: nn.Module | None = None,
    *,
    check: Callable[[], None] = lambda: None,
    model: FakeModel | None = None,
    listener: Listener | None = None,
    **changes: Any,
) -> tuple[ExitCode, Listener]:
    options = Options(**{"inputs": (folder,), "out": out, "size": TargetSize(scale=2), **changes})
    made, listener = model or FakeModel(network or Local()), listener or Listener()
    code = run.upscale(options, reporter=listener, check=check, model_of=lambda _: made)
    return code, listener


def outputs(out: Path) -> dict[str, bytes]:
    return {
        p.name: p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file() and ".srbatch" not in p.parts
    }


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The serial path, for faults that strike at a counted call."""
    monkeypatch.setattr(batch, "_BESIDE_CODECS", 0)
    monkeypatch.setattr(codec_pool, "_MOST_WORKERS", 1)


@pytest.fixture
def expected(five: Path, tmp_path: Path) -> dict[str, bytes]:
    """What a run without faults makes of the five."""
    code, _ = upscale(five, tmp_path / "expected")
    assert code is ExitCode.DONE
    return outputs(tmp_path / "expected")


@pytest.fixture
def archive(five: Path, tmp_path: Path) -> Path:
    """A folder with photos, outputs and the state of their run, each in a folder of its own."""
    folder = tmp_path / "archive"
    shutil.copytree(five, folder / "in")
    upscale(folder / "in", folder / "out", state=folder / "state")
    return folder
