"""The loss: pixels, colours, VGG-16 activations and their Gram matrices, each term by itself in the log.

After Johnson et al. 2016, "Perceptual losses for real-time style transfer and super-resolution"
(arXiv:1603.08155), with activations taken before max-pools and no adversary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srbatch.card import IMAGENET_MEAN, IMAGENET_STD
from srbatch.errors import WeightsError
from trainer.config import LAYERS, VGG_BLOCKS, Loss
from trainer.tensors import download, load_tensors

_WIDTHS = (64, 128, 256, 512, 512)
"""Channels of each of `VGG_BLOCKS`."""
assert len(_WIDTHS) == len(VGG_BLOCKS)
_COLOUR_PX = 8
"""Side of the squares of the input whose mean colours are compared: any larger one's mean follows."""


class Vgg16(nn.Module):
    """Activations of VGG-16 (Simonyan & Zisserman 2014, arXiv:1409.1556); frozen and always in eval mode.

    Parameters are named ``features.N`` as in torchvision.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: tuple[str, ...], *, batch_norm: bool = False) -> None:
        """Build the convolutions up to the deepest of ``layers``, without weights.

        Raises:
            ValueError: a name that VGG-16 does not have.
        """
        super().__init__()
        unknown = set(layers) - set(LAYERS)
        if unknown:
            raise ValueError(f"VGG-16 has no {', '.join(sorted(unknown))}; it has {', '.join(LAYERS)}")
        self.names: dict[int, str] = {}
        """Name of the activation by the index of its ReLU."""
        modules: list[nn.Module] = []
        channels, wanted = 3, set(layers)
        for name in LAYERS[: max(LAYERS.index(name) for name in layers) + 1]:
            block, index = (int(n) for n in re.findall(r"\d", name))
            if index == 1 and block > 1:
                modules.append(nn.MaxPool2d(2))
            modules.append(nn.Conv2d(channels, _WIDTHS[block - 1], 3, padding=1))
            channels = _WIDTHS[block - 1]
            if batch_norm:
                modules.append(nn.BatchNorm2d(channels))
            if name in wanted:
                self.names[len(modules)] = name
            modules.append(nn.ReLU())  # not in place: what went in may be an activation that is kept
        self.features = nn.Sequential(*modules)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Vgg16:
        """Stay in eval mode, whatever the module around it does."""
        del mode
        return super().train(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map RGB (B, 3, H, W) in [0, 1] to the named activations, (B, C, H / 2^k, W / 2^k) each."""
        x = (x - self.mean) / self.std
        found = {}
        for index, module in enumerate(self.features):
            x = module(x)
            if index in self.names:
                found[self.names[index]] = x
        return found

    def load(self, file: Path | None) -> None:
        """Fill in weights: torchvision's for ImageNet, or a file's, which may hold the first layers only.

        Raises:
            WeightsError: a layer that is needed is not in the file, or torchvision's cannot be had.
        """
        state = load_tensors(file) if file else _from_torchvision(batch_norm=self._has_batch_norm)
        missing = self._not_in(state)
        if missing:
            kind = "VGG-16 with batch norm" if self._has_batch_norm else "VGG-16"
            raise WeightsError(
                f"{file} holds {_deepest(state, batch_norm=self._has_batch_norm)} of {kind}, and the loss"
                f" needs more ({missing[0]} is not in it or has another shape): name no deeper layer in the"
                " loss, or take another file"
            )
        self.load_state_dict({name: state.get(name, mine) for name, mine in self.state_dict().items()})

    def _not_in(self, state: Mapping[str, Tensor]) -> list[str]:
        """Names of tensors that are needed and are not there."""
        return [
            name
            for name, mine in self.state_dict().items()
            if not name.endswith("num_batches_tracked")
            and (name not in state or state[name].shape != mine.shape)
        ]

    @property
    def _has_batch_norm(self) -> bool:
        return any(isinstance(module, nn.BatchNorm2d) for module in self.features)


def _from_torchvision(*, batch_norm: bool) -> Mapping[str, Tensor]:
    from torchvision.models import VGG16_BN_Weights, VGG16_Weights

    source = VGG16_BN_Weights.IMAGENET1K_V1 if batch_norm else VGG16_Weights.IMAGENET1K_V1
    return download(source, "give a file with vgg_weights (--vgg-weights)")


def _deepest(state: Mapping[str, Tensor], *, batch_norm: bool) -> str:
    """How far a file goes, for people."""
    with torch.device("meta"):
        network = Vgg16(LAYERS, batch_norm=batch_norm)
    missing = network._not_in(state)
    first = min((int(name.split(".")[1]) for name in missing), default=len(network.features))
    present = [name for index, name in network.names.items() if index < first]
    return f"the layers up to {present[-1]}" if present else "no layer"


def gram(activation: Tensor) -> Tensor:
    """Gram matrices (B, C, C) of an activation (B, C, H, W), divided by C H W, in fp32.

    Gatys et al. 2015 (arXiv:1508.06576), normalised as in Johnson et al. 2016, equation 3.
    """
    # Sums over H W overflow in fp16 and have two digits in bf16.
    with torch.autocast(activation.device.type, enabled=False):
        flat = activation.float().flatten(2)  # (B, C, H W)
        return flat @ flat.transpose(1, 2) / flat[0].numel()


class SuperResolutionLoss(nn.Module):
    """The weighted sum of the terms over all heads that count.

    ``terms`` holds, after each call, every term's mean over the heads before it is weighted, detached.
    """

    def __init__(self, config: Loss, heads: Mapping[int, float], vgg: Vgg16 | None) -> None:
        super().__init__()
        self.config = config
        self.heads = dict(heads)
        self.vgg = vgg
        self.terms: dict[str, Tensor] = {}

    def forward(self, predictions: Mapping[int, Tensor], target: Tensor) -> Tensor:
        """Compare predictions with the target, reduced to each head's size.

        Args:
            predictions: by scale, (B, 3, h * scale, w * scale) RGB in about [0, 1], of all heads that count
                and perhaps of others.
            target: (B, 3, H, W) RGB in [0, 1], H and W multiples of every prediction's.

        Returns:
            A scalar, fp32.
        """
        total = target.new_zeros(())
        self.terms = {}
        share = 1 / len(self.heads)
        for scale, weight in self.heads.items():
            meant = reduced(target, target.shape[-1] // predictions[scale].shape[-1])
            for name, (value, factor) in self._terms(scale, predictions[scale], meant).items():
                total = total + weight * factor * value
                self.terms[name] = self.terms.get(name, 0) + share * value.detach()
        return total

    def _terms(self, scale: int, prediction: Tensor, target: Tensor) -> dict[str, tuple[Tensor, float]]:
        """Each term and its weight."""
        config = self.config
        found: dict[str, tuple[Tensor, float]] = {}
        if config.pixel:
            distance = F.l1_loss if config.pixel_kind == "l1" else F.mse_loss
            found["pixel"] = (distance(prediction, target), config.pixel)
        if config.colour:
            means = F.avg_pool2d(prediction - target, _COLOUR_PX * scale)
            found["colour"] = (means.abs().mean(), config.colour)
        if self.vgg is None:
            return found
        with torch.no_grad():
            meant = self.vgg(target)
        for name, activation in self.vgg(prediction).items():
            weight, goal = config.layers[name], meant[name]
            if config.features:
                value = self._relative(activation.float(), goal.float())
                found[name] = (value, config.features * weight)
            if config.gram:
                value = self._relative(gram(activation), gram(goal))
                found[f"gram_{name}"] = (value, config.gram * weight**config.gram_layer_power)
        return found

    def _relative(self, value: Tensor, goal: Tensor) -> Tensor:
        distance = F.l1_loss(value, goal)
        return distance / goal.abs().mean().clamp_min(1e-8) if self.config.normalise else distance


def reduced(target: Tensor, factor: int) -> Tensor:
    """(B, 3, H, W) made smaller by a factor: antialiased bicubic (a = -0.5), as low resolutions are made.

    Within 2 px of an edge it differs from those: edges are cut here and mirrored there.
    """
    if factor == 1:
        return target
    return F.interpolate(target, scale_factor=1 / factor, mode="bicubic", antialias=True).clamp(0, 1)


def build(config: Loss, heads: Mapping[int, float], vgg_weights: Path | None) -> SuperResolutionLoss:
    """The loss of a phase, with VGG-16's weights loaded where it is used.

    Raises:
        ValueError, WeightsError: as :class:`Vgg16` and its ``load``.
    """
    vgg = None
    if config.uses_vgg:
        vgg = Vgg16(config.used_layers, batch_norm=config.batch_norm)
        vgg.load(vgg_weights)
        vgg.to(memory_format=torch.channels_last)
    return SuperResolutionLoss(config, heads, vgg)
