"""The network by blocks gives what it gives as a whole."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from srbatch.card import NetworkConfig
from srbatch.network import SuperResolutionNet
from srbatch.upscaling import blockwise
from srbatch.upscaling.blockwise import BlockwiseNet


@pytest.fixture(scope="module")
def network() -> SuperResolutionNet:
    """Three stages whose weights are all positive, so that no ReLU hides a pixel from the result."""
    torch.manual_seed(0)
    network = SuperResolutionNet(
        NetworkConfig("resnet18", features=8, refine_blocks=0, stages=3, blur=True)
    ).eval()
    with torch.no_grad():
        for module in (*network.stages.modules(), *network.heads.modules()):
            if isinstance(module, nn.Conv2d):
                module.weight.uniform_(0, 2 / module.weight[0].numel())
    return network.requires_grad_(False).double()


def photo(batch: int, height: int, width: int) -> torch.Tensor:
    """Doubles, so that what a pixel too few changes is far above what rounding does."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 3, height, width, dtype=torch.float64, generator=generator)


@given(
    scale=st.sampled_from([1, 2, 4, 8]),
    batch=st.integers(1, 2),
    height=st.integers(1, 2),
    width=st.integers(1, 2),
    block_px=st.integers(12**2, 80**2),
)
@settings(max_examples=20)
def test_blocks_of_any_size_give_the_whole(
    network: SuperResolutionNet, scale: int, batch: int, height: int, width: int, block_px: int
) -> None:
    x, features = photo(batch, 32 * height, 32 * width), network.config.features
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(blockwise, "_BLOCK_BYTES", block_px * batch * scale**2 * features * 8)
        got, expected = BlockwiseNet(network)(x, scale), network(x, scale)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_the_margin_is_needed_to_its_last_pixel(
    network: SuperResolutionNet, monkeypatch: pytest.MonkeyPatch, scale: int
) -> None:
    x, margin = photo(1, 64, 64), blockwise._margin(network.level(scale))
    monkeypatch.setattr(blockwise, "_BLOCK_BYTES", 32**2 * scale**2 * network.config.features * 8)
    monkeypatch.setattr(blockwise, "_margin", lambda level: margin - 1)
    with torch.inference_mode():
        assert (BlockwiseNet(network)(x, scale) - network(x, scale)).abs().max() > 1e-9


def test_half_precision_stays_half_and_the_same(network: SuperResolutionNet) -> None:
    x, network = photo(1, 64, 96).float(), copy.deepcopy(network).float()
    with (
        pytest.MonkeyPatch.context() as patch,
        torch.inference_mode(),
        torch.autocast("cpu", torch.bfloat16),
    ):
        patch.setattr(blockwise, "_BLOCK_BYTES", 2**16)
        got, expected = BlockwiseNet(network)(x, 4), network(x, 4)
    assert got.dtype == expected.dtype == torch.bfloat16
    assert (got.float() - expected.float()).abs().max() <= 2**-7 * expected.float().abs().max()


def test_a_scale_without_a_head_is_refused(network: SuperResolutionNet) -> None:
    with pytest.raises(ValueError, match="no head for scale 3"):
        BlockwiseNet(network)(photo(1, 32, 32), 3)
