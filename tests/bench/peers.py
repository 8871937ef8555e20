"""What a folder is upscaled with instead: a network known for its results, a plain loop, and no network.

Each is written as its users run it: one photo after the other, opened and saved by Pillow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from srbatch.network import SuperResolutionNet

SCALE = 4
QUALITY = 95
TILE_PX, PAD_PX = 512, 10

Enlarge = Callable[[Image.Image], Image.Image]
"""An RGB picture to one ``SCALE`` times as large."""


def loop(photos: Iterable[Path], out: Path, enlarge: Enlarge) -> None:
    """Upscale photos into JPEG files with full colour resolution, as srbatch writes them."""
    out.mkdir()
    for photo in photos:
        with Image.open(photo) as image:
            enlarged = enlarge(image.convert("RGB"))
        enlarged.save(out / photo.name, quality=QUALITY, subsampling=0)


def bicubic(image: Image.Image) -> Image.Image:
    """No network at all."""
    return image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.BICUBIC)


def by_network(network: Callable[[Tensor], Tensor], device: torch.device, dtype: torch.dtype) -> Enlarge:
    """Cut into tiles of ``TILE_PX`` with ``PAD_PX`` around them, which go through a network one at a time.

    So does Real-ESRGAN's program with ``--tile 512`` and its default padding, and it too holds the photo and
    the result on the device.
    """

    @torch.inference_mode()
    def enlarge(image: Image.Image) -> Image.Image:
        x = torch.from_numpy(np.asarray(image).copy()).to(device).permute(2, 0, 1)[None].to(dtype) / 255
        height, width = x.shape[2:]
        result = x.new_empty(1, 3, height * SCALE, width * SCALE)
        for rows, seen_rows in _cuts(height):
            for columns, seen_columns in _cuts(width):
                tile = network(x[:, :, seen_rows, seen_columns])
                result[:, :, _enlarged(rows), _enlarged(columns)] = tile[
                    :, :, _enlarged(rows, seen_rows.start), _enlarged(columns, seen_columns.start)
                ]
        levels = (result[0].float().clamp(0, 1) * 255).round().to(torch.uint8)
        return Image.fromarray(levels.permute(1, 2, 0).contiguous().cpu().numpy())

    return enlarge


def _cuts(length: int) -> list[tuple[slice, slice]]:
    """Pieces of an axis, and what the network sees of it for each."""
    starts = range(0, length, TILE_PX)
    pieces = [slice(start, min(start + TILE_PX, length)) for start in starts]
    return [(p, slice(max(p.start - PAD_PX, 0), min(p.stop + PAD_PX, length))) for p in pieces]


def _enlarged(piece: slice, origin: int = 0) -> slice:
    return slice((piece.start - origin) * SCALE, (piece.stop - origin) * SCALE)


class Naive(nn.Module):
    """Our network as a function of a tile of any size."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        stride = SuperResolutionNet.stride
        padded = F.pad(x, (0, -width % stride, 0, -height % stride), mode="replicate")
        result = SuperResolutionNet.enlarge(padded, SCALE) + self.network(padded, SCALE)
        cropped: Tensor = result[:, :, : height * SCALE, : width * SCALE]
        return cropped


class RRDBNet(nn.Module):
    """The x4 network of Wang et al. 2018, "ESRGAN" (arXiv:1809.00219, section 3.1), with random weights.

    23 blocks, 64 channels and a growth of 32 are those of Real-ESRGAN x4plus (Wang et al. 2021,
    arXiv:2107.10833). Each of the two enlargements is by nearest neighbours, with a convolution behind it.
    """

    def __init__(self, blocks: int = 23, width: int = 64, growth: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.trunk = nn.Sequential(*(_Scaled(_three(width, growth)) for _ in range(blocks)))
        self.behind_trunk = nn.Conv2d(width, width, 3, padding=1)
        self.enlargements = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.large = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 3, 4H, 4W)."""
        y: Tensor = self.first(x)
        y = y + self.behind_trunk(self.trunk(y))
        for convolution in self.enlargements:
            y = F.leaky_relu(convolution(F.interpolate(y, scale_factor=2, mode="nearest")), 0.2)
        result: Tensor = self.last(F.leaky_relu(self.large(y), 0.2))
        return result


class _Scaled(nn.Module):
    """Adds a fifth of what ``inner`` makes of the input to it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + 0.2 * self.inner(x)
        return y


class _Dense(nn.Module):
    """Five convolutions, each of which sees the input and the results of all before it."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        outputs = [growth] * 4 + [width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width + index * growth, count, 3, padding=1) for index, count in enumerate(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        *inner, last = self.convolutions
        for convolution in inner:
            x = torch.cat([x, F.leaky_relu(convolution(x), 0.2)], dim=1)
        result: Tensor = last(x)
        return result


def _three(width: int, growth: int) -> nn.Sequential:
    return nn.Sequential(*(_Scaled(_Dense(width, growth)) for _ in range(3)))
