"""The network: a U-Net on the low-resolution grid, then one x2 stage and one RGB head per scale.

::

    x --> UNet body --> refine --> features --> heads[0] --> x1
                                   |
                                   stages[0] (x2) --> heads[1] --> x2
                                   |
                                   stages[1] (x2) --> heads[2] --> x4

A network that takes marks off photos has the head x1 alone, which gives each pixel an opacity and a colour.

Plain torch without hooks: skip connections are arguments, so that one module serves many threads and
``torch.export`` and ``torch.compile`` see all of it. The body is fastai's ``DynamicUnet(encoder, blur=True,
last_cross=True)`` without its hooks, tensor for tensor, after Ronneberger et al. 2015 (arXiv:1505.04597).

Activations are overwritten in place (``F.relu_``) wherever the tensor was made by the line that calls it.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srbatch.card import MAX_LEVELS, STRIDE, NetworkConfig


class BasicBlock(nn.Module):
    """Residual block of ResNet-18 and -34; names and order of parameters are torchvision's."""

    expansion: ClassVar[int] = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, width, H/stride, W/stride)."""
        y = F.relu_(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu_(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """Residual block of ResNet-50, with the stride on the 3x3 convolution as in torchvision."""

    expansion: ClassVar[int] = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, 4 width, H/stride, W/stride)."""
        y = F.relu_(self.bn1(self.conv1(x)))
        y = F.relu_(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu_(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


_ENCODERS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class ResNetEncoder(nn.Module):
    """ResNet (He et al. 2015, arXiv:1512.03385) without its classifier.

    Parameters are named as in torchvision, whose state dicts load with ``strict=False`` (``fc`` is left out).
    """

    def __init__(self, name: str, levels: int = MAX_LEVELS) -> None:
        super().__init__()
        block, depths = _ENCODERS[name]
        self.widths = (64, *(width * block.expansion for width in (64, 128, 256, 512)))[:levels]
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)

        def layer(level: int, stride: int) -> nn.Sequential:
            inputs, outputs = self.widths[level - 1], self.widths[level]
            first = block(inputs, outputs // block.expansion, stride)
            rest = [block(outputs, outputs // block.expansion, 1) for _ in range(depths[level - 1] - 1)]
            return nn.Sequential(first, *rest)

        self.layer1 = layer(1, stride=1)
        self.layer2 = layer(2, stride=2)
        self.layer3 = layer(3, stride=2)
        self.layer4 = layer(4, stride=2) if levels == MAX_LEVELS else None

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map (B, 3, H, W) to features at H/2, H/4, H/8, H/16 and perhaps H/32 with `widths` channels."""
        s0 = F.relu_(self.bn1(self.conv1(x)))  # (B, 64, H/2, W/2)
        s1 = self.layer1(F.max_pool2d(s0, 3, stride=2, padding=1))  # (B, widths[1], H/4, W/4)
        s2 = self.layer2(s1)  # (B, widths[2], H/8, W/8)
        s3 = self.layer3(s2)  # (B, widths[3], H/16, W/16)
        if self.layer4 is None:
            return s0, s1, s2, s3
        return s0, s1, s2, s3, self.layer4(s3)  # the last: (B, widths[4], H/32, W/32)


class Shuffle(nn.Module):
    """Sub-pixel upsampling x2 (Shi et al. 2016, arXiv:1609.05158): 1x1 convolution, ReLU, pixel shuffle.

    With ``blur`` every output pixel is averaged with its left and upper neighbours, which takes out what is
    left of the shuffle's 2-pixel pattern (Sugawara et al. 2018, arXiv:1806.02658).
    """

    def __init__(self, inputs: int, outputs: int, *, blur: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 4 * outputs, 1)
        self.blur = blur

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, 2H, 2W)."""
        x = F.pixel_shuffle(F.relu_(self.conv(x)), 2)  # (B, outputs, 2H, 2W)
        return _blurred(x) if self.blur else x


_INDEXABLE = 2**31 - 1
"""Numbers in a tensor that CUDA's pooling takes; more are an error."""


def _blurred(x: Tensor) -> Tensor:
    """Average each pixel with its left and upper neighbours; beyond the edge lies the edge's own pixel."""
    # Not by F.pad, which autocast does in fp32 on a CPU: the copies back and forth were a third of the time.
    x = torch.cat([x.narrow(2, 0, 1), x], dim=2)
    x = torch.cat([x.narrow(3, 0, 1), x], dim=3)
    if x.numel() > _INDEXABLE:
        return torch.cat([F.avg_pool2d(one, 2, stride=1) for one in torch.split(x, 1)])
    return F.avg_pool2d(x, 2, stride=1)


class UpBlock(nn.Module):
    """A step of the decoder: upsample x2, join the encoder's skip of that size, two 3x3 convolutions."""

    def __init__(self, inputs: int, skip: int, *, last: bool, widest: int | None = None) -> None:
        super().__init__()
        joined = inputs // 2 + skip
        outputs = joined // 2 if last else joined
        self.outputs = outputs if widest is None else min(outputs, widest)
        self.shuffle = Shuffle(inputs, inputs // 2, blur=True)
        self.norm = nn.BatchNorm2d(skip)
        self.conv1 = nn.Conv2d(joined, self.outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(self.outputs, self.outputs, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, inputs, H, W) and a skip (B, skip, 2H, 2W) to (B, outputs, 2H, 2W)."""
        x = F.relu_(torch.cat([self.shuffle(x), self.norm(skip)], dim=1))  # (B, joined, 2H, 2W)
        return F.relu_(self.conv2(F.relu_(self.conv1(x))))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a ReLU, added to the input; no batch norm, see EDSR (arXiv:1707.02921)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        y: Tensor = self.conv2(F.relu_(self.conv1(x)))
        return x + y


class UpStage(nn.Module):
    """Features on a grid twice as fine."""

    def __init__(self, channels: int, *, blur: bool) -> None:
        super().__init__()
        self.shuffle = Shuffle(channels, channels, blur=blur)
        self.block = ResidualBlock(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to (B, channels, 2H, 2W)."""
        y: Tensor = self.block(self.shuffle(x))
        return y


class UNet(nn.Module):
    """ResNet encoder and shuffle decoder; the input's own pixels join the last block ("last cross")."""

    def __init__(
        self, encoder: str, outputs: int, *, levels: int = MAX_LEVELS, widest: int | None = None
    ) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(encoder, levels)
        *skips, deepest = self.encoder.widths
        self.norm = nn.BatchNorm2d(deepest)
        self.middle1 = nn.Conv2d(deepest, 2 * deepest, 3, padding=1)
        self.middle2 = nn.Conv2d(2 * deepest, deepest, 3, padding=1)
        width = deepest
        # A step has the same number, and gives the same grid, whatever the number of levels.
        self.steps = tuple(f"up{step}" for step in range(MAX_LEVELS + 1 - levels, MAX_LEVELS))
        for name, skip in zip(self.steps, reversed(skips), strict=True):
            block = UpBlock(width, skip, last=name == self.steps[-1], widest=widest)
            self.add_module(name, block)
            width = block.outputs
        self.shuffle = Shuffle(width, width, blur=False)
        self.cross = ResidualBlock(width + 3)
        self.out = nn.Conv2d(width + 3, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised RGB (B, 3, H, W) to features (B, outputs, H, W)."""
        *skips, deepest = self.encoder(x)
        y = F.relu_(self.norm(deepest))  # (B, deepest, H/32, W/32), or of 4 levels H/16, W/16
        y = F.relu_(self.middle2(F.relu_(self.middle1(y))))  # the same
        for name, skip in zip(self.steps, reversed(skips), strict=True):
            y = getattr(self, name)(y, skip)  # twice as fine, up to (B, up4.outputs, H/2, W/2)
        y = self.shuffle(y)
        y = torch.cat([y, x.to(y.dtype)], dim=1)  # (B, up4.outputs + 3, H, W)
        features: Tensor = self.out(F.relu_(self.cross(y)))  # (B, outputs, H, W)
        return features


class SuperResolutionNet(nn.Module):
    """Residuals over the bicubic enlargement, one head per scale; one file of weights serves every scale.

    A configuration with one stage more holds every parameter of the smaller one under the same name, so a
    network grows by ``bigger.load_state_dict(smaller.state_dict(), strict=False)``.
    """

    stride: ClassVar[int] = STRIDE
    """Height and width of the input must be multiples of this."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.features
        self.body = UNet(config.encoder, width, levels=config.levels, widest=config.decoder)
        self.refine = nn.Sequential(*(ResidualBlock(width) for _ in range(config.refine_blocks)))
        self.stages = nn.ModuleList(UpStage(width, blur=config.blur) for _ in range(config.stages))
        outputs = 4 if config.replaces else 3
        self.heads = nn.ModuleList(nn.Conv2d(width, outputs, 3, padding=1) for _ in config.scales)
        # Not in the state dict: the configuration has them. On the CPU even if the rest is built on "meta".
        for name, values in (("mean", config.mean), ("std", config.std)):
            self.register_buffer(name, torch.tensor(values, device="cpu").view(1, 3, 1, 1), persistent=False)
        self._initialise()

    def forward(self, x: Tensor, scale: int) -> Tensor:
        """Return the residual over ``enlarge(x, scale)``; only the stages that this scale needs are run.

        Args:
            x: (B, 3, H, W), RGB in [0, 1], H and W multiples of `stride`.
            scale: one of ``config.scales``.

        Returns:
            (B, 3, H * scale, W * scale), not clipped.

        Raises:
            ValueError: no head for this scale, or a shape that the network cannot take.
        """
        level = self.level(scale)
        return self.residual(self.features(x), level)

    def level(self, scale: int) -> int:
        """Number of stages before the head of this scale.

        Raises:
            ValueError: there is no such head.
        """
        if scale not in self.config.scales:
            raise ValueError(f"no head for scale {scale}; this network has {self.config.scales}")
        return self.config.scales.index(scale)

    def residual(self, features: Tensor, level: int) -> Tensor:
        """Map what :meth:`features` gives, or a part of it, through ``level`` stages and their head.

        (B, C, H, W) becomes (B, 3, H * 2**level, W * 2**level), not clipped.
        """
        for stage in self.stages[:level]:
            features = stage(features)  # (B, features, 2H, 2W), then 4H, ...
        return self._read(features, level)

    def residuals(self, x: Tensor, largest: int | None = None) -> list[Tensor]:
        """Return what `forward` gives for every scale up to ``largest``, for the price of that one.

        By default ``largest`` is the last of ``config.scales``.
        """
        level = len(self.stages) if largest is None else self.level(largest)
        features = self.features(x)
        outputs = [self._read(features, 0)]
        for index, stage in enumerate(self.stages[:level], 1):
            features = stage(features)  # (B, features, 2H, 2W), then 4H, ...
            outputs.append(self._read(features, index))
        return outputs

    def _read(self, features: Tensor, level: int) -> Tensor:
        """Residual (B, 3, H, W) of one head; of one that replaces ``colour - opacity * pixel``.

        The colour is premultiplied by the opacity (Porter and Duff 1984, "Compositing digital images"), and
        neither is bounded: behind a sigmoid, with an L1 loss, the opacity was closed for good within 600
        steps, since at first every replacement does harm.
        """
        if not self.config.replaces:
            residual: Tensor = self.heads[level](features)
            return residual
        width = self.config.features
        told = self.heads[level](features.narrow(1, 0, width))  # (B, 4, H, W)
        opacity: Tensor = told.narrow(1, 0, 1)
        colour: Tensor = told.narrow(1, 1, 3)
        return colour - opacity * features.narrow(1, width, 3)

    @staticmethod
    def enlarge(x: Tensor, scale: int) -> Tensor:
        """Return the base that residuals are added to, (B, 3, H * scale, W * scale) in fp32, not clipped.

        Bicubic by Keys 1981 with a = -0.75, pixel centres aligned. fp32 even for half-precision input: the 8
        bits of a bfloat16 mantissa would band a sky. The identity at scale 1.
        """
        if scale == 1:
            return x.float()
        return F.interpolate(x.float(), scale_factor=scale, mode="bicubic", align_corners=False)

    def features(self, x: Tensor) -> Tensor:
        """Map RGB (B, 3, H, W) in [0, 1] to what head x1 reads, (B, C, H, W).

        C is ``config.features``, and 3 more for the pixels where the head replaces them.
        """
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[2] % self.stride or x.shape[3] % self.stride:
            raise ValueError(f"input is {tuple(x.shape)}, not (B, 3, H, W), H, W multiples of {self.stride}")
        features: Tensor = self.refine(self.body((x - self.mean) / self.std))
        return torch.cat([features, x.to(features.dtype)], dim=1) if self.config.replaces else features

    def _initialise(self) -> None:
        """He initialisation (arXiv:1502.01852), ICNR for shuffles, identity residual blocks, near-zero heads.

        Uniform, not normal: on "meta", where loading builds the network, only that needs no slow imports.
        Near-zero heads make an untrained head give the bicubic picture, and let a new one upset nothing.
        """
        # A module comes before those inside it, so the order is reversed: special cases come last.
        for module in reversed(list(self.modules())):
            match module:
                case nn.Conv2d():
                    nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
                case Shuffle():
                    _init_icnr(module.conv.weight)
                case ResidualBlock():
                    nn.init.zeros_(module.conv2.weight)
        for head in self.heads.parameters():
            nn.init.uniform_(head, -1e-4, 1e-4)


def _init_icnr(weight: Tensor) -> None:
    """Fill ``weight`` (4 C, inputs, 1, 1) so that a shuffle x2 starts as nearest-neighbour enlargement.

    The 4 kernels that make one 2x2 patch start equal, which keeps the checkerboard of independent ones out:
    Aitken et al. 2017, "Checkerboard artifact free sub-pixel convolution" (arXiv:1707.02937).
    """
    kernel = weight.new_empty(weight.shape[0] // 4, *weight.shape[1:])
    nn.init.kaiming_uniform_(kernel, nonlinearity="relu")
    with torch.no_grad():
        weight.copy_(kernel.repeat_interleave(4, dim=0))
