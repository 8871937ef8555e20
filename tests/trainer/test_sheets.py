"""Sheets: what is shown, and that it is shown pixel for pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srbatch.errors import DestinationError
from tests.conftest import sample
from trainer.evaluation import sheets
from trainer.evaluation.sheets import CROP_PX, Panel, Sheet


def sheet(width: int = 96) -> Sheet:
    photo = sample()
    return Sheet(
        "a case",
        tuple(
            Panel(f"panel {left}", "PSNR-Y 30.00 dB, SSIM-Y 0.9000", photo[:64, left : left + width])
            for left in (0, 100, 200)
        ),
    )


def test_the_greatest_difference_is_inside_the_part() -> None:
    target = sample()
    prediction = target.copy()
    prediction[300:320, 500:520] ^= 64
    prediction[10:14, 10:14] ^= 127  # stronger, but smaller
    rows, columns = sheets.greatest_difference(prediction, target)
    assert (rows.start, rows.stop) == (427 - CROP_PX, 427)
    assert columns.start < 500 < 520 < columns.stop
    assert columns.stop - columns.start == CROP_PX


@pytest.mark.parametrize("shape", [(1, 1), (20, 400), (400, 20), (256, 256)])
def test_small_pictures_are_shown_whole(shape: tuple[int, int]) -> None:
    a = np.zeros((*shape, 3), np.uint8)
    b = a.copy()
    b[-1, -1] = 255
    part = sheets.greatest_difference(a, b)
    assert b[part].shape[:2] == tuple(min(side, CROP_PX) for side in shape)
    assert b[part][-1, -1].all()


@pytest.mark.parametrize("width", [40, 250])
def test_every_panel_is_there_at_100_percent(width: int) -> None:
    page = np.asarray(sheets.draw(sheet(width)))
    for panel in sheet(width).panels:
        found = [
            left
            for left in range(page.shape[1] - width + 1)
            if np.array_equal(page[40:104, left : left + width], panel.pixels)
        ]
        assert len(found) == 1
    assert (page[:40] < 128).any()
    assert (page[104:] < 128).any()


def test_files(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    sheets.write({"best": sheet(), "worst": sheet(200)}, out)
    assert sorted(path.name for path in out.iterdir()) == ["best.png", "sheets.pdf", "worst.png"]
    with Image.open(out / "best.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(sheets.draw(sheet())))
    pdf = (out / "sheets.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Subtype /Image") == 2


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "sheets.pdf").mkdir()
    with pytest.raises(DestinationError):
        sheets.write({"best": sheet()}, tmp_path)
