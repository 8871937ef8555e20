"""Where points lie in an upright picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srbatch.codecs.picture import upright
from srbatch.placement import Placement


@given(
    turn=st.integers(1, 8),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    place=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
)
def test_a_point_goes_where_its_pixel_goes(
    turn: int, size: tuple[int, int], place: tuple[float, float]
) -> None:
    height, width = size
    row, column = int(place[0] * height), int(place[1] * width)
    stored = np.zeros((height, width, 1), bool)
    stored[row, column] = True

    turned = upright(stored, turn)[:, :, 0]
    high, wide = turned.shape
    ((down, across),) = np.argwhere(turned)
    point = Placement(turn, size, (high, wide)).point((column + 0.5) / width, (row + 0.5) / height)
    assert point == pytest.approx(((across + 0.5) / wide, (down + 0.5) / high))
