"""Whether an exported file gives the pictures of the network that it was made from.

Differences are in units of 1/255 of the picture, before it is rounded, over pictures made here, so that they
can be compared between exports.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from srbatch.network import SuperResolutionNet

LIMIT = 0.25
"""Largest difference that rounding the weights may make."""
EXACT_LIMIT = 0.01
"""Largest difference where the numbers are the same and only the order of sums is not."""


def reference(network: SuperResolutionNet) -> SuperResolutionNet:
    """Return a copy on the CPU in fp32 and eval mode, without gradients: what files are compared with."""
    return copy.deepcopy(network).cpu().float().eval().requires_grad_(False)


def difference(got: Tensor, expected: Tensor) -> float:
    """Return the largest, in units of 1/255; infinite where one of them has no number."""
    largest = float((got - expected).abs().max()) * 255
    return math.inf if math.isnan(largest) else largest


def told(parity: Mapping[int, float]) -> str:
    """Return differences by scale as people read them."""
    return ", ".join(f"x{scale} within {largest:.2g}/255" for scale, largest in parity.items())


def pictures() -> list[Tensor]:
    """Return what parity is measured on, (1, 3, H, W) in [0, 1]: photo-like, grainy, hard edges, marks.

    The same in every run. Sides are odd multiples of the stride.
    """
    generator = torch.Generator().manual_seed(20)
    landscape = _photo_like(96, 160, generator)
    portrait = _photo_like(160, 96, generator)
    grain = 0.04 * torch.randn(portrait.shape, generator=generator)
    return [landscape, (portrait + grain).clamp(0, 1), _edges(32, 224), _marked(landscape)]


def _photo_like(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Noise with the spectrum of photographs, whose amplitude falls as 1/frequency, with a little colour.

    Field 1987, "Relations between the statistics of natural images and the response properties of cortical
    cells", J. Opt. Soc. Am. A 4(12).
    """
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
    frequency[0, 0] = 1
    spectrum = torch.fft.rfft2(torch.randn(4, height, width, generator=generator)) / frequency
    spectrum[:, 0, 0] = 0  # no mean; divided by infinity it would be no number with torch 2.6
    waves: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    waves /= waves.std(dim=(1, 2), keepdim=True)
    return (0.5 + 0.2 * waves[:1] + 0.05 * waves[1:]).clamp(0, 1)[None]


def _marked(picture: Tensor) -> Tensor:
    """With squares of one colour, a line of 1 px and specks, which a network may have learnt to take away."""
    marked = picture.clone()
    marked[:, :, 20:32, 24:36] = 0.5
    marked[:, :, 60:68, 100:116] = torch.tensor([1.0, 0.2, 0.1]).view(1, 3, 1, 1)
    marked[:, :, 8:88, 76:77] = 1
    marked[:, :, 50:52, 10:12] = 0
    marked[:, :, 12:13, 140:142] = 1
    return marked


def _edges(height: int, width: int) -> Tensor:
    """A sky over black and white bars that grow narrower to the right, in three tints."""
    y = torch.linspace(0, 1, height)[:, None]
    x = torch.linspace(0, 1, width)
    bars = (24 * x**2).floor() % 2
    plane = torch.where(y > 0.5, bars, (y + x) / 2)
    return torch.stack([plane, 1 - plane, 0.8 * plane])[None]
