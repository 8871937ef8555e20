"""A network that is run first, at the photo's own size."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srbatch.errors import OutOfMemory
from srbatch.upscaling import upscaler as upscaler_module
from srbatch.upscaling.tile_memory import Tiles
from srbatch.upscaling.upscaler import Wanted
from tests.networks import Faulty, Local, Nothing
from tests.upscaling.upscaler.conftest import Negative, add, enlarge, noise, upscaler


@settings(max_examples=20)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    channels=st.integers(1, 4),
    factor=st.sampled_from([1, 1.5, 2, 4, 6]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_what_is_run_first_is_a_run_of_its_own_that_is_held_in_16_bits(
    height: int, width: int, channels: int, factor: float, dtype: type
) -> None:
    pixels, size = noise(height, width, channels, dtype), (round(height * factor), round(width * factor))
    first = upscaler(Negative(), scales=(1,), strength=0.3)
    between = first.enlarge_whole(pixels, (height, width), bits=16)
    bits = pixels.dtype.itemsize * 8
    expected = upscaler(Local()).enlarge_whole(between, size, bits=bits)
    found = upscaler(Local(), first=first).enlarge_whole(pixels, size)
    assert found.dtype == dtype
    assert np.array_equal(found, expected)


def test_what_is_run_first_changes_the_result() -> None:
    pixels = noise(40, 60, 3)
    alone = enlarge(upscaler(Nothing()), pixels, (40, 60))
    assert np.array_equal(
        enlarge(upscaler(Nothing(), first=upscaler(Negative())), pixels, (40, 60)), 255 - alone
    )


@pytest.mark.parametrize("k", [0, 1, 4])
@pytest.mark.parametrize("is_first", [True, False])
def test_out_of_memory_in_either_network_gives_the_same_photo_after_shrinking(k: int, is_first: bool) -> None:
    pixels, size = noise(200, 200, 3), (400, 400)
    expected = upscaler(Local(), first=upscaler(Local())).enlarge_whole(pixels, size)
    faulty = Faulty(Local(), k, "out of memory")
    first, then = (faulty, Local()) if is_first else (Local(), faulty)
    engine = upscaler(then, batch=2, first=upscaler(first, batch=2))
    result = engine.enlarge_whole(pixels, size)
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1
    assert engine.tiles == Tiles(96, 1)


def test_the_ladder_of_two_networks_ends_with_the_longer_one() -> None:
    engine = upscaler(Local(), tile=96, first=upscaler(Local(), tile=160))
    assert [engine.shrink() for _ in range(2)] == [True, False]


def test_lanes_have_tiles_of_their_own_for_both_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(upscaler_module._LANES, "cpu", 2)
    lanes = upscaler(Local(), batch=4, first=upscaler(Local(), batch=2)).lanes()
    assert lanes[0].shrink()
    assert [lane.tiles.batch for lane in lanes] == [2, 4]
    small = noise(40, 60, 3), (80, 120)
    assert [lane.batch_key(*small) is None for lane in lanes] == [True, False]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bits", [None, 8, 16])
def test_photos_that_share_a_batch_of_both_networks_are_what_they_are_alone(
    dtype: type, bits: int | None
) -> None:
    engine = upscaler(Local(), batch=4, first=upscaler(Negative(), scales=(1,), batch=4, strength=0.3))
    photos = [noise(50 + 3 * i, 64, 4, dtype, seed=i) for i in range(3)]
    sizes = [(2 * len(pixels), 128) for pixels in photos]
    assert len({engine.batch_key(*one) for one in zip(photos, sizes, strict=True)}) == 1
    done = [0.0] * 3
    ticks = [partial(add, done, index) for index in range(3)]
    together = engine.enlarge_together(
        [Wanted(p, size, tick, bits) for p, size, tick in zip(photos, sizes, ticks, strict=True)]
    )
    for pixels, size, bands in zip(photos, sizes, together, strict=True):
        alone = engine.enlarge_whole(pixels, size, bits=bits)
        found = np.concatenate(list(bands))
        assert found.dtype == alone.dtype
        assert np.abs(found.astype(int) - alone.astype(int)).max() <= (1 if found.itemsize == 1 else 2)
    assert done == pytest.approx([pixels.shape[0] * pixels.shape[1] for pixels in photos])


def test_photos_that_do_not_fit_into_one_tile_of_either_network_share_no_batch() -> None:
    pixels, size = noise(150, 60, 3), (300, 120)
    large, small = {"tile": 192, "batch": 4}, {"tile": 96, "batch": 4}
    assert upscaler(Local(), **large, first=upscaler(Local(), **large)).batch_key(pixels, size) is not None
    assert upscaler(Local(), **large, first=upscaler(Local(), **small)).batch_key(pixels, size) is None
    assert upscaler(Local(), **small, first=upscaler(Local(), **large)).batch_key(pixels, size) is None
    alone = upscaler(Local(), **large, first=upscaler(Local(), tile=192, batch=1))
    assert alone.batch_key(pixels, size) is None


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_progress_of_two_networks_adds_up_to_the_photo(factor: int) -> None:
    done: list[float] = []
    engine = upscaler(Nothing(), first=upscaler(Nothing()))
    list(engine.enlarge(noise(150, 170, 3), (150 * factor, 170 * factor), tick=done.append))
    assert sum(done) == pytest.approx(150 * 170)
    assert min(done) > 0


def test_a_batch_that_fails_in_the_second_network_has_told_nobody() -> None:
    """Each photo begins again after it."""
    told: list[float] = []
    engine = upscaler(Faulty(Local(), 0, "out of memory"), batch=2, first=upscaler(Local(), batch=2))
    photos = [Wanted(noise(50, 60, 3, seed=seed), (100, 120), told.append) for seed in range(2)]
    with pytest.raises(OutOfMemory):
        engine.enlarge_together(photos)
    assert not told
