"""The command ``srbatch`` in a process of its own, with a clock around its network."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import psutil
from torch import nn

from srbatch import cli
from srbatch.upscaling import upscaler
from srbatch.upscaling.arrays import Pixels
from tests.networks import Nothing

ROOT = Path(__file__).parents[2]
STAND_IN, RELEASED = "stand-in", "released"
"""The network: one that adds nothing and costs next to no time, or that of the weights."""
_MAIN = f"from {__name__} import main; main()"
"""Not ``-m``: the codecs' processes would import the main module again, and torch with it."""

Item = TypeVar("Item")


def started(line: Sequence[str | Path], notes: Path, network: str = RELEASED) -> subprocess.Popen[str]:
    """Start ``srbatch`` with a command line of absolute paths; what it says comes through its pipes.

    At the end ``notes`` gets JSON, in seconds: ``ready``, from the start of the process until the network
    could be called; ``busy``, those that the device's thread then spent in it and around it; ``wall``, those
    of the whole process up to its last step.
    """
    return subprocess.Popen(
        [sys.executable, "-c", _MAIN, notes, network, *line],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class _Clocked(upscaler.Upscaler):
    stand_in = False
    ready_s: float | None = None
    busy_s = 0.0

    def __init__(self, network: nn.Module, **settings: Any) -> None:
        super().__init__(Nothing() if _Clocked.stand_in else network, **settings)
        _Clocked.ready_s = _since_start()

    def enlarge(self, *arguments: Any, **settings: Any) -> Iterator[Pixels]:
        return _clocked(super().enlarge(*arguments, **settings))

    def enlarge_together(self, *arguments: Any, **settings: Any) -> list[Iterator[Pixels]]:
        start = time.perf_counter()
        results = super().enlarge_together(*arguments, **settings)
        _Clocked.busy_s += time.perf_counter() - start
        return [_clocked(bands) for bands in results]


def _clocked(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; the time that they take to come is added up."""
    while True:
        start = time.perf_counter()
        try:
            item = next(items)
        except StopIteration:
            return
        finally:
            _Clocked.busy_s += time.perf_counter() - start
        yield item


def _since_start() -> float:
    return time.time() - float(psutil.Process().create_time())


def main() -> None:
    notes, network, *line = sys.argv[1:]
    _Clocked.stand_in = network == STAND_IN
    try:
        with mock.patch.object(upscaler, "Upscaler", _Clocked):
            cli.main(line)
    finally:
        record = {"ready": _Clocked.ready_s, "busy": _Clocked.busy_s, "wall": _since_start()}
        Path(notes).write_text(json.dumps(record))
