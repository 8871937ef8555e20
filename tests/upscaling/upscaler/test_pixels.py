"""Tiles, blending, precision: the pixels that come out are those of an untiled fp32 run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srbatch import weights
from srbatch.upscaling.arrays import Pixels
from srbatch.upscaling.upscaler import Wanted
from tests.networks import Faulty, Local, Nothing
from tests.upscaling.upscaler.conftest import enlarge, noise, upscaler


@settings(max_examples=40)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_a_network_that_adds_nothing_returns_the_photo(
    height: int, width: int, channels: int, dtype: type
) -> None:
    pixels = noise(height, width, channels, dtype)
    result = enlarge(upscaler(Nothing()), pixels, (height, width))
    assert result.dtype == dtype
    assert np.array_equal(result, pixels)


def test_all_16_bit_levels_come_back() -> None:
    levels = np.arange(65_536, dtype=np.uint16).reshape(256, 256, 1)
    assert np.array_equal(enlarge(upscaler(Nothing()), levels, (256, 256)), levels)


@pytest.mark.parametrize(("scale", "tolerance"), [(1, 0), (2, 1), (4, 1)])
def test_tiled_is_untiled(scale: int, tolerance: int) -> None:
    pixels = noise(250, 330, 3)
    size = (250 * scale, 330 * scale)
    tiled = enlarge(upscaler(Local(), tile=96), pixels, size)
    whole = enlarge(upscaler(Local(), tile=352), pixels, size)
    assert np.abs(tiled.astype(int) - whole.astype(int)).max() <= tolerance


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_the_size_of_batches_changes_nothing(batch: int) -> None:
    pixels = noise(200, 400, 3)
    one = enlarge(upscaler(Local(), batch=1), pixels, (400, 800))
    assert np.array_equal(enlarge(upscaler(Local(), batch=batch), pixels, (400, 800)), one)


@settings(max_examples=25)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    channels=st.integers(1, 4),
    factor=st.floats(1, 8),
    other=st.floats(0.98, 1),
)
def test_any_size_up_to_8_times_comes_out_as_asked(
    height: int, width: int, channels: int, factor: float, other: float
) -> None:
    size = (max(round(height * factor), 1), max(round(width * factor * other), 1))
    pixels = noise(height, width, channels)
    result = enlarge(upscaler(Nothing()), pixels, size)
    assert result.shape == (*size, channels)
    assert result.dtype == np.uint8


@pytest.mark.parametrize("factor", [1.5, 3, 3.7, 5, 8])
def test_a_flat_photo_stays_flat(factor: float) -> None:
    pixels = np.full((50, 70, 4), 137, np.uint8)
    result = enlarge(upscaler(Nothing()), pixels, (round(50 * factor), round(70 * factor)))
    assert (result == 137).all()


@pytest.mark.parametrize("factor", [1.5, 2, 3, 4, 6, 8])
def test_low_frequencies_stay_those_of_the_photo(factor: float) -> None:
    y, x = np.mgrid[0:64, 0:96]
    pixels = np.stack([y * 3, x * 2, 255 - y - x], axis=2).astype(np.uint8)
    size = (round(64 * factor), round(96 * factor))
    result = enlarge(upscaler(Nothing()), pixels, size)
    back = np.asarray(Image.fromarray(result).resize((96, 64), Image.Resampling.BOX))
    assert np.abs(back.astype(int) - pixels.astype(int))[4:-4, 4:-4].max() <= 2


def test_grey_is_the_mean_of_three_equal_channels() -> None:
    grey = noise(80, 90, 1) // 4 + 96  # clear of the ends: a mean of clipped channels is another number
    colour = np.repeat(grey, 3, axis=2)
    colour[0, 0, 0] ^= 1  # else it would be taken for grey itself
    expected = enlarge(upscaler(Local()), colour, (160, 180)).mean(axis=2)
    result = enlarge(upscaler(Local()), grey, (160, 180))[:, :, 0]
    assert np.abs(result - expected)[6:, 6:].max() <= 1  # beyond the reach of that pixel


@pytest.mark.parametrize("first", [None, Local()])
@pytest.mark.parametrize("factor", [1, 2, 6])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_photo_in_rgb_without_colours_gets_none(alpha: bool, factor: int, first: Local | None) -> None:
    grey = noise(300, 50, 1 + alpha)
    colour = grey[:, :, [0, 0, 0, 1][: 3 + alpha]]
    engine = upscaler(Local(), first=first and upscaler(first))
    size = (300 * factor, 50 * factor)
    assert all(band.flags.c_contiguous for band in engine.enlarge(colour, size)), (
        "it goes into a file as it is"
    )
    result = enlarge(engine, colour, size)
    assert np.array_equal(result[:, :, ::3] if alpha else result[:, :, :1], enlarge(engine, grey, size))
    assert np.array_equal(result[:, :, 0], result[:, :, 1])
    assert np.array_equal(result[:, :, 0], result[:, :, 2])
    colour[299, 49, 1] ^= 1  # a single one, in the last row
    result = enlarge(engine, colour, size)
    assert not np.array_equal(result[:, :, 0], result[:, :, 2])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_photos_with_and_without_colours_share_no_batch_and_grey_ones_do(dtype: type) -> None:
    engine = upscaler(Local(), batch=4)
    grey = [noise(50 + i, 64, 1, dtype, seed=i) for i in range(3)]
    photos = [grey[0], np.repeat(grey[1], 3, axis=2), np.repeat(grey[2], 3, axis=2)]
    sizes = [(2 * len(pixels), 128) for pixels in photos]
    keys = {engine.batch_key(*one) for one in zip(photos, sizes, strict=True)}
    assert len(keys) == 1
    assert engine.batch_key(noise(50, 64, 3, dtype), (100, 128)) not in keys
    together = engine.enlarge_together([Wanted(p, size) for p, size in zip(photos, sizes, strict=True)])
    for pixels, size, bands in zip(photos, sizes, together, strict=True):
        found, alone = np.concatenate(list(bands)), engine.enlarge_whole(pixels, size)
        assert found.shape == alone.shape == (*size, pixels.shape[2])
        assert np.abs(found.astype(int) - alone.astype(int)).max() <= 1


def test_alpha_takes_its_own_path() -> None:
    pixels = noise(60, 70, 4)
    pixels[:, :, 3] = 255
    pixels[20:40, 20:40, 3] = 0
    result = enlarge(upscaler(Local()), pixels, (240, 280))
    plane = Image.fromarray(pixels[:, :, 3].astype(np.float32), "F")
    expected = np.asarray(plane.resize((280, 240), Image.Resampling.BICUBIC)).clip(0, 255)
    assert np.abs(result[:, :, 3] - expected).max() <= 0.51
    assert np.array_equal(result[:, :, :3], enlarge(upscaler(Local()), pixels[:, :, :3], (240, 280)))


def test_strength_blends_with_the_bicubic_base() -> None:
    pixels = noise(64, 64, 3) // 2 + 64
    base, full, half = (
        enlarge(upscaler(Local(), strength=s), pixels, (128, 128)).astype(int) for s in (0.0, 1.0, 0.5)
    )
    assert np.abs(half - (base + full) / 2).max() <= 1
    assert np.array_equal(base, enlarge(upscaler(Nothing()), pixels, (128, 128)))
    assert np.abs(full - base).mean() > 2


def test_progress_adds_up_to_the_photo() -> None:
    for factor in (2, 8):
        ticks: list[float] = []
        pixels = noise(150, 170, 3)
        engine = upscaler(Nothing(), tta=factor == 2)
        list(engine.enlarge(pixels, (150 * factor, 170 * factor), tick=ticks.append))
        assert sum(ticks) == pytest.approx(150 * 170)


def test_bands_keep_memory_flat() -> None:
    """However tall the photo, a band leaves as soon as its row of tiles is done."""
    counting = Faulty(Nothing(), -1, "")
    bands = upscaler(counting, tile=96, batch=1).enlarge(noise(2000, 40, 3), (4000, 80))
    before, rows = 0, 0
    for band in bands:
        assert counting.calls - before <= 2, "tiles that were run for it, one of them ahead"
        before, rows = counting.calls, rows + len(band)
    assert (rows, counting.calls > 20) == (4000, True)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_real_network_tiled_is_untiled(scale: int, photo: Pixels, released: weights.Weights) -> None:
    card = released.card
    size = (photo.shape[0] * scale, photo.shape[1] * scale)

    def done(tile: int) -> np.ndarray:
        engine = upscaler(released.network, halo=card.halo_px, ramp=card.ramp_px, tile=tile)
        return enlarge(engine, photo, size).astype(int)

    smallest = (2 * card.halo_px + card.ramp_px + 31) // 32 * 32 + 64
    difference = np.abs(done(smallest) - done(256))
    histogram = np.bincount(difference.ravel())
    assert (difference <= 1).mean() >= 0.999, f"differences by level: {histogram}"


def test_real_network_in_bf16_is_close_to_fp32(photo: Pixels, released: weights.Weights) -> None:
    halo, ramp = released.card.halo_px, released.card.ramp_px
    results = [
        enlarge(
            upscaler(released.network, halo=halo, ramp=ramp, tile=256, precision=precision), photo, (384, 512)
        ).astype(int)
        for precision in ("fp32", "bf16")
    ]
    difference = np.abs(results[0] - results[1])
    assert (difference <= 1).mean() >= 0.999, f"differences by level: {np.bincount(difference.ravel())}"


def test_photos_of_8_and_of_16_bits_share_no_batch() -> None:
    """Stacked, the one of 8 bits would be taken for one of 16, and come out black."""
    engine = upscaler(Local(), batch=4)
    keys = {engine.batch_key(noise(50, 64, 3, dtype), (100, 128)) for dtype in (np.uint8, np.uint16)}
    assert None not in keys
    assert len(keys) == 2
