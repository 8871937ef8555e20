"""A network's result averaged over the eight ways to turn and mirror a picture.

The geometric self-ensemble of Timofte et al. 2016, "Seven ways to improve example-based single image super
resolution" (arXiv:1511.02228), which other tools call TTA, test-time augmentation: what the network makes of
a picture one way and not the other averages out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

VIEWS = tuple((quarters, mirrored) for quarters in range(4) for mirrored in (False, True))
"""Quarter turns, and whether the turned picture is mirrored; the first is the picture as it is."""


def averaged(
    network: Callable[[Tensor, int], Tensor], x: Tensor, scale: int, pause: Callable[[], None]
) -> Tensor:
    """Return the mean over all views of what ``network(x, scale)`` returns, turned back, in fp32.

    Args:
        network: maps (B, 3, H, W) to (B, 3, H * scale, W * scale), for H and W in either order.
        x: (B, 3, H, W).
        pause: called between two views; may raise, to end it.
    """
    total: Tensor = network(x, scale).float()
    for quarters, mirrored in VIEWS[1:]:
        pause()
        given = torch.rot90(x, quarters, (2, 3))
        given = (given.flip(3) if mirrored else given).contiguous(memory_format=torch.channels_last)
        found = network(given, scale)
        total = total + torch.rot90(found.flip(3) if mirrored else found, -quarters, (2, 3))
    return total / len(VIEWS)
