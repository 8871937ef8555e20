"""The fastai Learner of one phase: the plain network, its groups of parameters, and how its norms behave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
from fastai.callback.core import Callback
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper
from fastcore.basics import noop
from torch import Tensor, nn

from srbatch.network import SuperResolutionNet
from trainer.config import Config, Phase
from trainer.losses import SuperResolutionLoss

FROZEN_GROUPS = {"all": 0, "coarse": 0, "decoder": 2, "stage": 3}
"""How many of the groups of :func:`groups` stand still, by what is trained; of coarse also :func:`fine`."""
FINDER_FOLDER = ".lr-finder"
"""Where fastai keeps the weights while it looks for a rate."""
MOMENTA = (0.95, 0.85, 0.95)
"""fastai's one-cycle momentum: lower while the rate is high (Smith 2018, arXiv:1803.09820)."""


class Trainee(nn.Module):
    """The network as it is trained: bytes in, the pictures of all heads of a phase out."""

    def __init__(self, network: SuperResolutionNet, scales: tuple[int, ...]) -> None:
        """``scales`` are the network's first heads; stages beyond the last of them are not run."""
        super().__init__()
        self.network = network
        self._scales = scales

    def forward(self, given: Tensor) -> dict[int, Tensor]:
        """Map uint8 RGB (B, 3, h, w) to fp32 pictures (B, 3, h * scale, w * scale) by scale, not clipped.

        Only the residual is computed in half precision; see ``SuperResolutionNet.enlarge``.
        """
        x = to_floats(given)
        residuals = self.network.residuals(x, self._scales[-1])
        return {
            scale: SuperResolutionNet.enlarge(x, scale) + residual.float()
            for scale, residual in zip(self._scales, residuals, strict=True)
        }


def to_floats(pixels: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) to fp32 in [0, 1], channels last."""
    return pixels.float().div_(255).contiguous(memory_format=torch.channels_last)


class BytesLoss(nn.Module):
    """The loss of a phase, given the target as bytes."""

    def __init__(self, loss: SuperResolutionLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, predictions: Mapping[int, Tensor], target: Tensor) -> Tensor:
        """``target`` is uint8 (B, 3, H, W)."""
        value: Tensor = self.loss(predictions, to_floats(target))
        return value


def groups(network: SuperResolutionNet, scale: int) -> list[list[nn.Parameter]]:
    """The network's parameters: the encoder's stem, its layers, the rest, the stage that gives ``scale``.

    The stage comes with its head; at x1 it is the head alone.
    """
    level = network.level(scale)
    encoder = network.body.encoder
    stem = [*encoder.conv1.parameters(), *encoder.bn1.parameters()]
    newest = [*network.stages[level - 1 : level].parameters(), *network.heads[level].parameters()]
    taken = {id(parameter) for parameter in (*stem, *newest)}
    layers = [p for p in encoder.parameters() if id(p) not in taken]
    taken |= {id(parameter) for parameter in layers}
    decoder = [p for p in network.parameters() if id(p) not in taken]
    return [stem, layers, decoder, newest]


def fine(network: SuperResolutionNet) -> list[nn.Parameter]:
    """What works at full resolution or beyond: all behind the U-Net's last shuffle."""
    body = network.body
    parts = (body.cross, body.out, network.refine, network.stages, network.heads)
    return [parameter for part in parts for parameter in part.parameters()]


def build(
    config: Config,
    phase: Phase,
    network: SuperResolutionNet,
    data: DataLoaders,
    loss: SuperResolutionLoss,
    callbacks: Iterable[Callback],
    folder: Path,
) -> Learner:
    """A Learner that is frozen as the phase asks.

    fastai trains the batch norms of frozen groups as well; here they are trained only where
    ``network.batch_norm`` is ``train``, and are fixed with everything else otherwise.
    """
    optimiser = partial(
        OptimWrapper,
        opt=partial(torch.optim.AdamW, fused=data.device.type in ("cpu", "cuda")),
        lr=1e-3,
        betas=config.optimiser.betas,
        weight_decay=config.optimiser.weight_decay,
    )
    learner = Learner(
        data,
        Trainee(network, phase.scales),
        BytesLoss(loss),
        opt_func=optimiser,
        splitter=lambda model: groups(model.network, phase.scale),
        cbs=list(callbacks),
        path=folder,
        model_dir=FINDER_FOLDER,
        wd=config.optimiser.weight_decay,
        moms=MOMENTA,
        train_bn=config.network.batch_norm == "train",
    )
    learner.remove_cbs(ProgressCallback)  # made for notebooks; ours is tqdm's
    learner.logger = noop
    learner.create_opt()
    learner.freeze_to(FROZEN_GROUPS[phase.train])
    if phase.train == "coarse":
        for parameter in fine(network):
            parameter.requires_grad_(False)
    return learner


def rates(phase: Phase, highest: float) -> list[float]:
    """The rate of each group: from ``highest / spread`` at the stem to ``highest``, in equal ratios."""
    last = 3
    return [float(highest * phase.spread ** (group / last - 1)) for group in range(last + 1)]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 where asked, or where ``auto`` finds that the device computes it natively."""
    from srbatch.upscaling.hardware import pick_precision

    chosen = pick_precision(precision, device)
    # fp16 would need a scaled loss; what has no bf16 trains in fp32.
    return torch.autocast(device.type, torch.bfloat16, enabled=chosen == "bf16")
