"""Which photos the daemon takes, and what becomes of those that fail."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from srbatch.errors import (
    DeviceError,
    ExitCode,
)
from srbatch.outputs import commit
from srbatch.outputs.ledger import STATE_FOLDER, Ledger
from srbatch.reporting.snapshot import read
from srbatch.watch.schedule import PAUSES_S
from tests.conftest import crop
from tests.networks import Faulty, Nothing
from tests.watch.world import Act, InProcess, World

# ---- what is taken ------------------------------------------------------------------------------


def test_a_backlog_and_what_comes_later(world: World) -> None:
    world.photo("a.png", 1)
    at = {10.0: lambda: world.photo("b/c.png", 2), 15.0: lambda: world.photo("d.png", 3)}
    assert world.watch(at) is ExitCode.DONE
    assert world.outputs() == {"a.png": 1, "b/c.png": 2, "d.png": 3}
    assert (world.drop / "a.png").exists(), "nothing is moved unless asked"
    found = read(world.out / STATE_FOLDER)
    assert found is not None
    assert (found.state, found.done, found.queue) == ("stopped", 3, 0)


def test_without_any_event_it_is_found_by_looking(world: World, looks: list[float]) -> None:
    world.watch({20.0: lambda: world.photo("a.png")}, until=1000, events=False)
    assert world.outputs() == {"a.png": 0}
    assert len(looks) < 10, "it sleeps most of the time"


def test_polling(world: World) -> None:
    world.watch({20.0: lambda: world.photo("a.png")}, until=30, events=False, poll_s=4)
    assert world.outputs() == {"a.png": 0}


def test_a_copy_that_stalls_for_a_minute_is_never_taken_half(world: World, monkeypatch: Any) -> None:
    crop(40, 50).save(world.top / "whole.jpg")
    data, path = (world.top / "whole.jpg").read_bytes(), world.drop / "a.jpg"
    seen = []

    def piece(start: int, end: int) -> Act:
        def write() -> None:
            seen.append((world.out / "a.jpg").exists())
            with path.open("ab") as file:
                file.write(data[start:end])

        return write

    bounds = [len(data) * n // 10 for n in range(11)]
    times = [1, 1.5, 2, 3, 4, 64, 65, 66, 67, 68]
    at = {float(t): piece(s, e) for t, s, e in zip(times, bounds, bounds[1:], strict=False)}
    world.watch(at, until=100)
    assert seen == [False] * 10
    with Image.open(world.out / "a.jpg") as image:
        assert image.size == (100, 80)
        image.load()
    assert list(world.out.rglob("*.part")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_copy_that_stalls_with_the_file_open_is_not_even_tried(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.photo("whole.png")
    data = (world.drop / "whole.png").read_bytes()
    (world.drop / "whole.png").unlink()
    with (world.drop / "a.png").open("wb") as file:
        from srbatch.watch.settle import open_for_writing

        if not open_for_writing(world.drop / "a.png"):
            pytest.skip("this file system grants no leases")
        file.write(data[:-30])
        file.flush()

        def finish() -> None:
            file.write(data[-30:])
            file.close()

        world.watch({60.0: finish}, until=90)
    assert world.outputs() == {"a.png": 0}
    assert "failed" not in caplog.text


def test_moves_renames_rewrites_and_whole_folders(world: World) -> None:
    for index in range(6):
        world.photo(f"{index}.png", index)
    whole = world.top / "roll"
    whole.mkdir()
    for index in range(12):
        Image.new("RGB", (8, 6), (100 + index, 0, 0)).save(whole / f"{index}.png")
    at: dict[float, Act] = {
        6.0: lambda: (world.drop / "0.png").rename(world.drop / "new.png"),
        6.1: lambda: (world.drop / "1.png").rename(world.drop / "2.png"),
        6.2: lambda: world.photo("3.png", 33),
        6.3: lambda: (world.drop / "a").mkdir(),
        6.4: lambda: (world.drop / "4.png").rename(world.drop / "a" / "4.png"),
        6.5: lambda: whole.rename(world.drop / "roll"),
        8.0: lambda: (world.drop / "roll" / "7.png").rename(world.drop / "roll" / "77.png"),
    }
    world.watch(at)
    made = world.outputs()
    now = {path: made[path] for path in world.files("drop")}
    assert now["new.png"] == 0
    assert now["2.png"] == 1
    assert now["3.png"] == 33
    assert now["a/4.png"] == 4
    assert [now[f"roll/{index}.png"] for index in (0, 11)] == [100, 111]
    assert now["roll/77.png"] == 107
    assert len(now) == 17
    ledger = Ledger.open_readonly(world.out / STATE_FOLDER)
    assert ledger.failures() == []
    ledger.close()


def test_a_photo_that_goes_away_while_it_is_due_is_no_failure(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.photo("a.png")
    world.photo("b.png")
    real = InProcess.probe

    def rename_first(self: InProcess, paths: Sequence[Path], max_pixels: float) -> Any:
        if (world.drop / "a.png").exists():
            (world.drop / "a.png").rename(world.drop / "c.png")
        return real(self, paths, max_pixels)

    monkeypatch.setattr(InProcess, "probe", rename_first)
    world.watch()
    assert list(world.outputs()) == ["b.png", "c.png"]
    assert world.row("a.png") is None


def test_a_clock_that_jumps_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for index, name in enumerate(("past.png", "now.png", "future.png")):
        world.photo(name, index)
        os.utime(world.drop / name, (0, time.time() * index))
    jumps = iter([1e9, -1e9] * 1000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    world.watch()
    assert world.outputs() == {"future.png": 2, "now.png": 1, "past.png": 0}


def test_links_in_the_tree_are_done_and_stay(world: World, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = world.top / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (8, 6), (9, 0, 0)).save(elsewhere / "x.png")
    (world.drop / "a.png").symlink_to(elsewhere / "x.png")
    (world.drop / "folder").symlink_to(elsewhere)
    (world.drop / "loop").symlink_to(world.drop)
    (world.drop / "broken.png").symlink_to("nowhere")
    world.watch(done=world.top / "done", until=1300)
    assert world.outputs() == {"a.png": 9, "folder/x.png": 9}
    assert world.files("done") == []
    assert caplog.text.count("a link leads to it") == 2, "it is said once for each"
    row = world.row("broken.png")
    assert row is not None
    assert row.status == "failed"


@pytest.mark.parametrize("to", [".", "hi"])
def test_a_link_to_the_output_costs_no_other_photo(
    world: World, caplog: pytest.LogCaptureFixture, to: str
) -> None:
    world.photo("a.png", 1)
    at: dict[float, Act] = {
        5.0: lambda: (world.drop / "link").symlink_to(world.top / to),
        10.0: lambda: world.photo("b.png", 2),
    }
    assert world.watch(at) is ExitCode.DONE
    assert world.outputs() == {"a.png": 1, "b.png": 2}
    assert caplog.text.count("outputs are never taken for photos") == 1, "it is said once"
    world.photo("c.png", 3)
    assert world.watch() is ExitCode.DONE, "nor does it keep the next one from starting"
    assert world.outputs() == {"a.png": 1, "b.png": 2, "c.png": 3}


def test_a_photo_that_is_rewritten_with_its_old_date_and_another_size_is_made_again(world: World) -> None:
    world.photo("a.png", 1)
    world.watch()
    path = world.drop / "a.png"
    before = path.stat()
    Image.new("RGB", (8, 6), (2, 0, 0)).save(path, compress_level=0)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size != before.st_size
    world.watch()
    assert world.outputs() == {"a.png": 2}


# ---- failures -----------------------------------------------------------------------------------


def test_a_file_that_keeps_failing_is_given_up_and_set_aside(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    (world.drop / "bad.jpg").write_bytes(b"garbage")
    (world.drop / "raw.nef").write_bytes(b"raw")
    world.photo("good.png")
    world.watch(failed=world.top / "failed", until=20)
    assert world.files("failed") == ["raw.nef", "raw.nef.txt"], "time does not mend that"
    assert world.files("drop") == ["bad.jpg", "good.png"]
    caplog.clear()
    (world.drop / "bad.jpg").write_bytes(b"other garbage")
    world.watch(failed=world.top / "failed", until=sum(PAUSES_S) + 100)
    assert world.files("drop") == ["good.png"]
    assert "bad.jpg is given up" in caplog.text
    assert "is tried again in 10 min" in caplog.text
    text = (world.top / "failed" / "bad.jpg.txt").read_text()
    assert "bad.jpg could not be upscaled: its content is not a picture" in text
    row = world.row("bad.jpg")
    assert row is not None
    assert (row.status, row.source) == ("failed", "../failed/bad.jpg")
    (world.top / "failed" / "bad.jpg").unlink()
    world.watch(failed=world.top / "failed")
    assert world.row("bad.jpg") is None, "what is gone is no failure any more"


def test_originals_are_told_by_their_own_names(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.photo("scan.bmp")
    (world.drop / "empty.bmp").touch()
    caplog.set_level("INFO")
    world.watch(done=world.top / "done", failed=world.top / "failed", until=sum(PAUSES_S) + 100)
    assert world.files("done") == ["scan.bmp"]
    assert "scan.bmp was moved to" in caplog.text
    assert "empty.bmp is given up" in caplog.text
    text = (world.top / "failed" / "empty.bmp.txt").read_text()
    assert text.startswith("empty.bmp could not be upscaled: ")


def test_a_failure_is_remembered_over_a_restart_until_the_file_changes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    (world.drop / "bad.png").write_bytes(b"garbage")
    world.watch(until=5)
    assert "tried again in 30 s" in caplog.text
    caplog.clear()
    world.watch({100.0: lambda: world.photo("bad.png", 5)}, until=120)
    assert "is given up until it changes" in caplog.text
    assert world.outputs() == {"bad.png": 5}


@pytest.mark.parametrize("asked", [False, True], ids=["rewritten", "retry_failed"])
def test_a_failure_of_before_does_not_count_for_a_file_that_was_tried(
    world: World, caplog: pytest.LogCaptureFixture, asked: bool
) -> None:
    """It may still be on its way, so it is not set aside at once."""
    failed, path = world.top / "failed", world.drop / "bad.png"
    path.write_bytes(b"garbage")
    world.watch(until=5, failed=failed)
    caplog.clear()
    if not asked:
        path.write_bytes(b"rubbish")
        os.utime(path, (7, 7))
    world.watch(until=5, failed=failed, retry_failed=asked)
    assert "bad.png is tried again in 30 s" in caplog.text
    assert world.files("failed") == []
    world.watch(until=5, failed=failed)
    assert world.files("failed") == ["bad.png", "bad.png.txt"]


@pytest.mark.parametrize("fault", ["a link", "a file", "closed", "an edit"])
def test_what_is_in_the_way_of_an_output_costs_no_original(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    folder = world.out / "2021"

    def spoil() -> None:
        match fault:
            case "a link":  # to a disk that is unmounted
                folder.rename(world.top / "disk")
                folder.symlink_to("nowhere")
            case "a file":
                folder.rename(world.top / "disk")
                folder.write_bytes(b"kept")
            case "closed":
                monkeypatch.setattr(commit, "_is_open", lambda path: path != folder)
            case "an edit":
                (folder / "b.png").write_bytes(b"edited")
        world.photo("2021/b.png", 2)

    def mend() -> None:
        match fault:
            case "a link" | "a file":
                folder.unlink()
                (world.top / "disk").rename(folder)
            case "closed":
                monkeypatch.setattr(commit, "_is_open", lambda path: True)
            case "an edit":
                (folder / "b.png").unlink()

    world.photo("2021/a.png", 1)
    at: dict[float, Act] = {10.0: spoil, 20_000.0: mend, 21_000.0: lambda: world.photo("2021/c.png", 3)}
    assert world.watch(at, until=22_000, failed=world.top / "failed") is ExitCode.DONE
    assert world.files("drop") == ["2021/a.png", "2021/b.png", "2021/c.png"]
    assert world.files("failed") == []
    assert world.outputs() == {"2021/a.png": 1, "2021/b.png": 2, "2021/c.png": 3}
    assert caplog.text.count("failed   2021/b.png") == 1, "it is said once"
    assert "given up" not in caplog.text


def test_without_a_place_for_its_output_a_photo_fails_each_round(world: World) -> None:
    world.photo("2021/a.png", 1)
    world.out.mkdir()
    (world.out / "2021").symlink_to("nowhere")
    for _ in range(6):
        assert world.watch(once=True, failed=world.top / "failed") is ExitCode.SOME_FAILED
    assert world.files("drop") == ["2021/a.png"]
    (world.out / "2021").unlink()
    assert world.watch(once=True, failed=world.top / "failed") is ExitCode.DONE
    assert world.outputs() == {"2021/a.png": 1}


def test_a_photo_too_large_for_the_device_does_not_end_the_daemon(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.photo("a.png", 1)
    network = Faulty(Nothing(), 0, "out of memory", times=2)
    world.watch({5.0: lambda: world.photo("b.png", 2)}, network=network, until=200)
    assert world.outputs() == {"a.png": 1, "b.png": 2}
    assert "even in the smallest tiles" in caplog.text


def test_a_lost_device_ends_it_with_its_own_exit_code(world: World) -> None:
    class Lost(nn.Module):
        def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
            raise DeviceError("cuda:0 failed: unspecified launch failure")

    world.photo("a.png")
    with pytest.raises(DeviceError) as caught:
        world.watch(network=Lost())
    assert caught.value.exit_code == 5
    found = read(world.out / STATE_FOLDER)
    assert found is not None
    assert found.state == "stopped"
