"""Measure what the tool costs beyond its network: a run over the same tiles sent in a plain loop.

    python -m tests.bench.overhead [PHOTO...]

The photos, or scikit-learn's two samples, are upscaled by a real run in this process with the released
weights; each call that reaches the network is timed and its shape kept. The network is then called with
the same shapes and nothing around it. Both take turns, and the ratios are of medians. Loading torch and the
weights happens once in a run over any number of photos; it comes before and is told by itself. On a busy
machine the processor's seconds, the codec worker's among them, tell more than the clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from torch import Tensor, nn

from srbatch import run, weights
from srbatch.errors import ExitCode
from srbatch.model import Model
from srbatch.options import Options, TargetSize
from srbatch.reporting.report import Silent
from srbatch.upscaling.tile_memory import Tiles
from srbatch.upscaling.upscaler import Upscaler

RUN, NETWORK, BARE = "whole run", "its calls of the network", "the same calls in a plain loop"
"""The rows of the table."""

Call = tuple[tuple[int, ...], int]
"""Shape (B, 3, h, w) of what a network was given, and the scale."""


@dataclass(frozen=True)
class Seconds:
    """Seconds by the clock, and those of the processor that this process and its ended children took."""

    wall: float = 0.0
    cpu: float = 0.0

    @classmethod
    def now(cls) -> Seconds:
        """Both since some moment in the past."""
        return cls(time.perf_counter(), sum(os.times()[:4]))

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)


class Timed(nn.Module):
    """A network on the CPU that notes its calls and the time that they take."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls: list[Call] = []
        self.seconds = Seconds()

    def forward(self, x: Tensor, scale: int) -> Tensor:
        start = Seconds.now()
        result: Tensor = self.network(x, scale)
        self.seconds += Seconds.now() - start
        self.calls.append((tuple(x.shape), scale))
        return result


class TimedModel(Model):
    """The weights of a run with a timed network on the CPU."""

    @cached_property
    def timed(self) -> Timed:
        """The network, loaded when it is first asked for."""
        return Timed(weights.load(self.path).network)

    @cached_property
    def upscalers(self) -> list[Upscaler]:
        card, precision = self.card, self._options.precision
        return [
            Upscaler(
                self.timed,
                scales=card.scales,
                halo=card.halo_px,
                ramp=card.ramp_px,
                device="cpu",
                precision=precision,
            )
        ]


@dataclass
class Figures:
    """What a benchmark found."""

    load_s: float
    """Of the weights, into a network that is ready to be called."""
    precision: str
    tiles: Tiles
    """What the run chose by free memory."""
    calls: list[Call] = field(default_factory=list)
    """Of one run; all send the same."""
    seconds: dict[str, list[Seconds]] = field(default_factory=lambda: {RUN: [], NETWORK: [], BARE: []})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path, metavar="PHOTO", help="[default: two samples]")
    parser.add_argument("--scale", type=float, default=4.0, help="[default: 4]")
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), default="auto", help="[default: auto]"
    )
    parser.add_argument("--runs", type=int, default=3, help="of each of both  [default: 3]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="srbatch-overhead-") as made:
        folder = Path(made)
        gather(arguments.photos, folder / "photos")
        figures = measure(folder, arguments.scale, arguments.precision, arguments.runs)
        pixels = sum(pixels_of(path) for path in (folder / "photos").iterdir())
    print_table(figures, pixels)
    if arguments.json:
        record = {"threads": torch.get_num_threads(), "pixels": pixels, **asdict(figures)}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def gather(photos: list[Path], folder: Path) -> None:
    """Copy the photos, or the two samples, into a new folder."""
    folder.mkdir()
    for photo in photos:
        shutil.copy(photo, folder)
    if not photos:
        from sklearn.datasets import load_sample_image  # type: ignore[import-untyped]

        for name in ("china.jpg", "flower.jpg"):
            Image.fromarray(load_sample_image(name)).save(folder / name, quality=95)


def pixels_of(path: Path) -> int:
    with Image.open(path) as image:
        return image.width * image.height


def measure(folder: Path, scale: float, precision: str, runs: int) -> Figures:
    """Time ``runs`` runs and plain loops in turn; one of each comes first and is not counted."""
    options = Options(
        inputs=(folder / "photos",), out=folder / "hi", size=TargetSize(scale=scale), precision=precision
    )
    model, start = TimedModel(options), time.perf_counter()
    precision = model.upscaler.precision
    figures = Figures(time.perf_counter() - start, precision, model.upscaler.tiles)
    for counted in [False] + [True] * runs:
        whole = one_run(options, model)
        calls, figures.calls = figures.calls, list(model.timed.calls)
        plain = bare(model.timed.network, figures.calls, half=precision == "bf16")
        if not counted:
            continue
        if figures.calls != calls:
            raise SystemExit("two runs sent different tiles to the network; is memory short?")
        for row, seconds in {RUN: whole, NETWORK: model.timed.seconds, BARE: plain}.items():
            figures.seconds[row].append(seconds)
    return figures


def one_run(options: Options, model: TimedModel) -> Seconds:
    """Upscale into a new folder, and remove it; return what it took from the options to the exit code."""
    model.timed.calls, model.timed.seconds = [], Seconds()
    start = Seconds.now()
    code = run.upscale(options, reporter=Silent(), model_of=lambda _: model)
    taken = Seconds.now() - start
    if code is not ExitCode.DONE:
        raise SystemExit("a photo failed; `srbatch upscale` of the same photos tells why")
    shutil.rmtree(options.out)
    return taken


@torch.inference_mode()
def bare(network: nn.Module, calls: list[Call], *, half: bool) -> Seconds:
    """Call the network with noise of the shapes that a run sent; return what it took."""
    inputs = {shape: torch.rand(shape).contiguous(memory_format=torch.channels_last) for shape, _ in calls}
    start = Seconds.now()
    for shape, scale in calls:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            network(inputs[shape], scale)
    return Seconds.now() - start


def print_table(figures: Figures, pixels: int) -> None:
    sent = sum(shape[0] * shape[2] * shape[3] for shape, _ in figures.calls)
    print(
        f"{pixels / 1e6:.2f} megapixels, {figures.precision}, {torch.get_num_threads()} threads;"
        f" loading the weights took {figures.load_s:.2f} s"
    )
    print(f"{sent / 1e6:.2f} megapixels in {len(figures.calls)} calls reached the network:")
    for (shape, scale), count in Counter(figures.calls).most_common():
        print(f"  {count:4} x {shape} at x{scale}")
    for unit in ("wall", "cpu"):
        columns = {row: [getattr(s, unit) for s in found] for row, found in figures.seconds.items()}
        print(f"{unit + ' seconds':32}     min    median  x network  x plain loop")
        for row, found in columns.items():
            ratios = [median(found) / median(columns[base]) for base in (NETWORK, BARE)]
            print(f"  {row:30} {min(found):7.2f}  {median(found):8.2f}  {ratios[0]:9.3f}  {ratios[1]:12.3f}")


if __name__ == "__main__":
    main()
