"""The sheet that shows what a run will see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srbatch.errors import DestinationError
from trainer.degradations.degrade import PHOTO, RESTORE, Degradations
from trainer.preview import write_sheet


def crops(count: int, size: int = 64) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.random((size, size, 3), dtype=np.float32) for _ in range(count)]


def written(path: Path, count: int, settings: Degradations, *, factor: int = 4, seed: int = 0) -> np.ndarray:
    write_sheet(crops(count), settings, path, factor=factor, seed=seed)
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        return np.asarray(sheet.convert("RGB"))


def test_sheet_has_a_row_per_crop_and_a_cell_per_kind(tmp_path: Path) -> None:
    plain = written(tmp_path / "plain.png", 2, Degradations())
    more = written(tmp_path / "more.png", 3, Degradations())
    photo = written(tmp_path / "photo.png", 2, PHOTO)
    restore = written(tmp_path / "restore.png", 2, RESTORE)
    row = more.shape[0] - plain.shape[0]
    assert row > 256
    assert plain.shape[1] > 3 * 256
    assert (photo.shape[0] - plain.shape[0]) // row == 2  # four kinds, three to a row
    assert (restore.shape[0] - plain.shape[0]) // row == 4  # ten kinds


def test_cells_show_reduced_degraded_and_target(tmp_path: Path) -> None:
    sheet = written(tmp_path / "sheet.png", 1, Degradations())
    left, top, step = 8, 20, 264
    cells = [sheet[top : top + 256, left + n * step : left + n * step + 256] for n in range(3)]
    target = np.round(crops(1)[0] * 255).astype(np.int64)
    assert np.abs(cells[2][::4, ::4] - target).max() <= 1
    assert np.array_equal(cells[0], cells[1])
    assert np.array_equal(cells[0], cells[0][::16, ::16].repeat(16, axis=0).repeat(16, axis=1))


def test_same_seed_same_sheet(tmp_path: Path) -> None:
    one, same, other = (
        written(tmp_path / f"{turn}.png", 1, RESTORE, seed=seed) for turn, seed in enumerate((1, 1, 2))
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_large_crops_are_made_to_fit(tmp_path: Path) -> None:
    write_sheet(crops(1, 512), PHOTO, tmp_path / "sheet.png", factor=1, seed=0)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width < 900


def test_no_crop_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one crop"):
        write_sheet([], PHOTO, tmp_path / "sheet.png", factor=4, seed=0)


def test_a_sheet_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match=r"nowhere.*sheet\.png: No such file"):
        write_sheet(crops(1), Degradations(), tmp_path / "nowhere" / "sheet.png", factor=4, seed=0)
