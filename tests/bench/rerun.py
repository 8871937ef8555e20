"""Measure how long `srbatch upscale` takes to find that an archive is finished.

    python -m tests.bench.rerun [--photos 1000 10000 100000]

A tree of tiny photos is made and upscaled by a real run, whose network alone is replaced by one that adds
nothing; the recipes in the ledger are those of the real weights. The installed command must then skip every
photo. It is timed in turn with ``os.walk`` and ``os.stat`` over the same tree, and with the command over an
archive of one photo, which tells its start-up. All of it is in the system's file cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from srbatch import run
from srbatch.errors import ExitCode
from srbatch.model import Model
from srbatch.options import Options, TargetSize
from srbatch.reporting.report import Silent
from srbatch.resume import CURRENT
from srbatch.upscaling.upscaler import Upscaler
from tests.bench import report
from tests.networks import Nothing

COMMAND = Path(sys.executable).with_name("srbatch")
SIDE_PX = 16
PER_FOLDER = 100


class DoesNothing(Model):
    """The released model as the ledger knows it, around a network that costs no time."""

    @cached_property
    def upscalers(self) -> list[Upscaler]:
        card = self.card
        return [Upscaler(Nothing(), scales=card.scales, halo=card.halo_px, ramp=card.ramp_px, device="cpu")]


def main() -> None:
    flags = report.parser(__doc__)
    flags.add_argument(
        "--photos", type=int, nargs="+", default=[10_000], metavar="N", help="[default: 10000]"
    )
    flags.add_argument("--runs", type=int, default=5, help="of each row of the table  [default: 5]")
    report.add_folder(flags)
    arguments = flags.parse_args()
    sizes = []
    with tempfile.TemporaryDirectory(prefix="srbatch-rerun-", dir=arguments.folder) as made:
        one = Path(made) / "one"
        finished_archive(one, 1)
        for count in arguments.photos:
            many = Path(made) / str(count)
            start = time.perf_counter()
            finished_archive(many, count)
            first_run_s = time.perf_counter() - start
            print(f"\n{count} photos of {SIDE_PX} px, made and upscaled in {first_run_s:.0f} s")
            times = measure(one, many, count, arguments.runs)
            print_table(times, count)
            sizes.append({"photos": count, "first_run_s": first_run_s, "seconds": times})
            shutil.rmtree(many)
    report.write(arguments.json, {"archives": sizes})


def finished_archive(folder: Path, count: int) -> None:
    """Make ``count`` photos in ``folder/photos`` and a finished archive of them in ``folder/hi``."""
    make_photos(folder / "photos", count)
    options = Options(inputs=(folder / "photos",), out=folder / "hi", size=TargetSize(scale=1.0))
    if run.upscale(options, reporter=Silent(), model_of=DoesNothing) is not ExitCode.DONE:
        raise SystemExit("the archive could not be made; `srbatch status` of its output tells why")


def make_photos(top: Path, count: int) -> None:
    """Write photos of noise, no two the same, PNG and JPEG in turn, ``PER_FOLDER`` to a folder."""
    generator = np.random.default_rng(0)
    for index in range(count):
        folder = top / f"{index // PER_FOLDER:04}"
        if index % PER_FOLDER == 0:
            folder.mkdir(parents=True)
        pixels = generator.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:06}{('.png', '.jpg')[index % 2]}")


def measure(one: Path, many: Path, count: int, runs: int) -> dict[str, list[float]]:
    """Return the wall seconds of each run by row; one of each comes first and is not counted."""
    rows: dict[str, Callable[[], None]] = {
        "os.walk + os.stat, photos": lambda: walk(many / "photos"),
        "os.walk + os.stat, photos and outputs": lambda: walk(many),
        "srbatch upscale, one photo, done before": lambda: rerun(one, 1),
        "srbatch upscale, all photos, done before": lambda: rerun(many, count),
    }
    times: dict[str, list[float]] = {name: [] for name in rows}
    for counted in [False] + [True] * runs:
        for name, work in rows.items():
            start = time.perf_counter()
            work()
            if counted:
                times[name].append(time.perf_counter() - start)
    return times


def walk(top: Path) -> None:
    """Ask the size and date of every file below ``top``, with as little around it as Python allows."""
    for folder, _, names in os.walk(top):
        for name in names:
            os.stat(f"{folder}/{name}")  # noqa: PTH116 - a Path for each name takes longer than its stat


def rerun(archive: Path, count: int) -> None:
    """Run the command over a finished archive; it must skip every photo as done and unchanged."""
    command: list[str | Path] = [
        COMMAND,
        "upscale",
        archive / "photos",
        "--scale",
        "1",
        "--out",
        archive / "hi",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    summary = [line.strip() for line in done.stderr.splitlines()]
    for due in (f"0 done, {count} skipped, 0 failed", f"{count} skipped: {CURRENT}"):
        if done.returncode or not any(line.startswith(due) for line in summary):
            raise SystemExit(f"no {due!r} of it, exit code {done.returncode}:\n{done.stderr}")


def print_table(times: dict[str, list[float]], count: int) -> None:
    base = next(iter(times.values()))
    print(
        report.table(
            ["", "min s", "median s", "x walk of the photos (median)"],
            [
                [name, f"{min(found):.3f}", f"{median(found):.3f}", f"{median(found) / median(base):.1f}"]
                for name, found in times.items()
            ],
        )
    )
    *_, start_up, all_photos = times.values()
    per_photo_s = (median(all_photos) - median(start_up)) / max(count - 1, 1)
    print(f"beyond start-up {per_photo_s * 1e6:.0f} us a photo; the summary said each time: {CURRENT}")


if __name__ == "__main__":
    main()
