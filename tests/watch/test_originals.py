"""The daemon with originals that leave: no output is ever replaced by another photo's."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from srbatch.codecs.picture import Picture
from srbatch.errors import ExitCode, UnreadablePhoto
from srbatch.reporting.inspection import status
from srbatch.watch.moving import OriginalsFolder
from tests.files import PACKET
from tests.runs import Killed
from tests.watch.world import Act, InProcess, World


def failed(world: World) -> list[Path]:
    """The photos that ``srbatch status`` lists."""
    return [Path(failure.source) for failure in status(world.out, None).failures]


def test_a_counter_that_wraps_never_costs_an_output(world: World) -> None:
    at: dict[float, Act] = {}
    for index, colour in enumerate([1, 2, 1, 3, 2]):
        at[1 + 10.0 * index] = lambda colour=colour: world.photo("IMG_0001.png", colour)  # type: ignore[misc]
    world.watch(at, until=60, done=world.top / "done")
    made = world.outputs()
    assert made.pop("IMG_0001.png") == 1
    assert sorted(made.values()) == [2, 3]
    assert all(len(name) == len("IMG_0001.12345678.png") for name in made)
    assert world.files("drop") == []
    assert len(world.files("done")) == 5, "no original is lost, not even a second copy"
    again = world.outputs()
    world.watch({1.0: lambda: world.photo("IMG_0001.png", 3)}, done=world.top / "done")
    assert world.outputs() == again, "names are stable over restarts"


@pytest.mark.parametrize("whose", ["another photo's", "a stranger's"])
def test_another_name_of_an_output_is_never_one_that_is_taken(world: World, whose: str) -> None:
    world.photo("a.png", 1)
    world.watch(done=world.top / "done")
    world.photo("a.png", 2)
    sha256 = hashlib.sha256((world.drop / "a.png").read_bytes()).hexdigest()
    short, longer = f"a.{sha256[:8]}.png", f"a.{sha256[:16]}.png"
    if whose == "a stranger's":
        Image.new("RGB", (16, 12), (3, 0, 0)).save(world.out / short)
    else:
        world.photo(short, 3)
    world.watch(done=world.top / "done")
    assert world.outputs() == {"a.png": 1, longer: 2, short: 3}
    assert world.files("drop") == []


def test_the_moved_photos_of_an_earlier_run_are_safe_without_the_option(world: World) -> None:
    world.photo("a.png", 1)
    world.watch(done=world.top / "done")
    world.photo("a.png", 2)
    world.watch()
    made = world.outputs()
    assert made.pop("a.png") == 1
    assert list(made.values()) == [2]


def test_a_crash_between_the_output_and_the_move_is_healed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: OriginalsFolder, photo: Any, *, before: Callable[[Path], None], **others: Any) -> Path:
        before(world.top / "done" / "a.png")  # the ledger has its note already
        raise Killed

    world.photo("a.png", 1)
    with monkeypatch.context() as patch:
        patch.setattr(OriginalsFolder, "move", killed)
        with pytest.raises(Killed):
            world.watch(done=world.top / "done")
    assert world.files("drop") == ["a.png"]
    inode = (world.out / "a.png").stat().st_ino
    world.watch(done=world.top / "done")
    assert world.files("drop") == []
    assert world.files("done") == ["a.png"]
    assert (world.out / "a.png").stat().st_ino == inode, "it was not done again"
    world.photo("a.png", 2)
    world.watch(done=world.top / "done")
    assert sorted(world.outputs().values()) == [1, 2]


def test_what_is_rewritten_while_it_is_due_is_moved_with_its_own_output(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = InProcess.decode

    def rewrite_first(self: InProcess, source: Path, raw: Path, max_pixels: float) -> Picture:
        if world.control.now() < 5:
            world.control.time = 5
            world.photo("a.png", 2)
        return real(self, source, raw, max_pixels)

    world.photo("a.png", 1)
    monkeypatch.setattr(InProcess, "decode", rewrite_first)
    world.watch(done=world.top / "done")
    assert world.outputs() == {"a.png": 2}
    assert world.files("done") == ["a.png"]
    assert Image.open(world.top / "done" / "a.png").getpixel((0, 0)) == (2, 0, 0)


def test_a_photo_that_cannot_be_moved_is_told_of_and_stays_its_outputs(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from srbatch.watch import moving

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    world.photo("a.png", 1)
    with monkeypatch.context() as patch:
        patch.setattr(moving, "move_new", refused)
        world.watch({10.0: lambda: world.photo("a.png", 2)}, done=world.top / "done", until=1300)
    assert world.outputs() == {"a.png": 2}, "rewritten in place, it is made again"
    assert caplog.text.count("was not moved") == 1
    world.watch(done=world.top / "done")
    assert world.files("done") == ["a.png"]


def test_each_moved_photo_keeps_its_own_sidecar_whatever_came_before(world: World) -> None:
    done = world.top / "done"
    for number, ending in enumerate(("png", "jpg", "webp")):
        world.photo(f"a.{ending}", 80 * number)
        if ending != "webp":
            (world.drop / "a.xmp").write_text(PACKET.format(ending))
        assert world.watch(once=True, done=done) is ExitCode.DONE
    assert world.files("drop") == []
    carried = {p.name: p.read_text().count(f"Album {p.name[2:5]}") for p in world.out.glob("*.xmp")}
    assert carried == {"a.png.xmp": 1, "a.jpg.xmp": 1}
    assert len(world.files("done")) == 5
    (jpg,) = done.glob("*.jpg")
    assert {path.stem: path.read_text() for path in done.glob("*.xmp")} == {
        "a": PACKET.format("png"),
        jpg.stem: PACKET.format("jpg"),
    }


def test_a_sidecar_with_the_whole_name_of_a_photo_goes_with_that_one(world: World) -> None:
    (world.drop / "a.jpg").write_bytes(b"garbage")
    (world.drop / "a.jpg.xmp").write_text(PACKET.format(1))
    world.photo("a.jpg.png", 1)
    for _ in range(2):
        world.watch(once=True, done=world.top / "done", failed=world.top / "failed")
    assert world.files("drop") == []
    assert world.files("done") == ["a.jpg.png"]
    assert world.files("failed") == ["a.jpg", "a.jpg.txt", "a.jpg.xmp"]
    assert list(world.outputs()) == ["a.jpg.png"]


def test_a_done_photo_that_is_damaged_is_given_up_and_leaves_as_any_other(world: World) -> None:
    once = {"once": True, "failed": world.top / "failed"}
    world.photo("a.png", 1)
    assert world.watch(**once) is ExitCode.DONE
    (world.drop / "a.png").write_bytes(b"damaged")
    assert world.watch(**once) is ExitCode.SOME_FAILED
    assert world.files("drop") == ["a.png"], "it may be that it is still being copied"
    assert world.watch(**once) is ExitCode.SOME_FAILED
    assert world.files("drop") == []
    assert world.files("failed") == ["a.png", "a.png.txt"]
    assert failed(world) == [world.top / "failed" / "a.png"]
    assert world.watch(**once) is ExitCode.DONE
    assert world.outputs() == {"a.png": 1}
    (world.top / "failed" / "a.png").unlink()
    world.watch(**once)
    assert status(world.out, None).failures == []
    world.photo("a.png", 2)
    assert world.watch(**once) is ExitCode.DONE
    assert world.outputs() == {"a.png": 2}


@pytest.mark.parametrize("fault", ["its output is edited", "its sidecar", "its folder of outputs is closed"])
@pytest.mark.parametrize("once", [True, False])
def test_a_done_photo_never_leaves_as_failed_for_what_is_no_fault_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: str, once: bool
) -> None:
    def unreadable(*_: object) -> None:
        raise UnreadablePhoto("its codec ran out of time")

    world.photo("1999/a.png", 1)
    world.watch()
    if fault == "its output is edited":
        (world.out / "1999" / "a.png").write_bytes(b"edited")
    elif fault == "its sidecar":
        (world.drop / "1999" / "a.xmp").write_text(PACKET.format(1))
        monkeypatch.setattr(InProcess, "metadata", unreadable, raising=False)
    else:
        (world.out / "1999" / "a.png").unlink()
        (world.out / "1999").rmdir()
        (world.out / "1999").write_bytes(b"a file")
    for _ in range(3):
        code = world.watch(once=once, failed=world.top / "failed", until=1500)
        assert code is (ExitCode.SOME_FAILED if once else ExitCode.DONE)
        assert failed(world) == [world.drop / "1999" / "a.png"]
    assert "1999/a.png" in world.files("drop")
    assert world.files("failed") == []


def test_a_photo_that_was_edited_is_made_again_also_where_its_folder_has_another_name(world: World) -> None:
    world.photo("a.png", 1)
    world.watch()
    world.photo("a.png", 2)
    (world.top / "link").symlink_to(world.drop)
    world.drop = world.top / "link"
    world.watch()
    assert world.outputs() == {"a.png": 2}
