"""Measure how long a photo waits for the watcher once it is whole.

    python -m tests.bench.latency [--photos 20] [--settle 2] [--poll 5]

Small photos come one by one into a watched folder, at random moments. From the end of writing to the output
in its place pass the time to settle, which was asked for and is taken off here, the watcher's delay, and the
work itself, which is little: 64 x 64 px, and a network that adds nothing. Rows: woken by file events, and
looking through the folder every ``--poll`` seconds.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from tests.bench import report

ROOT = Path(__file__).parents[2]
LONGEST_S = 60.0
"""A photo that is waited for longer was missed."""


def main() -> None:
    flags = report.parser(__doc__)
    report.add_folder(flags)
    flags.add_argument("--photos", type=int, default=20, help="for each row  [default: 20]")
    flags.add_argument("--settle", type=float, default=2.0, help="seconds  [default: 2]")
    flags.add_argument("--poll", type=float, default=5.0, help="seconds  [default: 5]")
    arguments = flags.parse_args()
    record = {}
    for name, poll in (("events", None), (f"--poll {arguments.poll:g}", arguments.poll)):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            found = delays(Path(folder), arguments.photos, arguments.settle, poll)
        record[name] = found
    print(f"{report.machine()}; from written to there, less --settle {arguments.settle:g}, in seconds")
    rows = [(name, median(found), max(found)) for name, found in record.items()]
    print(report.table(("woken by", "median", "longest"), rows))
    report.write(arguments.json, {"settle_s": arguments.settle, "delay_s": record})


def delays(folder: Path, photos: int, settle: float, poll: float | None) -> list[float]:
    """Seconds from a photo's last byte to its output, less the time to settle."""
    drop, out = folder / "drop", folder / "out"
    drop.mkdir()
    random_ = random.Random(1)
    found = []
    with watching(drop, out, settle, poll):
        for number in range(photos + 1):
            pixels = np.full((64, 64, 3), number, np.uint8)
            Image.fromarray(pixels).save(drop / f"{number}.png")
            written = time.monotonic()
            while not (out / f"{number}.png").exists():
                if time.monotonic() - written > LONGEST_S + settle + (poll or 0):
                    raise SystemExit(f"{number}.png did not come: {sorted(out.iterdir())}")
                time.sleep(0.005)
            found.append(time.monotonic() - written - settle)
            time.sleep(random_.uniform(0.1, max(poll or 0, 1.0)))
    return found[1:]  # with the first the workers and the network start


@contextmanager
def watching(drop: Path, out: Path, settle: float, poll: float | None) -> Iterator[None]:
    """A watcher, until the block is left."""
    command = [sys.executable, "-m", "tests.bench.watched_run", "--settle", str(settle)]
    command += ["--poll", str(poll)] if poll else []
    process = subprocess.Popen([*command, str(drop), str(out)], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


if __name__ == "__main__":
    main()
