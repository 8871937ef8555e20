"""Curves of a run, from its log."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path


def plot_losses(log: Path, path: Path) -> None:
    """Draw every term of the loss, the rate and the validation's PSNR over samples, as a PNG."""
    from matplotlib.figure import Figure

    series = read(log)
    if not series:
        return
    panels = {
        "loss": {
            k: v for k, v in series.items() if k[1] not in ("lr", "samples_per_s") and "psnr" not in k[1]
        },
        "learning rate": {k: v for k, v in series.items() if k[1] == "lr"},
        "PSNR of the validation crops, dB": {k: v for k, v in series.items() if "psnr" in k[1]},
    }
    figure = Figure(figsize=(8, 10), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(3, sharex=True), panels.items(), strict=True):
        for (kind, name), points in sorted(lines.items()):
            axes.plot(
                *zip(*points, strict=True), label=f"{name}, {kind}", marker="." if kind == "valid" else ""
            )
        axes.set(title=title, yscale="log" if title != "PSNR of the validation crops, dB" else "linear")
        if lines:
            axes.legend(fontsize="small")
    axes.set_xlabel("samples")
    figure.savefig(path, dpi=120)


def read(log: Path) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """(samples, value) of each (kind, name) of ``log.csv``."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    with log.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["kind"], row["name"]].append((int(row["samples"]), float(row["value"])))
    return dict(found)
