"""A photo's output and its sidecar are one: cut off anywhere, the next run leaves both as they should be."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from srbatch import batch
from srbatch.codecs.codec_pool import CodecPool
from srbatch.errors import DestinationError, Interrupted
from srbatch.outputs.ledger import STATE_FOLDER, Ledger
from srbatch.reporting.inspection import verify
from srbatch.reporting.outcome import Outcome
from srbatch.resume import CURRENT, HAS_OUTPUT, SIDECAR, SIDECAR_GONE
from tests.conftest import crop
from tests.files import PACKET
from tests.networks import upscaled
from tests.runs import Killed
from tests.watch.world import InProcess


@pytest.fixture(autouse=True)
def _codecs_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CodecPool, "of", lambda options, check: InProcess(check))


@contextmanager
def cut_off(number: int, *, killed: bool, from_start: bool = False) -> Iterator[None]:
    """Stop before the ``number``-th step on files and in the ledger, once a photo is being written.

    Who is killed does nothing any more afterwards; who is interrupted clears up.
    """
    count, begun = 0, from_start

    def step() -> None:
        nonlocal count
        count += begun
        if count == number or (killed and count > number):
            raise Killed if killed else Interrupted(signal.SIGINT)

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def both(*args: Any, **others: Any) -> Any:
            nonlocal begun
            begun |= call is begin
            step()
            return call(*args, **others)

        return both

    begin = Ledger.begin
    with pytest.MonkeyPatch.context() as patch:
        for name in ("begin", "about_to_commit", "record", "drop"):
            patch.setattr(Ledger, name, before(getattr(Ledger, name)))
        for name in ("fsync", "link", "replace", "unlink"):
            patch.setattr(os, name, before(getattr(os, name)))
        yield
    if count < number:
        raise EndReached


class EndReached(Exception):
    """There are not as many steps."""


class Archive:
    """A photo with a sidecar, and what was made of them."""

    def __init__(self, top: Path) -> None:
        self.top, self.photo, self.out = top, top / "in" / "a.png", top / "out"
        self.sidecar = self.photo.with_name("a.png.xmp")
        self.made = (self.out / "a.png", self.out / "a.png.xmp")

    def fill(self) -> None:
        self.photo.parent.mkdir(parents=True)
        self.draw(1)
        self.say("first")

    def draw(self, left: int) -> None:
        crop(7, 9, left=left).save(self.photo)
        os.utime(self.photo, ns=(left * 10**9, left * 10**9))

    def say(self, text: str) -> None:
        self.sidecar.write_text(PACKET.format(text))
        os.utime(self.sidecar, ns=(len(text) * 10**9, len(text) * 10**9))

    def run(self, scale: int = 2, **changes: Any) -> Outcome:
        return upscaled(self.photo.parent, self.out, scale, **changes)["a.png"]

    def copied_to(self, top: Path) -> Archive:
        shutil.rmtree(top, ignore_errors=True)
        shutil.copytree(self.top, top)
        return Archive(top)

    def files(self) -> dict[str, bytes]:
        """All but the state."""
        return {path.name: path.read_bytes() for path in self.out.iterdir() if path.name != STATE_FOLDER}


def first(archive: Archive) -> None:
    """Nothing was made before."""


def made_larger(archive: Archive) -> None:
    archive.run(3)


def both_changed(archive: Archive) -> None:
    archive.run()
    both_changed_now(archive)


def replaced_by_one_without(archive: Archive) -> None:
    archive.run()
    archive.draw(50)
    archive.sidecar.unlink()


def edited(archive: Archive) -> None:
    archive.run()
    archive.say("edited")


def edited_beside_an_edited_output(archive: Archive) -> None:
    archive.run()
    spoil(archive.made[0])
    archive.say("edited")


def added(archive: Archive) -> None:
    archive.sidecar.unlink()
    archive.run()
    archive.say("added")


def spoil(path: Path) -> None:
    """Edit it and keep its size."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


CASES = [
    first,
    made_larger,
    both_changed,
    replaced_by_one_without,
    edited,
    edited_beside_an_edited_output,
    added,
]


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "interrupted"])
@pytest.mark.parametrize("case", CASES)
def test_cut_off_anywhere_the_next_run_ends_as_if_nothing_had_happened(
    tmp_path: Path, case: Callable[[Archive], None], killed: bool
) -> None:
    start = Archive(tmp_path / "start")
    start.fill()
    case(start)
    before = start.files() if start.out.exists() else {}
    whole = start.copied_to(tmp_path / "whole")
    whole.run(redo_changed=True)
    assert whole.files() != before
    larger = start.copied_to(tmp_path / "larger")
    larger.run(8)
    for number in range(1, 100):
        archive = start.copied_to(tmp_path / "archive")
        try:
            with cut_off(number, killed=killed), suppress(Killed, Interrupted):
                archive.run(redo_changed=True)
        except EndReached:
            break
        cut = archive.copied_to(tmp_path / "cut")
        archive.run(redo_changed=True)
        assert archive.files() == whole.files(), number
        assert archive.run().reason in HAS_OUTPUT
        assert verify(archive.out, None).problems == verify(whole.out, None).problems

        other = cut.copied_to(tmp_path / "archive")  # other settings are asked for
        other.run(8)
        assert other.files() in (before, whole.files(), larger.files()), number

        gone = cut.copied_to(tmp_path / "archive")
        gone.photo.unlink()
        gone.sidecar.unlink(missing_ok=True)
        crop(7, 9).save(gone.photo.with_name("a.jpg"))
        upscaled(gone.photo.parent, gone.out)
        left = {name: data for name, data in gone.files().items() if name != "a.jpg"}
        assert left in (before, whole.files()), number
    else:
        raise AssertionError("a run has not as many steps")
    assert number > 5


@pytest.mark.parametrize("case", CASES)
def test_killed_anywhere_a_sidecar_that_is_edited_next_is_carried(
    tmp_path: Path, case: Callable[[Archive], None]
) -> None:
    start = Archive(tmp_path / "start")
    start.fill()
    case(start)
    for number in range(1, 100):
        archive = start.copied_to(tmp_path / "archive")
        try:
            with cut_off(number, killed=True), suppress(Killed):
                archive.run(redo_changed=True)
        except EndReached:
            break
        cut = archive.copied_to(tmp_path / "cut")
        archive.say("and then this")
        outcome = archive.run(redo_changed=True)
        assert outcome.notes == ()
        assert b"Album and then this" in archive.made[1].read_bytes(), number

        other = cut.copied_to(tmp_path / "archive")  # another picture takes its place
        other.draw(80)
        other.sidecar.unlink(missing_ok=True)
        outcome = other.run(redo_changed=True)
        if case is not edited_beside_an_edited_output:  # which is not made again
            assert outcome.notes == ()
            assert set(other.files()) == {"a.png"}, number
            assert verify(other.out, None).problems == []


@pytest.mark.parametrize("case", [both_changed, replaced_by_one_without])
def test_killed_again_as_that_is_put_right(tmp_path: Path, case: Callable[[Archive], None]) -> None:
    start = Archive(tmp_path / "start")
    start.fill()
    case(start)
    whole = start.copied_to(tmp_path / "whole")
    whole.run()
    for number in range(1, 100):
        archive = start.copied_to(tmp_path / "archive")
        try:
            with cut_off(number, killed=True), suppress(Killed):
                archive.run()
        except EndReached:
            break
        cut = archive.copied_to(tmp_path / "cut")
        for step in range(1, 10):
            archive = cut.copied_to(tmp_path / "archive")
            with suppress(EndReached), cut_off(step, killed=True, from_start=True), suppress(Killed):
                archive.run()
            archive.run()
            assert archive.files() == whole.files(), (number, step)


# ---- a photo that is not done after all ----------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Done."""
    made = Archive(tmp_path)
    made.fill()
    made.run()
    return made


def test_an_output_that_is_not_replaced_keeps_its_sidecar(archive: Archive) -> None:
    spoil(archive.made[0])
    before = archive.files()
    both_changed_now(archive)
    assert archive.run().error == "TargetExists"
    assert archive.files() == before
    archive.say("once more")
    outcome = archive.run(overwrite=True)
    assert (outcome.status, outcome.notes) == ("done", ())
    assert b"Album once more" in archive.made[1].read_bytes()
    assert verify(archive.out, None).problems == []


def both_changed_now(archive: Archive) -> None:
    archive.draw(50)
    archive.say("another one")


def test_a_sidecar_that_is_edited_while_the_photo_is_made_again_is_left(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = InProcess.encode

    def edit_first(self: InProcess, *arguments: Any) -> Any:
        archive.made[1].write_text("mine")
        return encode(self, *arguments)

    monkeypatch.setattr(InProcess, "encode", edit_first)
    both_changed_now(archive)
    outcome = archive.run()
    assert (outcome.status, outcome.notes) == ("done", ("a.png.xmp was there already and was left alone",))
    assert archive.made[1].read_text() == "mine"
    assert set(archive.files()) == {"a.png", "a.png.xmp"}
    assert archive.run().reason == CURRENT
    archive.made[1].unlink()
    assert archive.run().reason == SIDECAR_GONE
    assert b"Album another one" in archive.made[1].read_bytes()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.ENAMETOOLONG])
@pytest.mark.parametrize("again", [False, True], ids=["with its photo", "later"])
def test_a_disk_that_does_not_take_the_sidecar_has_the_output_known_for_ours(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, error: int, again: bool
) -> None:
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(target) == archive.made[1]:
            raise OSError(error, os.strerror(error))
        replace(source, target)

    archive.say("edited")
    if not again:
        archive.draw(50)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        if error == errno.ENOSPC:
            with pytest.raises(DestinationError, match="make room"):
                archive.run()
        else:
            (note,) = archive.run().notes
            assert note.startswith("its sidecar was not carried: the disk of --out does not take")
    assert archive.run().reason == CURRENT
    assert (b"Album edited" in archive.made[1].read_bytes()) == (error == errno.ENOSPC)
    assert verify(archive.out, None).problems == []
    assert set(archive.files()) == {"a.png", "a.png.xmp"}


@pytest.mark.parametrize("replaced", [False, True], ids=["nothing there", "an older one there"])
def test_a_sidecar_that_was_ready_and_taken_away_is_made_again(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    both_changed_now(archive)
    if not replaced:
        archive.made[1].unlink()
    with monkeypatch.context() as patch:
        patch.setattr(batch, "put_in_place", raise_killed)
        with pytest.raises(Killed):
            archive.run()
    (ready,) = archive.out.glob(".srbatch-*.part")
    ready.unlink()
    assert verify(archive.out, None).sound == 0, "until the next run"
    assert archive.run().reason == SIDECAR
    assert b"Album another one" in archive.made[1].read_bytes()
    assert verify(archive.out, None).problems == []


def raise_killed(*_: object) -> None:
    raise Killed


# ---- a photo that has no sidecar any more --------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"redo_changed": True, "scale": 3}], ids=["another", "larger"])
def test_the_sidecar_of_a_photo_that_is_done_again_without_one_goes(
    archive: Archive, changes: dict[str, Any]
) -> None:
    if not changes:
        archive.draw(50)
    archive.sidecar.unlink()
    outcome = archive.run(**changes)
    assert (outcome.status, outcome.notes) == ("done", ())
    assert set(archive.files()) == {"a.png"}
    assert verify(archive.out, None).lines() == ["as they were written: 1 of 1 outputs"]
    assert archive.run(**changes).reason == CURRENT
    archive.say("it is back")
    assert archive.run(**changes).reason == SIDECAR
    assert b"Album it is back" in archive.made[1].read_bytes()


def test_but_one_that_somebody_changed_stays_and_is_told(archive: Archive) -> None:
    archive.made[1].write_text("mine")
    replaced_by_one_without(archive)
    outcome = archive.run()
    assert outcome.notes == ("its sidecar is gone; a.png.xmp beside the output was left",)
    assert archive.made[1].read_text() == "mine"
    assert verify(archive.out, None).problems == []
