"""Measure how far from a tile's edge its output still differs from the untiled result.

    python tests/bench/halo.py WEIGHTS PHOTO...

From the middle of each photo a square is run untiled, and a tile from the middle of that square by itself.
The tile's origin is a multiple of the network's stride, so the strided encoder sees the same phase. For each
halo and ramp the table gives the share of the kept pixels with a channel off by more than 1/255, and the
largest difference in units of 1/255; in the ramp a difference counts by the weight that it is blended with.
The pair with the smallest differences goes into the card of the weights.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from srbatch import weights
from srbatch.network import SuperResolutionNet

WHOLE_PX = 448
TILE_PX = 256
MARGINS_PX = [(halo, 0) for halo in range(0, 65, 8)] + [(32, 32), (40, 16), (40, 24), (48, 16), (56, 8)]
"""(halo, ramp) on the input grid."""
ORIGIN_PX = (WHOLE_PX - TILE_PX) // 2  # 96, a multiple of the stride


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("weights", help="name or path")
    parser.add_argument("photos", nargs="+", type=Path, help=f"at least {WHOLE_PX} px on each side")
    arguments = parser.parse_args()
    network = weights.load(weights.find(arguments.weights)).network
    differences: dict[int, list[Tensor]] = defaultdict(list)
    for photo in arguments.photos:
        for scale, difference in zip(
            network.config.scales, tile_differences(network, read(photo)), strict=True
        ):
            differences[scale].append(difference)
    print_table({scale: torch.stack(found) for scale, found in differences.items()})


def read(path: Path) -> Tensor:
    """Return the square in the middle of a photo, (1, 3, WHOLE_PX, WHOLE_PX), RGB in [0, 1]."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    top, left = ((side - WHOLE_PX) // 2 for side in pixels.shape[:2])
    if min(top, left) < 0:
        raise SystemExit(f"{path} is smaller than {WHOLE_PX} px")
    square = pixels[top : top + WHOLE_PX, left : left + WHOLE_PX]
    return torch.from_numpy(square.copy()).permute(2, 0, 1)[None] / 255


def tile_differences(network: SuperResolutionNet, whole: Tensor) -> list[Tensor]:
    """Return per scale the largest difference over the channels, (TILE_PX * scale, TILE_PX * scale).

    Bases are left out: an implementation enlarges the whole picture or gives tiles the few pixels they need.
    """
    inside = slice(ORIGIN_PX, ORIGIN_PX + TILE_PX)
    with torch.inference_mode():
        untiled = network.residuals(whole)
        tiled = network.residuals(whole[..., inside, inside])
    differences = []
    for scale, expected, got in zip(network.config.scales, untiled, tiled, strict=True):
        inside = slice(ORIGIN_PX * scale, (ORIGIN_PX + TILE_PX) * scale)
        differences.append((got - expected[..., inside, inside]).abs().amax(dim=(0, 1)))
    return differences


def print_table(differences: dict[int, Tensor]) -> None:
    """Print a row per margin; ``differences`` are (photos, TILE_PX * scale, TILE_PX * scale) by scale."""
    print("halo ramp" + "".join(f"    x{scale}: off > 1/255    max" for scale in differences))
    for halo, ramp in MARGINS_PX:
        row = f"{halo:4d} {ramp:4d}"
        for scale, found in differences.items():
            weight = tile_weight(halo * scale, ramp * scale, TILE_PX * scale)
            blended = found * torch.outer(weight, weight) * 255
            kept = (blended > 1).float().mean() / (weight > 0).float().mean() ** 2
            row += f"        {kept:9.4%} {blended.max():7.2f}"
        print(row)


def tile_weight(halo: int, ramp: int, side: int) -> Tensor:
    """Return (side,) weights: 0 in the halo, linear over the ramp, 1 inside."""
    edge = torch.arange(side, dtype=torch.float32) + 0.5
    return ((torch.minimum(edge, side - edge) - halo) / max(ramp, 0.5)).clamp(0, 1)


if __name__ == "__main__":
    main()
