"""Networks, photos and calls for what only a CUDA device can show.

The CPU is the measure. Networks are copied for each upscaler, because one on the CPU and one on CUDA cannot
share a module.
"""

from __future__ import annotations

import copy
import functools
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from srbatch import weights
from srbatch.card import NetworkConfig
from srbatch.errors import OutOfMemory
from srbatch.network import SuperResolutionNet
from srbatch.upscaling.arrays import Pixels
from srbatch.upscaling.devices import Devices
from srbatch.upscaling.tile_memory import Tiles
from srbatch.upscaling.upscaler import Upscaler, in_memory
from tests.networks import Local

DEVICE = "cuda"
ROOT = Path(__file__).parents[2]
NEEDS_CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    # What torch warns of depends on the card and its driver; here it is listed and fails nothing.
    pytest.mark.filterwarnings("default"),
]


# ---- networks --------------------------------------------------------------------------------------


class Still(nn.Module):
    """Adds nothing, by a convolution that computes in half precision where that is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(3, 3, 3, 3), requires_grad=False)

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        return F.interpolate(F.conv2d(x, self.kernel, padding=1), scale_factor=scale, mode="nearest")


class Lagging(nn.Module):
    """``inner`` on a device that is milliseconds behind, so that who reads a result too early has another."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        if x.is_cuda:
            torch.cuda._sleep(6_000_000)  # clock ticks, about 3 ms; torch's own tests delay a stream so
        result: torch.Tensor = self.inner(x, scale)
        return result


class Brightness(nn.Module):
    """Adds ``step`` where a tile is bright on average, and nothing elsewhere."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        added = torch.where(_is_bright(x), self.step, 0.0)  # (B, 1, 1, 1)
        return added.expand(-1, 3, x.shape[2] * scale, x.shape[3] * scale).contiguous()


class Swelling(nn.Module):
    """Overflows fp16 where a tile is bright. Beyond that it adds 1/8 if it was run in fp32, and nothing else.

    So it does what ``Brightness(1 / 8)`` does if its bright tiles, and no others, are done again in fp32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.eye(3).view(3, 3, 1, 1).clone(), requires_grad=False)

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        seen = F.conv2d(x, self.kernel)  # autocast decides on its type
        swollen = torch.where(_is_bright(x), seen * 1e6, seen)
        mark = 0.125 if seen.dtype == torch.float32 else 0.0
        residual = swollen * 0 + mark  # infinity times 0 is no number
        return F.interpolate(residual, scale_factor=scale, mode="nearest")


def _is_bright(x: torch.Tensor) -> torch.Tensor:
    return x.mean(dim=(1, 2, 3), keepdim=True) > 0.6


class Greedy(nn.Module):
    """``inner`` with a need of memory that grows with the tiles: 16 KiB for each of their pixels."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        torch.empty(x.shape[0], x.shape[2], x.shape[3], 16_384, dtype=torch.uint8, device=x.device)
        result: torch.Tensor = self.inner(x, scale)
        return result


@functools.cache
def small_network() -> SuperResolutionNet:
    """The real architecture with random weights, whose residuals are a few levels."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        config = NetworkConfig("resnet18", features=4, refine_blocks=0, stages=2, blur=True)
        network = SuperResolutionNet(config).eval().requires_grad_(False)
        for head in network.heads:
            nn.init.normal_(head.weight)
        seen = torch.from_numpy(photograph()[:128, :128] / np.float32(255)).permute(2, 0, 1)[None]
        for head, residual in zip(network.heads, network.residuals(seen), strict=True):
            head.weight.mul_(0.02 / residual.std())
    return network


# ---- photos and calls ------------------------------------------------------------------------------


@functools.cache
def photograph() -> Pixels:
    """512 x 512 x 3: scikit-image's, or where that is not installed something with edges, skies and grain."""
    try:
        from skimage.data import astronaut

        return np.ascontiguousarray(astronaut())
    except Exception:  # not there, or it does not go with this numpy
        y, x = np.mgrid[0:512, 0:512]
        waves = np.sin(x * y / 900) * 60 + np.where((x // 40 + y // 56) % 2, 40, -40)
        planes = np.stack([waves + 128, x / 2, 255 - y / 2], axis=2)
        return (planes + np.random.default_rng(0).normal(0, 4, planes.shape)).clip(0, 255).astype(np.uint8)


def noise(height: int, width: int, channels: int, dtype: Any = np.uint8, seed: int = 0) -> Pixels:
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top + 1, (height, width, channels), dtype=dtype)


def upscaler(network: nn.Module, **changes: Any) -> Upscaler:
    settings = {"scales": (1, 2, 4), "halo": 8, "ramp": 16, "device": DEVICE, "precision": "fp32", "tile": 96}
    return Upscaler(copy.deepcopy(network), **{**settings, **changes})


def bands_of(engine: Upscaler, pixels: Pixels, size: tuple[int, int]) -> Iterator[Pixels]:
    return engine.enlarge(pixels, size)


def enlarge(engine: Upscaler, pixels: Pixels, size: tuple[int, int]) -> Pixels:
    return np.concatenate(list(bands_of(engine, pixels, size)))


def assert_close(got: Pixels, expected: Pixels, *, share: float = 0.999, largest: int = 2) -> None:
    """At least that share of samples within a level of 8 bits, and none off by more than ``largest``."""
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    level = np.iinfo(got.dtype).max / 255
    difference = np.ceil(np.abs(got.astype(int) - expected.astype(int)) / level).astype(int)
    histogram = np.bincount(difference.ravel())
    assert (difference <= 1).mean() >= share, f"differences by level: {histogram}"
    assert len(histogram) <= largest + 1, f"differences by level: {histogram}"


# ---- the released weights --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released() -> weights.Weights:
    if not (ROOT / "weights" / "photo.safetensors").is_file():
        pytest.skip("the released weights are not here")
    return weights.load(weights.find("photo"))


def engine_of(loaded: weights.Weights, **changes: Any) -> Upscaler:
    card = loaded.card
    margins = {"scales": card.scales, "halo": card.halo_px, "ramp": card.ramp_px, "tile": 256}
    return upscaler(loaded.network, **{**margins, **changes})


def middle() -> Pixels:
    """192 x 256 of the photograph."""
    return np.ascontiguousarray(photograph()[20:212, 120:376])


def with_released(released: weights.Weights, scale: int, device: str, precision: str) -> Pixels:
    engine = engine_of(released, device=device, precision=precision)
    return enlarge(engine, middle(), (192 * scale, 256 * scale))


@dataclass(frozen=True)
class Wide:
    """A photo whose bands take a while to cross the bus, and what the CPU makes of it."""

    pixels: Pixels
    size: tuple[int, int]
    expected: Pixels


@pytest.fixture(scope="module")
def wide() -> Wide:
    pixels, size = noise(300, 1200, 3, np.uint16), (1200, 4800)
    return Wide(pixels, size, enlarge(upscaler(Local(), device="cpu"), pixels, size))


def times(pixels: Pixels, factor: int) -> tuple[int, int]:
    return pixels.shape[0] * factor, pixels.shape[1] * factor


def ask(made: Devices, pixels: Pixels, factor: int = 4) -> Any:
    return made.enlarge(pixels, times(pixels, factor), spool=in_memory, tick=lambda _: None, bits=None)


# ---- memory ----------------------------------------------------------------------------------------


@pytest.fixture
def leave_free() -> Iterator[Callable[[int], None]]:
    """Have torch take at most so many further bytes of the device."""

    def limit(free: int) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + free) / total)

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()
    torch.cuda.empty_cache()


def with_what_fits(engine: Upscaler, pixels: Pixels, factor: int) -> tuple[Pixels, int, Tiles]:
    """The photo, how often it had no room, and the tiles that it was done with in the end."""
    with Devices(lambda: [engine]) as made:
        for failed in range(40):
            with ask(made, pixels, factor) as asked:
                try:
                    done = np.concatenate(list(asked.bands(lambda: None)))
                except OutOfMemory:
                    continue
                return done, failed, asked.taken_by[1]
    raise AssertionError("it never fits")
