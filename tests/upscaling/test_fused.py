"""The fused kernels in Triton's interpreter: what they compute needs no GPU; how fast is not asked here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

# In a process of its own: whether kernels are interpreted is decided when they are defined.
PROGRAM = """
import sys
import torch
from torch import nn
from srbatch.card import NetworkConfig
from srbatch.upscaling import fused
from srbatch.network import ResidualBlock, Shuffle, SuperResolutionNet

torch.manual_seed(1)
torch.set_num_threads(1)

def difference(ours, torchs):
    assert ours.shape == torchs.shape
    return (ours.float() - torchs).abs().max().item()

def shuffle():
    for dtype, limit in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        # Channels and columns beyond one block, neither a multiple of it; a single row and column.
        for inputs, outputs, height, width in ((8, 72, 3, 19), (5, 6, 1, 1)):
            for blur in (False, True):
                module = Shuffle(inputs, outputs, blur=blur)
                nn.init.normal_(module.conv.bias)
                x = torch.randn(2, inputs, height, width)
                assert difference(fused._FusedShuffle(module, dtype)(x), module(x)) < limit

def block():
    for dtype, limit in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        for channels in (8, 99):
            module, x = ResidualBlock(channels), torch.randn(2, channels, 5, 21)
            assert difference(fused._FusedResidualBlock(module, dtype)(x), module(x)) < limit

def no_number():
    x = torch.randn(1, 8, 4, 4)
    x[0, :, 1, 1] = torch.nan
    assert fused._FusedResidualBlock(ResidualBlock(8), torch.float32)(x)[0, :, 1, 1].isnan().all()
    assert fused._FusedShuffle(Shuffle(8, 8, blur=True), torch.float32)(x)[0, :, 2:4, 2:4].isnan().all()

def network():
    config = NetworkConfig("resnet18", features=4, refine_blocks=1, stages=1, blur=True)
    given = SuperResolutionNet(config).eval()
    for head in given.heads:
        nn.init.normal_(head.weight, std=0.02)
    before = {name: value.clone() for name, value in given.state_dict().items()}
    found = fused.fused(given, torch.bfloat16)
    assert found is not None
    assert any(isinstance(module, fused._FusedShuffle) for module in found.modules())
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())

    block = fused._FusedResidualBlock.forward
    fused._FusedResidualBlock.forward = lambda self, x: block(self, x) + 1
    assert fused.fused(given, torch.bfloat16) is None  # another result
    def fail(self, x):
        raise RuntimeError("no compiler")
    fused._FusedResidualBlock.forward = fail
    assert fused.fused(given, torch.bfloat16) is None

globals()[sys.argv[1]]()
"""


@pytest.mark.timeout(320)  # a network takes Triton's interpreter a hundred seconds, and more beside others
@pytest.mark.parametrize("what", ["shuffle", "block", "no_number", "network"])
def test_they_give_what_torch_gives(what: str) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", PROGRAM, what]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
