"""Measure what runs the released network on a CPU: torch and OpenVINO, each in fp32 and bf16, tile by tile.

    python -m tests.bench.engines [--tiles 256 512] [--scale 4] [--runs 3]

Engines take turns, so that another program on the machine takes from all. Medians are of the runs after the
first, which is told by itself: it holds what is prepared for a tile, and with OpenVINO's very first the
conversion and the comparison with torch. On a busy machine the processor's seconds tell more than the clock.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from statistics import median

import torch
from torch import Tensor, nn

from srbatch import weights
from srbatch.upscaling.openvino_engine import OpenVinoNetwork
from tests.bench import report


@dataclass
class Figures:
    """What was found for one engine and tile."""

    engine: str
    precision: str
    tile: int
    """Pixels of the input on a side."""
    first_s: float
    """Of the first tile of this size, with all that is prepared for it."""
    wall_s: list[float] = field(default_factory=list)
    """Of each tile after it, by the clock."""
    cpu_s: list[float] = field(default_factory=list)
    """And of the processor, all threads together."""

    @property
    def mp_per_s(self) -> float:
        """Megapixels of the input per second by the clock."""
        return self.tile**2 / 1e6 / median(self.wall_s)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--tiles", type=int, nargs="+", default=[256, 512], help="[default: 256 512]")
    parser.add_argument("--scale", type=int, default=4, choices=(1, 2, 4), help="[default: 4]")
    parser.add_argument("--runs", type=int, default=3, help="of each, beside the first  [default: 3]")
    parser.add_argument("--model", default="photo", help="[default: photo]")
    arguments = parser.parse_args()
    network = weights.load(weights.find(arguments.model)).network
    engines: dict[str, nn.Module] = {
        "torch": network.to(memory_format=torch.channels_last),
        "openvino": OpenVinoNetwork(weights.load(weights.find(arguments.model)).network, required=True),
    }
    figures = [
        row for tile in arguments.tiles for row in measure(engines, tile, arguments.scale, arguments.runs)
    ]
    print(f"x{arguments.scale}, {torch.get_num_threads()} threads")
    print_table(figures)
    record = {
        "scale": arguments.scale,
        "threads": torch.get_num_threads(),
        "rows": [{**asdict(row), "mp_per_s": row.mp_per_s} for row in figures],
    }
    report.write(arguments.json, record)


def measure(engines: dict[str, nn.Module], tile: int, scale: int, runs: int) -> list[Figures]:
    """Time one tile of noise through every engine in every precision, in turns."""
    x = torch.rand(1, 3, tile, tile).contiguous(memory_format=torch.channels_last)
    rows = [
        Figures(name, precision, tile, seconds(engine, x, scale, precision)[0])
        for name, engine in engines.items()
        for precision in ("fp32", "bf16")
    ]
    for _ in range(runs):
        for row in rows:
            wall, cpu = seconds(engines[row.engine], x, scale, row.precision)
            row.wall_s.append(wall)
            row.cpu_s.append(cpu)
    return rows


@torch.inference_mode()
def seconds(engine: nn.Module, x: Tensor, scale: int, precision: str) -> tuple[float, float]:
    """By the clock and of the processor, for one call in the way that ``Upscaler`` calls a network."""
    wall, cpu = time.perf_counter(), time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        engine(x, scale)
    return time.perf_counter() - wall, time.process_time() - cpu


def print_table(figures: list[Figures]) -> None:
    print("                                  median seconds               times torch fp32")
    print("engine    precision  tile  first, s   wall    cpu    MP/s     by wall  by cpu")
    for row in figures:
        base = next(other for other in figures if other.tile == row.tile)  # torch in fp32 comes first
        wall, cpu = (median(base.wall_s) / median(row.wall_s), median(base.cpu_s) / median(row.cpu_s))
        print(
            f"{row.engine:9} {row.precision:9} {row.tile:5} {row.first_s:9.2f} {median(row.wall_s):6.2f}"
            f" {median(row.cpu_s):6.2f} {row.mp_per_s:7.4f} {wall:11.2f} {cpu:7.2f}"
        )


if __name__ == "__main__":
    main()
