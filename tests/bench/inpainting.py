"""Holes filled by the network, which has to find them, beside OpenCV, which is told where they are.

    pip install opencv-python-headless
    python -m tests.bench.inpainting PICTURES --weights MODEL

The holes are those of ``trainer evaluate --scale 1 --degrade holes``: squares of 4 to 16 px, 5 % of the area.
PSNR on the Y channel inside the holes, the mean over the pictures: of the picture with holes, of what Telea's
method (2004, doi:10.1080/10867651.2004.10487596) and Navier-Stokes (Bertalmio et al. 2001) make of it, both
with a radius of 3 px, and of the network's result.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import numpy as np

from srbatch import weights
from srbatch.upscaling.upscaler import Upscaler
from tests.bench import report
from trainer.data import to_floats
from trainer.evaluation import metrics
from trainer.evaluation.bench import PREDICTION, Bench, Sample
from trainer.evaluation.evaluate import pictures

_RADIUS_PX = 3
_METHODS = ("input", "Telea", "Navier-Stokes", PREDICTION)


def main() -> None:
    flags = report.parser(__doc__)
    flags.add_argument("pictures", type=Path, help="a folder of whole pictures")
    flags.add_argument("--weights", required=True, help="name or path of a model that fills holes")
    arguments = flags.parse_args()
    model = weights.load(weights.find(arguments.weights))
    card = model.card
    upscaler = Upscaler(model.network, scales=card.scales, halo=card.halo_px, ramp=card.ramp_px)
    bench = Bench.of(upscaler, 1, "holes", None)
    paths, _ = pictures(arguments.pictures, bench)
    found = {path.name: inside(bench.sample(path)) for path in paths}
    rows = [(name, *values) for name, values in found.items()]
    rows.append(("mean", *map(mean, zip(*found.values(), strict=True))))
    print(f"{card} on {report.machine()}; PSNR in dB inside the holes")
    print(report.table(("picture", *_METHODS), rows))
    report.write(arguments.json, {"methods": _METHODS, "psnr_db": found})


def inside(sample: Sample) -> list[float]:
    """PSNR of each of `_METHODS`."""
    import cv2  # type: ignore[import-not-found, unused-ignore]  # of no use to anything else here

    assert sample.mask is not None
    mask = sample.mask.astype(np.uint8)
    filled = {
        "Telea": cv2.inpaint(sample.source, mask, _RADIUS_PX, cv2.INPAINT_TELEA),
        "Navier-Stokes": cv2.inpaint(sample.source, mask, _RADIUS_PX, cv2.INPAINT_NS),
    }
    target = metrics.luma(to_floats(sample.target))
    results = {**sample.outputs, **filled}
    return [
        metrics.psnr(metrics.luma(to_floats(results[method])), target, 0, mask=sample.mask)
        for method in _METHODS
    ]


if __name__ == "__main__":
    main()
