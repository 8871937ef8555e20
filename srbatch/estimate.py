"""What a run will cost before it is begun: pixels, space on disk, time."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srbatch.formats import Format
from srbatch.preflight import Job
from srbatch.report import duration

if TYPE_CHECKING:
    from srbatch.model import Model
    from srbatch.upscaler import Upscaler

BYTES_PER_SAMPLE = {Format.JPEG: 0.17, Format.PNG: 0.55, Format.WEBP: 0.10, Format.TIFF: 0.60}
"""Of an enlarged photograph, by format: JPEG and WebP at quality 95. Measured on enlargements x2 and x4 of
standard test photographs with the released weights; detail that is not there needs no space."""

_MEASURE_PX = 256
_MEASURE_S = 3.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate of a run. Space is what outputs will take plus the scratch space of the largest photo."""

    photos: int
    pixels: int
    """Of the photos."""
    pixels_out: int
    bytes_out: int
    """pixels out x channels x ``BYTES_PER_SAMPLE`` of the format"""
    bytes_scratch: int
    """The largest photo's pixels x channels, before and after."""
    bytes_free: int
    bytes_replaced: int
    """Of outputs that will be made again and are there now."""
    seconds: float
    by_format: Counter[str]

    @property
    def fits(self) -> bool:
        """Whether the space should do."""
        return self.bytes_out + self.bytes_scratch - self.bytes_replaced <= self.bytes_free


def estimate(jobs: Iterable[Job], out: Path, model: Model) -> Estimate:
    """Add up what the jobs will cost; the rate is measured now, on noise of the size of a tile."""
    jobs = list(jobs)
    pixels = sum(job.pixels for job in jobs)
    bytes_out = sum(_samples(job, job.size) * BYTES_PER_SAMPLE[job.format] for job in jobs)
    scratch = [_samples(job, job.size) + _samples(job, (job.header.height, job.header.width)) for job in jobs]
    seconds = _seconds(jobs, model.upscaler) if jobs else 0.0
    return Estimate(
        photos=len(jobs),
        pixels=pixels,
        pixels_out=sum(job.size[0] * job.size[1] for job in jobs),
        bytes_out=round(bytes_out),
        bytes_scratch=max(scratch, default=0),
        bytes_free=_free(out),
        bytes_replaced=sum(_existing(job) for job in jobs),
        seconds=seconds,
        by_format=Counter(job.format.value for job in jobs),
    )


def _samples(job: Job, size: tuple[int, int]) -> int:
    return size[0] * size[1] * job.header.channels


def _existing(job: Job) -> int:
    try:
        return os.lstat(job.photo.target).st_size
    except OSError:
        return 0


def _free(out: Path) -> int:
    while not out.is_dir() and out != out.parent:
        out = out.parent
    return shutil.disk_usage(out).free


def _seconds(jobs: list[Job], upscaler: Upscaler) -> float:
    """The network's time: measured once for each whole factor, for every pixel that it will see."""
    work: Counter[int] = Counter()
    for job in jobs:
        header = job.header
        factor = max(job.size[0] / header.height, job.size[1] / header.width)
        work[max(1, ceil(round(factor, 2)))] += upscaler.work_px(header.height, header.width)
    return sum(pixels / _rate(upscaler, factor) for factor, pixels in work.items())


def _rate(upscaler: Upscaler, factor: int) -> float:
    """Pixels per second at a whole factor."""
    side = _MEASURE_PX
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    size = (side * factor, side * factor)

    def once() -> None:
        for _ in upscaler.enlarge(noise, size, spool=lambda h, w, c: np.empty((h, w, c), np.uint16)):
            pass

    once()  # the first pass chooses algorithms and takes memory
    start, passes = time.monotonic(), 0
    while passes == 0 or time.monotonic() - start < _MEASURE_S:
        once()
        passes += 1
    return passes * upscaler.work_px(side, side) / (time.monotonic() - start)


def as_record(found: Estimate) -> dict[str, Any]:
    """For JSON."""
    return {**asdict(found), "by_format": dict(found.by_format), "fits": found.fits}


def as_lines(found: Estimate) -> list[str]:
    """For people."""
    formats = ", ".join(f"{count} {name}" for name, count in found.by_format.most_common())
    lines = [
        f"would do {found.photos} photos{f' ({formats})' if formats else ''}:"
        f" {found.pixels / 1e6:.1f} megapixels become {found.pixels_out / 1e6:.1f}",
        f"space:  about {_gb(found.bytes_out)} for outputs (pixels x channels x "
        + ", ".join(f"{rate} for {fmt.value}" for fmt, rate in BYTES_PER_SAMPLE.items())
        + f"), {_gb(found.bytes_scratch)} while the largest is done; {_gb(found.bytes_free)} are free",
        f"time:   about {duration(found.seconds)} for the network, measured just now on this device;"
        " reading and writing come on top",
    ]
    if not found.fits:
        lines.append("This will probably not fit: choose another disk, a smaller --scale or --format jpeg.")
    return lines


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
