"""The network on CUDA in half precision, with what lies between its convolutions done in one pass each.

Convolutions were an eighth of the time on an H200: bias, ReLU, pixel shuffle, blur and sum each went over
all of the large grid's memory by themselves. Here bias and ReLU, with the sum or with shuffle and blur, are
one kernel, written in Triton, which torch brings along on Linux. It adds in fp32 and rounds once.
"""

from __future__ import annotations

import copy
import logging

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.nn import functional as F

from srbatch.network import ResidualBlock, Shuffle, SuperResolutionNet

log = logging.getLogger(__name__)

_BLOCK = 2048
_COLUMNS, _CHANNELS = 16, 64
"""What one program of the shuffle makes: columns of the small grid, and channels."""
_PROBE_PX = (64, 96)
_RELATIVE, _ABSOLUTE = 0.05, 1 / 1024
"""On average no further from torch's result than this share of it, and a quarter of one of 256 levels."""


@triton.jit
def _finished(
    values, bias, addend, count,
    channels: tl.constexpr, relu: tl.constexpr, adds: tl.constexpr, block: tl.constexpr
):  # fmt: skip
    """In place, channels last: values + bias (+ addend), perhaps without what is negative."""
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < count
    result = tl.load(values + at, inside).to(tl.float32) + tl.load(bias + at % channels, inside)
    if adds:
        result += tl.load(addend + at, inside).to(tl.float32)
    if relu:
        result = tl.where(result < 0, 0.0, result)  # what is no number stays none: it is looked for later
    tl.store(values + at, result.to(values.dtype.element_ty), inside)


@triton.jit
def _at(values, bias, image, y, x, height, width, c, channels: tl.constexpr, inside):
    """ReLU(values + bias) at row y and columns x (n, 1) of the large grid, channels c (1, m)."""
    part = (y % 2) * 2 + x % 2  # (n, 1)
    pixel = (image * height + y // 2).to(tl.int64) * width + x // 2
    result = tl.load(values + pixel * (4 * channels) + part * channels + c, inside).to(tl.float32)
    result += tl.load(bias + part * channels + c, inside)
    return tl.where(result < 0, 0.0, result)


@triton.jit
def _shuffled(
    values, bias, out, height, width,
    channels: tl.constexpr, blur: tl.constexpr, columns: tl.constexpr, block: tl.constexpr
):  # fmt: skip
    """From (B, height, width, 4, channels) to (B, 2 height, 2 width, channels), one row of the small grid.

    With blur each is the mean of itself and its left, upper and upper left neighbours; beyond the rim lies
    the rim.
    """
    image = tl.program_id(0) // height
    row = tl.program_id(0) % height
    j = tl.program_id(1) * columns + tl.arange(0, columns)[:, None]
    c = tl.program_id(2) * block + tl.arange(0, block)[None, :]
    inside = (j < width) & (c < channels)
    y, x = 2 * row, 2 * j
    v11 = _at(values, bias, image, y, x, height, width, c, channels, inside)
    v12 = _at(values, bias, image, y, x + 1, height, width, c, channels, inside)
    v21 = _at(values, bias, image, y + 1, x, height, width, c, channels, inside)
    v22 = _at(values, bias, image, y + 1, x + 1, height, width, c, channels, inside)
    if blur:
        up, left = tl.maximum(y - 1, 0), tl.maximum(x - 1, 0)
        v00 = _at(values, bias, image, up, left, height, width, c, channels, inside)
        v01 = _at(values, bias, image, up, x, height, width, c, channels, inside)
        v02 = _at(values, bias, image, up, x + 1, height, width, c, channels, inside)
        v10 = _at(values, bias, image, y, left, height, width, c, channels, inside)
        v20 = _at(values, bias, image, y + 1, left, height, width, c, channels, inside)
        v22 = (v11 + v12 + v21 + v22) * 0.25
        v21 = (v10 + v11 + v20 + v21) * 0.25
        v12 = (v01 + v02 + v11 + v12) * 0.25
        v11 = (v00 + v01 + v10 + v11) * 0.25
    pixel = (image * 2 * height + y).to(tl.int64) * (2 * width) + x
    above = out + pixel * channels + c
    below = above + 2 * width * channels
    kind = out.dtype.element_ty
    tl.store(above, v11.to(kind), inside)
    tl.store(above + channels, v12.to(kind), inside)
    tl.store(below, v21.to(kind), inside)
    tl.store(below + channels, v22.to(kind), inside)


class _Convolution(nn.Module):
    """A convolution without its bias, in half precision and channels last."""

    weight: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        assert convolution.bias is not None
        self._padding = convolution.padding
        self._dtype = dtype
        weight = convolution.weight.detach().to(dtype)
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last), persistent=False)
        self.register_buffer("bias", convolution.bias.detach().float().clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W), to which the bias is still to be added."""
        x = x.to(self._dtype).contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, self.weight, None, padding=self._padding).contiguous(
            memory_format=torch.channels_last
        )


def _finish(x: Tensor, bias: Tensor, *, relu: bool, addend: Tensor | None = None) -> Tensor:
    """Add the bias (C,) and ``addend`` to x (B, C, H, W), in place; then ReLU."""
    if addend is not None:
        addend = addend.contiguous(memory_format=torch.channels_last)
    grid = (triton.cdiv(x.numel(), _BLOCK),)
    with torch.cuda.device_of(x):  # Triton starts kernels on the current device, wherever the tensors are
        _finished[grid](
            x, bias, x if addend is None else addend, x.numel(), x.shape[1], relu, addend is not None, _BLOCK
        )
    return x


class _FusedResidualBlock(nn.Module):
    def __init__(self, block: ResidualBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self.conv1, self.conv2 = _Convolution(block.conv1, dtype), _Convolution(block.conv2, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """As :class:`srbatch.network.ResidualBlock`."""
        y = _finish(self.conv1(x), self.conv1.bias, relu=True)
        return _finish(self.conv2(y), self.conv2.bias, relu=False, addend=x)


class _FusedShuffle(nn.Module):
    def __init__(self, shuffle: Shuffle, dtype: torch.dtype) -> None:
        super().__init__()
        self._blur = shuffle.blur
        self.conv = _Convolution(shuffle.conv, dtype)
        # torch's order of channels is (C, 4); with (4, C) what is read together lies together.
        outputs = len(self.conv.bias)
        order = torch.arange(outputs, device=self.conv.bias.device).view(-1, 4).T.flatten()
        self.conv.weight = self.conv.weight[order].contiguous(memory_format=torch.channels_last)
        self.conv.bias = self.conv.bias[order].contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """As :class:`srbatch.network.Shuffle`."""
        y = self.conv(x)
        batch, channels, height, width = y.shape
        channels //= 4
        out = torch.empty(
            (batch, channels, 2 * height, 2 * width),
            dtype=y.dtype,
            device=y.device,
            memory_format=torch.channels_last,
        )
        grid = (batch * height, triton.cdiv(width, _COLUMNS), triton.cdiv(channels, _CHANNELS))
        with torch.cuda.device_of(y):
            _shuffled[grid](y, self.conv.bias, out, height, width, channels, self._blur, _COLUMNS, _CHANNELS)
        return out


def fused(network: SuperResolutionNet, dtype: torch.dtype) -> SuperResolutionNet | None:
    """The network for calls under autocast to ``dtype``, or None where it cannot be had or is not the same.

    It shares no memory with the one given, which stays as it is.
    """
    result = _replaced(copy.deepcopy(network), dtype)
    result.engine = "torch, fused"  # type: ignore[assignment]  # mypy thinks that modules hold no text
    try:
        if not _is_same(result, network, dtype):
            log.warning("fused kernels do not give torch's result here; going on without them")
            return None
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Triton builds its kernels here and now, and needs a C compiler for it
        log.warning("no fused kernels (%s); going on without them", str(error).partition("\n")[0])
        return None
    return result


def _replaced(network: SuperResolutionNet, dtype: torch.dtype) -> SuperResolutionNet:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, ResidualBlock):
                setattr(module, name, _FusedResidualBlock(child, dtype))
            elif isinstance(child, Shuffle):
                setattr(module, name, _FusedShuffle(child, dtype))
    return network


@torch.inference_mode()
def _is_same(result: SuperResolutionNet, network: SuperResolutionNet, dtype: torch.dtype) -> bool:
    """Whether all heads give what torch gives, on noise."""
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(2, 3, *_PROBE_PX, generator=generator).to(device)
    with torch.autocast(device.type, dtype):
        for ours, torchs in zip(result.residuals(noise), network.residuals(noise), strict=True):
            difference = (ours.float() - torchs.float()).abs().mean()
            limit = _RELATIVE * torchs.float().abs().mean() + _ABSOLUTE
            if not difference < limit:  # what is no number is not less either
                return False
    return True
