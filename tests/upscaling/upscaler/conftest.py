"""Upscalers of a few layers, and the released model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from srbatch import weights
from srbatch.upscaling.arrays import Pixels
from srbatch.upscaling.upscaler import Upscaler


def add(sums: list[float], index: int, amount: float) -> None:
    sums[index] += amount


class Negative(nn.Module):
    """Adds what makes a negative."""

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        assert scale == 1
        return 1 - 2 * x


def upscaler(network: nn.Module, **changes: object) -> Upscaler:
    settings = {"scales": (1, 2, 4), "halo": 8, "ramp": 16, "device": "cpu", "precision": "fp32", "tile": 96}
    return Upscaler(network, **{**settings, **changes})


def enlarge(engine: Upscaler, pixels: Pixels, size: tuple[int, int]) -> Pixels:
    bands = list(engine.enlarge(pixels, size))
    return np.concatenate(bands)


def noise(height: int, width: int, channels: int, dtype: type = np.uint8, seed: int = 0) -> Pixels:
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top + 1, (height, width, channels), dtype=dtype)


@pytest.fixture(scope="module")
def photo() -> Pixels:
    from sklearn.datasets import load_sample_image

    return np.ascontiguousarray(load_sample_image("china.jpg")[100:292, 200:456])


@pytest.fixture(scope="module")
def released() -> weights.Weights:
    return weights.load(weights.find("photo"))
