"""What the benchmarks share around their measuring: flags, the table, the JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Cell = str | int | float | None
"""Of a table: text as it is, numbers with three digits that count, None as a dash."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """The flags of a benchmark, with ``--json``; its docstring is its help."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return made


def add_folder(flags: argparse.ArgumentParser) -> None:
    """``--folder``, for a benchmark that writes much."""
    flags.add_argument("--folder", type=Path, metavar="DIR", help="work there  [default: system's]")


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Lines of columns as wide as they need to be, the first to the left and the others to the right."""
    lines = [list(head), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.3g}" if abs(cell) < 100 else f"{cell:.0f}"
    return str(cell)


def machine(device: torch.device | None = None) -> str:
    """What the figures were measured on, in a line."""
    import torch

    name = torch.cuda.get_device_name(device) if device and device.type == "cuda" else platform.processor()
    return (
        f"{name or platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores,"
        f" torch {torch.__version__}"
    )


def write(path: Path | None, record: dict[str, Any]) -> None:
    """Write the figures as JSON, if a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(record, indent=1) + "\n")
