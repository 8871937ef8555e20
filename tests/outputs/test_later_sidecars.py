"""Sidecars that change, come or go after their photo was done."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import srbatch.outputs.sidecars
from srbatch import run
from srbatch.codecs.codec_pool import CodecPool
from srbatch.errors import LedgerError
from srbatch.options import Options, TargetSize
from srbatch.outputs.ledger import STATE_FOLDER, Ledger
from srbatch.reporting.inspection import status, verify
from srbatch.reporting.outcome import Outcome
from srbatch.reporting.report import Silent
from srbatch.resume import CURRENT, SIDECAR, SIDECAR_GONE, SIDECAR_LEFT
from tests.conftest import Originals
from tests.files import PACKET
from tests.networks import FakeModel, Nothing, upscaled
from tests.outputs.conftest import said
from tests.runs import Killed


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Photos that are decoded from now on."""
    found: list[str] = []
    decode = CodecPool.decode

    def counted(self: CodecPool, source: Path, *others: Any) -> Any:
        found.append(source.name)
        return decode(self, source, *others)

    monkeypatch.setattr(CodecPool, "decode", counted)
    return found


def sidecars(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.xmp")}


def test_sidecars_that_were_edited_added_or_removed_are_carried_again_and_nothing_else(
    album: Path, originals: Originals, tmp_path: Path, calls: list[str]
) -> None:
    out = tmp_path / "hi"
    upscaled(album, out)
    photos = {path.name: path.stat() for path in out.iterdir() if path.suffix in (".jpg", ".png")}
    before = sidecars(out)
    calls.clear()
    (album / "a.jpg.xmp").write_text(PACKET.format("5 stars"))
    (album / "b.XMP").unlink()
    (album / "c.xmp").write_text(PACKET.format("mended"))
    originals.remember()

    outcomes = upscaled(album, out)
    assert {name: (o.status, o.reason) for name, o in outcomes.items()} == {
        "a.jpg": ("skipped", SIDECAR),
        "b.png": ("skipped", SIDECAR_LEFT),
        "c.png": ("skipped", SIDECAR),
    }
    assert outcomes["b.png"].notes == ("its sidecar is gone; b.png.xmp beside the output was left",)
    assert calls == []
    assert photos == {name: (out / name).stat() for name in photos}
    assert said(out / "a.jpg.xmp")["source"] == "Album 5 stars"
    assert said(out / "a.jpg.xmp") == said_of_a_fresh_run(album, tmp_path)
    assert sidecars(out)["b.png.xmp"] == before["b.png.xmp"]
    assert said(out / "c.png.xmp")["source"] == "Album mended"
    assert not list(out.glob(".srbatch-*"))

    outcomes = upscaled(album, out)
    assert {outcome.reason for outcome in outcomes.values()} == {CURRENT}
    assert status(out, None).counts == {"done": 3}

    (album / "b.XMP").write_text(PACKET.format("it is back"))
    originals.remember()
    assert upscaled(album, out)["b.png"].reason == SIDECAR
    assert said(out / "b.png.xmp")["source"] == "Album it is back"


def said_of_a_fresh_run(album: Path, tmp_path: Path) -> dict[str, str]:
    upscaled(album, tmp_path / "fresh")
    return said(tmp_path / "fresh" / "a.jpg.xmp")


def test_a_sidecar_that_somebody_edited_or_put_is_never_replaced(
    album: Path, originals: Originals, tmp_path: Path
) -> None:
    out = tmp_path / "hi"
    upscaled(album, out)
    (out / "a.jpg.xmp").write_text("mine")
    (out / "c.png.xmp").write_text("mine as well")
    for name in ("a.jpg.xmp", "c.xmp"):
        (album / name).write_text(PACKET.format("new"))
    originals.remember()
    outcomes = upscaled(album, out)
    assert {name for name, o in outcomes.items() if o.reason == SIDECAR_LEFT} == {"a.jpg", "c.png"}
    assert "a.jpg.xmp was there already and was left alone" in outcomes["a.jpg"].notes
    assert outcomes["c.png"].notes == ("c.png.xmp was there already and was left alone",)
    assert (out / "a.jpg.xmp").read_text() == "mine"
    assert (out / "c.png.xmp").read_text() == "mine as well"
    assert {o.reason for o in upscaled(album, out).values()} == {CURRENT}, "it is told once"


@pytest.mark.parametrize("flags", [{}, {"rehash": True}, {"overwrite": True}], ids=str)
def test_a_sidecar_that_was_deleted_beside_its_output_is_carried_again(
    album: Path, tmp_path: Path, calls: list[str], flags: dict[str, bool]
) -> None:
    out = tmp_path / "hi"
    upscaled(album, out)
    before = sidecars(out)
    for name in before:
        (out / name).unlink()
    calls.clear()
    assert dry_run(album, out)["b.png"].reason == SIDECAR_GONE
    outcomes = upscaled(album, out, **flags)
    assert {name: o.reason for name, o in outcomes.items()} == {
        "a.jpg": SIDECAR_GONE,
        "b.png": SIDECAR_GONE,
        "c.png": CURRENT,  # it never had a usable one
    }
    assert sidecars(out) == before
    assert calls == []
    assert {o.reason for o in upscaled(album, out).values()} == {CURRENT}


@pytest.mark.parametrize("at_first", [False, True], ids=["later", "from the beginning"])
def test_a_sidecar_is_carried_once_what_was_in_its_way_is_gone(
    album: Path, originals: Originals, tmp_path: Path, at_first: bool
) -> None:
    out = tmp_path / "hi"
    if not at_first:
        upscaled(album, out)
    out.mkdir(exist_ok=True)
    (out / "b.png.xmp").write_text("damaged")
    (album / "b.XMP").write_text(PACKET.format("new"))
    originals.remember()
    assert "was left alone" in str(upscaled(album, out)["b.png"].notes)
    assert upscaled(album, out)["b.png"].reason == CURRENT, "it is told once"
    (out / "b.png.xmp").unlink()
    assert upscaled(album, out)["b.png"].reason == SIDECAR_GONE
    assert said(out / "b.png.xmp")["source"] == "Album new"
    assert upscaled(album, out)["b.png"].reason == CURRENT


@pytest.mark.parametrize(("key", "value"), [("size_in", None), ("size_out", [2]), ("software", 5)])
def test_details_that_are_not_ours_are_a_damaged_ledger(
    album: Path, originals: Originals, tmp_path: Path, key: str, value: object
) -> None:
    out = tmp_path / "hi"
    upscaled(album, out)
    with closing(Ledger.open(out / STATE_FOLDER)) as ledger:
        row = ledger.row("b.png")
        assert row is not None
        ledger.record(replace(row, details=json.dumps({**json.loads(row.details), key: value})))
    (album / "b.XMP").write_text(PACKET.format("new"))
    originals.remember()
    with pytest.raises(LedgerError, match=f"the ledger is damaged: it holds {re.escape(repr(value))};"):
        upscaled(album, out)


def test_sidecars_are_verified_beside_the_outputs(album: Path, originals: Originals, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    upscaled(album, out)
    assert verify(out, None).lines() == ["as they were written: 3 of 3 outputs, 2 of 2 sidecars"]
    with (out / "a.jpg.xmp").open("a") as file:
        file.write(" ")
    (out / "b.png.xmp").unlink()
    found = verify(out, None)
    assert found.problems == [
        ("a.jpg.xmp", "its content is not what was written (a sidecar)"),
        ("b.png.xmp", "is not there (a sidecar)"),
    ]
    assert found.lines()[-1] == "as they were written: 3 of 3 outputs, 0 of 2 sidecars"
    assert found.as_record()["sound"] == 3
    upscaled(album, out)
    assert verify(out, None).problems == found.problems[:1], "the other one was carried again"
    for name in ("a.jpg.xmp", "b.XMP"):
        (album / name).unlink()
    originals.remember()
    upscaled(album, out)
    assert verify(out, None).problems == [], "what somebody changed is theirs, and what was orphaned is ours"
    (out / "b.png").unlink()
    assert verify(out, None).lines()[-1] == "as they were written: 2 of 3 outputs, 1 of 1 sidecars"


def test_a_sidecar_that_was_deleted_at_both_ends_is_forgotten(
    album: Path, originals: Originals, tmp_path: Path
) -> None:
    out = tmp_path / "hi"
    upscaled(album, out)
    (album / "b.XMP").unlink()
    originals.remember()
    upscaled(album, out)
    (out / "b.png.xmp").unlink()
    for _ in range(2):
        assert upscaled(album, out)["b.png"].reason == CURRENT
        assert dry_run(album, out)["b.png"].reason == CURRENT
    assert not (out / "b.png.xmp").exists()


def test_a_sidecar_that_was_merely_touched_is_not_written_again(
    album: Path, originals: Originals, tmp_path: Path
) -> None:
    upscaled(album, tmp_path / "hi")
    made = (tmp_path / "hi" / "b.png.xmp").stat()
    (album / "b.XMP").touch()
    originals.remember()
    assert upscaled(album, tmp_path / "hi")["b.png"].reason == CURRENT
    assert (tmp_path / "hi" / "b.png.xmp").stat().st_ino == made.st_ino


def test_a_dry_run_tells_of_sidecars_and_writes_none(
    album: Path, originals: Originals, tmp_path: Path
) -> None:
    out = tmp_path / "hi"
    upscaled(album, out)
    (album / "b.XMP").write_text(PACKET.format("new"))
    originals.remember()
    before = sidecars(out)
    told = dry_run(album, out)
    assert {o.reason for o in told.values() if o.status == "skipped"} == {CURRENT, SIDECAR}
    assert told["b.png"].reason == SIDECAR
    assert sidecars(out) == before


def dry_run(folder: Path, out: Path) -> dict[str, Outcome]:
    class Told(Silent):
        def finished(self, outcome: Outcome) -> None:
            told[outcome.photo.source.name] = outcome

    told: dict[str, Outcome] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Model", lambda options: FakeModel(Nothing()))
        options = Options(inputs=(folder,), out=out, size=TargetSize(scale=2))
        run.dry_run(options, reporter=Told(), check=lambda: None)
    return told


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_as_the_sidecar_gets_its_name(
    album: Path, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """And then it is edited once more, so that what lies there is neither the old one nor the new."""
    out, commit = tmp_path / "hi", srbatch.outputs.sidecars.commit

    def killed(temp: Path, target: Path, *, replace: bool) -> None:
        if moment == "after":
            commit(temp, target, replace=replace)
        raise Killed

    upscaled(album, out)
    (album / "b.XMP").write_text(PACKET.format("new"))
    with monkeypatch.context() as patch:
        patch.setattr(srbatch.outputs.sidecars, "commit", killed)
        for name in ("discard", "Ledger.drop"):  # nothing is done any more by who was killed
            patch.setattr(f"srbatch.{'outputs.ledger' if '.' in name else 'sidecar_update'}.{name}", _nothing)
        with pytest.raises(Killed):
            upscaled(album, out)
    assert ("Album new" in (out / "b.png.xmp").read_text()) == (moment == "after")
    (album / "b.XMP").write_text(PACKET.format("newer"))
    originals.remember()
    assert upscaled(album, out)["b.png"].reason == SIDECAR
    assert said(out / "b.png.xmp")["source"] == "Album newer"
    assert not list(out.glob(".srbatch-*"))
    assert upscaled(album, out)["b.png"].reason == CURRENT


def _nothing(*_: object) -> None:
    pass
