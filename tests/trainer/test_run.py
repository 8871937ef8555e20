"""A whole training: it learns, it goes on exactly where it was, and what it exports is what it trained."""

from __future__ import annotations

import csv
import errno
import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from srbatch import weights
from srbatch.errors import DestinationError, DeviceError, Interrupted, LockedError, UsageError
from tests.trainer.conftest import phase
from trainer import callbacks, checkpoint, data, run
from trainer.callbacks import TrainingDiverged
from trainer.config import Config
from trainer.learner import groups
from trainer.release import served_scales

Tiny = Callable[..., Config]
Tensors = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def memory_given_back() -> Iterator[None]:
    """Learners are circles, which Python clears away late: half a gigabyte after each of these trainings."""
    yield
    gc.collect()


def train(config: Config, photos: Path, out: Path) -> dict[str, torch.Tensor]:
    """Run to the end and return the exported weights."""
    path = run.train(config, (photos,), out, say=lambda _: None)
    return weights.load(path).network.state_dict()


def similarity(a: Tensors, b: Tensors, origin: Tensors) -> float:
    """Cosine of the angle between two ways from an origin."""
    ways = [
        torch.cat([(end[n] - origin[n]).double().flatten() for n in origin if end[n].is_floating_point()])
        for end in (a, b)
    ]
    return float(torch.nn.functional.cosine_similarity(*ways, dim=0))


def log(out: Path, name: str) -> list[tuple[int, float]]:
    with (out / "log.csv").open() as file:
        return [(int(r["step"]), float(r["value"])) for r in csv.DictReader(file) if r["name"] == name]


def stop_at(monkeypatch: pytest.MonkeyPatch, key: tuple[int, int, int]) -> None:
    """Have the process told to stop while the crop of that key is made, once."""
    make, pending = data.Pairs.__getitem__, [key]

    def made(self: data.Pairs, wanted: data.Key) -> Any:
        if wanted in pending:
            pending.clear()
            signal.raise_signal(signal.SIGTERM)
        return make(self, wanted)

    monkeypatch.setattr(data.Pairs, "__getitem__", made)


ALONE = """
import sys
from pathlib import Path
from trainer import run
from trainer.config import Config
config = Config.model_validate_json(sys.argv[1])
run.train(config, (Path(sys.argv[2]),), Path(sys.argv[3]), say=lambda _: None)
"""
"""A program that trains by itself."""
TWO = (phase("one", epochs=2, samples_per_epoch=6), phase("two", scale=2, size=64, train="all"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of runs that were never stopped, by name; filled by those who need them."""
    return {"folder": tmp_path_factory.mktemp("uninterrupted")}


def reference(known: dict[str, Any], config: Config, photos: Path) -> dict[str, torch.Tensor]:
    if "weights" not in known:
        known["weights"] = train(config, photos, known["folder"] / "run")
        known["loss"] = log(known["folder"] / "run", "loss")
    found: dict[str, torch.Tensor] = known["weights"]
    return found


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
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
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


@pytest.mark.skipif(sys.platform == "win32", reason="Windows signals no groups of processes like this")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_its_processes_saves_the_step_in_hand(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """A terminal's Ctrl-C and service managers reach the workers too."""
    config = tiny(phase("long", samples_per_epoch=100_000), data={"workers": 2})
    out = tmp_path / "run"
    command = [sys.executable, "-c", ALONE, config.model_dump_json(), str(photo_folder), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 150
        while not (out / "log.csv").exists() or not log(out, "loss"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, number)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "Interrupted" in told.splitlines()[-1]
    assert "RuntimeError" not in told
    state = torch.load(out / checkpoint.FILE, weights_only=True)
    assert state["step"] >= log(out, "loss")[-1][0] > 0


def test_two_processes_share_what_one_would_do(tiny: Tiny, photo_folder: Path, tmp_path: Path) -> None:
    config = tiny(phase("x1", batch=2, samples_per_epoch=8), optimiser={"ema": 0.0})
    expected = train(
        tiny(phase("x1", batch=4, samples_per_epoch=8), optimiser={"ema": 0.0}),
        photo_folder,
        tmp_path / "one",
    )
    training = run.prepare(
        config, (photo_folder,), tmp_path / "zero", tmp_path / "cache", run.Interrupt(), lambda _: None
    )
    first = run.first_network(training).state_dict()
    # What `accelerate launch` does for GPUs; without one it starts a single process.
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    program = tmp_path / "train.py"
    program.write_text(ALONE)
    done = subprocess.run(
        [*launcher, str(program), config.model_dump_json(), str(photo_folder), str(tmp_path / "two")],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(run.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    got = weights.load(tmp_path / "two" / "tiny.safetensors").network.state_dict()
    alone = train(
        tiny(phase("x1", batch=2, samples_per_epoch=4), optimiser={"ema": 0.0}),
        photo_folder,
        tmp_path / "half",
    )
    assert similarity(got, expected, first) > 0.999
    assert similarity(alone, expected, first) < 0.9, "half of the data would have done"
    assert [step for step, _ in log(tmp_path / "two", "loss")] == [1, 2, 2]


def test_the_loss_falls(tiny: Tiny, photo_folder: Path, tmp_path: Path) -> None:
    config = tiny(
        phase("noise", epochs=4, samples_per_epoch=64, batch=8, lr=3e-3),
        degradations={"noise": {"probability": 1.0, "sigma": (40.0, 40.0)}},
    )
    train(config, photo_folder, tmp_path / "run")
    losses = [value for _, value in log(tmp_path / "run", "pixel")]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    valid = log(tmp_path / "run", "psnr_x1")
    assert valid[-1][1] > valid[0][1]


def test_what_a_run_leaves_behind(tiny: Tiny, photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (photo_folder / "broken.jpg").write_bytes(b"no photo")
    said: list[str] = []
    config = tiny(
        phase("x1", lr="find"), degradations={"jpeg": {"probability": 1.0}, "holes": {"probability": 0.5}}
    )
    path = run.train(config, (photo_folder,), out, say=said.append)
    card = weights.read_card(path)
    assert (card.name, card.scales) == ("tiny", (1,))
    assert set(card.degradations) == {"downsampling", "jpeg", "holes"}
    assert card.generative
    assert card.training["samples"] == 4
    assert card.training["photos_sha256"]
    (scores,) = card.metrics.values()
    assert scores == {"x1": pytest.approx(log(out, "psnr_x1")[-1][1], abs=1e-3)}
    assert any("broken.jpg" in line for line in said)
    for name in ("losses.png", "lr-x1.png", "panels/x1-001.png", "checkpoint.pt"):
        assert (out / name).stat().st_size > 0
    assert list((out / "tensorboard").iterdir())
    assert not list(out.glob(".lr-finder/*")), "the finder's copy of the weights is still there"


def test_a_finished_run_is_exported_again_without_training(
    tiny: Tiny, photo_folder: Path, tmp_path: Path
) -> None:
    config, out = tiny(phase("x1")), tmp_path / "run"
    first = train(config, photo_folder, out)
    before = (out / "log.csv").read_text()
    again = train(config, photo_folder, out)
    assert all(torch.equal(again[name], first[name]) for name in first)
    assert (out / "log.csv").read_text() == before


def test_the_average_is_what_is_released(tiny: Tiny, photo_folder: Path, tmp_path: Path) -> None:
    config = tiny(phase("x1", samples_per_epoch=8), optimiser={"ema": 0.9})
    released = train(config, photo_folder, tmp_path / "run")
    state = torch.load(tmp_path / "run" / checkpoint.FILE, weights_only=True)
    name = "heads.0.weight"
    assert torch.equal(released[name], state["average"]["module." + name])
    assert not torch.equal(released[name], state["network"][name])


@pytest.mark.parametrize("trained", ["stage", "decoder", "all"])
def test_only_what_is_trained_moves(tiny: Tiny, photo_folder: Path, tmp_path: Path, trained: str) -> None:
    first = tiny(phase("x1", scale=2, size=64, train="all"))
    path = run.train(first, (photo_folder,), tmp_path / "first", say=lambda _: None)
    config = tiny(phase("x2", scale=2, size=64, train=trained, lr=1e-4), start={"weights": str(path)})
    before = weights.load(path).network
    after = weights.load(run.train(config, (photo_folder,), tmp_path / "second", say=lambda _: None)).network
    moved = [
        any(not torch.equal(a, b) for a, b in zip(old, new, strict=True))
        for old, new in zip(
            groups(before, 2),
            groups(after, 2),
            strict=True,
        )
    ]
    assert (
        moved
        == {
            "stage": [False, False, False, True],
            "decoder": [False, False, True, True],
            "all": [True, True, True, True],
        }[trained]
    )


@pytest.mark.parametrize(
    ("then", "served", "stages"),
    [
        (phase("body"), (1,), 0),
        (phase("stage", scale=2, size=64, train="stage"), (1, 2), 1),
        (phase("all", scale=2, size=64), (2,), 1),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else None,
)
def test_weights_serve_what_a_run_trained_and_what_it_left_alone(
    tiny: Tiny,
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    then: dict[str, Any],
    served: tuple[int, ...],
    stages: int,
) -> None:
    first = tiny(phase("x2", scale=2, size=64, heads={1: 1.0, 2: 1.0}))
    path = run.train(first, (photo_folder,), tmp_path / "first", say=lambda _: None)
    config, out = tiny(then, start={"weights": str(path)}), tmp_path / "second"
    before = weights.load(path).network
    stop_at(monkeypatch, (0, 0, 2))
    with pytest.raises(Interrupted):
        train(config, photo_folder, out)
    path.unlink()  # a run that has begun needs it no more
    loaded = weights.load(run.train(config, (photo_folder,), out, say=lambda _: None))
    assert loaded.card.scales == served
    assert loaded.network.config.stages == stages
    picture = torch.rand(1, 3, 32, 32)
    for scale in set(served) - {then["scale"]}:
        with torch.inference_mode():
            assert torch.equal(loaded.network(picture, scale), before(picture, scale))


@pytest.mark.parametrize(
    ("phases", "batch_norm", "served"),
    [
        ((phase("x4", scale=4, size=128, train="stage"),), "fixed", (1, 2, 4)),
        ((phase("x2", scale=2, size=64, train="stage"),), "fixed", (1, 2)),
        ((phase("x4", scale=4, size=128, train="stage"),), "train", (4,)),
        ((phase("x4", scale=4, size=128, train="decoder"),), "fixed", (4,)),
        (
            (
                phase("x2", scale=2, size=64, train="stage"),
                phase("x4", scale=4, size=128, heads={2: 1.0, 4: 1.0}, train="stage"),
            ),
            "fixed",
            (1, 2, 4),
        ),
        ((phase("x1"), phase("x2", scale=2, size=64)), "fixed", (2,)),
        ((phase("x1"), phase("x2", scale=2, size=64, heads={1: 1.0, 2: 1.0})), "fixed", (1, 2)),
        ((phase("x1"), phase("x2", scale=2, size=64, train="stage")), "fixed", (1, 2)),
        (
            (
                phase("x4", scale=4, size=128, heads={1: 1.0, 4: 1.0}),
                phase("x4-stage", scale=4, size=128, train="stage"),
            ),
            "fixed",
            (1, 4),
        ),
    ],
)
def test_what_a_run_leaves_alone(
    tiny: Tiny, phases: tuple[dict[str, Any], ...], batch_norm: str, served: tuple[int, ...]
) -> None:
    config = tiny(*phases, network={"batch_norm": batch_norm})
    assert served_scales(config, [1, 2, 4]) == served


def test_a_head_whose_body_moved_on_is_not_released(tiny: Tiny, photo_folder: Path, tmp_path: Path) -> None:
    config, said = tiny(phase("x1"), phase("x2", scale=2, size=64)), list[str]()
    made = weights.load(run.train(config, (photo_folder,), tmp_path / "run", say=said.append))
    assert made.card.scales == (2,)
    assert "the weights will serve x2" in said


GENERATIVE = {"holes": {"probability": 1.0}}


def test_what_is_trained_on_from_a_generative_network_is_generative(
    tiny: Tiny, photo_folder: Path, tmp_path: Path
) -> None:
    """It may have forgotten how to fill holes, but nobody can promise that."""
    first = tiny(phase("x1"), degradations=GENERATIVE)
    path = run.train(first, (photo_folder,), tmp_path / "first", say=lambda _: None)
    config, out = tiny(phase("more"), start={"weights": str(path)}), tmp_path / "second"
    card = weights.read_card(run.train(config, (photo_folder,), out, say=lambda _: None))
    assert card.generative
    assert card.degradations == weights.read_card(path).degradations
    assert card.training["begun_with"] == {"name": "tiny", "version": "0.1"}


def test_what_is_trained_on_from_a_network_without_a_record_is_not_called_faithful(
    tiny: Tiny, photo_folder: Path, tmp_path: Path
) -> None:
    path = run.train(tiny(phase("x1")), (photo_folder,), tmp_path / "first", say=lambda _: None)
    loaded = weights.load(path)
    assert not loaded.card.generative
    weights.save(path, loaded.network, replace(loaded.card, training={}), "fp32")
    config, out = tiny(phase("more"), start={"weights": str(path)}), tmp_path / "second"
    card = weights.read_card(run.train(config, (photo_folder,), out, say=lambda _: None))
    assert card.generative
    assert "unknown" in card.degradations


def test_statistics_of_batch_norm_stay_unless_they_are_to_be_trained(
    tiny: Tiny, photo_folder: Path, tmp_path: Path
) -> None:
    name = "body.encoder.bn1.running_mean"
    for kind in ("fixed", "train"):
        config = tiny(phase("x1", train="decoder"), network={"batch_norm": kind})
        training = run.prepare(
            config, (photo_folder,), tmp_path / kind, tmp_path / "cache", run.Interrupt(), lambda _: None
        )
        before = run.first_network(training).state_dict()[name]
        after = train(config, photo_folder, tmp_path / kind)[name]
        assert torch.equal(before, after) == (kind == "fixed")


def test_accumulated_gradients_are_those_of_the_larger_batch(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    step = torch.optim.AdamW.step

    def noted(self: torch.optim.AdamW) -> None:
        seen.append(self.param_groups[-1]["params"][0].grad.clone())
        step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    train(tiny(phase("x1", batch=4)), photo_folder, tmp_path / "whole")
    train(tiny(phase("x1", batch=2, accumulate=2)), photo_folder, tmp_path / "parts")
    whole, parts = seen
    assert torch.allclose(whole, parts, rtol=1e-3)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = tiny(phase("x1", samples_per_epoch=6), run={"checkpoint_minutes": 1e-6}), tmp_path / "run"
    from trainer.losses import SuperResolutionLoss

    forward, calls = SuperResolutionLoss.forward, [0]

    def poisoned(self: SuperResolutionLoss, *arguments: Any) -> torch.Tensor:
        calls[0] += 1
        loss = forward(self, *arguments)
        return loss * torch.nan if calls[0] == 3 else loss

    monkeypatch.setattr(SuperResolutionLoss, "forward", poisoned)
    with pytest.raises(TrainingDiverged, match="at step 3"):
        train(config, photo_folder, out)
    state = torch.load(out / checkpoint.FILE, weights_only=True)
    assert state["step"] == 2
    assert all(torch.isfinite(t).all() for t in state["network"].values())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the finder's folder, which
# fastai leaves to the end of its object
@pytest.mark.parametrize("rate", [1e-3, "find"])
@pytest.mark.parametrize(("batch", "fits", "times"), [(2, 1, 2), (3, 1, 3), (9, 3, 3)])
def test_too_large_a_batch_is_told_with_one_that_may_fit(
    tiny: Tiny,
    photo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rate: object,
    batch: int,
    fits: int,
    times: int,
) -> None:
    def full(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("trainer.losses.SuperResolutionLoss.forward", full)
    with pytest.raises(DeviceError, match=rf"phases.0.batch={fits} --set phases.0.accumulate={times}$"):
        train(tiny(phase("x1", batch=batch, lr=rate)), photo_folder, tmp_path / "run")


def test_another_configuration_does_not_go_on_with_a_run(
    tiny: Tiny, photo_folder: Path, tmp_path: Path
) -> None:
    train(tiny(phase("x1")), photo_folder, tmp_path / "run")
    with pytest.raises(UsageError, match=r"other settings \(run.seed\)"):
        train(tiny(phase("x1"), run={"seed": 2}), photo_folder, tmp_path / "run")


def test_photos_that_changed_are_told_of(tiny: Tiny, photo_folder: Path, tmp_path: Path) -> None:
    train(tiny(phase("x1")), photo_folder, tmp_path / "run")
    shutil.copy(photo_folder / "0.png", photo_folder / "one more.png")
    with pytest.raises(UsageError, match="began with other photographs"):
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


def test_a_step_that_spoils_the_weights_is_not_saved(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss before it was a number; in the last step of an epoch no other loss is seen."""
    config, out = tiny(phase("x1"), phase("more")), tmp_path / "run"
    step, calls = torch.optim.AdamW.step, [0]

    def spoiling(self: torch.optim.AdamW, *arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == 4:  # the last of the second phase
            self.param_groups[-1]["params"][0].grad.fill_(torch.nan)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", spoiling)
        with pytest.raises(TrainingDiverged, match=r"phase more .* Lower the phase's lr and run again"):
            train(config, photo_folder, out)
    state = torch.load(out / checkpoint.FILE, weights_only=True)
    assert state["phase"] == 1
    assert all(torch.isfinite(t).all() for t in state["network"].values())
    lower = tiny(phase("x1"), phase("more", lr=1e-4))
    assert all(torch.isfinite(t).all() for t in train(lower, photo_folder, out).values())


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


def test_one_run_at_a_time_trains_into_a_folder(tiny: Tiny, photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with checkpoint.owned(out, main=True), pytest.raises(LockedError, match="another process trains into"):
        train(tiny(phase("x1")), photo_folder, out)
    train(tiny(phase("x1")), photo_folder, out)


@pytest.mark.parametrize("place", ["out", "cache"])
def test_what_is_written_lies_outside_of_the_photos(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, place: str
) -> None:
    places = {"out": tmp_path / "run", "cache": tmp_path / "cache"} | {place: photo_folder / "below"}
    with pytest.raises(UsageError, match=f"--{place} .* lies inside the input"):
        run.train(
            tiny(phase("x1")), (photo_folder,), places["out"], say=lambda _: None, cache=places["cache"]
        )
    assert not (photo_folder / "below").exists()


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


def test_no_room_for_checkpoints_is_found_before_training(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = run.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(run.shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
    with pytest.raises(DestinationError, match="checkpoints need"):
        train(tiny(phase("x1")), photo_folder, tmp_path / "run")
    assert not (tmp_path / "run" / checkpoint.FILE).exists()
