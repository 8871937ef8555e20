"""How much of a tile's rim is to be thrown away and blended, measured on the trained weights.

From each photo a square is run untiled, and a tile from the middle of it by itself. The tile's origin is a
multiple of the network's stride, so that the strided encoder sees the same phase in both. What differs is
what the tile's missing surroundings cost; how fast that fades towards its middle is a matter of the weights,
not of the receptive field, which is larger than any tile. In the ramp a difference counts by its blending
weight.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srbatch.card import MAX_MARGIN_PX
from srbatch.errors import WeightsError
from srbatch.network import SuperResolutionNet
from srbatch.upscaling.tiling import Margins, rise

WHOLE_PX = 448
"""Side of the squares that released weights are measured on."""
TILE_PX = 256
MARGINS_PX = tuple(
    (halo, ramp) for halo in range(0, MAX_MARGIN_PX + 1, 8) for ramp in range(0, MAX_MARGIN_PX + 1 - halo, 8)
)
"""(halo, ramp) on the input grid: all that a card may say, in steps of 8 px."""
REQUIRED_SHARE = 0.999
RULE = (
    f"the least overlap with {REQUIRED_SHARE:.1%} of the pixels within 1/255 of the untiled result at every "
    "scale; at the same overlap the largest share, then the longest ramp"
)


def middle(pixels: NDArray[np.uint8]) -> Tensor:
    """The square in the middle of a large enough photo (H, W, 3), as (1, 3, WHOLE_PX, WHOLE_PX) in [0, 1]."""
    top, left = ((side - WHOLE_PX) // 2 for side in pixels.shape[:2])
    square = pixels[top : top + WHOLE_PX, left : left + WHOLE_PX]
    return torch.from_numpy(square.copy()).permute(2, 0, 1)[None] / 255


@dataclass(frozen=True, slots=True)
class Margin:
    """What a halo and a ramp leave of the difference between a tile and the untiled result."""

    halo_px: int
    ramp_px: int
    """On the input grid, as the halo."""
    overlap_px: int
    """Of neighbouring tiles, as :class:`srbatch.upscaling.tiling.Margins` gives it. It is what a margin
    costs; what rounding adds makes the ramp longer."""
    within: Mapping[int, float]
    """By scale: the share of kept pixels with every channel within 1/255, from 0 to 1."""
    largest: Mapping[int, float]
    """By scale: the largest difference in units of 1/255."""

    @property
    def share(self) -> float:
        """`within` at the scale that fares worst."""
        return min(self.within.values())


@dataclass(frozen=True, slots=True)
class Choice:
    """The margin that goes into a card."""

    margin: Margin
    met: bool
    """Whether it keeps `REQUIRED_SHARE`; if not, no margin did and this one has the largest share."""

    @property
    def halo(self) -> tuple[int, int]:
        """(halo, ramp) in pixels of the input grid, as :func:`trainer.exporting.export.export` takes them."""
        return self.margin.halo_px, self.margin.ramp_px

    def __str__(self) -> str:
        halo, ramp = self.halo
        rule = RULE if self.met else f"no margin keeps {REQUIRED_SHARE:.1%}; this one has the largest share"
        return f"halo {halo} px, ramp {ramp} px, {self.margin.share:.3%} within 1/255 ({rule})"


def measure(
    network: SuperResolutionNet, photos: Iterable[Tensor], *, tile_px: int = TILE_PX
) -> tuple[Margin, ...]:
    """Return what each of `MARGINS_PX` leaves, over all photos, at all heads of the network.

    The network is run as it is: in eval mode, on its device. Bases are left out, because an implementation
    enlarges the whole picture or gives tiles the few pixels that bicubic needs.

    Args:
        photos: each (1, 3, S, S), RGB in [0, 1], S such that a tile in the middle begins at a multiple of the
            stride and has `MAX_MARGIN_PX` or more around it; `WHOLE_PX` for a tile of `TILE_PX`.
        tile_px: side of the tile, a multiple of the stride and more than two margins.

    Raises:
        ValueError: no photo, or a size that does not fit.
        WeightsError: the network gives no numbers.
    """
    if tile_px % network.stride or tile_px <= 2 * MAX_MARGIN_PX:
        raise ValueError(
            f"a tile of {tile_px} px is not a multiple of {network.stride} and over {2 * MAX_MARGIN_PX}"
        )
    tallies = {(pair, scale): _Tally() for pair in MARGINS_PX for scale in network.config.scales}
    for photo in photos:
        for scale, difference in _differences(network, photo, tile_px).items():
            for halo, ramp in MARGINS_PX:
                weight = tile_weight(halo * scale, ramp * scale, tile_px * scale).to(difference.device)
                tallies[(halo, ramp), scale].add(difference * weight[:, None] * weight, weight > 0)
    if any(tally.kept_px == 0 for tally in tallies.values()):
        raise ValueError("a halo is measured on one photo or more, not on none")
    return tuple(_margin(pair, network, tallies) for pair in MARGINS_PX)


def worst(measured: Iterable[Sequence[Margin]]) -> tuple[Margin, ...]:
    """Return each margin as it fares on that set of photos on which it fares worst, scale by scale.

    Args:
        measured: what :func:`measure` returned for each set. Photos of several kinds are not to be pooled:
            those of which a network changes nothing need no halo, and would outvote the others.

    Raises:
        ValueError: there is no set.
    """
    sets = list(measured)
    if not sets:
        raise ValueError("the worst of no measurements")
    return tuple(
        dataclasses.replace(
            same[0],
            within={scale: min(margin.within[scale] for margin in same) for scale in same[0].within},
            largest={scale: max(margin.largest[scale] for margin in same) for scale in same[0].largest},
        )
        for same in zip(*sets, strict=True)
    )


def choose(margins: Sequence[Margin]) -> Choice:
    """Return the margin that `RULE` picks; one without a ramp would show its seams and is not considered.

    Raises:
        ValueError: there is none to choose from.
    """
    blended = [margin for margin in margins if margin.ramp_px > 0]
    if not blended:
        raise ValueError("no margin with a ramp to choose from")
    enough = [margin for margin in blended if margin.share >= REQUIRED_SHARE]
    if enough:
        best = min(enough, key=lambda margin: (margin.overlap_px, -margin.share, -margin.ramp_px))
    else:
        best = max(blended, key=lambda margin: (margin.share, -margin.overlap_px, margin.ramp_px))
    return Choice(best, met=bool(enough))


def table(margins: Sequence[Margin]) -> str:
    """Return a line per margin: by scale the share of pixels off by more than 1/255, and the largest."""
    scales = margins[0].within
    lines = ["halo ramp overlap" + "".join(f"    x{scale}: off > 1/255     max" for scale in scales)]
    for margin in margins:
        line = f"{margin.halo_px:4d} {margin.ramp_px:4d} {margin.overlap_px:7d}"
        for scale in scales:
            line += f"{1 - margin.within[scale]:19.4%}{margin.largest[scale]:8.2f}"
        lines.append(line)
    return "\n".join(lines)


def tile_weight(halo: int, ramp: int, side: int) -> Tensor:
    """Return (side,) weights of a tile with neighbours, as :mod:`srbatch.upscaling.tiling` blends it.

    0 in the halo, a raised cosine over the ramp (a step where that is 0), 1 inside.
    """
    position = np.arange(side) + 0.5
    depth = np.minimum(position, side - position) - halo
    return torch.from_numpy(rise(depth, ramp).astype(np.float32))


class _Tally:
    """Differences counted over photos."""

    def __init__(self) -> None:
        self.kept_px = self.off_px = 0
        self.largest = 0.0

    def add(self, difference: Tensor, kept: Tensor) -> None:
        """Count a weighted ``difference`` (side, side) where ``kept`` (side,) holds along both axes."""
        self.kept_px += int(kept.sum()) ** 2
        self.off_px += int((difference > 1 / 255).sum())
        self.largest = max(self.largest, float(difference.max()) * 255)


def _differences(network: SuperResolutionNet, photo: Tensor, tile_px: int) -> dict[int, Tensor]:
    """Return by scale the largest difference over the channels, (tile_px * scale, tile_px * scale)."""
    side = photo.shape[-1]
    origin = (side - tile_px) // 2
    if photo.shape != (1, 3, side, side) or side % 2 or origin % network.stride or origin < MAX_MARGIN_PX:
        raise ValueError(
            f"a photo of shape {tuple(photo.shape)} does not have a tile of {tile_px} px in its middle, "
            f"{MAX_MARGIN_PX} px or more from each side and at a multiple of {network.stride}"
        )
    photo = photo.to(next(network.parameters()).device)
    inside = slice(origin, origin + tile_px)
    with torch.inference_mode():
        untiled = network.residuals(photo)
        tiled = network.residuals(photo[..., inside, inside])
    differences = {}
    for scale, expected, got in zip(network.config.scales, untiled, tiled, strict=True):
        inside = slice(origin * scale, (origin + tile_px) * scale)
        differences[scale] = (got - expected[..., inside, inside]).abs().amax(dim=(0, 1))
        if not differences[scale].isfinite().all():
            raise WeightsError(f"the network's result at x{scale} is not a number; its training diverged")
    return differences


def _margin(
    pair: tuple[int, int],
    network: SuperResolutionNet,
    tallies: Mapping[tuple[tuple[int, int], int], _Tally],
) -> Margin:
    halo, ramp = pair
    found = {scale: tallies[pair, scale] for scale in network.config.scales}
    return Margin(
        halo_px=halo,
        ramp_px=ramp,
        overlap_px=Margins(halo, ramp, network.stride).overlap,
        within={scale: 1 - tally.off_px / tally.kept_px for scale, tally in found.items()},
        largest={scale: tally.largest for scale, tally in found.items()},
    )
