"""Photographs are reduced as the published protocols reduce them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from tests.trainer.crops import check, photo
from trainer.degradations import reduction
from trainer.degradations.reduction import Kernel


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)), factor=st.integers(1, 8), seed=st.integers(0, 99)
)
def test_reduced_has_its_size_and_stays_flat(size: tuple[int, int], factor: int, seed: int) -> None:
    kernel = Kernel(bicubic=1, bilinear=1, area=1, lanczos3=1)
    shape = (size[0] * factor, size[1] * factor, 3)
    pixels = np.random.default_rng(seed).random(shape, dtype=np.float32)
    before = pixels.copy()
    result = reduction.downsample(pixels, factor, np.random.default_rng(seed), kernel)
    check(result, (*size, 3))
    assert np.array_equal(pixels, before)
    assert not np.shares_memory(result, pixels)
    grey = reduction.downsample(np.full(shape, 0.4, np.float32), factor, np.random.default_rng(seed), kernel)
    assert np.abs(grey - 0.4).max() < 1e-6


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_bicubic_equals_torch_away_from_the_edges(factor: int) -> None:
    pixels = photo(24 * factor // 2 * 2, 30 * factor // 2 * 2)
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    size = (pixels.shape[0] // factor, pixels.shape[1] // factor)
    expected = torch.nn.functional.interpolate(whole, size, mode="bicubic", antialias=True)
    expected_pixels = expected[0].permute(1, 2, 0).clamp(0, 1).numpy()
    result = reduction.bicubic_downsample(pixels, factor)
    assert np.abs(result - expected_pixels)[2:-2, 2:-2].max() < 1e-5
    assert np.abs(result - expected_pixels).max() < 0.1  # torch cuts the kernel at edges, MATLAB mirrors


def test_bicubic_mirrors_at_the_edges() -> None:
    pixels = photo(48, 64)
    mirrored = np.pad(pixels, ((16, 16), (16, 16), (0, 0)), mode="symmetric")
    whole = reduction.bicubic_downsample(mirrored, 4)
    assert np.abs(whole[4:-4, 4:-4] - reduction.bicubic_downsample(pixels, 4)).max() < 1e-6


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear", "area", "lanczos3"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_reduction_commutes_with_mirroring_and_shifting(kernel: str, factor: int) -> None:
    chosen = Kernel.model_validate({"bicubic": 0, kernel: 1})
    pixels = photo(48, 60)

    def reduced(part: np.ndarray) -> np.ndarray:
        return reduction.downsample(part, factor, np.random.default_rng(0), chosen)

    assert np.abs(reduced(pixels[::-1, ::-1]) - reduced(pixels)[::-1, ::-1]).max() < 1e-6
    shifted = reduced(np.ascontiguousarray(pixels[factor:, factor:]))
    assert np.abs(shifted[4:, 4:] - reduced(pixels)[5:, 5:]).max() < 1e-6


def test_area_is_the_mean_of_blocks() -> None:
    pixels = photo(48, 60)
    chosen = Kernel(bicubic=0, area=1)
    means = pixels.reshape(16, 3, 20, 3, 3).mean(axis=(1, 3))
    assert np.abs(reduction.downsample(pixels, 3, np.random.default_rng(0), chosen) - means).max() < 1e-6


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize(
    ("kernel", "theirs"), [("bilinear", Image.Resampling.BILINEAR), ("lanczos3", Image.Resampling.LANCZOS)]
)
def test_other_kernels_are_pillows_away_from_the_edges(
    kernel: str, theirs: Image.Resampling, factor: int
) -> None:
    pixels = photo(24 * factor, 30 * factor)
    chosen = Kernel.model_validate({"bicubic": 0, kernel: 1})
    result = reduction.downsample(pixels, factor, np.random.default_rng(0), chosen)
    channels = [Image.fromarray(pixels[:, :, c]).resize((30, 24), theirs) for c in range(3)]
    expected = np.stack(channels, axis=2).clip(0, 1)
    assert np.abs(result - expected)[3:-3, 3:-3].max() < 1e-5


@pytest.mark.parametrize("side", [3, 7])
def test_a_blur_is_the_plain_sum_with_its_edges_mirrored(side: int) -> None:
    kernel = np.random.default_rng(side).random((side, side)) + 0.1
    kernel += kernel[::-1, ::-1]
    pixels = photo(20, 33)
    expected = np.stack(
        [ndimage.correlate(pixels[:, :, c], kernel / kernel.sum(), mode="reflect") for c in range(3)], axis=2
    )
    assert np.abs(reduction.convolved(pixels, kernel) - expected).max() < 1e-5


def test_kernels_are_drawn_by_weight() -> None:
    rng, pixels = np.random.default_rng(0), photo(8, 8)
    one = reduction.Kernel(bicubic=3, area=1)
    bicubic = reduction.bicubic_downsample(pixels, 2)
    drawn = sum(np.array_equal(reduction.downsample(pixels, 2, rng, one), bicubic) for _ in range(1000))
    assert 0.69 < drawn / 1000 < 0.81


@pytest.mark.parametrize("factor", [0, -1, 5])
def test_a_factor_that_does_not_divide_is_refused(factor: int) -> None:
    with pytest.raises(ValueError, match="128 x 96 px is not reduced by"):
        reduction.bicubic_downsample(photo(), factor)
