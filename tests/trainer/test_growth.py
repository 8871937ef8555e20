"""A network with one stage more: what it says of itself, what it follows from, and how far it goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from srbatch import weights
from srbatch.card import MAX_STAGES, Card
from srbatch.errors import UsageError
from srbatch.network import SuperResolutionNet
from tests.networks import SMALL_CARD
from trainer.exporting.growth import grow

pytestmark = pytest.mark.usefixtures("thin_encoder")


def written(folder: Path, card: Card) -> str:
    torch.manual_seed(1)
    path = folder / "small.safetensors"
    weights.save(path, SuperResolutionNet(card.config).eval(), card, "fp32")
    return str(path)


def test_it_tells_where_it_comes_from_and_follows_from_its_seed(tmp_path: Path) -> None:
    model = written(tmp_path, SMALL_CARD)
    made = [grow(model, tmp_path / f"{seed}.safetensors", seed).weights for seed in (1, 2)]
    card = made[0].card
    assert card.config == replace(SMALL_CARD.config, stages=2)
    assert (card.scales, card.degradations) == (SMALL_CARD.scales, SMALL_CARD.degradations)
    assert card.training == {"samples": 3, "grown_to_stages": 2}
    first, other = (loaded.network.state_dict() for loaded in made)
    others = {name for name in first if not torch.equal(first[name], other[name])}
    assert {".".join(name.split(".")[:2]) for name in others} == {"heads.2", "stages.1"}


def test_it_grows_as_far_as_a_network_can_and_no_further(tmp_path: Path) -> None:
    model = written(tmp_path, replace(SMALL_CARD, config=replace(SMALL_CARD.config, stages=MAX_STAGES - 1)))
    grow(model, tmp_path / "large.safetensors", seed=1)
    with pytest.raises(UsageError, match=f"has {MAX_STAGES} stages already"):
        grow(str(tmp_path / "large.safetensors"), tmp_path / "larger.safetensors", seed=1)
    assert not (tmp_path / "larger.safetensors").exists()


def test_a_network_that_replaces_pixels_cannot_grow(tmp_path: Path) -> None:
    config = replace(SMALL_CARD.config, stages=0, levels=4, replaces=True)
    model = written(tmp_path, replace(SMALL_CARD, config=config, scales=(1,)))
    with pytest.raises(UsageError, match="replaces pixels of photos at their own size"):
        grow(model, tmp_path / "large.safetensors", seed=1)
    assert not (tmp_path / "large.safetensors").exists()
