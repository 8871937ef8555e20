"""Numbers in proportion to light, encoded for the network and made linear again, by libvips.

The network learnt on encoded photographs, and its base is an interpolation, which of linear numbers makes
dark halos beside bright edges. Measured on crops of two photographs at x2, encoded instead of linear: the
99.9th percentile of the bicubic undershoot falls from 14 and 7 to 4 and 3 levels of L*, and the error of the
released model against the truth (CIEDE2000) by 3 and 14 %.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyvips

from srbatch.metadata.profiles import GAMMA


def encoded(image: Any) -> Any:
    """Linear numbers of 16 bits with a gamma. Alpha is none of them."""
    return _mapped(image, 1 / GAMMA)


def linear(image: Any) -> Any:
    """The reverse of :func:`encoded`, up to one level of 65,535."""
    return _mapped(image, GAMMA)


def _mapped(image: Any, power: float) -> Any:
    levels = (np.linspace(0, 1, 65_536) ** power * 65_535).round().astype(np.uint16)
    table = pyvips.Image.new_from_array(levels.reshape(1, -1, 1))
    colours = image.bands - 1 if image.bands in (2, 4) else image.bands
    mapped = image.extract_band(0, n=colours).maplut(table)
    if colours < image.bands:
        mapped = mapped.bandjoin(image[colours])
    return mapped.copy(interpretation=image.interpretation)
