"""What a training releases: which heads, which weights of them, and what their card says."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from srbatch import weights
from srbatch.errors import Interrupted
from tests.trainer.conftest import phase
from tests.trainer.trainings import Tiny, stop_at, train
from trainer import callbacks, checkpoint, run
from trainer.exporting.release import served_scales

pytestmark = pytest.mark.usefixtures("thin_encoder", "learners_freed")


GENERATIVE = {"holes": {"probability": 1.0}}


def test_the_average_is_what_is_released(tiny: Tiny, photo_folder: Path, tmp_path: Path) -> None:
    config = tiny(phase("x1", samples_per_epoch=8), optimiser={"ema": 0.9})
    released = train(config, photo_folder, tmp_path / "run")
    state = torch.load(tmp_path / "run" / checkpoint.FILE, weights_only=True)
    name = "heads.0.weight"
    assert torch.equal(released[name], state["average"]["module." + name])
    assert not torch.equal(released[name], state["network"][name])


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
        ((phase("x1", train="coarse"),), "fixed", (1,)),
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


def test_the_average_is_validated_and_the_training_goes_on_without_it(
    tiny: Tiny, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, validated = list[tuple[torch.Tensor, torch.Tensor]](), list[torch.Tensor]()
    step, validate = torch.optim.AdamW.step, callbacks.Validation.after_batch

    def noted_step(self: torch.optim.AdamW, *arguments: Any) -> None:
        weight = self.param_groups[-1]["params"][0]
        before = weight.detach().clone()
        step(self, *arguments)
        steps.append((before, weight.detach().clone()))

    def noted_validation(self: callbacks.Validation) -> None:
        validated.append(callbacks.network_of(self.learn).state_dict()["heads.0.weight"].clone())
        validate(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted_step)
    monkeypatch.setattr(callbacks.Validation, "after_batch", noted_validation)
    train(tiny(phase("x1", epochs=2), optimiser={"ema": 0.9}), photo_folder, tmp_path / "run")
    state = torch.load(tmp_path / "run" / checkpoint.FILE, weights_only=True)
    assert torch.equal(validated[-1], state["average"]["module.heads.0.weight"])
    assert torch.equal(steps[-1][1], state["network"]["heads.0.weight"])
    assert not torch.equal(validated[-1], steps[-1][1])
    assert len(steps) == 4
    for (_, after), (before, _) in pairwise(steps):
        assert torch.equal(after, before), "between two steps of the optimiser nothing moves the weights"


def test_the_average_follows_the_weights_and_the_sooner_the_younger_it_is() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(0)
        average = callbacks.new_average(network, 0.999)
        found, expected = [], []
        for n, value in enumerate((1.0, 1.0, 5.0)):
            network.weight.fill_(value)
            average.update_parameters(network)
            found.append(average.module.weight.item())
            # The first update takes the weights as they are, as torch's averages do.
            decay = (1 + n) / (10 + n)
            expected.append(value if n == 0 else decay * expected[-1] + (1 - decay) * value)
    assert found == pytest.approx(expected)
