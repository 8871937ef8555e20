"""The network: parity with fastai, the contract of its methods, initialisation, threads and export."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srbatch.card import NetworkConfig
from srbatch.network import ResNetEncoder, Shuffle, SuperResolutionNet, UNet


@pytest.fixture(scope="module")
def fastai() -> ModuleType:
    with warnings.catch_warnings():
        # While it is imported, fastai uses what torch and pandas have deprecated; nothing of it matters here.
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
        warnings.filterwarnings("ignore", message=".*mode.chained_assignment.*")
        import fastai.vision.all
    return fastai.vision.all


def randomise(module: nn.Module) -> None:
    """Give every statistic and bias a value of its own, so that two swapped tensors cannot go unseen."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.uniform_(-0.5, 1, generator=generator)


@pytest.fixture(scope="module")
def network() -> SuperResolutionNet:
    torch.manual_seed(0)
    network = SuperResolutionNet(NetworkConfig("resnet18", features=8, refine_blocks=1)).eval()
    randomise(network)
    return network.requires_grad_(False)


def photo(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# ---- parity -----------------------------------------------------------------------------------------------


def dynamic_unet(fastai: ModuleType, encoder: str, norm_type: Any = None) -> nn.Module:
    body = fastai.create_body(getattr(fastai, encoder)(), pretrained=False)
    unet = fastai.DynamicUnet(body, 16, (64, 64), blur=True, last_cross=True, norm_type=norm_type)
    return unet.eval().requires_grad_(False)


def leaves(module: nn.Module) -> Iterator[nn.Module]:
    return (m for m in module.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d))


def transfer(source: nn.Module, target: nn.Module) -> None:
    for a, b in zip(leaves(source), leaves(target), strict=True):
        b.load_state_dict(a.state_dict())


@pytest.mark.parametrize("encoder", ["resnet18", "resnet34"])
def test_body_equals_dynamic_unet(fastai: ModuleType, encoder: str) -> None:
    reference = dynamic_unet(fastai, encoder)
    randomise(reference)
    body = UNet(encoder, outputs=16).eval().requires_grad_(False)
    transfer(reference, body)
    shapes = [[tuple(t.shape) for t in module.state_dict().values()] for module in (body, reference)]
    assert shapes[0] == shapes[1]
    for height, width in ((32, 32), (64, 96), (128, 32)):
        x = photo(2, 3, height, width) * 4 - 2
        assert (body(x) - torch.as_tensor(reference(x))).abs().max() == 0.0


# fastai applies weight norm with a function that torch has deprecated since 2.1.
@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*:FutureWarning")
def test_body_equals_dynamic_unet_with_its_weight_norm_folded(fastai: ModuleType) -> None:
    reference = dynamic_unet(fastai, "resnet18", fastai.NormType.Weight)
    x = photo(1, 3, 64, 64) * 4 - 2
    for conv in leaves(reference):
        if hasattr(conv, "weight_g"):
            conv.weight_g *= 1.5
    expected = torch.as_tensor(reference(x))
    for conv in leaves(reference):
        if hasattr(conv, "weight_g"):
            nn.utils.remove_weight_norm(conv)
    body = UNet("resnet18", outputs=16).eval().requires_grad_(False)
    transfer(reference, body)
    assert (body(x) - expected).abs().max() == 0.0


@pytest.mark.parametrize("encoder", ["resnet18", "resnet34", "resnet50"])
def test_encoder_takes_torchvision_state_dicts(fastai: ModuleType, encoder: str) -> None:
    with torch.device("meta"):  # names and shapes only: ResNet-50's U-Net has 339 million parameters
        theirs = getattr(fastai, encoder)().state_dict()
        ours = ResNetEncoder(encoder).state_dict()
    assert {n: t.shape for n, t in ours.items()} == {
        n: t.shape for n, t in theirs.items() if not n.startswith("fc")
    }


def test_resnet50_body_has_the_widths_of_dynamic_unet() -> None:
    with torch.device("meta"):
        body = UNet("resnet50", outputs=64)
    blocks = (body.up1, body.up2, body.up3, body.up4)
    assert [block.outputs for block in blocks] == [2048, 1536, 1024, 288]
    assert body.out.in_channels == 291


# ---- contract ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_forward_is_the_matching_entry_of_residuals(
    network: SuperResolutionNet, size: tuple[int, int]
) -> None:
    x = photo(2, 3, *size)
    residuals = network.residuals(x)
    assert network.config.scales == (1, 2, 4)
    for scale, expected in zip(network.config.scales, residuals, strict=True):
        assert expected.shape == (2, 3, size[0] * scale, size[1] * scale)
        assert torch.equal(network(x, scale), expected)


def test_only_the_stages_of_a_scale_run(network: SuperResolutionNet) -> None:
    calls: list[int] = []
    hooks = [
        stage.register_forward_hook(lambda *_, level=level: calls.append(level))
        for level, stage in enumerate(network.stages, 1)
    ]
    for scale in network.config.scales:
        network(photo(1, 3, 32, 32), scale)
    for hook in hooks:
        hook.remove()
    assert calls == [1, 1, 2]


def test_batches_do_not_mix(network: SuperResolutionNet) -> None:
    x = photo(3, 3, 32, 64)
    alone = torch.cat([network(one[None], 2) for one in x])
    torch.testing.assert_close(network(x, 2), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 33, 32), (1, 3, 32, 48), (1, 1, 32, 32), (3, 32, 32)])
def test_wrong_shapes_are_refused(network: SuperResolutionNet, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        network(torch.zeros(shape), 2)
    with pytest.raises(ValueError, match="multiples of 32"):
        network.residuals(torch.zeros(shape))


@pytest.mark.parametrize("scale", [0, 3, 8, -1])
def test_scale_without_a_head_is_refused(network: SuperResolutionNet, scale: int) -> None:
    with pytest.raises(ValueError, match="no head for scale"):
        network(torch.zeros(1, 3, 32, 32), scale)


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoder": "vgg"},
        {"features": 0},
        {"features": 8.0},
        {"refine_blocks": -1},
        {"stages": 4},
        {"stages": True},
        {"levels": 3},
        {"levels": 6},
        {"decoder": 4},
        {"decoder": 64.0},
        {"replaces": 1},
        {"blur": None},
        {"stages": 1, "replaces": True},
        {"std": (0.2, 0.0, 0.2)},
        {"mean": (0.5,)},
    ],
)
def test_config_is_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NetworkConfig(**wrong)


@pytest.fixture(scope="module")
def replacing() -> SuperResolutionNet:
    torch.manual_seed(0)
    config = NetworkConfig("resnet18", 8, 1, stages=0, levels=4, decoder=16, replaces=True)
    network = SuperResolutionNet(config).eval()
    randomise(network)
    return network.requires_grad_(False)


def test_a_network_of_four_levels_is_the_same_up_to_the_third_layer(network: SuperResolutionNet) -> None:
    deep, shallow = network.body.encoder, ResNetEncoder("resnet18", levels=4).eval()
    missing, unexpected = shallow.load_state_dict(deep.state_dict(), strict=False)
    assert not missing
    assert {name.split(".")[0] for name in unexpected} == {"layer4"}
    x = photo(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(shallow(x), deep(x)[:4], strict=True):
            assert torch.equal(ours, theirs)


def test_steps_of_a_thin_decoder_give_at_most_that_many_channels() -> None:
    with torch.device("meta"):
        body = UNet("resnet18", outputs=16, levels=4, widest=96)
        deep = UNet("resnet18", outputs=16, widest=100)
    assert [getattr(body, name).outputs for name in body.steps] == [96, 96, 56]  # the last halves 48 + 64
    assert body.out.in_channels == 59
    assert [getattr(deep, name).outputs for name in deep.steps] == [100, 100, 100, 57]


def test_a_head_that_replaces_leaves_a_pixel_or_puts_its_colour_there(replacing: SuperResolutionNet) -> None:
    x, head = photo(2, 3, 32, 64), replacing.heads[0]
    before = head.weight.clone(), head.bias.clone()
    head.weight.zero_()
    colour = torch.tensor([0.25, 0.5, 1.0])
    for opacity in (0.0, 0.5, 1.0):
        head.bias.copy_(torch.tensor([opacity, *(opacity * colour).tolist()]))
        residual = replacing(x, 1)
        assert residual.shape == x.shape
        torch.testing.assert_close(
            x + residual, (1 - opacity) * x + opacity * colour.view(1, 3, 1, 1), rtol=0, atol=1e-6
        )
        assert opacity > 0 or not residual.any()
        assert torch.equal(replacing.residuals(x)[0], residual)
    head.weight.copy_(before[0])
    head.bias.copy_(before[1])


def test_a_network_that_replaces_is_exported_too(replacing: SuperResolutionNet) -> None:
    x = photo(1, 3, 64, 32)
    exported = torch.export.export(replacing, (x, 1)).module()
    torch.testing.assert_close(exported(x, 1), replacing(x, 1), rtol=0, atol=1e-6)


def test_base_keeps_every_16_bit_level_at_scale_1() -> None:
    levels = torch.arange(65536, dtype=torch.int32).view(1, 1, 256, 256).expand(1, 3, -1, -1)
    base = SuperResolutionNet.enlarge(levels / 65535, 1)
    assert torch.equal((base * 65535).round().int(), levels)


@pytest.mark.parametrize("scale", [2, 4])
def test_base_is_keys_bicubic(scale: int) -> None:
    """Each pixel is the sum of 16 neighbours under Keys' kernel with a = -0.75, in fp32 also for bf16."""

    def kernel(t: Tensor) -> Tensor:
        t, a = t.abs(), -0.75
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
        return torch.where(t <= 1, near, torch.where(t < 2, far, 0.0))

    x = photo(1, 3, 32, 32).bfloat16()
    centres = (torch.arange(32 * scale) + 0.5) / scale - 0.5
    source = torch.arange(-4, 36)
    weights = kernel(centres[:, None] - source)  # (32 scale, 40), columns beyond the edge repeat it
    rows = x.double()[..., source.clamp(0, 31), :][..., source.clamp(0, 31)]
    expected = torch.einsum("ip,bcpq,jq->bcij", weights.double(), rows, weights.double())
    base = SuperResolutionNet.enlarge(x, scale)
    assert base.dtype == torch.float32
    torch.testing.assert_close(base.double(), expected, rtol=0, atol=1e-5)


def test_a_smaller_network_loads_into_a_bigger_one(network: SuperResolutionNet) -> None:
    bigger = SuperResolutionNet(NetworkConfig("resnet18", features=8, refine_blocks=1, stages=3)).eval()
    missing, unexpected = bigger.load_state_dict(network.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[0] + name.split(".")[1] for name in missing} == {"stages2", "heads3"}
    x = photo(1, 3, 32, 32)
    assert torch.equal(bigger(x, 4), network(x, 4))
    assert bigger(x, 8).shape == (1, 3, 256, 256)


# ---- initialisation, threads, export ----------------------------------------------------------------------


def test_new_shuffles_have_no_2x2_pattern() -> None:
    network = SuperResolutionNet(NetworkConfig("resnet18", features=8, refine_blocks=0))
    shuffles = [module for module in network.modules() if isinstance(module, Shuffle)]
    assert len(shuffles) == 7
    for shuffle in shuffles:
        x = photo(1, shuffle.conv.in_channels, 6, 5) - 0.5
        shuffle.blur = False
        y = shuffle(x)
        assert y.std() > 0
        assert torch.equal(y, nn.functional.interpolate(y[..., ::2, ::2], scale_factor=2, mode="nearest"))


def test_a_new_network_starts_near_bicubic() -> None:
    torch.manual_seed(0)
    network = SuperResolutionNet(NetworkConfig("resnet18")).eval()
    for residual in network.residuals(photo(1, 3, 64, 64)):
        assert 0 < residual.abs().mean() < 0.2


def test_threads_share_a_network(network: SuperResolutionNet) -> None:
    inputs = [photo(1, 3, 32 * (1 + k % 3), 64, seed=k) for k in range(12)]
    expected = [network(x, 2) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda x: network(x, 2), inputs))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_export_gives_the_same_result(network: SuperResolutionNet) -> None:
    x = photo(1, 3, 64, 32)
    exported = torch.export.export(network, (x, 2)).module()
    assert torch.equal(exported(x, 2), network(x, 2))


@pytest.mark.parametrize("blur", [False, True])
def test_a_blurred_stage_keeps_the_shuffles_grid_out(blur: bool) -> None:
    config = NetworkConfig("resnet18", features=4, refine_blocks=0, stages=1, blur=blur)
    network = SuperResolutionNet(config).eval()
    with torch.no_grad():
        shuffle = network.stages[0].shuffle.conv
        shuffle.weight.zero_()
        shuffle.bias.copy_(torch.tensor([0.0, 1.0, 1.0, 0.0]).repeat(4))  # a checkerboard in every channel
        network.heads[1].weight.normal_()
        residual = network(torch.zeros(1, 3, 32, 32), 2)[..., 4:-4, 4:-4]
    swing = (residual - residual.mean(dim=(2, 3), keepdim=True)).abs().max()
    assert (swing < 1e-5) == blur
