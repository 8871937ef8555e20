"""What a run will cost in time and space, reckoned before it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from srbatch.codecs.picture import Header
from srbatch.discovery.found import Photo
from srbatch.formats import Format
from srbatch.model import Passes
from srbatch.preflight import Job
from srbatch.reporting import estimate
from srbatch.resume import Todo

PASSES = Passes(4, first=False)


def job(target: Path, height: int, width: int, size: tuple[int, int]) -> Job:
    header = Header(Format.PNG, height, width, 3, 8)
    photo = Photo(Path("a.png"), Path("a.png"), target, Format.PNG, 1, 1)
    return Job(photo, Todo(replace=False), header, Format.PNG, size)


def model_on(device: str, *, count: int = 1) -> Any:
    upscaler = SimpleNamespace(
        work_px=lambda height, width: height * width + 1000, device=SimpleNamespace(type=device)
    )
    return SimpleNamespace(passes=PASSES, upscaler=upscaler, upscalers=[upscaler] * count)


def test_time_is_that_of_the_head_that_each_photo_needs_on_all_devices_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """x1.4 is done by the head for x2, and x2.01 by that for x4, as x3 is."""
    monkeypatch.setattr(estimate, "_rate", lambda upscaler, factor: {1: 4000, 2: 1000, 3: 250}[factor])
    jobs = [
        job(tmp_path / "a.png", 100, 100, (100, 100)),
        job(tmp_path / "b.png", 100, 100, (140, 140)),
        job(tmp_path / "c.png", 100, 100, (201, 201)),
    ]
    model = model_on("cuda", count=2)
    found = estimate.estimate(jobs, tmp_path, tmp_path, model, at_once=1, codec_seconds=0.0)
    assert found.network_seconds == pytest.approx((11_000 / 4000 + 11_000 / 1000 + 11_000 / 250) / 2)
    assert found.seconds == found.network_seconds
    assert (found.pixels, found.pixels_out) == (30_000, 100**2 + 140**2 + 201**2)


@pytest.mark.parametrize(
    ("device", "codec_s", "seconds", "words"),
    [
        ("cpu", 60.0, 71.0, "about 1 min 11 s, measured just now: 11 s for the network, and 1 min 00 s for"),
        (
            "cuda",
            60.0,
            60.0,
            "about 1 min 00 s, measured just now: 11 s for the network, and meanwhile 1",
        ),
        (
            "cuda",
            4.0,
            11.0,
            "about 11 s, measured just now: 11 s for the network, and meanwhile 4 s for",
        ),
    ],
)
def test_on_a_gpu_the_slower_of_network_and_codecs_counts_and_on_a_cpu_both(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    codec_s: float,
    seconds: float,
    words: str,
) -> None:
    monkeypatch.setattr(estimate, "_rate", lambda upscaler, factor: 1000)
    jobs = [job(tmp_path / "a.png", 100, 100, (200, 200))]
    found = estimate.estimate(jobs, tmp_path, tmp_path, model_on(device), at_once=1, codec_seconds=codec_s)
    assert found.seconds == pytest.approx(seconds)
    assert estimate.as_record(found)["seconds"] == pytest.approx(seconds)
    assert words in "\n".join(estimate.as_lines(found))


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
