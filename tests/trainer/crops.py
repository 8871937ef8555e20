"""Crops to be damaged, and what is asked of each that was."""

from __future__ import annotations

import numpy as np

from tests.conftest import sample


def photo(height: int = 96, width: int = 128) -> np.ndarray:
    piece = sample()[150 : 150 + height, 300 : 300 + width]
    return np.ascontiguousarray(piece).astype(np.float32) / 255


def flat(value: float, size: int = 256) -> np.ndarray:
    return np.full((size, size, 3), value, np.float32)


def check(result: np.ndarray, shape: tuple[int, ...]) -> None:
    assert result.shape == shape
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert result.min() >= 0
    assert result.max() <= 1


def error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.square(one - other).mean())
