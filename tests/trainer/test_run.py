"""A whole training: it learns what it is asked to, leaves what it says, and what it cannot do it says."""

from __future__ import annotations

import errno
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from srbatch import weights
from srbatch.errors import DestinationError, DeviceError, LockedError, PhotoChanged, UsageError
from tests.trainer.conftest import phase
from tests.trainer.trainings import ALONE, ENVIRONMENT, Tiny, log, similarity, train
from trainer import __main__ as door
from trainer import callbacks, checkpoint, preparation, run
from trainer.callbacks import TrainingDiverged
from trainer.interruption import Interrupt
from trainer.learner import fine, groups
from trainer.losses import SuperResolutionLoss

pytestmark = pytest.mark.usefixtures("thin_encoder", "learners_freed")


def test_two_processes_share_what_one_would_do(tiny: Tiny, photo_folder: Path, tmp_path: Path) -> None:
    config = tiny(phase("x1", batch=2, samples_per_epoch=8), optimiser={"ema": 0.0})
    expected = train(
        tiny(phase("x1", batch=4, samples_per_epoch=8), optimiser={"ema": 0.0}),
        photo_folder,
        tmp_path / "one",
    )
    training = preparation.prepare(
        config, (photo_folder,), tmp_path / "zero", tmp_path / "cache", Interrupt(), lambda _: None
    )
    first = preparation.first_network(training).state_dict()
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
        env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"},
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


def test_validation_tells_each_kind_of_damage_by_itself(
    tiny: Tiny, photo_folder: Path, tmp_path: Path
) -> None:
    noise, jpeg = {"probability": 0.5, "sigma": (60.0, 60.0)}, {"probability": 0.5}
    chosen = {"noise": noise, "jpeg": jpeg, "alone": 0.5}
    config = tiny(phase("x1", epochs=2), degradations=chosen, data={"valid_crops": 12})
    out = tmp_path / "run"
    run.train(config, (photo_folder,), out, say=lambda _: None)
    by_kind = {kind: log(out, f"psnr_x1_{kind}")[-1][1] for kind in ("clean", "jpeg", "noise")}
    assert by_kind["noise"] < log(out, "psnr_x1")[-1][1] < by_kind["clean"]
    assert by_kind["noise"] < by_kind["jpeg"]


def test_a_run_goes_on_where_nobody_reads_what_it_says(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where Ctrl-C ends a `tee` behind it before the step in hand is saved."""

    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stderr", Broken())
    run.train(tiny(phase("x1"), phase("more")), (photo_folder,), tmp_path / "run", say=door._say)
    assert len(log(tmp_path / "run", "loss")) == 6


def test_photos_that_go_away_cost_their_crops_and_all_of_them_the_run(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def going(line: str) -> None:  # after they were found
        if "learning rate" in line:
            for photo in left[:-1] if "one" in line else left:
                photo.unlink(missing_ok=True)

    config = tiny(
        phase("one", samples_per_epoch=8),
        phase("two"),
        data={"cache_gb": 0.0, "workers": 1},
        run={"checkpoint_minutes": 1e-6},
    )
    training = run.prepare(config, (photo_folder,), tmp_path, tmp_path, run.Interrupt(), lambda _: None)
    left = [photo.path for photo in training.found.train]
    with pytest.raises(PhotoChanged) as raised:
        run.train(config, (photo_folder,), tmp_path / "run", say=going)
    told = str(raised.value)
    assert re.match(rf"{photo_folder}/\d.png could be read before and no longer: ", told)
    assert told.endswith("and run the same command again to go on from the last checkpoint")
    assert "Traceback" not in told
    assert torch.load(tmp_path / "run" / checkpoint.FILE, weights_only=True)["phase"] == 1
    assert f"{left[0]} could be read before and no longer" in capfd.readouterr().err


def test_what_a_run_leaves_behind(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr(callbacks.Validation, "told", lambda _, scales: [f"told of {list(scales)}"])
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
    assert "x1: told of [1]" in said
    for name in ("losses.png", "lr-x1.png", "panels/x1-001.png", "checkpoint.pt"):
        assert (out / name).stat().st_size > 0
    assert list((out / "tensorboard").iterdir())
    assert not list(out.glob(".lr-finder/*")), "the finder's copy of the weights is still there"


@pytest.mark.parametrize("trained", ["stage", "decoder", "coarse", "all"])
def test_only_what_is_trained_moves(tiny: Tiny, photo_folder: Path, tmp_path: Path, trained: str) -> None:
    first = tiny(phase("x1", scale=2, size=64, train="all"))
    path = run.train(first, (photo_folder,), tmp_path / "first", say=lambda _: None)
    config = tiny(phase("x2", scale=2, size=64, train=trained, lr=1e-4), start={"weights": str(path)})
    before = weights.load(path).network
    after = weights.load(run.train(config, (photo_folder,), tmp_path / "second", say=lambda _: None)).network

    def moved(old: list[torch.nn.Parameter], new: list[torch.nn.Parameter]) -> bool:
        return any(not torch.equal(a, b) for a, b in zip(old, new, strict=True))

    assert [moved(old, new) for old, new in zip(groups(before, 2), groups(after, 2), strict=True)] == {
        "stage": [False, False, False, True],
        "decoder": [False, False, True, True],
        "coarse": [True, True, True, False],
        "all": [True, True, True, True],
    }[trained]
    assert moved(fine(before), fine(after)) == (trained != "coarse")
    assert moved([*before.body.up4.parameters()], [*after.body.up4.parameters()]) == (trained != "stage")


def test_a_phase_that_follows_trains_what_stood_still(tiny: Tiny, photo_folder: Path, tmp_path: Path) -> None:
    phases = (phase("one", train="coarse", lr=1e-4), phase("two", train="all", lr=1e-4))
    alone, both = (
        weights.load(run.train(tiny(*chosen), (photo_folder,), tmp_path / name, say=lambda _: None)).network
        for name, chosen in (("alone", phases[:1]), ("both", phases))
    )
    assert any(not torch.equal(a, b) for a, b in zip(fine(alone), fine(both), strict=True))


def test_statistics_of_batch_norm_stay_unless_they_are_to_be_trained(
    tiny: Tiny, photo_folder: Path, tmp_path: Path
) -> None:
    name = "body.encoder.bn1.running_mean"
    for kind in ("fixed", "train"):
        config = tiny(phase("x1", train="decoder"), network={"batch_norm": kind})
        training = preparation.prepare(
            config, (photo_folder,), tmp_path / kind, tmp_path / "cache", Interrupt(), lambda _: None
        )
        before = preparation.first_network(training).state_dict()[name]
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


def test_where_the_loss_grows_at_once_no_rate_is_found(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = SuperResolutionLoss.forward, [0]

    def growing(self: SuperResolutionLoss, *arguments: Any) -> torch.Tensor:
        calls[0] += 1
        return forward(self, *arguments) * 1000 ** calls[0]

    monkeypatch.setattr(SuperResolutionLoss, "forward", growing)
    with pytest.raises(
        UsageError, match=r"within 2 of 100 steps the loss grew fourfold .* such as lr = 1e-4"
    ):
        train(tiny(phase("x1", lr="find")), photo_folder, tmp_path / "run")


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


def test_no_room_for_checkpoints_is_found_before_training(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = preparation.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
    with pytest.raises(DestinationError, match="checkpoints need"):
        train(tiny(phase("x1")), photo_folder, tmp_path / "run")
    assert not (tmp_path / "run" / checkpoint.FILE).exists()
