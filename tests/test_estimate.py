"""What a run will cost in time and space, reckoned before it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from srbatch import estimate
from srbatch.formats import Format
from srbatch.found import Photo
from srbatch.model import Passes
from srbatch.picture import Header
from srbatch.preflight import Job
from srbatch.resume import Todo

PASSES = Passes(4, first=False)


def job(target: Path, height: int, width: int, size: tuple[int, int]) -> Job:
    header = Header(Format.PNG, height, width, 3, 8)
    photo = Photo(Path("a.png"), Path("a.png"), target, Format.PNG, 1, 1)
    return Job(photo, Todo(replace=False), header, Format.PNG, size)


def test_time_is_that_of_the_head_that_each_photo_needs_on_all_devices_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x1.4 is done by the head for x2, and x2.01 by that for x4, as x3 is."""
    monkeypatch.setattr(estimate, "_rate", lambda upscaler, factor: {1: 4000, 2: 1000, 3: 250}[factor])
    upscaler = SimpleNamespace(work_px=lambda height, width: height * width + 1000)
    model: Any = SimpleNamespace(passes=PASSES, upscaler=upscaler, upscalers=[upscaler] * 2)
    jobs = [
        job(tmp_path / "a.png", 100, 100, (100, 100)),
        job(tmp_path / "b.png", 100, 100, (140, 140)),
        job(tmp_path / "c.png", 100, 100, (201, 201)),
    ]
    found = estimate.estimate(jobs, tmp_path, tmp_path, model, at_once=1)
    assert found.seconds == pytest.approx((11_000 / 4000 + 11_000 / 1000 + 11_000 / 250) / 2)
    assert (found.pixels, found.pixels_out) == (30_000, 100**2 + 140**2 + 201**2)


def test_space_counts_what_is_replaced_and_as_many_photos_as_are_in_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0.png").write_bytes(bytes(5000))
    jobs = [job(tmp_path / f"{n}.png", 10 * n + 10, 10, (10 * n + 10, 10)) for n in range(4)]
    each = [2 * 100 * (n + 1) * 3 for n in range(4)]
    for at_once, budget, scratch in (
        (1, 1 << 40, each[3]),
        (2, 1 << 40, each[3] + each[2]),
        (2, 10, each[3]),
    ):
        monkeypatch.setattr(estimate, "scratch_budget", lambda folder, budget=budget: budget)
        found = estimate.space_of(jobs, tmp_path, tmp_path, at_once=at_once, passes=PASSES)
        assert found.scratch == scratch, "beyond the budget one is done alone"
        assert found.replaced == 5000
        assert found.needed == found.outputs - 5000 + scratch


def test_scratch_files_have_half_of_what_is_free_of_disk_or_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "available_memory", lambda: 1000)
    for free, budget in ((600, 300), (5000, 500)):
        monkeypatch.setattr(estimate, "_free", lambda folder, free=free: free)
        assert estimate.scratch_budget(tmp_path) == budget
