"""The run that ``kills.py`` kills: ``srbatch upscale --scale 2`` with a network that costs next to no time.

    python -m tests.bench.killed_run PHOTOS OUT LOG

The name of each photo that is started is appended to LOG; a failure goes to standard error. torch is loaded
with the first photo, as in the command itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

from srbatch import run
from srbatch.discovery.found import Photo
from srbatch.options import Options, TargetSize
from srbatch.reporting.outcome import Outcome
from srbatch.reporting.report import Silent
from tests.bench.stand_in import StandIn

SCALE = 2


class Tiny(StandIn):
    """Around a network of one convolution."""

    network = "Local"


class Log(Silent):
    """Notes each photo that is started, unbuffered, so that a kill takes no name away."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def started(self, photo: Photo, pixels: int) -> None:
        self._file.write(f"{photo.relative.as_posix()}\n".encode())

    def finished(self, outcome: Outcome) -> None:
        if outcome.status == "failed":
            print(outcome.photo.relative, outcome.error, outcome.reason, file=sys.stderr)


def main() -> None:
    photos, out, log = map(Path, sys.argv[1:])
    options = Options(inputs=(photos,), out=out, size=TargetSize(scale=float(SCALE)))
    sys.exit(run.upscale(options, reporter=Log(log), model_of=Tiny))


if __name__ == "__main__":
    main()
