"""Small trainings for tests, to their end or to where they are stopped."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from srbatch import weights
from tests.trainer.conftest import phase
from trainer import data, run
from trainer.config import Config

Tiny = Callable[..., Config]
Tensors = dict[str, torch.Tensor]

ALONE = """
import sys
from pathlib import Path
from srbatch import network
from tests.networks import ThinEncoder
from trainer import run
from trainer.config import Config
network.ResNetEncoder = ThinEncoder
config = Config.model_validate_json(sys.argv[1])
run.train(config, (Path(sys.argv[2]),), Path(sys.argv[3]), say=lambda _: None)
"""
"""A program that trains by itself."""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(run.__file__).parents[1])}
"""Of such a program, which has as many threads as this process: sums depend on their number."""
TWO = (phase("one", epochs=2, samples_per_epoch=6), phase("two", scale=2, size=64, train="all"))


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


def reference(known: dict[str, Any], config: Config, photos: Path) -> dict[str, torch.Tensor]:
    if "weights" not in known:
        known["weights"] = train(config, photos, known["folder"] / "run")
        known["loss"] = log(known["folder"] / "run", "loss")
    found: dict[str, torch.Tensor] = known["weights"]
    return found
