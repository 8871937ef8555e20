"""The phases one after the other: the network grows, the rate is found, one cycle is run."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import torch
from fastai.callback.schedule import valley
from fastai.learner import Learner

from srbatch.errors import UsageError
from srbatch.network import SuperResolutionNet
from trainer.config import Config

FINDER_STEPS = 100
_LOOKED_AT = slice(FINDER_STEPS // 10, -5)
"""fastai's: the first losses are those of too few crops, the last those of a network that diverges."""
_HIGHEST_FINDER_RATE = 1.0
"""The decoder diverges long before; fastai's 10 would spend a quarter of the steps on that."""


def with_stages(network: SuperResolutionNet, stages: int, seed: int) -> SuperResolutionNet:
    """The network with that many stages; itself where it has as many.

    New stages start as nearest-neighbour enlargement (ICNR) and new heads near 0, from the seed alone.
    """
    if network.config.stages >= stages:
        return network
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        return _of_size(network, stages)


def up_to_scale(network: SuperResolutionNet, scale: int) -> SuperResolutionNet:
    """The network without the stages and heads beyond that scale; itself where it has none."""
    stages = network.level(scale)
    return network if network.config.stages == stages else _of_size(network, stages)


def _of_size(network: SuperResolutionNet, stages: int) -> SuperResolutionNet:
    """A network with that many stages and what the two have in common, on the same device."""
    other = SuperResolutionNet(dataclasses.replace(network.config, stages=stages))
    other.load_state_dict(network.state_dict(), strict=False)
    device = next(network.parameters()).device
    return other.to(device).to(memory_format=torch.channels_last)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the LR finder saw."""

    suggested: float
    rates: list[float]
    losses: list[float]


def find_rate(learner: Learner) -> Finding:
    """Run fastai's LR finder (Smith 2015, arXiv:1506.01186) and take its valley; the weights stay the same.

    All groups have one rate meanwhile, as fastai's finder knows no other.

    Raises:
        SrbatchError: what the search was ended with.
        UsageError: there is no valley, as the loss grew fourfold, or was no number, within a few steps.
    """
    learner.lr_find(end_lr=_HIGHEST_FINDER_RATE, num_it=FINDER_STEPS, show_plot=False, suggest_funcs=None)
    learner.ending.raise_if_any()
    rates, losses = (list(map(float, seen)) for seen in (learner.recorder.lrs, learner.recorder.losses))
    looked_at = list(zip(rates, losses, strict=True))[_LOOKED_AT]
    pairs = torch.tensor(list(takewhile(lambda pair: not math.isnan(pair[1]), looked_at)))  # (steps, 2)
    if not len(pairs):
        raise UsageError(
            f"no learning rate can be found: within {len(losses)} of {FINDER_STEPS} steps the loss grew"
            " fourfold or was no number; give the phase one, such as lr = 1e-4"
        )
    suggested, _ = valley(pairs[:, 0], pairs[:, 1], FINDER_STEPS)
    return Finding(suggested, rates, losses)


def plot_finding(finding: Finding, phase: str, path: Path) -> None:
    """Draw the loss over the rate, with what was taken, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(finding.rates[:-5], finding.losses[:-5])
    axes.axvline(finding.suggested, color="tab:orange", label=f"valley: {finding.suggested:.2e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss, smoothed", title=f"LR finder, {phase}")
    axes.legend()
    figure.savefig(path, dpi=120)


def highest_rate(config: Config, index: int, known: dict[str, float], found: float) -> float:
    """The rate that was found for a phase, but at most `lr_decay` times that of the last one of its kind.

    Phases are of one kind if they train the same parts.
    """
    phase = config.phases[index]
    before = [known[p.name] for p in config.phases[:index] if p.train == phase.train and p.name in known]
    return min(found, config.optimiser.lr_decay * before[-1]) if before else found


_TRAINED = {
    "stage": "newest stage",
    "decoder": "all but encoder",
    "coarse": "below full resolution",
    "all": "all",
}


def as_lines(config: Config) -> list[str]:
    """The schedule for people: a header and a line for each phase."""
    rows = [("phase", "input", "target", "trained", "heads", "loss", "epochs", "batch", "samples", "rate")]
    for phase in config.phases:
        accumulated = f" x {phase.accumulate}" if phase.accumulate > 1 else ""
        rows.append(
            (
                phase.name,
                f"{phase.size // phase.scale} px",
                f"{phase.size} px",
                _TRAINED[phase.train],
                ", ".join(f"x{scale}: {weight:g}" for scale, weight in phase.head_weights.items()),
                phase.loss,
                f"{phase.epochs}",
                f"{phase.batch}{accumulated}",
                f"{phase.epochs * phase.samples_per_epoch:,}",
                phase.lr if isinstance(phase.lr, str) else f"{phase.lr:g}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return ["  ".join(cells).rstrip() for cells in padded]
