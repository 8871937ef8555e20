"""Pixels to a device and back; what differs on CUDA is tried in test_cuda.py."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srbatch.transfer import Landing, fetched, one_ahead, to_device

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_come_back_as_they_went(dtype: type) -> None:
    pixels = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (5, 7, 3), dtype=dtype)
    there = to_device(pixels[:, ::-1], CPU)  # not contiguous: a view, as tiles are
    assert np.array_equal(Landing(there).wait().numpy(), pixels[:, ::-1])
    (back,) = fetched([there], CPU)
    assert back.dtype == dtype
    assert np.array_equal(back, pixels[:, ::-1])


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
