"""The network on a CPU: what enlarges is run on one block of the picture after the other.

At x4 a tile of 512 px has feature maps of 512 MB in half precision, each in memory that the C library takes
from the system anew, and clearing it was half of the time. Blocks of a few MB find memory that is there, and
need less than half of it at the peak. The result is the same: each block is run with all that it depends on.
"""

from __future__ import annotations

from itertools import pairwise
from math import ceil, isqrt

import torch
from torch import Tensor, nn

from srbatch.network import SuperResolutionNet

_BLOCK_BYTES = 20 * 2**20
"""Of a block's feature map on the finest grid. glibc keeps what is freed of up to 32 MB for the next time."""
_HEAD_REACH, _STAGE_REACH = 1, 3
"""How far, in pixels of its output's grid, a head looks (one 3 x 3) and a stage (a blur, two 3 x 3)."""


class BlockwiseNet(nn.Module):
    """Gives what ``network`` gives, on any device; it is the network itself, not a copy."""

    def __init__(self, network: SuperResolutionNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, scale: int) -> Tensor:
        """As :meth:`srbatch.network.SuperResolutionNet.forward`."""
        level = self.network.level(scale)
        features = self.network.features(x)  # (B, C, H, W)
        if level == 0:
            return self.network.residual(features, level)
        batch, channels, height, width = features.shape
        on_finest = channels * features.element_size() * scale**2 * batch
        margin = _margin(level)
        side = max(isqrt(_BLOCK_BYTES // on_finest) - 2 * margin, 2 * margin)
        result = torch.empty(
            (batch, 3, height * scale, width * scale),
            dtype=features.dtype,
            device=features.device,
            memory_format=torch.channels_last,
        )
        for top, bottom in _cuts(height, side):
            for left, right in _cuts(width, side):
                rows = slice(max(top - margin, 0), bottom + margin)
                columns = slice(max(left - margin, 0), right + margin)
                block = self.network.residual(features[:, :, rows, columns], level)
                down, across = (top - rows.start) * scale, (left - columns.start) * scale
                result[:, :, top * scale : bottom * scale, left * scale : right * scale] = block[
                    :, :, down : down + (bottom - top) * scale, across : across + (right - left) * scale
                ]
        return result


def _margin(level: int) -> int:
    """How far the result of that many stages and a head looks on the grid of what they are given."""
    reach = _HEAD_REACH
    for _ in range(level):
        reach = ceil((reach + _STAGE_REACH) / 2)
    return reach


def _cuts(length: int, longest: int) -> list[tuple[int, int]]:
    """Begin and end of parts of about one length, none above ``longest``."""
    count = ceil(length / longest)
    edges = [index * length // count for index in range(count + 1)]
    return list(pairwise(edges))
