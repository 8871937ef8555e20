"""Crops to be damaged, what is asked of each that was, and folders of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.conftest import crop, sample
from trainer.photos import Photo, find_all


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


def save(folder: Path, *names: str, height: int = 48, width: int = 64) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        crop(height, width, top=5 * number, left=9 * number).save(folder / name)


def looked(*folders: Path, smallest: int = 32) -> tuple[list[Photo], dict[str, str]]:
    good, left_out = find_all(folders, smallest=smallest)
    return good, {Path(path).name: reason for path, reason in left_out}
