"""Pixels to a device and back; what differs on CUDA is tried in tests/cuda."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srbatch.upscaling.transfer import HostCopy, fetched, one_ahead, to_device

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_come_back_as_they_went(dtype: type) -> None:
    pixels = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (5, 7, 3), dtype=dtype)
    there = to_device(pixels[:, ::-1], CPU)  # not contiguous: a view, as tiles are
    assert np.array_equal(HostCopy(there).wait().numpy(), pixels[:, ::-1])
    (back,) = fetched([there], CPU)
    assert back.dtype == dtype
    assert np.array_equal(back, pixels[:, ::-1])


@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 7, 3), (5, 1, 3), (5, 7, 1)], ids=str)
def test_views_that_run_backwards_are_copied(shape: tuple[int, ...]) -> None:
    """numpy calls them contiguous where the axis has one pixel, and torch refuses them."""
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    for view in (array[::-1], array[:, ::-1], array[:, :, ::-1], array[::-1, ::-1]):
        assert np.array_equal(to_device(view, CPU).numpy(), view)


@given(st.lists(st.integers()))
def test_what_is_begun_ahead_keeps_its_order(items: list[int]) -> None:
    begun: list[int] = []

    def begin() -> Iterator[int]:
        for item in items:
            begun.append(item)
            yield item

    for index, item in enumerate(one_ahead(begin())):
        assert item == items[index]
        assert begun == items[: index + 2]
    assert begun == items
