"""The arithmetic of tiles: every pixel covered, weights that sum to 1, sizes from 1 px up."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srbatch.upscaling import tiling
from srbatch.upscaling.tiling import Margins

geometry = st.tuples(
    st.integers(4, 40).map(lambda n: n * 32),
    st.builds(Margins, halo=st.integers(0, 40), ramp=st.integers(0, 24), stride=st.just(32)),
).filter(lambda g: 2 * g[1].halo + g[1].ramp <= g[0] - 32)
"""The largest tile, and its margins."""


@given(st.integers(1, 20_000), geometry, st.sampled_from([1, 2, 4]))
def test_weights_sum_to_one_everywhere(length: int, shape: tuple[int, Margins], scale: int) -> None:
    axis = tiling.cut_axis(length, *shape)
    total = np.zeros(axis.padded * scale)
    for origin, weight in zip(axis.origins, axis.weights(scale), strict=True):
        assert weight.min() >= 0
        total[origin * scale : (origin + axis.tile) * scale] += weight
    assert np.abs(total - 1).max() < 1e-6


@given(st.integers(1, 20_000), geometry)
def test_tiles_are_equal_aligned_cover_the_photo_and_overlap_enough(
    length: int, shape: tuple[int, Margins]
) -> None:
    axis = tiling.cut_axis(length, *shape)
    tile, margins = shape
    assert axis.tile <= tile
    assert axis.tile % 32 == 0
    assert axis.padded % 32 == 0
    assert axis.padded >= length
    assert all(origin % 32 == 0 for origin in axis.origins)
    assert axis.origins[0] == 0
    assert axis.origins[-1] + axis.tile == axis.padded
    assert all(overlap >= 2 * margins.halo + margins.ramp for overlap in axis.overlaps)


@given(st.integers(200, 20_000), geometry)
def test_halo_is_thrown_away(length: int, shape: tuple[int, Margins]) -> None:
    axis = tiling.cut_axis(length, *shape)
    halo = shape[1].halo
    for index, weight in enumerate(axis.weights(1)):
        if index > 0:
            assert not weight[:halo].any()
        if index < len(axis) - 1:
            assert not weight[axis.tile - halo :].any()


@given(st.integers(1, 3_000), geometry)
def test_blending_the_pieces_of_a_line_gives_the_line(length: int, shape: tuple[int, Margins]) -> None:
    line = np.random.default_rng(length).random(length)
    axis = tiling.cut_axis(length, *shape)
    result = np.zeros(axis.padded)
    for index, weight in enumerate(axis.weights(1)):
        start = axis.origins[index]
        result[start : start + axis.tile] += weight * line[axis.source(index)]
    assert np.abs(result[:length] - line).max() < 1e-6


@given(st.integers(2, 300), st.integers(0, 2_000))
def test_mirroring_is_numpys_reflect(length: int, extra: int) -> None:
    line = np.arange(length)
    expected = np.pad(line, (0, extra), mode="reflect")
    assert np.array_equal(line[tiling.mirrored(np.arange(length + extra), length)], expected)


def test_one_pixel_repeats() -> None:
    assert tiling.mirrored(np.arange(64), 1).tolist() == [0] * 64


@given(st.integers(1, 64))
def test_ladder_is_short_rises_and_ends_at_the_largest(largest: int) -> None:
    sizes = tiling.ladder(largest)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == largest
    assert len(sizes) <= 24
    assert all(b <= a * 4 / 3 for a, b in pairwise(sizes[2:]))


def test_useful_area_at_the_default_tile() -> None:
    plan = tiling.plan(4000, 6000, tile=512, margins=Margins(32, 32, 32))
    assert 4000 * 6000 / plan.work_px >= 0.6


@pytest.mark.parametrize("length", [0, -1])
def test_an_empty_photo_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        tiling.cut_axis(length, 256, Margins(32, 16, 32))


def test_a_tile_that_is_all_overlap_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 96 px"):
        tiling.cut_axis(1000, 96, Margins(32, 16, 32))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_between_the_halos_each_tile_gives_way_to_the_next_as_a_raised_cosine(scale: int) -> None:
    """Both sides of a seam; a step there, or a ramp that is too short, would be seen."""
    axis = tiling.cut_axis(1000, 256, Margins(halo=32, ramp=16, stride=32))
    assert len(axis) > 3
    for (left, right), overlap in zip(pairwise(axis.weights(scale)), axis.overlaps, strict=True):
        ramp = (overlap - 2 * 32) * scale
        rising = (1 - np.cos((np.arange(ramp) + 0.5) / ramp * np.pi)) / 2
        start = 32 * scale
        assert np.allclose(right[start : start + ramp], rising, atol=1e-6)
        start += (axis.tile - overlap) * scale
        assert np.allclose(left[start : start + ramp], 1 - rising, atol=1e-6)
