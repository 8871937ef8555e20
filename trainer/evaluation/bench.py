"""One picture on the bench: its low resolution, what every method makes of that, and the figures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srbatch.errors import UsageError
from srbatch.upscaling.upscaler import Upscaler
from trainer.data import to_floats, to_integers
from trainer.degradations.damage import Damage, parse_damage
from trainer.degradations.reduction import bicubic_downsample
from trainer.evaluation import metrics
from trainer.evaluation.metrics import FeatureDistance, Lpips, Mask, NotMeasured, Picture
from trainer.photos import decode

PREDICTION = "prediction"
_RESIZES = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

RGB = NDArray[np.uint8]
Distance = Callable[[Iterable[Picture], Picture], list[float]]
"""Of each picture to a target."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with what was made from its low resolution."""

    name: str
    source: RGB
    target: RGB
    mask: Mask | None
    """On the target's grid."""
    outputs: Mapping[str, RGB]
    """By method, all of the target's size."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that is the same for all pictures."""

    upscaler: Upscaler
    scale: int
    damage: Damage | None
    distances: Mapping[str, Distance]
    """By key of `trainer.evaluation.results.COLUMNS`."""
    not_measured: Mapping[str, str]

    @classmethod
    def of(cls, upscaler: Upscaler, scale: int, degrade: str | None, feature_weights: Path | None) -> Bench:
        """Make ready what :func:`trainer.evaluation.evaluate.evaluate` is asked for.

        Raises:
            UsageError: ``degrade`` is not known.
            WeightsError: ``feature_weights`` cannot be read, or are not those of DenseNet-169.
        """
        try:
            damage = parse_damage(degrade) if degrade else None
        except ValueError as error:
            raise UsageError(str(error)) from None
        distances: dict[str, Distance] = {}
        not_measured = {}
        if feature_weights is None:
            not_measured["feature distance"] = "no weights were given for it"
        else:
            distances["distance"] = FeatureDistance(feature_weights, upscaler.device)
        try:
            distances["lpips"] = Lpips(upscaler.device)
        except NotMeasured as error:
            not_measured["LPIPS"] = str(error)
        return cls(upscaler, scale, damage, distances, not_measured)

    @property
    def crop(self) -> int:
        """Border in pixels that PSNR and SSIM leave out."""
        return self.scale if self.scale > 1 else 0

    @property
    def least_px(self) -> int:
        """Side below which a picture is of no use."""
        return FeatureDistance.MIN_SIDE_PX + 3 * self.scale

    @property
    def baseline(self) -> str:
        """The method that others are put in relation to."""
        return "bicubic" if self.scale > 1 else "input"

    def sample(self, path: Path) -> Sample:
        """Make the low resolution of a picture, damage it and enlarge it by every method."""
        pixels = decode(path)
        height, width = (side // self.scale * self.scale for side in pixels.shape[:2])
        target = np.ascontiguousarray(pixels[:height, :width])
        small = to_floats(target)
        if self.scale > 1:
            small = bicubic_downsample(small, self.scale)
        mask = None
        if self.damage:
            # A seed of the name: the damage does not depend on what else is in the folder.
            small, mask = self.damage(to_floats(to_integers(small)), crc32(path.name.encode()))
        source = to_integers(small)
        if mask is not None:
            mask = mask.repeat(self.scale, axis=0).repeat(self.scale, axis=1)
        return Sample(path.name, source, target, mask, self._outputs(source, height, width))

    def _outputs(self, source: RGB, height: int, width: int) -> dict[str, RGB]:
        if self.scale == 1:
            outputs = {"input": source}
        else:
            image = Image.fromarray(source)
            outputs = {n: np.asarray(image.resize((width, height), kernel)) for n, kernel in _RESIZES.items()}
        return outputs | {PREDICTION: self._predict(source, height, width)}

    def _predict(self, source: RGB, height: int, width: int) -> RGB:
        return self.upscaler.enlarge_whole(source, (height, width))

    def values(self, sample: Sample) -> dict[str, dict[str, float]]:
        """All figures of all methods, by method and key."""
        pictures = {method: to_floats(pixels) for method, pixels in sample.outputs.items()}
        target = to_floats(sample.target)
        values = {method: self._pixel_values(sample, ours, target) for method, ours in pictures.items()}
        for key, distance in self.distances.items():
            for method, figure in zip(pictures, distance(pictures.values(), target), strict=True):
                values[method][key] = figure
        reference = values[self.baseline].get("distance")
        if reference:
            for figures in values.values():
                figures["distance_ratio"] = figures["distance"] / reference
        return values

    def _pixel_values(self, sample: Sample, ours: Picture, target: Picture) -> dict[str, float]:
        values = {}
        for space, a, b in (("y", metrics.luma(ours), metrics.luma(target)), ("rgb", ours, target)):
            values[f"psnr_{space}"] = metrics.psnr(a, b, self.crop)
            values[f"ssim_{space}"] = metrics.ssim(a, b, self.crop)
            if sample.mask is not None and metrics.cropped(sample.mask, self.crop).any():
                values[f"psnr_{space}_mask"] = metrics.psnr(a, b, self.crop, mask=sample.mask)
        return values | {
            "colour_drift": metrics.colour_drift(ours, to_floats(sample.source), self.scale),
            "colour_error": metrics.colour_error(ours, target, self.scale),
        }

    def protocol(self, feature_weights: Path | None) -> dict[str, str]:
        """How it was measured, in words."""
        source, others = "the picture itself", "the low resolution as it is"
        if self.scale > 1:
            others = "Pillow's resizing of the low resolution"
            source = (
                f"the picture, cut at right and bottom to multiples of {self.scale} px, reduced by bicubic"
                " (a = -0.5, antialiased, edges mirrored: MATLAB's imresize) and rounded to 8 bits"
            )
        damage = "none"
        if self.damage:
            damage = f"{self.damage.description}; done to the low resolution, then rounded to 8 bits"
        lines = {
            "low resolution": source,
            "damage": damage,
            "PSNR and SSIM": (
                f"of 8-bit results less a border of {self.crop} px; Y is BT.601's in [16, 235], not rounded;"
                " RGB is all channels; SSIM has a Gaussian window of 11 px, sigma 1.5; the table has means of"
                " the pictures' figures"
            ),
            "other methods": others,
            "colour drift": "largest difference from the input in the mean of 32 x 32 px of it",
            "colour error": "largest difference from the picture in the mean of the same parts",
            "grid": f"spectral lines at periods of 2 and 4 px, against the target; bar {metrics.GRID_BAR}",
        }
        if feature_weights:
            lines["feature distance"] = (
                f"DenseNet-169 ({feature_weights.name}, sha256 {_sha256(feature_weights)}), whole pictures;"
                f" relative is the mean of the pictures' ratios to {self.baseline}"
            )
        return lines


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
