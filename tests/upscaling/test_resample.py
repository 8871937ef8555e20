"""Streaming resampling against Pillow's, whole against in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from srbatch.upscaling import resample

CPU = torch.device("cpu")
PILLOW = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}
KERNEL = {"lanczos": resample.LANCZOS, "bicubic": resample.BICUBIC}


def resized(
    plane: np.ndarray, target: tuple[int, int], kernel: resample.Kernel, bands: list[int]
) -> np.ndarray:
    """The plane (H, W) resized in bands whose heights repeat ``bands``."""
    resampler = resample.BandResampler(plane.shape, target, kernel, CPU)
    pieces, row, turn = [], 0, 0
    while row < plane.shape[0]:
        height = bands[turn % len(bands)]
        pieces.append(resampler.push(torch.from_numpy(plane[None, row : row + height])))
        row, turn = row + height, turn + 1
    return torch.cat(pieces, dim=1)[0].numpy()


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    target=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    bands=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    kernel=st.sampled_from(["lanczos", "bicubic"]),
    seed=st.integers(0, 1000),
)
def test_equals_pillow_whatever_the_bands(
    size: tuple[int, int], target: tuple[int, int], bands: list[int], kernel: str, seed: int
) -> None:
    plane = np.random.default_rng(seed).random(size, dtype=np.float32)
    expected = np.asarray(Image.fromarray(plane, "F").resize(target[::-1], PILLOW[kernel]))
    result = resized(plane, target, KERNEL[kernel], bands)
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() < 2e-5


@given(st.integers(1, 500), st.integers(1, 500), st.sampled_from(["lanczos", "bicubic"]))
def test_taps_lie_inside_and_sum_to_one(length: int, target: int, kernel: str) -> None:
    first, weights = resample.taps(length, target, KERNEL[kernel])
    assert first.min() >= 0
    assert (first + weights.shape[1]).max() <= length
    assert np.abs(weights.sum(axis=1) - 1).max() < 1e-9
    assert (np.diff(first) >= 0).all()


@pytest.mark.parametrize("kernel", ["lanczos", "bicubic"])
def test_same_size_is_the_same_picture(kernel: str) -> None:
    plane = np.random.default_rng(1).random((17, 23), dtype=np.float32)
    assert np.abs(resized(plane, (17, 23), KERNEL[kernel], [5]) - plane).max() < 1e-6


class Copies(TorchDispatchMode):
    """Counts tensors that are copied, from one device to another too."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += operator is torch.ops.aten._to_copy.default
        return operator(*args, **(kwargs or {}))


def test_no_band_sends_the_device_anything() -> None:
    """On CUDA such a copy waits for all that is queued there; "meta" stands for a device."""
    device = torch.device("meta")
    resampler = resample.BandResampler((40, 30), (23, 50), resample.LANCZOS, device)
    with Copies() as copies:
        heights = [resampler.push(torch.empty(3, 8, 30, device=device)).shape[1] for _ in range(5)]
    assert sum(heights) == 23
    assert copies.count == 0
