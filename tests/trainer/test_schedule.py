"""Growth from the seed alone, the rule of the rates, and what is told and drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from srbatch.card import NetworkConfig
from srbatch.network import SuperResolutionNet
from trainer import schedule
from trainer.config import Config
from trainer.reading import load, parse
from trainer.schedule import Finding

SMALL = NetworkConfig("resnet18", features=8, refine_blocks=1, stages=0)


@pytest.fixture(scope="module")
def small() -> SuperResolutionNet:
    torch.manual_seed(3)
    return SuperResolutionNet(SMALL)


@pytest.fixture(scope="module")
def grown(small: SuperResolutionNet) -> SuperResolutionNet:
    return schedule.with_stages(small, 2, seed=5)


def test_growth_keeps_every_parameter(small: SuperResolutionNet, grown: SuperResolutionNet) -> None:
    assert grown.config.stages == 2
    larger = grown.state_dict()
    assert all(torch.equal(larger[name], tensor) for name, tensor in small.state_dict().items())
    assert grown.body.out.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_new_stage_starts_as_nearest_neighbour(grown: SuperResolutionNet) -> None:
    x = torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(1))
    for stage in grown.stages:
        y = stage(x)
        assert y.abs().sum() > 0
        assert torch.equal(y, y[..., ::2, ::2].repeat_interleave(2, -2).repeat_interleave(2, -1))


def test_a_new_head_adds_almost_nothing(grown: SuperResolutionNet) -> None:
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert all(residual.abs().max() < 0.02 for residual in grown.eval().residuals(x))


def test_growth_follows_from_the_seed_alone(small: SuperResolutionNet, grown: SuperResolutionNet) -> None:
    torch.manual_seed(1234)
    before = torch.get_rng_state()
    again = schedule.with_stages(small, 2, seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(again[name], tensor) for name, tensor in grown.state_dict().items())
    other = schedule.with_stages(small, 2, seed=6).state_dict()
    assert not torch.equal(other["stages.0.shuffle.conv.weight"], again["stages.0.shuffle.conv.weight"])


def test_a_network_that_is_large_enough_is_itself(grown: SuperResolutionNet) -> None:
    assert schedule.with_stages(grown, 1, seed=5) is grown
    assert schedule.with_stages(grown, 2, seed=5) is grown


# ---- rates ------------------------------------------------------------------------------------------------


def phases(*rows: tuple[str, object]) -> Config:
    """One phase for each (train, lr), named p0, p1, ..."""
    common = {"size": 64, "scale": 2, "samples_per_epoch": 8, "batch": 4}
    return parse(
        {"phases": [{"name": f"p{i}", "train": t, "lr": lr, **common} for i, (t, lr) in enumerate(rows)]},
        "test",
    )


def test_the_first_rate_that_is_found_is_taken() -> None:
    assert schedule.highest_rate(phases(("all", "find")), 0, {}, 0.01) == 0.01


@pytest.mark.parametrize(("found", "expected"), [(1.0, 0.8e-3), (1e-4, 1e-4)])
def test_a_found_rate_stays_below_the_last_of_its_kind(found: float, expected: float) -> None:
    config = phases(("decoder", "find"), ("all", "find"), ("decoder", "find"))
    assert schedule.highest_rate(config, 2, {"p0": 1e-3, "p1": 1e-6}, found) == pytest.approx(expected)


def test_of_several_of_its_kind_the_last_one_before_it_counts() -> None:
    config = phases(*[("decoder", "find")] * 4)
    known = {"p0": 1e-2, "p1": 1e-4, "p2": 1e-3, "p3": 1e-6}
    assert schedule.highest_rate(config, 3, known, 1.0) == pytest.approx(0.8e-3)
    assert schedule.highest_rate(config, 2, known, 1.0) == pytest.approx(0.8e-4)
    assert schedule.highest_rate(config, 0, known, 1.0) == 1.0, "not that of a later one, nor its own"


def test_a_found_rate_is_not_bound_by_another_kind() -> None:
    assert schedule.highest_rate(phases(("decoder", "find"), ("all", "find")), 1, {"p0": 1e-6}, 0.5) == 0.5


# ---- what is told -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["article", "release", "restore", "retouch", "smoke"])
def test_the_table_has_a_line_for_every_phase(preset: str) -> None:
    config = load(preset)
    header, *lines = schedule.as_lines(config)
    assert header.split()[0] == "phase"
    assert len(lines) == len(config.phases)
    for phase, line in zip(config.phases, lines, strict=True):
        assert line.startswith(phase.name + " ")
        assert f"{phase.epochs * phase.samples_per_epoch:,}" in line
        assert f"{phase.size} px" in line


def test_a_finding_is_drawn(tmp_path: Path) -> None:
    rates = [10 ** (-6 + i / 20) for i in range(100)]
    path = tmp_path / "lr.png"
    schedule.plot_finding(Finding(1e-3, rates, [1 / (1 + r) for r in rates]), "x2", path)
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width > 400
