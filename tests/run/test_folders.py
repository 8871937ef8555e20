"""Folders that are in the way, closed, linked or moved."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from srbatch import batch
from srbatch.errors import (
    ExitCode,
    UsageError,
)
from srbatch.formats import Format
from srbatch.options import Options
from srbatch.outputs import commit
from srbatch.outputs.archive import scratch_folder
from srbatch.outputs.ledger import STATE_FOLDER
from srbatch.resume import CURRENT
from tests.conftest import Originals, crop
from tests.run.conftest import XMP, outputs, upscale
from tests.runs import Killed, killed


def test_a_folder_whose_outputs_would_lie_too_deep_costs_its_photos_only(
    originals: Originals, tmp_path: Path
) -> None:
    deep, out = originals.folder, tmp_path / ("o" * 200)
    while len(str(deep)) < 3950:
        deep = deep / ("d" * min(200, 4000 - len(str(deep))))
    deep.mkdir(parents=True)
    for folder in (originals.folder, deep):
        crop(20, 30).save(folder / "a.png")
    originals.remember()
    code, listener = upscale(originals.folder, out)
    assert code is ExitCode.SOME_FAILED
    assert [(o.status, o.error) for o in listener.outcomes] == [
        ("failed", "UnsupportedPhoto"),
        ("done", None),
    ]
    assert list(outputs(out)) == ["a.png"]


@pytest.mark.parametrize("in_the_way", ["a file", "a link", "a file made during the run"])
@pytest.mark.usefixtures("one_at_a_time")
def test_a_file_where_a_folder_of_outputs_is_due_costs_the_photos_of_that_folder(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_the_way: str
) -> None:
    out, decode = tmp_path / "hi", batch.CodecPool.decode
    for name in ("0.png", "1.jpg/a.png", "2/b.png"):
        (originals.folder / name).parent.mkdir(exist_ok=True)
        crop(40, 50).save(originals.folder / name)
    originals.remember()
    out.mkdir()
    decoded = []

    def spoilt(self: Any, source: Path, *others: Any) -> Any:
        decoded.append(source.name)
        if source.name == "a.png":
            (out / "1.jpg").write_bytes(b"kept")
        return decode(self, source, *others)

    monkeypatch.setattr(batch.CodecPool, "decode", spoilt)
    if in_the_way == "a file":
        (out / "1.jpg").write_bytes(b"kept")
    elif in_the_way == "a link":
        (out / "1.jpg").symlink_to("unplugged disk")
    code, listener = upscale(originals.folder, out)
    assert code is ExitCode.SOME_FAILED
    failed = listener.by_name()["a.png"]
    assert (failed.status, failed.error) == ("failed", "TargetExists")
    assert "where a folder of outputs is due" in failed.reason
    assert set(outputs(out)) - {"1.jpg"} == {"0.png", "b.png"}
    assert ("a.png" in decoded) == ("during" in in_the_way), "it is known before any work"
    assert in_the_way == "a link" or (out / "1.jpg").read_bytes() == b"kept"


def test_a_photo_that_is_named_beside_its_folder_is_done_once(five: Path, tmp_path: Path) -> None:
    code, listener = upscale(five, tmp_path / "hi", inputs=(five / "0.png", five))
    assert code is ExitCode.DONE
    names = sorted(outcome.photo.source.name for outcome in listener.outcomes)
    assert names == [f"{n}.png" for n in range(5)]


def test_a_folder_of_outputs_that_is_closed_costs_its_photos_and_sidecars(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "hi"
    for name in ("0.png", "1/a.png"):
        (originals.folder / name).parent.mkdir(exist_ok=True)
        crop(40, 50).save(originals.folder / name)
    originals.remember()
    upscale(originals.folder, out)
    crop(40, 60).save(originals.folder / "1" / "b.png")
    (originals.folder / "1" / "a.xmp").write_text(XMP)
    crop(40, 60).save(originals.folder / "2.png")
    originals.remember()
    with monkeypatch.context() as patch:
        patch.setattr(commit, "_is_open", lambda folder: folder != out / "1")
        code, listener = upscale(originals.folder, out)
    assert code is ExitCode.SOME_FAILED
    assert {name: (o.status, o.error) for name, o in listener.by_name().items()} == {
        "0.png": ("skipped", None),
        "a.png": ("failed", "TargetClosed"),
        "b.png": ("failed", "TargetClosed"),
        "2.png": ("done", None),
    }
    assert set(outputs(out)) == {"0.png", "a.png", "2.png"}
    code, _ = upscale(originals.folder, out)
    assert code is ExitCode.DONE
    assert set(outputs(out)) == {"0.png", "a.png", "a.png.xmp", "b.png", "2.png"}


@pytest.mark.usefixtures("one_at_a_time")
def test_what_a_killed_run_left_goes_even_if_its_photo_is_gone(
    five: Path, originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "hi"
    with monkeypatch.context() as patch:
        patch.setattr(batch, "discard", lambda temp: None)
        patch.setattr(batch.Ledger, "drop", killed)
        patch.setattr(batch.Ledger, "about_to_commit", killed)
        with pytest.raises(Killed):
            upscale(five, out)
    (left,) = out.glob(".srbatch-*.part")
    for name in ("0.png", "1.png"):
        (five / name).unlink()
    originals.remember()
    code, _ = upscale(five, out)
    assert code is ExitCode.DONE
    assert not left.exists()
    assert list(outputs(out)) == ["2.png", "3.png", "4.png"]


def test_a_scratch_folder_that_was_tidied_away_is_made_again(
    five: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd-tmpfiles does below /tmp in the months of a watcher."""
    real = batch.prepare

    def tidied(*arguments: Any) -> Any:
        shutil.rmtree(tmp_path / "scratch")
        return real(*arguments)

    monkeypatch.setattr(batch, "prepare", tidied)
    code, _ = upscale(five, tmp_path / "hi", scratch=tmp_path / "scratch")
    assert code is ExitCode.DONE
    assert outputs(tmp_path / "hi") == expected


def test_the_whole_tree_can_move(five: Path, tmp_path: Path) -> None:
    upscale(five, tmp_path / "hi")
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(tmp_path / "photos", tmp_path / "elsewhere" / "photos")
    (tmp_path / "hi").rename(tmp_path / "elsewhere" / "hi")
    _, listener = upscale(tmp_path / "elsewhere" / "photos", tmp_path / "elsewhere" / "hi")
    assert {o.status for o in listener.outcomes} == {"skipped"}


def test_state_and_scratch_elsewhere(five: Path, tmp_path: Path) -> None:
    state, scratch = tmp_path / "state", tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "not-ours").write_text("keep")
    code, _ = upscale(five, tmp_path / "hi", state=state, scratch=scratch)
    assert code is ExitCode.DONE
    assert [p.name for p in (tmp_path / "hi" / ".srbatch").iterdir()] == ["lock"]
    assert (state / "ledger.sqlite").exists()
    assert [p.name for p in scratch.iterdir()] == ["not-ours"]


@pytest.mark.parametrize("moved", ["all", "the outputs"])
def test_a_state_of_its_own_goes_with_an_output_folder_that_was_moved(
    archive: Path, tmp_path: Path, moved: str
) -> None:
    known = tmp_path / "known"
    (archive if moved == "all" else archive / "out").rename(known)
    top, out = (known, known / "out") if moved == "all" else (archive, known)
    for _ in range(2):
        code, listener = upscale(top / "in", out, state=top / "state")
        assert {outcome.reason for outcome in listener.outcomes} == {CURRENT}
        assert code is ExitCode.DONE


def test_scratch_of_a_killed_run_goes_with_a_state_that_was_moved(archive: Path, tmp_path: Path) -> None:
    options = Options(inputs=(archive / "in",), out=archive / "out", state=archive / "state")
    left = scratch_folder(options)
    (left / "0").mkdir(parents=True)
    archive.rename(tmp_path / "moved")
    upscale(tmp_path / "moved" / "in", tmp_path / "moved" / "out", state=tmp_path / "moved" / "state")
    assert not (tmp_path / "moved" / "state" / left.name).exists()


@pytest.mark.parametrize("why", ["its own is on a disk that is away", "its own was copied"])
def test_a_state_is_not_taken_up_for_another_output_folder(archive: Path, tmp_path: Path, why: str) -> None:
    out, state = tmp_path / "other", archive / "state"
    if why == "its own was copied":
        shutil.copytree(archive / "out", out)
    else:
        (archive / "out").rename(tmp_path / "away")
    before = (state / "output-folder").read_bytes()
    with pytest.raises(UsageError, match=f"{out} is that folder, .* delete {state / 'output-folder'}"):
        upscale(archive / "in", out, state=state)
    assert (state / "output-folder").read_bytes() == before
    (state / "output-folder").unlink()
    upscale(archive / "in", out, state=state)


def test_a_state_whose_owner_was_not_noted_yet_is_taken(archive: Path) -> None:
    (archive / "state" / "output-folder").write_bytes(b"")  # the disk was full
    assert upscale(archive / "in", archive / "out", state=archive / "state")[0] is ExitCode.DONE


@pytest.mark.parametrize(
    "flags", [{"state": "s"}, {"scratch": "new/s"}, {"report": "r.csv"}], ids=lambda flags: next(iter(flags))
)
@pytest.mark.parametrize("alias", [False, True], ids=["plainly", "by a link"])
def test_nothing_of_ours_is_written_into_the_inputs(
    five: Path, tmp_path: Path, flags: dict[str, str], alias: bool
) -> None:
    ((flag, name),) = flags.items()
    folder = five
    if alias:
        folder = tmp_path / "link"
        folder.symlink_to(five)
    with pytest.raises(UsageError, match=f"--{flag} .* lies inside the input"):
        upscale(five, tmp_path / "hi", **{flag: folder / name})
    assert not (tmp_path / "hi").exists()


def test_a_ledger_that_a_link_would_lay_among_the_originals_is_refused(five: Path, tmp_path: Path) -> None:
    out = tmp_path / "hi"
    out.mkdir()
    (out / STATE_FOLDER).symlink_to(five)
    with pytest.raises(UsageError, match=r"--state .* lies inside the input"):
        upscale(five, out)


@pytest.mark.usefixtures("one_at_a_time")
def test_a_link_to_the_originals_that_is_made_during_the_run_costs_the_photos_behind_it(
    originals: Originals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, decode = tmp_path / "hi", batch.CodecPool.decode
    for name in ("0.png", "sub/1.png"):
        (originals.folder / name).parent.mkdir(exist_ok=True)
        crop(40, 50).save(originals.folder / name)
    originals.remember()

    def linked(self: Any, source: Path, *others: Any) -> Any:
        if source.name == "1.png":
            (out / "sub").symlink_to(originals.folder / "sub")
        return decode(self, source, *others)

    monkeypatch.setattr(batch.CodecPool, "decode", linked)
    code, listener = upscale(originals.folder, out, format=Format.JPEG)
    assert code is ExitCode.SOME_FAILED
    failed = listener.by_name()["1.png"]
    assert (failed.error, "among the originals" in failed.reason) == ("TargetExists", True)
    assert list(outputs(out)) == ["0.png.jpg"]
