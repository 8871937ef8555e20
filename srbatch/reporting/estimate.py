"""What a run will cost before it is begun: pixels, space on disk, time."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from dataclasses import asdict, dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srbatch.codecs.picture import sample_bytes
from srbatch.formats import Format
from srbatch.limits import available_memory
from srbatch.names import show
from srbatch.places import nearest_folder
from srbatch.preflight import Job
from srbatch.reporting.outcome import duration

if TYPE_CHECKING:
    from srbatch.model import Model, Passes
    from srbatch.upscaling.upscaler import Upscaler

BYTES_PER_SAMPLE = {
    Format.JPEG: 0.15,
    Format.PNG: 0.55,
    Format.WEBP: 0.10,
    Format.TIFF: 0.58,
    Format.AVIF: 0.16,
    Format.HEIC: 0.29,
}
"""Of a photograph at its own size, lossy ones at quality 95. An enlargement takes less by the root of its
factor: detail that is not there needs no space. Measured on Kodak photographs at x1, x2 and x4 with the
released weights; single photos are off by up to a half."""
BYTES_PER_DEEP_SAMPLE = 1.65
"""Of 16 bits, in PNG and TIFF, whatever the factor: the lower half is as good as noise. Measured likewise."""

_FORMULA = (
    "pixels x channels / root of the factor x "
    + ", ".join(f"{rate:g} ({fmt.value})" for fmt, rate in BYTES_PER_SAMPLE.items())
    + f"; of 16 bits, pixels x channels x {BYTES_PER_DEEP_SAMPLE:g}"
)
_MEASURE_PX = 256
_MEASURE_S = 3.0


@dataclass(frozen=True, slots=True)
class Space:
    """Space on disk that a run needs, all in bytes."""

    outputs: int
    """By ``BYTES_PER_SAMPLE``."""
    scratch: int
    """Of the photos that take most, as many as are done at once."""
    replaced: int
    """Outputs that are there now and will be made again."""
    free: int
    """On the disk of the output folder."""
    free_for_scratch: int | None
    """On the disk of the scratch space; None where that is the same."""

    @property
    def needed(self) -> int:
        """Of the disk of the output folder."""
        return self.outputs - self.replaced + (self.scratch if self.free_for_scratch is None else 0)

    @property
    def fits(self) -> bool:
        """Whether it should do."""
        return self.needed <= self.free and self.scratch_fits

    @property
    def scratch_fits(self) -> bool:
        """Whether scratch space has a disk of its own that should do."""
        return self.free_for_scratch is None or self.scratch <= self.free_for_scratch


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will be."""

    by_format: Counter[str]
    """Photos by the format of their output."""
    pixels: int
    """Of the photos."""
    pixels_out: int
    space: Space
    network_seconds: float
    """On all devices together."""
    codec_seconds: float
    """For reading and writing, by all workers at the same time."""
    on_the_same_cores: bool
    """Whether the network runs on the CPU, as reading and writing does; else that goes on meanwhile."""

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        together = sum if self.on_the_same_cores else max
        return together((self.network_seconds, self.codec_seconds))


def estimate(
    jobs: list[Job], out: Path, scratch: Path, model: Model, *, at_once: int, codec_seconds: float
) -> Estimate:
    """Add up what the jobs will cost, so many at once; the network's rate is measured now."""
    return Estimate(
        by_format=Counter(job.format.value for job in jobs),
        pixels=sum(job.pixels for job in jobs),
        pixels_out=sum(job.size[0] * job.size[1] for job in jobs),
        space=space_of(jobs, out, scratch, at_once=at_once, passes=model.passes),
        network_seconds=_seconds(jobs, model.upscaler) / len(model.upscalers) if jobs else 0.0,
        codec_seconds=codec_seconds,
        on_the_same_cores=model.upscaler.device.type == "cpu",
    )


def space_of(jobs: list[Job], out: Path, scratch: Path, *, at_once: int, passes: Passes) -> Space:
    """Add up the space that the jobs will take, with so many at once as scratch space has room for."""
    largest = sorted((scratch_bytes(job, passes=passes) for job in jobs), reverse=True)[:at_once]
    apart = nearest_folder(scratch).stat().st_dev != nearest_folder(out).stat().st_dev
    return Space(
        outputs=round(sum(_output_bytes(job) for job in jobs)),
        scratch=max(min(sum(largest), scratch_budget(scratch)), *largest[:1], 0),
        replaced=sum(_existing(job) for job in jobs),
        free=_free(out),
        free_for_scratch=_free(scratch) if apart else None,
    )


class Room:
    """What is free on the disks of a run while nothing is in hand, against what a photo alone needs."""

    def __init__(self, out: Path, scratch: Path, *, passes: Passes) -> None:
        """Look at the disks of the outputs and of the run's own folder in the scratch space."""
        self._out, self._scratch, self._passes = out, scratch, passes
        self._free_out, self._disk = _free(out), shutil.disk_usage(nearest_folder(scratch))
        self._apart = nearest_folder(scratch).stat().st_dev != nearest_folder(out).stat().st_dev

    def lacking(self, job: Job) -> str | None:
        """Why a photo does not fit, and what to do about it; None where it should.

        The text does not change as other files come and go: it is told once, and kept on record.
        """
        scratch, output = scratch_bytes(job, passes=self._passes), round(_output_bytes(job))
        if self._apart and output > self._free_out:
            return (
                f"its output needs about {_gb(output)} in {show(self._out)}, more than is free there;"
                " make room, or choose another disk, a smaller --scale or --format jpeg"
            )
        needed, what = (scratch, "") if self._apart else (scratch + output, " and for its output")
        if needed <= self._disk.free:
            return None
        return (
            f"it needs about {_gb(needed)} of scratch space{what} in {show(self._scratch.parent)},"
            " more than is free there; make room, or choose another --scratch or a smaller --scale"
        )

    def can_never_hold(self, job: Job) -> bool:
        """Whether the scratch space of a photo is larger than the whole disk, however empty."""
        # Some file systems do not say how large they are.
        return 0 < self._disk.total < scratch_bytes(job, passes=self._passes)


def scratch_budget(scratch: Path) -> int:
    """Bytes of raw pixels that may lie in scratch files at once.

    In half of the free memory they stay in the page cache and hardly touch the disk.
    """
    return min(_free(scratch), available_memory()) // 2


def _output_bytes(job: Job) -> float:
    samples = job.size[0] * job.size[1] * job.header.channels
    if job.bits > 8 and not job.format.lossy:
        return samples * BYTES_PER_DEEP_SAMPLE
    return samples * BYTES_PER_SAMPLE[job.format] / sqrt(job.factor)


def scratch_bytes(job: Job, *, passes: Passes) -> int:
    """Of its pixels before and after, and between two passes (in 16 bits)."""
    before = job.pixels * sample_bytes(job.header.bits)
    between = job.pixels * sum(factor**2 for factor in passes.between(job.factor)) * 2
    after = job.size[0] * job.size[1] * sample_bytes(job.bits)
    return (before + between + after) * job.header.channels


def _existing(job: Job) -> int:
    try:
        return os.lstat(job.photo.target).st_size
    except OSError:
        return 0


def _free(out: Path) -> int:
    return shutil.disk_usage(nearest_folder(out)).free


def _seconds(jobs: list[Job], upscaler: Upscaler) -> float:
    """The network's time: measured once for each whole factor, for every pixel that it will see."""
    work: Counter[int] = Counter()
    for job in jobs:
        step = ceil(job.factor)  # x2.001 is done by the head for x4, as x3 is
        work[step] += upscaler.work_px(job.header.height, job.header.width)
    return sum(pixels / _rate(upscaler, factor) for factor, pixels in work.items())


def _rate(upscaler: Upscaler, factor: int) -> float:
    """Pixels per second at a whole factor."""
    side = _MEASURE_PX
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    size = (side * factor, side * factor)

    def once() -> None:
        upscaler.enlarge_whole(noise, size)

    once()  # the first pass chooses algorithms and takes memory
    start, passes = time.monotonic(), 0
    while passes == 0 or time.monotonic() - start < _MEASURE_S:
        once()
        passes += 1
    return passes * upscaler.work_px(side, side) / (time.monotonic() - start)


def as_record(found: Estimate) -> dict[str, Any]:
    """For JSON."""
    return {
        **asdict(found),
        "seconds": found.seconds,
        "photos": found.by_format.total(),
        "by_format": dict(found.by_format),
        "fits": found.space.fits,
    }


def as_lines(found: Estimate) -> list[str]:
    """For people."""
    formats = ", ".join(f"{count} {name}" for name, count in found.by_format.most_common())
    space = found.space
    lines = [
        f"would do {found.by_format.total()} photos{f' ({formats})' if formats else ''}:"
        f" {found.pixels / 1e6:.1f} megapixels become {found.pixels_out / 1e6:.1f}",
        f"space: about {_gb(space.outputs)} for outputs,"
        f" {_gb(space.scratch)} while the largest photos are done;"
        f" {_gb(space.free)} are free{_elsewhere(space)}",
        f"       (outputs: {_FORMULA})",
        f"time:  about {duration(found.seconds)}, measured just now:"
        f" {duration(found.network_seconds)} for the network,"
        f" {'and' if found.on_the_same_cores else 'and meanwhile'} {duration(found.codec_seconds)}"
        " for reading and writing",
    ]
    return lines if space.fits else [*lines, too_little(space)]


def too_little(space: Space) -> str:
    """What to tell where the space will probably not do."""
    if not space.scratch_fits and space.free_for_scratch is not None:
        return (
            f"about {_gb(space.scratch)} of scratch space will be needed and"
            f" {_gb(space.free_for_scratch)} are free: choose another --scratch or a smaller --scale"
        )
    return (
        f"about {_gb(space.needed)} will be needed and {_gb(space.free)} are free:"
        " choose another disk, a smaller --scale or --format jpeg"
    )


def _elsewhere(space: Space) -> str:
    free = space.free_for_scratch
    return "" if free is None else f", {_gb(free)} on the disk of the latter"


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
