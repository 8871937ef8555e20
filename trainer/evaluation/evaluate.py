"""Weights measured on pictures, by the protocol of the field, beside enlarging without a network.

The low resolution is made from each picture, enlarged by srbatch itself (with its tiles, precision and
rounding, as users get them) and compared with the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from srbatch import weights as files
from srbatch.discovery.apart import check_outside
from srbatch.errors import UsageError
from srbatch.options import MAX_FACTOR, check_strength
from srbatch.outputs.commit import make_folder
from srbatch.upscaling.upscaler import Upscaler, head_for
from trainer.data import to_floats
from trainer.evaluation import metrics, sheets
from trainer.evaluation.bench import PREDICTION, Bench, Sample
from trainer.evaluation.metrics import Mask
from trainer.evaluation.results import Results, Row, write
from trainer.photos import SUFFIXES, decode

_SHOWN = ("input", "nearest", "bilinear", "bicubic", PREDICTION)


def evaluate(
    weights: Path | str,
    data: Path,
    *,
    scale: int,
    out: Path,
    degrade: str | None = None,
    feature_weights: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    strength: float = 1.0,
    tta: bool = False,
    first: str | None = None,
) -> Results:
    """Measure weights on the pictures in the folder ``data`` and write the report into the folder ``out``.

    Written are ``images.csv``, ``results.md``, ``results.json``, ``best.png``, ``median.png``, ``worst.png``
    and ``sheets.pdf``; older files of these names are replaced. Where standard error is a terminal, a bar
    shows how many pictures are done.

    Args:
        weights: a file, or the name of a released model.
        scale: a whole factor that srbatch enlarges by, 1 to 8; 1 measures restoration: the picture is then
            its own low resolution, before ``degrade``.
        degrade: damage done to the low resolution, as `trainer.degradations.damage.parse_damage` reads it.
        feature_weights: DenseNet-169 for `metrics.FeatureDistance`; without it that is not measured.
        strength: of the network's residual, as ``srbatch --strength``.
        tta: whether it is averaged over eight views, as ``srbatch --tta``.
        first: a model that is run before, at the size of the low resolution, as ``srbatch --first``.

    Raises:
        UsageError: no picture can be used, ``out`` lies among them, ``degrade``, ``scale`` or ``strength`` is
            not known, or ``first`` not for x1.
        WeightsError: weights are missing or damaged.
        DeviceError: there is no such device, or a picture does not fit into it.
        DestinationError: ``out`` cannot be written.
    """
    if not 1 <= scale <= MAX_FACTOR:
        raise UsageError(f"--scale {scale}: a whole factor from 1 to {MAX_FACTOR} is possible")
    check_strength(strength)
    check_outside((data,), {"--out": out})
    make_folder(out)
    model, before = _models(weights, first, scale)
    card = model.card
    how: dict[str, Any] = {"device": device, "precision": precision, "strength": strength, "tta": tta}
    run_first = _upscaler(before, (1,), **how) if before else None
    upscaler = _upscaler(model, card.scales, **how, first=run_first)
    bench = Bench.of(upscaler, scale, degrade, feature_weights)
    paths, left_out = pictures(data, bench)
    tally = _Tally()
    bar = tqdm(paths, unit="picture", dynamic_ncols=True, disable=None)  # None: seen at a terminal only
    for path in bar:
        tally.add(bench, bench.sample(path))
    protocol = {
        **({"run first, at x1": _file(before)} if before else {}),
        "weights": _file(model),
        "data": f"{data.resolve().name}, {len(paths)} pictures",
        "scale": f"x{scale}",
        "head": _head(card.scales, scale),
        "run": f"{upscaler.device}, {upscaler.precision}, strength {strength:g}{', tta' if tta else ''}",
        **bench.protocol(feature_weights),
    }
    models = f"{before.card}, then {card}" if before else str(card)
    title = f"{models} on {data.resolve().name} x{scale}{f', {degrade}' if degrade else ''}"
    results = Results(title, protocol, tuple(tally.rows), tally.summary(), left_out, bench.not_measured)
    write(results, out)
    sheets.write(_cases(results, bench, {path.name: path for path in paths}), out)
    return results


def _models(weights: Path | str, first: str | None, scale: int) -> tuple[files.Weights, files.Weights | None]:
    """The model to be measured, and the one that is run before it, if there is one."""
    model = files.load(files.find(weights) if isinstance(weights, str) else weights)
    if scale > model.card.reach:
        raise UsageError(
            f"--scale {scale}: the model {model.card} reaches {model.card.reach};"
            f" use --scale {model.card.reach}, or other --weights"
        )
    before = files.load(files.find(first)) if first else None
    if before and 1 not in before.card.scales:
        raise UsageError(f"--first {first}: the model {before.card} does not serve x1; choose another")
    return model, before


def _upscaler(model: files.Weights, scales: tuple[int, ...], **how: Any) -> Upscaler:
    card = model.card
    return Upscaler(model.network, scales=scales, halo=card.halo_px, ramp=card.ramp_px, **how)


def _file(model: files.Weights) -> str:
    return f"{model.card} ({model.path.name}, sha256 {model.sha256})"


def pictures(data: Path, bench: Bench) -> tuple[list[Path], tuple[tuple[str, str], ...]]:
    """The files of a folder that can be used, by name, and (file, reason) of those that cannot.

    Raises:
        UsageError: there are none.
    """
    if not data.is_dir():
        raise UsageError(f"{data}: there is no such folder of pictures")
    good, bad = [], []
    for path in sorted(data.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in SUFFIXES:
            continue
        try:
            height, width, _ = decode(path).shape
        except Exception as error:  # whatever a codec says: this picture is left out and the rest measured
            bad.append((path.name, f"cannot be read: {error}"))
            continue
        if min(height, width) < bench.least_px:
            bad.append((path.name, f"{width} x {height} px, less than {bench.least_px} px a side"))
        else:
            good.append(path)
    if not good:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in bad[:3]) or "it holds no pictures"
        raise UsageError(f"{data}: no picture can be used to measure on ({reasons})")
    return good, tuple(bad)


def _head(scales: Sequence[int], factor: float) -> str:
    """Which heads serve a factor, in words."""
    head = head_for(factor, scales)
    if head < factor:
        return f"x{head}, and its result through {_head(scales, factor / head)}"
    return f"x{head}" if head == factor else f"x{head}, reduced by Lanczos"


@dataclass(slots=True)
class _Tally:
    """Figures as they come in, picture by picture."""

    rows: list[Row] = field(default_factory=list)
    _grids: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    _flat: list[Mask] = field(default_factory=list)

    def add(self, bench: Bench, sample: Sample) -> None:
        for method, figures in bench.values(sample).items():
            self.rows.append(Row(sample.name, method, figures))
            self._grids.setdefault(method, []).append(metrics.grid_energy(to_floats(sample.outputs[method])))
        self._grids.setdefault("target", []).append(metrics.grid_energy(to_floats(sample.target)))
        self._flat.append(metrics.flat_patches(to_floats(sample.target)))

    def summary(self) -> dict[str, dict[str, float]]:
        methods = dict.fromkeys(row.method for row in self.rows)
        return {method: self._means(method) | self._grid(method) for method in methods}

    def _means(self, method: str) -> dict[str, float]:
        columns: dict[str, list[float]] = {}
        for row in self.rows:
            if row.method == method:
                for key, value in row.values.items():
                    columns.setdefault(key, []).append(value)
        means = {key: float(np.mean(values)) for key, values in columns.items()}
        return means | {key: max(columns[key]) for key in ("colour_drift", "colour_error")}

    def _grid(self, method: str) -> dict[str, float]:
        ours, target = (np.concatenate(self._grids[name]) for name in (method, "target"))
        flat = np.concatenate(self._flat)
        ratios = {}
        for surface, chosen in (("flat", flat), ("textured", ~flat)):
            if chosen.any():
                found = metrics.grid_ratio(ours[chosen], target[chosen])
                for period, ratio in zip(metrics.GRID_PERIODS_PX, found, strict=True):
                    ratios[f"grid_{surface}_{period}"] = float(ratio)
        return ratios


def _cases(results: Results, bench: Bench, paths: Mapping[str, Path]) -> dict[str, sheets.Sheet]:
    """The pictures on which the prediction gains most, middling and least over the baseline, in PSNR-Y."""
    figures = {(row.image, row.method): row.values for row in results.rows}

    def gain(name: str) -> float:
        ours, theirs = (figures[name, method]["psnr_y"] for method in (PREDICTION, bench.baseline))
        return ours - theirs if ours != theirs else 0.0  # both may be infinite

    ranked = sorted(paths, key=gain, reverse=True)
    chosen = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    made = {}
    for case, name in chosen.items():  # made anew: the results of all pictures may not fit into memory
        title = f"{case} of {len(ranked)} by gain over {bench.baseline}: {name}, {gain(name):+.2f} dB"
        made[case] = _sheet(f"{title} (figures are of all of it)", bench.sample(paths[name]), figures)
    return made


def _sheet(
    title: str, sample: Sample, figures: Mapping[tuple[str, str], Mapping[str, float]]
) -> sheets.Sheet:
    part = sheets.greatest_difference(sample.outputs[PREDICTION], sample.target)
    panels = []
    for method in _SHOWN:
        if method in sample.outputs:
            values = figures[sample.name, method]
            caption = f"PSNR-Y {values['psnr_y']:.2f} dB, SSIM-Y {values['ssim_y']:.4f}"
            label = "input (nearest)" if method == "nearest" else method
            panels.append(sheets.Panel(label, caption, sample.outputs[method][part]))
    panels.append(sheets.Panel("target", "", sample.target[part]))
    return sheets.Sheet(title, tuple(panels))
