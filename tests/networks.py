"""Small networks with the call of ``SuperResolutionNet``, and a model around them, for tests that need

none that was trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from srbatch import run
from srbatch.card import Card, NetworkConfig
from srbatch.model import Model, Passes
from srbatch.network import BasicBlock, ResNetEncoder
from srbatch.options import Options, TargetSize
from srbatch.reporting.outcome import Outcome
from srbatch.reporting.report import Silent
from srbatch.upscaling.upscaler import Upscaler

SMALL_CARD = Card(
    name="small",
    version="1.0",
    description="for tests",
    licence="CC0-1.0",
    config=NetworkConfig("resnet18", features=8, refine_blocks=1, stages=1),
    scales=(1, 2),
    halo_px=0,
    ramp_px=32,
    degradations=("downsampling", "jpeg"),
    training={"samples": 3},
)


class Nothing(nn.Module):
    """Adds nothing: x1 is the photo itself, larger scales its bicubic enlargement."""

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        return torch.zeros(
            x.shape[0], 3, x.shape[2] * scale, x.shape[3] * scale, device=x.device, dtype=x.dtype
        )


class Local(nn.Module):
    """A fixed random convolution with a reach of 2 px."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.kernel = nn.Parameter(torch.randn(3, 3, 5, 5, generator=generator) * 0.02, requires_grad=False)

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        seen = nn.functional.conv2d(x, self.kernel, padding=2)
        return nn.functional.interpolate(seen, scale_factor=scale, mode="nearest")


class ThinEncoder(ResNetEncoder):
    """ResNet-18, whatever is asked for, with an eighth of its channels: checkpoints of 5 MB, not of 250."""

    def __init__(self, name: str, levels: int = 5) -> None:
        del name
        nn.Module.__init__(self)
        self.widths = (8, 8, 16, 32, 64)[:levels]
        self.layer4 = None
        self.conv1 = nn.Conv2d(3, self.widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(self.widths[0])
        for level, stride in ((1, 1), (2, 2), (3, 2), (4, 2))[: levels - 1]:
            inputs, outputs = self.widths[level - 1 : level + 1]
            blocks = nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))
            setattr(self, f"layer{level}", blocks)


class Faulty(nn.Module):
    """Runs ``inner`` but for the k-th call (from 0), where ``fault`` decides what comes out."""

    def __init__(self, inner: nn.Module, k: int, fault: str, times: int = 1) -> None:
        super().__init__()
        self.inner, self.fault = inner, fault
        self.bad_calls = range(k, k + times)
        self.calls = 0

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        call, self.calls = self.calls, self.calls + 1
        result = self.inner(x, scale)
        if call not in self.bad_calls:
            return result
        match self.fault:
            case "out of memory":
                raise torch.OutOfMemoryError("injected")
            case "raise":
                raise ZeroDivisionError("injected")
            case "nan":
                return result.index_fill(0, torch.tensor([0]), torch.nan)
            case "shape":
                return result[:, :, :-1]
        raise AssertionError(self.fault)


class FakeModel(Model):
    """A model around any network, without a file of weights."""

    sha256 = "0" * 64
    source_type = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
    reach = 8
    passes = Passes(largest_head=4)

    def __init__(self, network: nn.Module, **changes: Any) -> None:
        settings = {"tile": 96, "batch": 1, "precision": "fp32", **changes}
        self.upscalers = [Upscaler(network, scales=(1, 2, 4), halo=8, ramp=16, device="cpu", **settings)]


class _Told(Silent):
    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}

    def finished(self, outcome: Outcome) -> None:
        self.outcomes[outcome.photo.source.name] = outcome


def upscaled(folder: Path, out: Path, scale: float = 2, **changes: Any) -> dict[str, Outcome]:
    """Do a folder with the network that adds nothing; the outcomes by the names of the photos."""
    options = Options(inputs=(folder,), out=out, size=TargetSize(scale=scale), **changes)
    told, model = _Told(), FakeModel(Nothing())
    run.upscale(options, reporter=told, check=lambda: None, model_of=lambda _: model)
    return told.outcomes
