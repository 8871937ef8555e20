"""An output folder, what is on its record, and runs that are killed in it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from srbatch.options import Options
from srbatch.outputs.archive import state_folder
from srbatch.outputs.commit import temp_path
from srbatch.outputs.ledger import Ledger
from srbatch.outputs.rows import Row

BE_KILLED = """
import sys
from pathlib import Path
from srbatch.outputs.archive import opened
from srbatch.outputs.commit import temp_path
from srbatch.options import Options

out, scratch = Path(sys.argv[1]), sys.argv[2]
options = Options(inputs=(Path("photos"),), out=out, scratch=Path(scratch) if scratch else None)
with opened(options, "srbatch upscale") as archive, archive.scratch.for_photo() as pixels:
    pixels.spool()(10, 10, 3)[:] = 7
    temp = temp_path(out / "a.jpg")
    archive.ledger.begin("a.jpg", temp.name)
    temp.write_bytes(b"half")
    print(end="ready\\n", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"original")
    return folder


@pytest.fixture
def options(tmp_path: Path, photos: Path) -> Options:
    return Options(inputs=(photos,), out=tmp_path / "hi")


def with_(options: Options, **changes: object) -> Options:
    return Options(**{"inputs": options.inputs, "out": options.out, **changes})  # type: ignore[arg-type]


def row_of(content: bytes, **changes: object) -> Row:
    row = {
        "target": "a.jpg",
        "status": "done",
        "source": "../photos/a.jpg",
        "size": 8,
        "mtime_ns": 1,
        "sha256": "ab" * 32,
        "recipe": "{}",
        "target_size": len(content),
        "target_sha256": hashlib.sha256(content).hexdigest(),
    }
    return Row(**{**row, **changes})  # type: ignore[arg-type]


def killed_while_writing(options: Options, *, row: Row | None = None) -> Path:
    """The folder as a killed run leaves it: a write is pending, its temporary file is there."""
    state = state_folder(options.out, options.state)
    state.mkdir(parents=True)
    temp = temp_path(options.out / "a.jpg")
    temp.write_bytes(b"half of an output")
    ledger = Ledger.open(state)
    ledger.begin("a.jpg", temp.name)
    if row is not None:
        ledger.about_to_commit(row)
    ledger.close()
    return temp


def names_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
