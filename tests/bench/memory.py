"""Measure how much memory a run takes, by the size and the format of its output.

    python -m tests.bench.memory [--megapixels 1 10 100 1000] [--format jpeg png tiff]

One photo at a time is upscaled by the real command, in processes of their own; only its network is replaced
by one that takes next to nothing, so that the figures are those of everything else, with tiles of 512 px. The
memory is anonymous memory (RssAnon of Linux), of the command and its codecs together, looked at 20 times a
second; above it stands what a process takes that has imported torch. Pages of files count as the disk's, not
as the run's. The photos are 4:3; each size of ``--tall`` is also done twice as tall, where the peak must be
the same within a tenth. Time must be linear: the last column is the processor's seconds for each megapixel
beyond the row above, over those of the first such row.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import ceil
from pathlib import Path

import psutil
import pyvips

from tests.bench import report
from tests.bench.measured_run import STAND_IN, started
from tests.conftest import sample

FORMATS = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif"}
LIMITS_MB = {100: 1500, 1000: 2500}
"""By the megapixels of the output, above the bare torch process."""
ASPECT = 4 / 3
TILE_PX = 512
"""The largest that is chosen by default, which depends on free memory."""
PERIOD_S = 0.05
BARE = "import torch; torch.ones(8, 8) @ torch.ones(8, 8); print(flush=True); input()"


@dataclass(frozen=True)
class Shape:
    """What a photo's output measures."""

    height: int
    width: int
    tall: bool = False
    """Whether it is another one twice as tall."""

    @property
    def megapixels(self) -> float:
        return self.height * self.width / 1e6


@dataclass(frozen=True)
class Peak:
    """Anonymous memory in MB when most of it was taken: of the command, and of its codecs."""

    main: float = 0.0
    codecs: float = 0.0

    @property
    def total(self) -> float:
        return self.main + self.codecs


@dataclass(frozen=True)
class Measured:
    """One photo, upscaled."""

    format: str
    shape: Shape
    peak: Peak
    wall_s: float
    cpu_s: float
    output_mb: float
    """On the disk; 0 where the run failed."""


def main() -> None:
    flags = report.parser(__doc__)
    flags.add_argument(
        "--megapixels", type=float, nargs="+", default=[1, 10, 100, 1000], metavar="MP", help="of the outputs"
    )
    flags.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS))
    flags.add_argument("--tall", type=float, nargs="*", default=[100], metavar="MP", help="[default: 100]")
    flags.add_argument("--scale", type=int, default=4, help="[default: 4]")
    flags.add_argument("--source", choices=("jpeg", "tiff"), default="jpeg", help="[default: jpeg]")
    report.add_folder(flags)
    arguments = flags.parse_args()
    bare_mb = bare()
    print(f"a bare torch process: {bare_mb:.0f} MB; sources: {arguments.source}, at x{arguments.scale}")
    found = []
    with tempfile.TemporaryDirectory(prefix="srbatch-memory-", dir=arguments.folder) as made:
        for shape in shapes(arguments.megapixels, arguments.tall):
            photo = make_photo(Path(made), shape, arguments.scale, FORMATS[arguments.source])
            for fmt in arguments.format:
                found.append(measure(photo, fmt, shape, arguments.scale))
                print(f"{fmt} {shape.megapixels:.0f} MP: {found[-1].peak.total:.0f} MB", file=sys.stderr)
            photo.unlink()
    print_table(found, bare_mb, arguments.megapixels)
    record = {"bare_mb": bare_mb, "scale": arguments.scale, "source": arguments.source}
    report.write(arguments.json, record | {"runs": [asdict(one) for one in found]})


# ---- the photos ----------------------------------------------------------------------------------


def shapes(megapixels: Iterable[float], tall: Iterable[float]) -> Iterator[Shape]:
    """Those of the outputs, from small to large, each followed by its taller one."""
    for size in sorted(megapixels):
        height = round((size * 1e6 / ASPECT) ** 0.5)
        width = round(height * ASPECT)
        yield Shape(height, width)
        if size in tall:
            yield Shape(2 * height, width, tall=True)


def make_photo(folder: Path, shape: Shape, scale: int, suffix: str) -> Path:
    """Write a photograph, repeated as often as it takes; libvips does it in strips."""
    path = folder / f"photo{suffix}"
    height, width = shape.height // scale, shape.width // scale
    tile = pyvips.Image.new_from_array(sample())
    tiled = tile.replicate(ceil(width / tile.width), ceil(height / tile.height)).crop(0, 0, width, height)
    if suffix == ".jpg":
        tiled.jpegsave(str(path), Q=90)
    else:
        tiled.tiffsave(str(path), compression="deflate", predictor="horizontal")
    return path


# ---- measuring -----------------------------------------------------------------------------------


def bare() -> float:
    """Anonymous memory in MB of a process that has imported torch and multiplied two matrices."""
    with subprocess.Popen([sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        one.stdout.readline()
        found_mb = anonymous_mb(one.pid)
        one.communicate(b"\n")
    return found_mb


def measure(photo: Path, fmt: str, shape: Shape, scale: int) -> Measured:
    """Upscale one photo in fresh processes; the output is removed again."""
    with tempfile.TemporaryDirectory(dir=photo.parent) as made:
        out, notes = Path(made) / "hi", Path(made) / "notes.json"
        line: list[str | Path] = ["upscale", photo, "--out", out, "--scale", str(scale), "--format", fmt]
        line += ["--engine", "torch", "--device", "cpu", "--tile", str(TILE_PX), "--quiet"]
        process = started(line, notes, STAND_IN)
        with sampled(process.pid) as peaks:
            assert process.stdout is not None
            said = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            print(f"{fmt}, {shape.megapixels:.0f} MP failed:\n{said}", file=sys.stderr)
        times = json.loads(notes.read_text())
        size_mb = sum(path.stat().st_size for path in out.glob("photo*")) / 1e6
    peak = max(peaks, key=lambda one: one.total, default=Peak())
    return Measured(fmt, shape, peak, times["wall"], usage.ru_utime + usage.ru_stime, size_mb)


@contextlib.contextmanager
def sampled(pid: int) -> Iterator[list[Peak]]:
    """Look at a process and all below it until the block ends, in a thread."""
    seen: list[Peak] = []
    ended = threading.Event()

    def look() -> None:
        process = psutil.Process(pid)
        while not ended.wait(PERIOD_S):
            with contextlib.suppress(psutil.NoSuchProcess):
                below = process.children(recursive=True)
                seen.append(Peak(anonymous_mb(pid), sum(anonymous_mb(child.pid) for child in below)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def anonymous_mb(pid: int) -> float:
    """Of one process; 0 where it has ended."""
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/status").open() as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def print_table(found: list[Measured], bare_mb: float, megapixels: Iterable[float]) -> None:
    limits = {round(size): LIMITS_MB[size] for size in LIMITS_MB if size in megapixels}
    rows: list[list[report.Cell]] = []
    for fmt in dict.fromkeys(one.format for one in found):
        of_format = [one for one in found if one.format == fmt]
        rates = growth([one for one in of_format if not one.shape.tall])
        for before, one in zip([None, *of_format], of_format, strict=False):
            limit = None if one.shape.tall else limits.get(round(one.shape.megapixels))
            rows.append(
                [
                    f"{fmt} {one.shape.width} x {one.shape.height}",
                    round(one.shape.megapixels),
                    round(one.peak.total - bare_mb),
                    round(one.peak.codecs),
                    limit,
                    verdict(one, before, bare_mb, limit),
                    one.wall_s,
                    one.cpu_s,
                    rates.get(one.shape),
                ]
            )
    head = "output,MP,peak MB above bare,of it codecs,limit MB,verdict,s,cpu s,cpu s/MP x first"
    print(report.table(head.split(","), rows))


def verdict(one: Measured, before: Measured | None, bare_mb: float, limit: int | None) -> str:
    """Whether a run kept what is asked of it."""
    above = one.peak.total - bare_mb
    if not one.output_mb:
        return "FAILED"
    if one.shape.tall and before is not None:
        ratio = above / (before.peak.total - bare_mb)
        return f"x{ratio:.2f} of the lower one: {'the same' if abs(ratio - 1) <= 0.1 else 'NOT the same'}"
    return "-" if limit is None else ("within" if above <= limit else "BEYOND")


def growth(rows: list[Measured]) -> dict[Shape, float]:
    """Processor's seconds for each megapixel beyond the row above, over those of the first such row."""
    rates = {
        after.shape: (after.cpu_s - before.cpu_s) / (after.shape.megapixels - before.shape.megapixels)
        for before, after in pairwise(rows)
    }
    first = next(iter(rates.values()), 1.0)
    return {shape: rate / first for shape, rate in rates.items()}


if __name__ == "__main__":
    main()
