"""Rounding, depth, tiles and bands on a CUDA device."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from srbatch import weights
from srbatch.upscaling.upscaler import Wanted
from tests.cuda.conftest import (
    DEVICE,
    NEEDS_CUDA,
    Lagging,
    Still,
    Wide,
    assert_close,
    bands_of,
    enlarge,
    noise,
    photograph,
    small_network,
    upscaler,
    with_released,
)
from tests.networks import Local

pytestmark = NEEDS_CUDA


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_released_weights_give_what_they_give_on_the_cpu(released: weights.Weights, scale: int) -> None:
    """fp32 is fp32 there too, added up in another order."""
    expected = with_released(released, scale, "cpu", "fp32")
    assert_close(with_released(released, scale, DEVICE, "fp32"), expected)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_released_weights_in_half_precision_are_close_to_fp32(
    released: weights.Weights, scale: int, precision: str
) -> None:
    expected = with_released(released, scale, DEVICE, "fp32")
    got = with_released(released, scale, DEVICE, precision)
    assert_close(got, expected, largest=4)
    assert abs((got.astype(float) - expected).mean()) < 0.02, "it is brighter or darker as a whole"


# ---- depth and channels ----------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [1, 8])
def test_all_16_bit_levels_come_back_from_half_precision(channels: int, batch: int) -> None:
    rng = np.random.default_rng(0)
    levels = np.arange(65_536, dtype=np.uint16)
    pixels = np.stack([rng.permutation(levels).reshape(256, 256) for _ in range(channels)], axis=2)
    assert np.array_equal(
        enlarge(upscaler(Still(), precision="bf16", batch=batch), pixels, (256, 256)), pixels
    )


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_and_alpha_are_enlarged_as_on_the_cpu(channels: int, dtype: Any) -> None:
    pixels = noise(150, 170, channels, dtype)
    expected = enlarge(upscaler(Local(), device="cpu"), pixels, (600, 680))
    assert_close(enlarge(upscaler(Local(), batch=2), pixels, (600, 680)), expected)


# ---- tiles and bands -------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_tiled_is_untiled_and_what_the_cpu_gives(scale: int) -> None:
    pixels, size = noise(250, 330, 3), (250 * scale, 330 * scale)
    whole = enlarge(upscaler(Local(), tile=352, batch=1), pixels, size)
    assert_close(whole, enlarge(upscaler(Local(), tile=352, device="cpu"), pixels, size))
    for tile in (96, 128, 224):
        for batch in (1, 2, 8):
            assert_close(enlarge(upscaler(Local(), tile=tile, batch=batch), pixels, size), whole)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_same_photo_gives_the_same_bytes_again(precision: str) -> None:
    engine = upscaler(small_network(), precision=precision, tile=160, batch=8)
    pixels = np.ascontiguousarray(photograph()[:300, :420])
    first = enlarge(engine, pixels, (600, 840))
    assert np.array_equal(enlarge(engine, pixels, (600, 840)), first)
    another = upscaler(small_network(), precision=precision, tile=160, batch=8)
    assert np.array_equal(enlarge(another, pixels, (600, 840)), first)


@pytest.mark.parametrize("batch", [1, 8])
def test_bands_are_whole_whenever_they_are_taken(wide: Wide, batch: int) -> None:
    """Neither before they have arrived, nor after their memory went to another band or photo."""
    engine = upscaler(Lagging(Local()), batch=batch)
    at_once = np.concatenate([band.copy() for band in bands_of(engine, wide.pixels, wide.size)])
    assert_close(at_once, wide.expected)
    late = []
    for band in bands_of(engine, wide.pixels, wide.size):
        time.sleep(0.02)
        late.append(band.copy())
    assert np.array_equal(np.concatenate(late), at_once)
    kept = list(bands_of(engine, wide.pixels, wide.size))
    enlarge(engine, wide.pixels[::-1], wide.size)
    assert len(kept) > 4
    assert np.array_equal(np.concatenate(kept), at_once)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_photo_that_is_left_early_does_not_show_in_the_next(wide: Wide, taken: int) -> None:
    engine = upscaler(Lagging(Local()), batch=8)
    pixels = noise(200, 260, 3, np.uint16, seed=1)
    expected = enlarge(engine, pixels, (800, 1040))
    bands = bands_of(engine, wide.pixels, wide.size)
    for _ in range(taken):
        next(bands)
    bands.close()  # type: ignore[attr-defined]
    assert np.array_equal(enlarge(engine, pixels, (800, 1040)), expected)
    unended = bands_of(engine, wide.pixels, wide.size)
    for _ in range(taken):
        next(unended)
    assert np.array_equal(enlarge(engine, pixels, (800, 1040)), expected)
    del unended


def test_photos_that_share_a_batch_come_out_as_each_alone() -> None:
    engine = upscaler(Lagging(Local()), batch=4)
    pictures = [noise(*size, 3, seed=seed) for seed, size in enumerate([(90, 90), (70, 96), (96, 66)])]
    asked = [Wanted(p, (p.shape[0] * 4, p.shape[1] * 4)) for p in pictures]
    assert len({engine.batch_key(photo.pixels, photo.size) for photo in asked}) == 1
    kept = [list(bands) for bands in engine.enlarge_together(asked)]
    whole = [np.concatenate(bands) for bands in kept]
    for got, photo in zip(whole, asked, strict=True):
        assert_close(got, enlarge(engine, photo.pixels, photo.size))
    left, *others = engine.enlarge_together(asked)
    next(left)
    left.close()  # type: ignore[attr-defined]
    for bands, expected in zip(others, whole[1:], strict=True):
        assert np.array_equal(np.concatenate(list(bands)), expected)


def test_photos_of_other_sizes_and_factors_follow_each_other() -> None:
    """x3 is the head x4 reduced, x1.5 the head x2; x8 takes two passes."""
    engine, slow = upscaler(Local(), batch=4), upscaler(Local(), device="cpu")
    photos = [
        (noise(210, 150, 3), (630, 450)),
        (noise(60, 90, 4, np.uint16, seed=1), (480, 720)),
        (noise(33, 300, 1, seed=2), (50, 450)),
        (noise(96, 96, 2, seed=3), (96, 96)),
        (noise(210, 150, 3, seed=4), (420, 300)),
    ]
    for pixels, size in photos:
        assert_close(enlarge(engine, pixels, size), enlarge(slow, pixels, size))
