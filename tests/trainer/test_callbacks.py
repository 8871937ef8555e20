"""What is told of a validation."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from srbatch.network import SuperResolutionNet
from trainer.callbacks import Validation
from trainer.losses import reduced


def validated(given: Tensor, target: Tensor, predictions: dict[int, Tensor]) -> Validation:
    """One batch, whose pixels are bytes but for the predictions."""
    validation = Validation()
    validation.learn = SimpleNamespace(
        xb=(given,),
        yb=(target,),
        pred=predictions,
        loss=torch.zeros(()),
        dls=SimpleNamespace(valid=SimpleNamespace(dataset=SimpleNamespace(suffered=lambda _: ()))),
    )
    validation.before_validate()
    validation.after_batch()
    validation.after_validate()
    return validation


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Two crops at half their size and with noise, and as they were."""
    torch.manual_seed(1)
    target = torch.rand(2, 3, 64, 64)
    small = reduced(target, 2) + 0.05 * torch.randn(2, 3, 32, 32)
    return tuple((x.clamp(0, 1) * 255).round().to(torch.uint8) for x in (small, target))  # type: ignore[return-value]


def test_heads_that_do_worse_than_no_network_are_told(pair: tuple[Tensor, Tensor]) -> None:
    given, target = pair
    base = {scale: SuperResolutionNet.enlarge(given / 255, scale) for scale in (1, 2)}
    assert validated(given, target, base).told((1, 2)) == []
    worse = validated(given, target, {scale: picture + 0.1 for scale, picture in base.items()})
    one, two = worse.told((1, 2))
    error = ((base[1] + 0.1).clamp(0, 1) - reduced(target / 255, 2)).square().mean()
    untouched = (given / 255 - reduced(target / 255, 2)).square().mean()
    assert one.startswith(
        f"x1: over the validation crops the mean squared error is {error / untouched:.3g} times that of the"
        " untouched input."
    )
    assert two.startswith("x2: ")
    assert "that of plain bicubic enlargement." in two
    assert worse.told((2,)) == [two]
    better = {scale: reduced(target / 255, 2 // scale) for scale in (1, 2)}
    assert validated(given, target, better).told((1, 2)) == []


def test_where_nothing_is_to_be_done_there_is_no_worse(pair: tuple[Tensor, Tensor]) -> None:
    _, target = pair
    assert validated(target, target, {1: 1 - target / 255}).told((1,)) == []
