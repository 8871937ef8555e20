"""The encoder beside torchvision's, whole and in part, and batch norm that fits photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from srbatch.card import NetworkConfig
from srbatch.errors import WeightsError
from srbatch.network import ResNetEncoder, SuperResolutionNet
from tests.conftest import sample
from trainer import encoder
from trainer.encoder import IMAGENET, RANDOM, initialise, keep_fixed, norms, recalibrate

State = dict[str, Tensor]


def trained(name: str, *, folded: bool = False) -> State:
    """A state dict with torchvision's names, with batch norms as training or as folding leaves them."""
    torch.manual_seed(11)
    network = models.get_model(name, weights=None)
    for norm in norms(network).values():
        if folded:
            nn.init.constant_(norm.running_var, 1 - norm.eps)
            nn.init.uniform_(norm.bias, -0.3, 0.3)
            continue
        for tensor, low, high in (
            (norm.weight, 0.5, 1.0), (norm.bias, -0.2, 0.2), (norm.running_mean, -0.2, 0.2),
            (norm.running_var, 0.5, 1.5),
        ):  # fmt: skip
            nn.init.uniform_(tensor, low, high)
    state: State = network.state_dict()
    return state


def save(folder: Path, state: State) -> str:
    torch.save(state, folder / "encoder.pth")
    return str(folder / "encoder.pth")


def photos(batches: int = 2, side: int = 64) -> list[Tensor]:
    """Batches of 4 crops, the same for the same arguments."""
    pixels = torch.from_numpy(sample().copy()).permute(2, 0, 1) / 255
    corners = [(40 * n % 300, 70 * n % 500) for n in range(4 * batches)]
    crops = torch.stack([pixels[:, y : y + side, x : x + side] for y, x in corners])
    return list(crops.split(4))


def features(network: nn.Module, x: Tensor) -> list[Tensor]:
    """What torchvision's network gives where the U-Net takes its skips."""
    s0 = network.relu(network.bn1(network.conv1(x)))
    found = [s0]
    y = network.maxpool(s0)
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        y = layer(y)
        found.append(y)
    return found


# ---- weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_a_whole_file_gives_torchvision_s_features(tmp_path: Path, name: str) -> None:
    state = trained(name)
    theirs = models.get_model(name, weights=None).eval()
    theirs.load_state_dict(state)
    ours = ResNetEncoder(name).eval()
    loaded = initialise(ours, name, save(tmp_path, state))
    assert loaded.missing == ()
    assert set(loaded.found) == {key for key in state if not key.startswith("fc.")}
    x = photos(1)[0][:1]
    with torch.no_grad():
        for mine, meant in zip(ours(x), features(theirs, x), strict=True):
            assert torch.equal(mine, meant)


def test_resnet18_serves_the_first_blocks_of_resnet34(tmp_path: Path) -> None:
    state = trained("resnet18")
    ours = ResNetEncoder("resnet34").eval()
    loaded = initialise(ours, "resnet34", save(tmp_path, state))
    blocks = {name.split(".conv")[0].split(".bn")[0] for name in loaded.missing}
    assert blocks == {
        f"layer{layer}.{block}"
        for layer, depth in ((1, 3), (2, 4), (3, 6), (4, 3))
        for block in range(2, depth)
    }
    assert len(loaded.missing) == 4 * len(blocks)
    theirs = models.resnet18(weights=None).eval()
    theirs.load_state_dict(state)
    x = photos(1)[0][:1]
    with torch.no_grad():  # what is missing passes on what it is given, which is not negative
        for mine, meant in zip(ours(x), features(theirs, x), strict=True):
            assert torch.equal(mine, meant)


def test_convolutions_that_are_missing_take_their_block_with_them(tmp_path: Path) -> None:
    state = trained("resnet34")
    partial = {
        key: t for key, t in state.items() if not (key.startswith("layer4") and t.ndim == 4)
    }  # their batch norms are there
    del partial["layer2.1.conv1.weight"]
    ours = ResNetEncoder("resnet34").eval()
    loaded = initialise(ours, "resnet34", save(tmp_path, partial))
    assert {name.rsplit(".", 1)[0].removesuffix(".downsample") for name in loaded.missing} == {
        *("layer2.1", "layer4.0", "layer4.1", "layer4.2"),
    }
    assert "layer4.0.downsample.1" in loaded.missing
    assert not any(key.startswith(("layer4", "layer2.1.")) for key in loaded.found)
    x = photos(1)[0][:1]
    with torch.no_grad():
        inner = ours.layer2[0](ours.layer1(torch.relu(ours.bn1(ours.conv1(x)))))
        assert torch.equal(ours.layer2[1](inner), inner)
        assert torch.equal(
            ours.layer4[1](inner := ours.layer4[0](ours.layer3(ours.layer2[0](inner[:, :64])))), inner
        )


def test_nothing_of_another_depth_is_mixed_in(tmp_path: Path) -> None:
    """layer1.0.conv2 has one shape in ResNet-18 and ResNet-50, and means another thing."""
    ours = ResNetEncoder("resnet50")
    loaded = initialise(ours, "resnet50", save(tmp_path, trained("resnet18")))
    assert {key.split(".")[0] for key in loaded.found} == {"conv1", "bn1"}


@pytest.mark.parametrize("key", ["conv1.weight", "bn1.running_mean"])
def test_a_file_without_a_stem(tmp_path: Path, key: str) -> None:
    state = trained("resnet18")
    del state[key]
    with pytest.raises(WeightsError, match=r"encoder.pth has no conv1 and bn1 that fit resnet18"):
        initialise(ResNetEncoder("resnet18"), "resnet18", save(tmp_path, state))


def test_a_stem_of_another_shape(tmp_path: Path) -> None:
    state = {"conv1.weight": torch.zeros(64, 1, 7, 7)}
    with pytest.raises(WeightsError, match="has no conv1"):
        initialise(ResNetEncoder("resnet18"), "resnet18", save(tmp_path, state))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(WeightsError, match="imagnet cannot be read: No such file"):
        initialise(ResNetEncoder("resnet18"), "resnet18", "imagnet")


def test_random_does_nothing() -> None:
    ours = ResNetEncoder("resnet18")
    before = {key: t.clone() for key, t in ours.state_dict().items()}
    assert initialise(ours, "resnet18", RANDOM) == encoder.Loaded((), ())
    assert all(torch.equal(before[key], t) for key, t in ours.state_dict().items())


def test_imagenet_is_torchvision_s(monkeypatch: pytest.MonkeyPatch) -> None:
    state, asked = trained("resnet18"), []

    def get(url: str, **_: object) -> State:
        asked.append(url)
        return state

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", get)
    ours = ResNetEncoder("resnet18")
    assert initialise(ours, "resnet18", IMAGENET).missing == ()
    assert "resnet18" in asked[0]
    assert torch.equal(ours.conv1.weight, state["conv1.weight"])


def test_imagenet_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(WeightsError, match=r"ResNet18_Weights.*no route to host.*--encoder-weights"):
        initialise(ResNetEncoder("resnet18"), "resnet18", IMAGENET)


# ---- batch norm -------------------------------------------------------------------------------------------


def begun(folder: Path, state: State, name: str = "resnet18") -> tuple[SuperResolutionNet, encoder.Loaded]:
    torch.manual_seed(4)
    network = SuperResolutionNet(NetworkConfig(name, features=8, refine_blocks=1, stages=0))
    return network.eval(), initialise(network.body.encoder, name, save(folder, state))


@torch.no_grad()
def seen(network: SuperResolutionNet, batches: list[Tensor], *, training: bool = False) -> Tensor:
    """The features over all pictures as one batch, in eval mode or with that batch's statistics."""
    network.eval()
    for norm in norms(network).values():
        norm.train(training)
        norm.momentum = 0.0  # looking changes nothing
    result = network.features(torch.cat(batches))
    for norm in norms(network).values():
        norm.momentum = 0.1
    network.eval()
    return result


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt() / b.std())


@pytest.mark.parametrize("folded", [True, False])
def test_recalibration_keeps_what_the_encoder_computes(tmp_path: Path, folded: bool) -> None:
    network, loaded = begun(tmp_path, trained("resnet18", folded=folded))
    pictures = photos()
    with torch.no_grad():
        before = network.body.encoder(torch.cat(pictures))
        recalibrate(network, loaded, pictures)
        after = network.body.encoder(torch.cat(pictures))
    for was, now in zip(before, after, strict=True):
        assert torch.allclose(was, now, rtol=1e-4, atol=1e-4 * float(was.abs().max()))
    assert not network.training


def test_after_recalibration_both_modes_of_a_folded_network_agree(tmp_path: Path) -> None:
    state, pictures = trained("resnet18", folded=True), photos()
    network, loaded = begun(tmp_path, state)
    without = distance(seen(network, pictures, training=True), seen(network, pictures))
    recalibrate(network, loaded, pictures)
    with_it = distance(seen(network, pictures, training=True), seen(network, pictures))
    assert without > 0.5
    assert with_it < without / 20, (with_it, without)


def test_statistics_are_those_of_the_photographs(tmp_path: Path) -> None:
    network, loaded = begun(tmp_path, trained("resnet18", folded=True))
    pictures = photos()
    recalibrate(network, loaded, pictures)
    inputs: dict[str, Tensor] = {}
    found = norms(network)
    handles = [
        norm.register_forward_pre_hook(lambda _, args, name=name: inputs.__setitem__(name, args[0]))
        for name, norm in found.items()
    ]
    seen(network, pictures)
    for handle in handles:
        handle.remove()
    for name in ("body.encoder.bn1", "body.encoder.layer4.1.bn2"):
        assert torch.allclose(found[name].running_mean, inputs[name].mean((0, 2, 3)), atol=1e-4)
        assert torch.allclose(found[name].running_var, inputs[name].var((0, 2, 3), correction=0), rtol=1e-3)
    fresh = found["body.norm"]
    assert torch.allclose(fresh.running_mean, inputs["body.norm"].mean((0, 2, 3)), atol=1e-3)
    assert torch.equal(fresh.weight, torch.ones_like(fresh.weight))
    assert {norm.momentum for norm in found.values()} == {0.1}


def test_loaded_layers_behind_fresh_ones_fit_what_those_give(tmp_path: Path) -> None:
    state = {k: t for k, t in trained("resnet18", folded=True).items() if not k.startswith("layer2")}
    network, loaded = begun(tmp_path, state)
    pictures = photos()
    recalibrate(network, loaded, pictures)
    assert distance(seen(network, pictures, training=True), seen(network, pictures)) < 0.04


def test_a_random_network_is_given_statistics_too() -> None:
    torch.manual_seed(4)
    network = SuperResolutionNet(NetworkConfig("resnet18", features=8, refine_blocks=1, stages=0))
    pictures = photos()
    without = distance(seen(network, pictures, training=True), seen(network, pictures))
    recalibrate(network, encoder.Loaded((), ()), pictures)
    assert distance(seen(network, pictures, training=True), seen(network, pictures)) < without / 5


def test_fixed_norms_do_not_move(tmp_path: Path) -> None:
    network, _ = begun(tmp_path, trained("resnet18"))
    network.train()
    keep_fixed(network)
    assert network.training
    before = [norm.running_mean.clone() for norm in norms(network).values()]
    with torch.no_grad():
        network.residuals(photos(1)[0])
    after = [norm.running_mean for norm in norms(network).values()]
    assert all(map(torch.equal, before, after))
    assert len(before) == 20 + 1 + 4
