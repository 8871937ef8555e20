"""What stands on record: failures for as long as they last, rows written together."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from srbatch.codecs import codec_pool
from srbatch.errors import (
    ExitCode,
    Interrupted,
)
from srbatch.options import TargetSize
from srbatch.outputs.ledger import STATE_FOLDER, Ledger
from srbatch.reporting.inspection import status
from srbatch.resume import CURRENT
from tests.conftest import Originals, crop
from tests.run.conftest import outputs, upscale
from tests.runs import Listener


def counted_transactions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets an entry for each transaction of ledgers opened from now on, but for the note of the run."""
    connect, begun = sqlite3.connect, list[str]()

    def note(statement: str) -> None:
        if statement == "BEGIN IMMEDIATE":
            begun.append(statement)
        elif statement.startswith("INSERT INTO runs"):
            begun.pop()

    def traced(*args: Any, **others: Any) -> sqlite3.Connection:
        connection = connect(*args, **others)
        connection.set_trace_callback(note)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return begun


def test_a_rerun_writes_no_row_of_what_still_cannot_be_done(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would wait for the disk: minutes, in an archive of RAW files."""
    for name in ("a.cr2", "b.psd"):
        (originals.folder / name).write_bytes(b"no photo that is read here")
    originals.remember()
    first, _ = upscale(originals.folder, tmp_path / "out")
    recorded: list[str] = []
    monkeypatch.setattr(Ledger, "record_all", lambda _, rows: recorded.extend(row.target for row in rows))
    again, listener = upscale(originals.folder, tmp_path / "out")
    assert (first, again) == (ExitCode.SOME_FAILED, ExitCode.SOME_FAILED)
    assert {outcome.error for outcome in listener.outcomes} == {"UnsupportedPhoto"}
    assert recorded == []


def failed(out: Path) -> list[str]:
    """What ``srbatch status`` lists."""
    return [os.path.relpath(failure.source, out) for failure in status(out, None).failures]


def test_a_photo_damaged_after_it_was_done_has_failed_until_it_is_whole(
    five: Path, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out", (five / "0.png").read_bytes()
    upscale(five, out)
    made = outputs(out)
    (five / "0.png").write_bytes(whole[:40])
    originals.remember()
    assert upscale(five, out)[0] is ExitCode.SOME_FAILED
    assert failed(out) == ["../photos/0.png"]
    assert status(out, None).counts == {"done": 5, "failed": 1}
    with monkeypatch.context() as patch:
        patch.setattr(codec_pool.CodecPool, "hash", lambda *_: pytest.fail("it was read"))
        patch.setattr(codec_pool.CodecPool, "probe", lambda *_: pytest.fail("it was read"))
        transactions = counted_transactions(patch)
        code, listener = upscale(five, out)
    assert code is ExitCode.SOME_FAILED
    assert "(as before; " in listener.by_name()["0.png"].reason
    assert transactions == []
    assert upscale(five, out, retry_failed=True)[1].by_name()["0.png"].error == "UnreadablePhoto"
    (five / "0.png").write_bytes(whole)
    originals.remember()
    code, listener = upscale(five, out)
    assert (code, listener.by_name()["0.png"].reason) == (ExitCode.DONE, CURRENT)
    assert failed(out) == []
    assert outputs(out) == made, "they have been the output of a whole photo all the time"


def test_edited_outputs_are_failures_on_record_until_they_are_settled(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    upscale(five, out)
    made = outputs(out)
    for name in made:
        (out / name).write_bytes(b"edited")
    assert upscale(five, out)[0] is ExitCode.SOME_FAILED
    assert failed(out) == [f"../photos/{name}" for name in sorted(made)]
    with monkeypatch.context() as patch:
        transactions = counted_transactions(patch)
        upscale(five, out)
    assert transactions == []
    (out / "0.png").unlink()
    (out / "1.png").write_bytes(made["1.png"])
    upscale(five, out)
    assert failed(out) == [f"../photos/{index}.png" for index in (2, 3, 4)]
    assert upscale(five, out, overwrite=True)[0] is ExitCode.DONE
    assert failed(out) == []


def test_a_failure_with_other_settings_is_none_without_them(five: Path, tmp_path: Path) -> None:
    out, larger = tmp_path / "out", {"size": TargetSize(long_edge=2000)}
    upscale(five, out)
    for _ in range(2):
        assert upscale(five, out, **larger, redo_changed=True)[0] is ExitCode.SOME_FAILED
    assert len(failed(out)) == 5
    code, listener = upscale(five, out, **larger)
    assert {outcome.status for outcome in listener.outcomes} == {"skipped"}
    assert code is ExitCode.DONE
    assert failed(out) == []


def test_a_done_photo_that_need_not_be_enlarged_any_more_has_not_failed(
    five: Path, originals: Originals, tmp_path: Path
) -> None:
    out, size = tmp_path / "out", {"size": TargetSize(long_edge=300)}
    upscale(five, out, **size)
    (five / "0.png").write_bytes(b"damaged")
    originals.remember()
    upscale(five, out, **size)
    assert failed(out) == ["../photos/0.png"]
    crop(300, 200).save(five / "0.png")
    originals.remember()
    assert upscale(five, out, **size)[0] is ExitCode.DONE
    assert failed(out) == []


def test_a_failure_of_a_photo_that_is_gone_is_forgotten(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, names = tmp_path / "out", ("a.png", "b.png", "1999/c.png")
    (originals.folder / "1999").mkdir()
    for name in names:
        (originals.folder / name).write_bytes(b"damaged")
    upscale(originals.folder, out)
    assert len(failed(out)) == 3
    for name in ("a.png", "1999/c.png"):
        (originals.folder / name).unlink()
    originals.remember()
    upscale(originals.folder / "1999", out)
    assert failed(out) == ["../photos/a.png", "../photos/b.png"], "these do not lie there"
    upscale(originals.folder, out)
    assert failed(out) == ["../photos/b.png"]
    real = codec_pool.CodecPool.probe

    def unmounted_first(self: codec_pool.CodecPool, paths: list[Path], max_pixels: float) -> Any:
        for path in paths:
            path.unlink()
        return real(self, paths, max_pixels)

    crop().save(originals.folder / "d.png")
    (originals.folder / "b.png").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(codec_pool.CodecPool, "probe", unmounted_first)
        assert upscale(originals.folder, out)[0] is ExitCode.SOME_FAILED
    assert failed(out) == ["../photos/d.png"], "what a run tells of is on record until the next one"
    originals.remember()
    assert upscale(originals.folder, out)[0] is ExitCode.DONE
    assert failed(out) == []


def test_many_photos_that_need_no_work_are_noted_together(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each note by itself would wait for the disk: minutes, where 40,000 photos are as large already."""
    transactions = counted_transactions(monkeypatch)
    for index in range(70):
        Image.new("L", (8, 8), index).save(originals.folder / f"{index:03}.png")
        (originals.folder / f"{index:03}.cr2").write_bytes(b"no photo that is read here")
    originals.remember()
    out = tmp_path / "out"
    _, listener = upscale(originals.folder, out, size=TargetSize(long_edge=8))
    assert {outcome.status for outcome in listener.outcomes} == {"skipped", "failed"}
    ledger = Ledger.open_readonly(out / STATE_FOLDER)
    noted = {row.target: row.reason for row in ledger.rows()}
    ledger.close()
    assert noted == {o.photo.relative.as_posix(): o.reason for o in listener.outcomes}
    assert len(noted) == 140
    assert len(transactions) < 10


def test_many_photos_with_another_date_are_noted_together(
    five: Path, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    upscale(five, out)
    for photo in five.iterdir():
        os.utime(photo, (1_600_000_000, 1_600_000_000))
    originals.remember()
    transactions = counted_transactions(monkeypatch)
    _, listener = upscale(five, out)
    assert {outcome.reason for outcome in listener.outcomes} == {CURRENT}
    assert len(transactions) == 1
    ledger = Ledger.open_readonly(out / STATE_FOLDER)
    assert {row.mtime_ns for row in ledger.rows()} == {1_600_000_000_000_000_000}
    ledger.close()


def test_what_was_judged_before_an_interruption_is_noted(originals: Originals, tmp_path: Path) -> None:
    for index in range(5):
        (originals.folder / f"{index}.cr2").write_bytes(b"no photo that is read here")
    originals.remember()
    listener = Listener()

    def check() -> None:
        if len(listener.outcomes) == 3:
            raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        upscale(originals.folder, tmp_path / "out", check=check, listener=listener)
    ledger = Ledger.open_readonly(tmp_path / "out" / STATE_FOLDER)
    assert [row.target for row in ledger.rows()] == ["0.cr2", "1.cr2", "2.cr2"]
    ledger.close()


def test_a_failure_is_tried_again_where_what_made_it_fail_is_changed(five: Path, tmp_path: Path) -> None:
    """As its own message advises: with a higher limit, a library that was missing, or another srbatch."""
    out = tmp_path / "hi"
    code, listener = upscale(five, out, max_megapixels=0.001)
    assert code == ExitCode.SOME_FAILED
    assert listener.by_name()["0.png"].error == "PhotoTooLarge"
    assert "as before" in upscale(five, out, max_megapixels=0.001)[1].by_name()["0.png"].reason
    assert upscale(five, out, max_megapixels=1000.0)[1].by_name()["0.png"].status == "done"
