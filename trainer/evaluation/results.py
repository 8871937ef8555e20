"""What an evaluation found: rows per picture and method, their summary, and the files that hold both."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from srbatch.outputs.commit import destination_error
from trainer.evaluation import metrics

COLUMNS: Mapping[str, tuple[str, int]] = {
    "psnr_y": ("PSNR-Y, dB", 2),
    "ssim_y": ("SSIM-Y", 4),
    "psnr_rgb": ("PSNR-RGB, dB", 2),
    "ssim_rgb": ("SSIM-RGB", 4),
    "psnr_y_mask": ("PSNR-Y in the mask, dB", 2),
    "psnr_rgb_mask": ("PSNR-RGB in the mask, dB", 2),
    "distance": ("feature distance", 4),
    "distance_ratio": ("feature distance, relative", 3),
    "lpips": ("LPIPS", 4),
    "colour_drift": ("colour drift from the input, 1/255", 2),
    "colour_error": ("colour error, 1/255", 2),
    **{
        f"grid_{surface}_{period}": (f"grid {period} px, {surface}", 2)
        for surface in ("flat", "textured")
        for period in metrics.GRID_PERIODS_PX
    },
}
"""Key of a metric to its heading and decimals in the report."""


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one method on one picture, by the keys of `COLUMNS`; what does not apply is absent."""

    image: str
    method: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Results:
    """What was measured, and how."""

    title: str
    protocol: Mapping[str, str]
    """What was measured and by which rules, by heading."""
    rows: tuple[Row, ...]
    summary: Mapping[str, Mapping[str, float]]
    """Method, metric: means over the pictures; but the largest of colour, and the grid of all patches."""
    left_out: tuple[tuple[str, str], ...]
    """(file, reason)."""
    not_measured: Mapping[str, str]
    """Metric to reason."""

    def describe(self) -> str:
        """The report in Markdown."""
        keys = [key for key in COLUMNS if any(key in values for values in self.summary.values())]
        lines = [f"# {self.title}", ""]
        lines += [f"- **{name}:** {text}" for name, text in self.protocol.items()]
        lines += [f"- **{metric}:** not measured, {reason}" for metric, reason in self.not_measured.items()]
        lines += ["", *self._table([key for key in keys if not key.startswith(("colour", "grid"))])]
        lines += ["", *self._table([key for key in keys if key.startswith(("colour", "grid"))])]
        if self.left_out:
            lines += ["", "Left out:", "", *(f"- {name}: {reason}" for name, reason in self.left_out)]
        return "\n".join(lines) + "\n"

    def _table(self, keys: Sequence[str]) -> list[str]:
        lines = ["| | " + " | ".join(COLUMNS[key][0] for key in keys) + " |", "|---" * (len(keys) + 1) + "|"]
        for method, values in self.summary.items():
            cells = (f"{values[key]:.{COLUMNS[key][1]}f}" if key in values else "" for key in keys)
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        return lines


def write(results: Results, out: Path) -> None:
    """Write ``results.md``, ``results.json`` and ``images.csv`` into the folder ``out``, which exists.

    Raises:
        DestinationError: a file cannot be written.
    """
    try:
        (out / "results.md").write_text(results.describe(), encoding="utf-8")
        text = json.dumps(_finite(asdict(results)), indent=1, allow_nan=False)
        (out / "results.json").write_text(text + "\n", encoding="utf-8")
        with (out / "images.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            keys = [key for key in COLUMNS if any(key in row.values for row in results.rows)]
            table.writerow(["image", "method", *keys])
            table.writerows(
                [row.image, row.method, *(row.values.get(k, "") for k in keys)] for row in results.rows
            )
    except OSError as error:
        raise destination_error(error, out) from error


def _finite(data: object) -> object:
    """JSON has no infinity, which is the PSNR of equal pictures: null."""
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
