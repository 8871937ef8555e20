"""A training that was ended, by whatever, goes on exactly where it was, or says why it does not."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from srbatch.errors import DestinationError, DeviceError, Interrupted, UsageError
from tests.conftest import crop
from tests.trainer.conftest import phase
from tests.trainer.trainings import ALONE, ENVIRONMENT, TWO, Tiny, log, reference, stop_at, train
from trainer import callbacks, checkpoint, run, schedule
from trainer.losses import SuperResolutionLoss

pytestmark = pytest.mark.usefixtures("thin_encoder", "learners_freed")


@pytest.mark.parametrize(
    "key",
    [(0, 0, 2), (0, 0, 5), (0, 1, 0), (1, 0, 1)],
    ids=["in an epoch", "at its end", "in a later epoch", "in a later phase"],
)
def test_a_resumed_run_equals_one_that_was_never_stopped(
    tiny: Tiny,
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: dict[str, Any],
    key: tuple[int, int, int],
) -> None:
    config = tiny(*TWO)
    expected = reference(uninterrupted, config, photo_folder)
    stop_at(monkeypatch, key)
    out = tmp_path / "run"
    with pytest.raises(Interrupted) as stopped:
        train(config, photo_folder, out)
    assert stopped.value.exit_code == 143
    got = train(config, photo_folder, out)
    assert got.keys() == expected.keys()
    different = [name for name in got if not torch.equal(got[name], expected[name])]
    assert different == []
    assert log(out, "loss") == uninterrupted["loss"]


def test_killed_at_any_moment_it_goes_on_from_the_last_step(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    config = tiny(*TWO, run={"checkpoint_minutes": 1e-6})
    expected = reference(uninterrupted, tiny(*TWO), photo_folder)
    out = tmp_path / "run"
    command = [sys.executable, "-c", ALONE, config.model_dump_json(), str(photo_folder), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    deadline = time.monotonic() + 150
    while not (out / checkpoint.FILE).exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    state = torch.load(out / checkpoint.FILE, weights_only=True)
    assert (state["phase"], state["epoch"]) < (1, 1), "it was killed after the end"
    got = train(config, photo_folder, out)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the finder's folder
def test_a_search_for_a_rate_ends_at_its_first_step_where_it_is_to_stop(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, (0, 0, 1))
    with pytest.raises(Interrupted):
        train(tiny(phase("x1", lr="find")), photo_folder, tmp_path / "run")


def test_what_a_kill_left_half_written_is_removed(tiny: Tiny, photo_folder: Path, tmp_path: Path) -> None:
    """Of a network like the released ones it is 700 MB each time."""
    out = tmp_path / "run"
    (out / ".lr-finder" / "tmpabc").mkdir(parents=True)
    left = [out / ".srbatch-0123456789ab.part", out / ".lr-finder" / "tmpabc" / "_tmp.pth"]
    for path in left:
        path.write_bytes(b"half")
    (out / "notes.part").write_text("mine")
    train(tiny(phase("x1")), photo_folder, out)
    assert not [path for path in left if path.exists()]
    assert (out / "notes.part").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows signals no groups of processes like this")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_to_all_its_processes_saves_the_step_in_hand(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, number: str
) -> None:
    """A terminal's Ctrl-C and service managers reach the workers too."""
    config = tiny(phase("long", samples_per_epoch=100_000), data={"workers": 2})
    out = tmp_path / "run"
    command = [sys.executable, "-c", ALONE, config.model_dump_json(), str(photo_folder), str(out)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=ENVIRONMENT
    )
    try:
        deadline = time.monotonic() + 150
        # A step for each worker: one that is still being started would die of the signal.
        while not (out / "log.csv").exists() or len(log(out, "loss")) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.Signals[number])
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert re.findall(r"^srbatch\.errors\.\w+", told, re.MULTILINE) == ["srbatch.errors.Interrupted"]
    assert "RuntimeError" not in told
    state = torch.load(out / checkpoint.FILE, weights_only=True)
    assert state["step"] >= log(out, "loss")[-1][0] > 0


def test_a_finished_run_is_exported_again_without_training(
    tiny: Tiny, photo_folder: Path, tmp_path: Path
) -> None:
    config, out = tiny(phase("x1")), tmp_path / "run"
    first = train(config, photo_folder, out)
    before = (out / "log.csv").read_text()
    again = train(config, photo_folder, out)
    assert all(torch.equal(again[name], first[name]) for name in first)
    assert (out / "log.csv").read_text() == before


def test_another_configuration_does_not_go_on_with_a_run(
    tiny: Tiny, photo_folder: Path, tmp_path: Path
) -> None:
    train(tiny(phase("x1")), photo_folder, tmp_path / "run")
    with pytest.raises(UsageError, match=r"other settings \(run.seed\)"):
        train(tiny(phase("x1"), run={"seed": 2}), photo_folder, tmp_path / "run")


def test_photos_that_changed_are_told_of(tiny: Tiny, photo_folder: Path, tmp_path: Path) -> None:
    train(tiny(phase("x1")), photo_folder, tmp_path / "run")
    crop(80, 96, top=99).save(photo_folder / "one more.png")
    for number in range(4):
        (photo_folder / f"{number}.png").unlink()
    with pytest.raises(
        UsageError,
        match=r"began with other photographs \(gone, changed or not to be read any more: 0.png, 1.png, 2.png"
        r" and 1 more; come or changed: one more.png\). Give it those",
    ):
        train(tiny(phase("x1")), photo_folder, tmp_path / "run")


def stopped_in_its_second_phase(
    tiny: Tiny, photo_folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, (1, 0, 1))
        with pytest.raises(Interrupted):
            train(tiny(*TWO), photo_folder, out)


def test_a_phase_that_has_not_begun_may_be_changed(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the advice says where its batch does not fit into memory."""
    out = tmp_path / "run"

    with monkeypatch.context() as patch:
        stop_at(patch, (0, 1, 0))
        with pytest.raises(Interrupted):
            train(tiny(*TWO), photo_folder, out)
    halved = {**TWO[1], "batch": 1, "accumulate": 2}
    other_loss = {"losses": {"default": {"pixel": 1.0}, "squares": {"pixel": 1.0, "pixel_kind": "mse"}}}
    changed = tiny(TWO[0], {**halved, "loss": "squares"}, **other_loss)
    train(changed, photo_folder, out)
    assert len(log(out, "loss")) > 6
    with pytest.raises(UsageError, match=r"phases.0.batch"):
        train(tiny({**TWO[0], "batch": 1}, {**halved, "loss": "squares"}, **other_loss), photo_folder, out)


def test_the_crops_of_a_phase_that_does_not_fit_into_memory_may_be_made_smaller(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the advice says; photographs that were too small when the run began stay left out."""
    out, first = tmp_path / "run", phase("one")
    crop(48, 48).save(photo_folder / "small.png")
    for number in range(9):  # one stays too small for 96 px
        crop(96, 96, left=9 * number).save(photo_folder / f"{number}.png")
    forward = SuperResolutionLoss.forward

    def of_small_crops(self: SuperResolutionLoss, predictions: Any, target: torch.Tensor) -> torch.Tensor:
        if target.shape[-1] > 32:
            raise torch.OutOfMemoryError
        return forward(self, predictions, target)

    monkeypatch.setattr(SuperResolutionLoss, "forward", of_small_crops)
    with pytest.raises(DeviceError, match=r"lower --set phases.1.size"):
        train(tiny(first, phase("two", size=64, batch=1)), photo_folder, out)
    with pytest.raises(UsageError, match=r"too small for phases.1.size; lower that to 64 at most"):
        train(tiny(first, phase("two", size=96, batch=1)), photo_folder, out)
    train(tiny(first, phase("two", size=32, batch=1)), photo_folder, out)


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"lr": 5e-4}, ""),
        ({"batch": 1, "accumulate": 2}, "phases.1.accumulate"),
        ({"lr": "find"}, ""),
    ],
    ids=str,
)
def test_of_a_phase_that_is_going_on_the_rate_alone_may_be_changed(
    tiny: Tiny,
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    refused: str,
) -> None:
    out = tmp_path / "run"
    stopped_in_its_second_phase(tiny, photo_folder, out, monkeypatch)
    config = tiny(TWO[0], {**TWO[1], **changes})
    if refused:
        with pytest.raises(UsageError, match=refused):
            train(config, photo_folder, out)
        return
    train(config, photo_folder, out)
    state = torch.load(out / checkpoint.FILE, weights_only=True)
    rate = TWO[1]["lr"] if changes["lr"] == "find" else changes["lr"]
    assert state["rates"]["two"] == rate
    assert max(value for _, value in log(out, "lr")[-2:]) <= rate


def test_a_run_whose_rate_was_changed_goes_on_with_the_command_that_it_began_with(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, said = tmp_path / "run", list[str]()
    config, lower = tiny(*TWO), tiny({**TWO[0], "lr": 1e-4}, TWO[1])
    for now, stop in ((config, (0, 0, 2)), (lower, (1, 0, 1))):
        with monkeypatch.context() as patch:
            stop_at(patch, stop)
            with pytest.raises(Interrupted):
                train(now, photo_folder, out)
    run.train(config, (photo_folder,), out, say=said.append)
    assert "one is done, with a learning rate of 1.00e-04" in said


def test_no_gradients_are_lost_where_an_epoch_ends(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crops of an epoch need not be a multiple of those of an update; a run may be killed at its end."""
    config = tiny(phase("x1", epochs=2, samples_per_epoch=6, accumulate=2))
    saved, save = list[bytes](), checkpoint.save

    def kept(state: checkpoint.State, folder: Path) -> None:
        save(state, folder)
        saved.append((folder / checkpoint.FILE).read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", kept)
        expected = train(config, photo_folder, tmp_path / "whole")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / checkpoint.FILE).write_bytes(saved[0])  # of the end of the first epoch
    got = train(config, photo_folder, tmp_path / "run")
    assert [name for name in got if not torch.equal(got[name], expected[name])] == []


def test_a_line_of_the_log_that_was_cut_off_is_left_out(
    tiny: Tiny, photo_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(tiny(phase("x1")), photo_folder, out)
    whole = (out / "log.csv").read_text()
    with (out / "log.csv").open("a") as file:
        file.write("2,4,0.")
    train(tiny(phase("x1")), photo_folder, out)
    assert (out / "log.csv").read_text() == whole
    assert not [path for path in out.iterdir() if path.name.startswith(".srbatch")]


@pytest.mark.parametrize("file", ["checkpoint", "log", "panel"])
def test_a_full_disk_ends_the_run_with_the_last_checkpoint(
    tiny: Tiny,
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: dict[str, Any],
    file: str,
) -> None:
    config, out = tiny(*TWO), tmp_path / "run"
    expected = reference(uninterrupted, config, photo_folder)

    def full(*_: Any, **__: Any) -> None:
        if file == "checkpoint":  # what torch says
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    where = {
        "checkpoint": (torch, "save"),
        "log": (callbacks.LogWriter, "write"),
        "panel": (Image.Image, "save"),
    }
    with monkeypatch.context() as patch:
        stop_at(patch, (1, 0, 1))
        with pytest.raises(Interrupted):
            train(config, photo_folder, out)
    with monkeypatch.context() as patch:
        patch.setattr(*where[file], full)
        with pytest.raises(DestinationError, match="No space left on device; make room"):
            train(config, photo_folder, out)
    got = train(config, photo_folder, out)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the finder's folder
@pytest.mark.parametrize("file", ["weights", "plot"])
def test_a_full_disk_ends_a_search_for_a_rate(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        if file == "weights":  # what torch says
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if file == "weights":
        monkeypatch.setattr(torch, "save", full)
    else:
        monkeypatch.setattr(schedule, "find_rate", lambda _: schedule.Finding(1e-3, [1e-3], [1.0]))
        monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(DestinationError, match=r"lr-x1.png: No space left on device; make room"):
        train(tiny(phase("x1", lr="find")), photo_folder, tmp_path / "run")
