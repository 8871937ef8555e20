"""What `srbatch status` and `srbatch verify` make of odd ledgers and odd output folders."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from srbatch.inspection import verify
from srbatch.ledger import STATE_FOLDER, Ledger, Row

OUTPUT = b"the output as it was written"
RECIPE = json.dumps({"model": "0" * 64, "size": "x2", "strength": 1.0, "quality": None})


def row(target: str, **changes: object) -> Row:
    done = {
        "target": target,
        "status": "done",
        "source": f"../photos/{target}",
        "size": 8,
        "mtime_ns": 1,
        "sha256": "ab" * 32,
        "recipe": RECIPE,
        "target_size": len(OUTPUT),
        "target_sha256": hashlib.sha256(OUTPUT).hexdigest(),
    }
    return Row(**{**done, **changes})  # type: ignore[arg-type]


def archive(out: Path, *rows: Row) -> Path:
    """An output folder with these rows, and an output for each."""
    state = out / STATE_FOLDER
    state.mkdir(parents=True)
    ledger = Ledger.open(state)
    for known in rows:
        ledger.record(known)
        (out / known.target).write_bytes(OUTPUT)
    ledger.close()
    return out


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with a name")
def test_what_is_no_file_is_told_as_such_and_not_waited_for(tmp_path: Path) -> None:
    out = archive(tmp_path / "hi", *(row(name) for name in ("file", "folder", "link", "pipe")))
    for name in ("folder", "link", "pipe"):
        (out / name).rename(tmp_path / name)
    (out / "folder").mkdir()
    (out / "link").symlink_to(tmp_path / "link")
    os.mkfifo(out / "pipe")
    found = verify(out, None)
    assert found.sound == 1
    assert found.problems == [(name, "is a link, or no file at all") for name in ("folder", "link", "pipe")]
