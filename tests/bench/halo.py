"""Measure how far from a tile's edge its output still differs from the untiled result.

    python tests/bench/halo.py WEIGHTS PHOTO... [--degrade noise:25]

Photos are taken as they are, or damaged first: a network that takes noise out needs a halo where there is
noise, and none on clean photos. The method is in `trainer/exporting/halo.py`. For each halo and ramp the
table gives the share of the kept pixels with a channel off by more than 1/255 and the largest difference in
units of 1/255; the last line is the pair that goes into the card of the weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from srbatch import weights
from trainer.data import to_floats, to_integers
from trainer.degradations.damage import KNOWN, Damage, parse_damage
from trainer.exporting import halo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("weights", help="name or path")
    parser.add_argument("photos", nargs="+", type=Path, help=f"at least {halo.WHOLE_PX} px on each side")
    parser.add_argument("--degrade", type=parse_damage, metavar="KIND", help=f"damage the photos: {KNOWN}")
    arguments = parser.parse_args()
    network = weights.load(weights.find(arguments.weights)).network
    squares = (read(path, arguments.degrade, seed) for seed, path in enumerate(arguments.photos))
    margins = halo.measure(network, squares)
    print(halo.table(margins))
    print(halo.choose(margins))


def read(path: Path, damage: Damage | None, seed: int) -> torch.Tensor:
    """Return the middle of a photo, as `trainer.exporting.halo.middle`, damaged if that is asked."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    if min(pixels.shape[:2]) < halo.WHOLE_PX:
        raise SystemExit(f"{path} is smaller than {halo.WHOLE_PX} px")
    if damage is not None:
        pixels = to_integers(damage(to_floats(pixels), seed)[0])
    return halo.middle(pixels)


if __name__ == "__main__":
    main()
