"""Measure how much of the machine the released network uses: its rate beside two ceilings of the same run.

    python -m tests.bench.network [--scales 1 2 4] [--device cuda] [--profile]

The network alone is called, as the upscaler calls it: a batch of tiles of the default size in the precision
of the device. The ceilings are a large matrix product and a 3 x 3 convolution of 64 channels to 64 over the
same tiles, both in that precision. All of them take turns; rates are of medians. Work is counted in products
(multiply and add, MAC) of convolutions and matrices; all else counts as none.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from srbatch import weights
from srbatch.card import Card
from srbatch.errors import SrbatchError
from srbatch.options import PRECISIONS
from srbatch.upscaling.openvino_engine import OpenVinoNetwork
from srbatch.upscaling.tile_memory import Tiles
from srbatch.upscaling.upscaler import Upscaler
from tests.bench import report

MATMUL, CONVOLUTION = "matrix product", "3 x 3 convolution"
"""The ceilings."""
CHANNELS = 64
SIDE = {"cpu": 2048, "cuda": 8192, "mps": 4096}
"""Of the matrices: large enough that a larger one is not faster."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OPERATORS = 10
"""Shown of a profile."""
ENGINES = ("torch", "openvino")

Work = Callable[[], Any]


def main() -> None:
    flags = report.parser(__doc__)
    flags.add_argument("--model", default="photo", help="name or path  [default: photo]")
    flags.add_argument("--scales", type=int, nargs="+", help="[default: all of the model's]")
    flags.add_argument("--device", default="auto", help="[default: auto]")
    flags.add_argument("--precision", choices=PRECISIONS, default="auto", help="[default: auto]")
    flags.add_argument("--engine", choices=ENGINES, default="torch", help="[default: torch]")
    flags.add_argument("--tile", type=int, help="[default: by free memory]")
    flags.add_argument("--batch", type=int, help="tiles at once  [default: by free memory]")
    flags.add_argument("--runs", type=int, default=5, help="of each row of the table  [default: 5]")
    flags.add_argument("--profile", action="store_true", help="show the operators that take most")
    arguments = flags.parse_args()
    try:
        path = weights.find(arguments.model)
        card, network = weights.read_card(path), weights.load(path).network
        scales = arguments.scales or card.scales
        if not set(scales) <= set(card.scales):
            flags.error(f"--scales: {card} has {', '.join(map(str, card.scales))}")
        macs = {scale: macs_per_px(network, scale) for scale in scales}
        setting = Setting.of(network, card, arguments)
    except SrbatchError as error:
        flags.error(str(error))
    works = setting.works(macs)
    seconds = measure({name: work for name, (work, _) in works.items()}, setting.device, arguments.runs)
    rates = {name: count / median(seconds[name]) for name, (_, count) in works.items()}
    print(f"{report.machine(setting.device)}; {setting}")
    print(table(rates, {name: median(found) for name, found in seconds.items()}, macs, setting.pixels))
    if arguments.profile:
        for scale in macs:
            print(f"\nx{scale}\n{operators(works[f'x{scale}'][0], setting.device)}")
    record = {"setting": str(setting), "seconds": seconds, "mac_per_s": rates}
    record["gmac_per_input_megapixel"] = {f"x{scale}": count / 1e3 for scale, count in macs.items()}
    report.write(arguments.json, record)


@dataclass(frozen=True)
class Setting:
    """How the upscaler would call the network."""

    network: nn.Module
    device: torch.device
    engine: str
    precision: str
    tiles: Tiles

    @classmethod
    def of(cls, network: nn.Module, card: Card, arguments: argparse.Namespace) -> Setting:
        """Let an upscaler choose what was not said."""
        openvino = arguments.engine == "openvino"
        if openvino:
            network = OpenVinoNetwork(network, required=True)
        upscaler = Upscaler(
            network,
            scales=card.scales,
            halo=card.halo_px,
            ramp=card.ramp_px,
            device="cpu" if openvino else arguments.device,
            precision=arguments.precision,
            tile=arguments.tile,
            batch=arguments.batch,
        )
        return cls(upscaler.network, upscaler.device, upscaler.engine, upscaler.precision, upscaler.tiles)

    @property
    def pixels(self) -> int:
        """Of a batch."""
        return self.tiles.batch * self.tiles.tile**2

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.precision]

    def noise(self, channels: int, dtype: torch.dtype) -> torch.Tensor:
        """A batch of tiles in the order in memory that the network gets."""
        shape = (self.tiles.batch, channels, self.tiles.tile, self.tiles.tile)
        noise = torch.rand(shape, device=self.device, dtype=dtype)
        return noise.contiguous(memory_format=torch.channels_last)

    def works(self, macs: dict[int, float]) -> dict[str, tuple[Work, float]]:
        """The rows of the table: what is called, and how many MACs it is."""
        made = {MATMUL: self._matrix_product(), CONVOLUTION: self._convolution()}
        for scale, per_px in macs.items():
            made[f"x{scale}"] = self._call(scale), per_px * self.pixels
        return made

    def _matrix_product(self) -> tuple[Work, float]:
        side = SIDE[self.device.type]
        a, b = (torch.rand(side, side, device=self.device, dtype=self.dtype) for _ in range(2))
        return lambda: a @ b, float(side**3)

    def _convolution(self) -> tuple[Work, float]:
        x = self.noise(CHANNELS, self.dtype)
        kernel = torch.rand(CHANNELS, CHANNELS, 3, 3, device=self.device, dtype=self.dtype)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        return lambda: F.conv2d(x, kernel, padding=1), 9.0 * CHANNELS * x.numel()

    def _call(self, scale: int) -> Work:
        x = self.noise(3, torch.float32)

        def work() -> Any:
            with torch.autocast(self.device.type, self.dtype, enabled=self.precision != "fp32"):
                return self.network(x, scale)

        return work

    def __str__(self) -> str:
        tiles = f"{self.tiles.batch} x {self.tiles.tile} px tiles"
        return f"{self.engine} on {self.device}, {self.precision}, {tiles}"


def macs_per_px(network: nn.Module, scale: int) -> float:
    """Products for each input pixel, counted by torch without computing anything."""
    side = 256
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copy.deepcopy(network).to("meta")(torch.empty(1, 3, side, side, device="meta"), scale)
    return float(counter.get_total_flops()) / 2 / side**2


# ---- measuring -----------------------------------------------------------------------------------


@torch.inference_mode()
def measure(works: dict[str, Work], device: torch.device, runs: int) -> dict[str, list[float]]:
    """Return the seconds of each, which take turns; a turn is two calls, of which the second is counted.

    A photo's tiles are of one scale, and memory that another one had is given back by the first of them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            work()
            synchronize(device)
            start = time.perf_counter()
            work()
            synchronize(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was asked for."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def table(rates: dict[str, float], seconds: dict[str, float], macs: dict[int, float], pixels: int) -> str:
    """The ceilings and the network at each scale, as shares of both ceilings."""
    by_name = {f"x{scale}": (scale, count) for scale, count in macs.items()}
    rows: list[list[report.Cell]] = []
    for name, rate in rates.items():
        scale, count = by_name.get(name, (None, None))
        output_rate = pixels * scale**2 / seconds[name] / 1e6 if scale else None
        shares: list[report.Cell] = [f"{rate / rates[ceiling]:.0%}" for ceiling in (MATMUL, CONVOLUTION)]
        rows.append([name, count / 1e3 if count else None, seconds[name], rate / 1e9, *shares, output_rate])
    head = "|GMAC per input MP|s|GMAC/s|of matrix product|of convolution|output MP/s"
    return report.table(head.split("|"), rows)


@torch.inference_mode()
def operators(work: Work, device: torch.device) -> str:
    """The operators that take most time of a call, on the device that it runs on."""
    gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as found:
        work()
        synchronize(device)
    averages = found.key_averages()
    taken = {one.key: one.self_device_time_total if gpu else one.self_cpu_time_total for one in averages}
    whole, calls = sum(taken.values()), {one.key: one.count for one in averages}
    longest = sorted(taken, key=lambda key: taken[key], reverse=True)[:OPERATORS]
    rows = [[key[:70], calls[key], taken[key] / 1e3, f"{taken[key] / whole:.1%}"] for key in longest]
    return report.table(["operator", "calls", "ms", "share"], rows)


if __name__ == "__main__":
    main()
