"""A network between two."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from srbatch import weights
from srbatch.errors import UsageError
from srbatch.network import SuperResolutionNet
from tests.networks import SMALL_CARD
from trainer.exporting.growth import grow
from trainer.exporting.mix import mix

CONFIG = replace(SMALL_CARD.config, blur=True)
CARD = replace(SMALL_CARD, name="faithful", config=CONFIG, metrics={"Set5 x2 PSNR-Y": 30.25})


def residuals(network: SuperResolutionNet) -> list[torch.Tensor]:
    picture = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return network.residuals(picture)


@pytest.fixture(scope="module")
def networks() -> tuple[SuperResolutionNet, SuperResolutionNet]:
    """The second a few steps beside the first."""
    torch.manual_seed(1)
    first = SuperResolutionNet(CONFIG).eval().requires_grad_(False)
    for head in first.heads.parameters():
        head.uniform_(-2e-4, 2e-4)
    second = copy.deepcopy(first)
    for parameter in second.parameters():
        parameter.add_(0.02 * parameter.std(correction=0) * torch.randn_like(parameter))
    return first, second


@pytest.fixture(scope="module")
def files(networks: tuple[SuperResolutionNet, SuperResolutionNet], tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("two")
    cards = CARD, replace(CARD, name="perceptual", halo_px=16, degradations=("downsampling", "noise"))
    for network, card in zip(networks, cards, strict=True):
        weights.save(folder / f"{card.name}.safetensors", network, card, "fp32")
    return str(folder / "faithful.safetensors"), str(folder / "perceptual.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_weights_lie_between(networks, files, tmp_path: Path, share: float) -> None:
    made = mix(*files, tmp_path / "a.safetensors", share=share, keep_x1=False, storage="fp32")
    expected = copy.deepcopy(networks[0])
    for mine, other in zip(expected.parameters(), networks[1].parameters(), strict=True):
        mine.lerp_(other, share)
    for got, meant in zip(residuals(made.weights.network), residuals(expected), strict=True):
        assert torch.allclose(got, meant, rtol=0, atol=1e-6)


def test_the_card_tells_of_both(files, tmp_path: Path) -> None:
    card = mix(*files, tmp_path / "a.safetensors", share=0.25, keep_x1=True).weights.card
    assert card.degradations == ("downsampling", "jpeg", "noise")
    assert (card.halo_px, card.ramp_px) == (16, 32)
    assert card.metrics == {}  # those of another network
    assert [entry["name"] for entry in card.training["mixed"]] == ["faithful", "perceptual"]
    assert card.training["share_of_the_second"] == 0.25


def test_x1_may_stay_the_firsts(networks, files, tmp_path: Path) -> None:
    made = mix(*files, tmp_path / "a.safetensors", share=1.0, keep_x1=True, storage="fp32")
    got, first, second = (residuals(network) for network in (made.weights.network, *networks))
    assert torch.allclose(got[0], first[0], rtol=0, atol=1e-6)
    assert not torch.allclose(got[0], second[0], rtol=0, atol=1e-4)
    assert not torch.allclose(got[1], first[1], rtol=0, atol=1e-4)


def test_what_cannot_be_mixed(networks, files, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--share 1\.5"):
        mix(*files, tmp_path / "a.safetensors", share=1.5, keep_x1=False)
    other = SuperResolutionNet(replace(CONFIG, features=4)).eval()
    path = tmp_path / "other.safetensors"
    weights.save(path, other, replace(CARD, config=other.config), "fp32")
    with pytest.raises(UsageError, match="cannot be mixed"):
        mix(files[0], str(path), tmp_path / "a.safetensors", share=0.5, keep_x1=False)
    assert not (tmp_path / "a.safetensors").exists()


def test_a_network_without_a_record_makes_no_faithful_mixture(
    networks: tuple[SuperResolutionNet, SuperResolutionNet], files: tuple[str, str], tmp_path: Path
) -> None:
    weights.save(tmp_path / "unknown.safetensors", networks[1], replace(CARD, training={}), "fp32")
    second = str(tmp_path / "unknown.safetensors")
    mix(files[0], second, tmp_path / "w.safetensors", share=0.5, keep_x1=False, storage="fp32")
    assert weights.read_card(tmp_path / "w.safetensors").generative


def test_a_network_without_a_record_does_not_grow_into_a_faithful_one(
    networks: tuple[SuperResolutionNet, SuperResolutionNet], tmp_path: Path
) -> None:
    weights.save(tmp_path / "unknown.safetensors", networks[1], replace(CARD, training={}), "fp32")
    grow(str(tmp_path / "unknown.safetensors"), tmp_path / "w.safetensors", seed=1)
    assert weights.read_card(tmp_path / "w.safetensors").generative


def test_networks_that_serve_no_scale_in_common_are_not_mixed(
    networks: tuple[SuperResolutionNet, SuperResolutionNet], tmp_path: Path
) -> None:
    for network, name, scales in zip(networks, ("one", "two"), ((1,), (2,)), strict=True):
        card = replace(CARD, name=name, scales=scales)
        weights.save(tmp_path / f"{name}.safetensors", network, card, "fp32")
    one, two = (str(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    with pytest.raises(UsageError, match=r"serves x1 and .* x2: a mixture of them would serve no scale"):
        mix(one, two, tmp_path / "out.safetensors", share=0.5, keep_x1=False)
    assert not (tmp_path / "out.safetensors").exists()
