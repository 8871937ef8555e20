"""What `srbatch status` and `srbatch verify` make of odd ledgers and odd output folders."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from srbatch.errors import LedgerError
from srbatch.formats import Format
from srbatch.outputs.ledger import STATE_FOLDER, Ledger
from srbatch.outputs.rows import Row
from srbatch.reporting.inspection import status, verify
from tests.conftest import Originals, crop
from tests.networks import upscaled

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


def named(out: Path) -> str:
    """What the message of a damaged ledger begins with."""
    return f"^{re.escape(str(out / STATE_FOLDER / 'ledger.sqlite'))}: the ledger is damaged"


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


@pytest.mark.parametrize(
    "recipe",
    ["", "{", "[]", "null", "{}", '{"size": 1, "model": 2}', b"\xff", "[" * 100_000],
    ids=lambda text: repr(text[:30]),
)
def test_a_row_with_settings_that_are_none_is_a_damaged_ledger(tmp_path: Path, recipe: str | bytes) -> None:
    out = archive(tmp_path / "hi", row("a.jpg"), row("b.jpg"))
    with closing(sqlite3.connect(out / STATE_FOLDER / "ledger.sqlite")) as ledger:
        ledger.execute("UPDATE photos SET recipe=? WHERE target=?", (recipe, b"b.jpg"))
        ledger.commit()
    with pytest.raises(LedgerError, match=named(out)):
        status(out, None)


def test_a_row_with_details_that_are_none_is_a_damaged_ledger(tmp_path: Path) -> None:
    out = archive(tmp_path / "hi", row("a.jpg", details='{"sidecar_sha256": "'))
    with pytest.raises(LedgerError, match=named(out)):
        verify(out, None)


@pytest.mark.parametrize(
    "change",
    [
        "photos SET source=5",
        "photos SET target=5",
        "photos SET details=x'05'",
        "photos SET reason=x'05'",
        "photos SET error=x'ff'",
        "photos SET mtime_ns='today'",
        "failures SET source=5",
        "pending SET temp=5",
        "pending SET target=5",
        "pending SET row=5",
        "pending SET row=replace(hex(zeroblob(50000)), '00', '[')",
        "runs SET pid='me'",
        "runs SET started=x''",
    ],
)
def test_columns_that_hold_something_else_are_a_damaged_ledger(tmp_path: Path, change: str) -> None:
    out = archive(tmp_path / "hi", row("a.jpg", status="failed"))
    ledger = Ledger.open(out / STATE_FOLDER)
    ledger.begin("b.jpg", ".srbatch-0123456789ab.part", row("b.jpg"))
    ledger.start_run("srbatch")
    ledger.close()
    with closing(sqlite3.connect(out / STATE_FOLDER / "ledger.sqlite", isolation_level=None)) as changed:
        changed.execute("INSERT INTO failures SELECT * FROM photos")
        changed.execute(f"UPDATE {change}")
    with pytest.raises(LedgerError, match="damaged"):
        status(out, None)


def test_a_ledger_of_others_forges_no_line(tmp_path: Path) -> None:
    bad = "\x1b[2J\n0 done\r\x9b"
    recipe = RECIPE.replace("x2", "\\u001b[2J\\n0 done\\r\\u009b")
    out = archive(
        tmp_path / "hi",
        row("a.jpg", status="failed", reason=bad, source=f"../{bad}"),
        row("b.jpg", status="skipped", reason=bad),
        row("c.jpg", recipe=recipe),
    )
    ledger = Ledger.open(out / STATE_FOLDER)
    ledger.begin(bad, ".srbatch-0123456789ab.part")
    ledger.start_run("srbatch")
    ledger.close()
    with closing(sqlite3.connect(out / STATE_FOLDER / "ledger.sqlite", isolation_level=None)) as changed:
        changed.execute("UPDATE runs SET host=?", (bad,))
    lines = status(out, None).lines()
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)
    assert all(r"\x1b[2J\n0 done\r\x9b" in line for line in lines[1:])


def test_a_failure_is_named_as_seen_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = row("1999/a.jpg", status="failed", reason="is damaged", error="UnreadablePhoto", target_size=None)
    (tmp_path / "hi" / "1999").mkdir(parents=True)
    archive(tmp_path / "hi", known)
    monkeypatch.chdir(tmp_path)
    found = status(Path("hi"), None)
    told = {"target": "1999/a.jpg", "reason": "is damaged", "error": "UnreadablePhoto"}
    source = str(Path("photos", "1999", "a.jpg"))
    assert found.as_record()["failures"] == [{"source": source, **told}]
    assert found.lines()[-1] == f"  failed {source}: is damaged"
    monkeypatch.chdir("hi")
    (failure,) = status(Path(), None).as_record()["failures"]
    assert failure["source"] == str(Path("..", source))
    (failure,) = status(tmp_path / "hi", None).as_record()["failures"]
    assert failure["source"] == str(tmp_path / source)


def test_machines_are_told_what_people_are_told(tmp_path: Path) -> None:
    out = archive(tmp_path / "hi", row("a.jpg"), row("b.jpg"), row("c.jpg", status="skipped", reason="small"))
    ledger = Ledger.open(out / STATE_FOLDER)
    ledger.start_run("srbatch")
    last = ledger.last_run()
    ledger.close()
    assert last is not None
    known = status(out, None).as_record()
    assert known["skipped_because"] == {"small": 1}
    assert known["last_run"] == {"host": last[0], "pid": os.getpid(), "started": last[2]}
    (out / "a.jpg").unlink()
    found = verify(out, None)
    assert found.as_record() == {
        "outputs": 2,
        "sound": 1,
        "sidecars": 0,
        "sound_sidecars": 0,
        "problems": [{"target": "a.jpg", "problem": "is not there"}],
    }
    assert found.lines()[1:] == [
        "to have one of these made again, delete it and run the command that made it",
        "as they were written: 1 of 2 outputs",
    ]


def test_machines_are_told_names_apart(tmp_path: Path) -> None:
    names = [r"\xff.jpg", os.fsdecode(b"\xff.jpg"), r"\n.jpg", "\n.jpg"]
    out = archive(tmp_path / "hi", *(row(name, status="failed", reason="is damaged") for name in names))
    found = status(out, None)
    assert len({failure["source"] for failure in found.as_record()["failures"]}) == 4
    assert all(line.isprintable() for line in found.lines())


@pytest.mark.parametrize("started", [1e300, -1e300, float("inf")])
def test_a_run_at_an_impossible_time_is_told_as_it_stands(tmp_path: Path, started: float) -> None:
    out = archive(tmp_path / "hi")
    Ledger.open(out / STATE_FOLDER).start_run("srbatch")
    with closing(sqlite3.connect(out / STATE_FOLDER / "ledger.sqlite", isolation_level=None)) as changed:
        changed.execute("UPDATE runs SET started=?", (started,))
    assert f"{started:g}" in "\n".join(status(out, None).lines())


@pytest.mark.parametrize("sidecar", ["[]", "5", '{"a": 1}'])
def test_details_of_another_kind_are_no_hashes(tmp_path: Path, sidecar: str) -> None:
    details = f'{{"sidecar_sha256": "{"0" * 64}", "sidecar_sha256": {sidecar}}}'
    out = archive(tmp_path / "hi", row("a.jpg", details=details))
    found = verify(out, None)
    assert found.problems == [("a.jpg.xmp", "is not there (a sidecar)")]


@pytest.mark.parametrize(
    "coming", ["{", "[]", '{"target": "a.jpg"}', "[" * 100_000], ids=lambda text: text[:20]
)
def test_a_write_in_hand_that_is_no_row_is_a_damaged_ledger(tmp_path: Path, coming: str) -> None:
    out = archive(tmp_path / "hi")
    ledger = Ledger.open(out / STATE_FOLDER)
    ledger.begin("a.jpg", ".srbatch-1.part")
    ledger._db.execute("UPDATE pending SET row=?", (coming,))
    ledger.close()
    with pytest.raises(LedgerError, match=named(out)):
        status(out, None)


@pytest.mark.parametrize(
    "target", ["../photos/a.jpg", "{}/photos/a.jpg", "1999/../../photos/a.jpg", "a\0.jpg"]
)
def test_nothing_beyond_the_output_folder_is_read(tmp_path: Path, target: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(OUTPUT)
    out = archive(tmp_path / "hi")
    (out / "1999").mkdir()
    ledger = Ledger.open(out / STATE_FOLDER)
    ledger.record(row(target.format(tmp_path)))
    ledger.close()
    found = verify(out, None)
    assert (found.outputs, found.sound) == (1, 0)
    assert [problem for _, problem in found.problems] == ["leads out of the output folder; nothing was read"]


def test_a_failure_is_listed_once_and_gone_when_the_photo_is_done_under_another_name(
    originals: Originals, tmp_path: Path
) -> None:
    photo, out = originals.folder / "a.jpg", tmp_path / "hi"
    photo.write_bytes(b"junk")
    originals.remember()
    upscaled(originals.folder, out)
    upscaled(originals.folder, out, format=Format.PNG)
    assert [failure.source for failure in status(out, None).failures] == [str(photo)]
    crop().save(photo)
    originals.remember()
    upscaled(originals.folder, out, format=Format.PNG)
    assert status(out, None).failures == []
