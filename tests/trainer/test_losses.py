"""VGG-16 beside torchvision's, files of its weights, and each term beside a plain computation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from srbatch.card import IMAGENET_MEAN
from srbatch.errors import WeightsError
from trainer import tensors
from trainer.config import LAYERS, Loss
from trainer.degradations.reduction import bicubic_downsample
from trainer.losses import SuperResolutionLoss, Vgg16, build, gram, reduced

BEFORE_POOLS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
WEIGHTS = {"relu1_2": 0.5, "relu2_1": 2.0}


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def small_vgg(*layers: str, scale: float = 1.0) -> Vgg16:
    """The first layers with random weights; ``scale`` multiplies every activation."""
    torch.manual_seed(7)
    vgg = Vgg16(layers or tuple(WEIGHTS))
    first = vgg.features[0]
    assert isinstance(first, nn.Conv2d)
    for module in vgg.features:
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            module.bias.zero_()  # then what comes out is proportional to what comes in
    first.weight *= scale
    return vgg


# ---- VGG-16 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", [False, True])
def test_activations_are_torchvision_s_before_its_max_pools(tmp_path: Path, batch_norm: bool) -> None:
    torch.manual_seed(1)
    make = models.vgg16_bn if batch_norm else models.vgg16
    theirs = make(weights=None, init_weights=False).features.eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    path = tmp_path / "vgg.safetensors"
    safetensors.torch.save_file({f"features.{k}": v for k, v in theirs.state_dict().items()}, path)
    ours = Vgg16(BEFORE_POOLS, batch_norm=batch_norm)
    ours.load(path)
    x = pictures(2, 3, 32, 32)
    found = ours(x)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    y, meant = (x - mean) / std, []
    with torch.no_grad():
        for module in theirs:
            if isinstance(module, nn.MaxPool2d):
                meant.append(y.clone())
            y = module(y.clone())
    assert tuple(found) == BEFORE_POOLS
    for activation, expected in zip(found.values(), meant, strict=True):
        assert torch.equal(activation, expected)


def test_every_name_is_a_relu_of_its_own() -> None:
    with torch.device("meta"):
        vgg = Vgg16(LAYERS)
        shapes = {name: tuple(a.shape[1:]) for name, a in vgg(torch.empty(1, 3, 32, 32)).items()}
    assert tuple(shapes) == LAYERS
    assert shapes["relu1_1"] == shapes["relu1_2"] == (64, 32, 32)
    assert shapes["relu3_1"] == (256, 8, 8)
    assert shapes["relu5_3"] == (512, 2, 2)
    assert list(vgg.names) == [i for i, m in enumerate(vgg.features) if isinstance(m, nn.ReLU)]


def test_no_more_is_built_than_is_needed() -> None:
    assert [type(m).__name__ for m in Vgg16(("relu2_1",)).features] == [
        *("Conv2d", "ReLU") * 2, "MaxPool2d", "Conv2d", "ReLU",
    ]  # fmt: skip


def test_a_name_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"no relu6_1; it has relu1_1, .*relu5_3"):
        Vgg16(("relu1_1", "relu6_1"))


# ---- its weights ------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(layers: tuple[str, ...], *, batch_norm: bool = False, **others: Tensor) -> Path:
        path = tmp_path / "part.safetensors"
        state = {k: v.contiguous() for k, v in Vgg16(layers, batch_norm=batch_norm).state_dict().items()}
        safetensors.torch.save_file(state | others, path)
        return path

    return write


def test_a_file_of_the_first_layers_serves_those(write: Callable[..., Path]) -> None:
    path = write(("relu2_2",))
    Vgg16(("relu1_2", "relu2_2")).load(path)
    with pytest.raises(
        WeightsError, match=r"the layers up to relu2_2 of VGG-16, .*features.10.weight is not"
    ):
        Vgg16(("relu1_2", "relu3_1")).load(path)


def test_a_file_that_ends_within_a_layer(tmp_path: Path) -> None:
    state = Vgg16(("relu1_2",)).state_dict()
    del state["features.2.bias"]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"the layers up to relu1_1 of VGG-16, .*features.2.bias"):
        Vgg16(("relu1_2",)).load(tmp_path / "a.pth")


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_other_kind_of_vgg(write: Callable[..., Path], batch_norm: bool) -> None:
    path = write(("relu2_2",), batch_norm=not batch_norm)
    with pytest.raises(WeightsError, match=r"part.safetensors holds .* of VGG-16.*take another file"):
        Vgg16(("relu2_2",), batch_norm=batch_norm).load(path)


def test_another_network(write: Callable[..., Path]) -> None:
    path = write(("relu1_2",), **{"features.0.weight": torch.zeros(64, 3, 11, 11)})
    with pytest.raises(WeightsError, match=r"holds no layer of VGG-16, .*features.0.weight .* another shape"):
        Vgg16(("relu1_2",)).load(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [None, b"", b"text, no tensors", b"\x80\x02.", b"PK\x03\x04 cut", b"\x00" * 64]
)
def test_a_file_that_is_damaged(tmp_path: Path, suffix: str, content: bytes | None) -> None:
    path = tmp_path / f"vgg{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"vgg{suffix} (cannot be read|is not a file of tensors)"):
        tensors.load_tensors(path)


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {"a": torch.zeros(1)}}, {1: torch.zeros(1)}])
def test_a_file_of_something_else(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="does not hold tensors by name"):
        tensors.load_tensors(tmp_path / "a.pth")


def test_halves_become_floats_and_integers_stay(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2, dtype=torch.float16), "n": torch.tensor(3)}, tmp_path / "a.pth")
    loaded = tensors.load_tensors(tmp_path / "a.pth")
    assert (loaded["a"].dtype, loaded["n"].dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("invalid hash value")])
def test_what_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(
        WeightsError, match=f"VGG16_Weights.* cannot be downloaded .{error}.; .*--vgg-weights"
    ):
        Vgg16(("relu1_1",)).load(None)


def test_it_is_frozen_and_stays_in_eval_mode() -> None:
    loss = SuperResolutionLoss(Loss(features=1, layers=WEIGHTS), {1: 1}, small_vgg())
    loss.train()
    assert not any(module.training for module in loss.vgg.modules())
    prediction = pictures(1, 3, 16, 16).requires_grad_()
    loss({1: prediction}, pictures(1, 3, 16, 16, seed=1)).backward()
    assert prediction.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in loss.parameters())


# ---- terms ------------------------------------------------------------------------------------------------


def test_gram_is_the_plain_sum() -> None:
    a = pictures(2, 5, 6, 7)
    meant = torch.einsum("bchw,bdhw->bcd", a.double(), a.double()) / (5 * 6 * 7)
    assert torch.allclose(gram(a).double(), meant, rtol=1e-5)


def test_gram_is_exact_under_autocast_and_of_halves() -> None:
    a = pictures(1, 8, 64, 64) * 100
    meant = gram(a)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gram(a), meant)
    assert gram(a.half()).dtype == torch.float32
    assert torch.allclose(gram(a.half()), meant, rtol=1e-3)


def value(config: Loss, heads: dict[int, float], predictions: dict[int, Tensor], target: Tensor) -> tuple:
    loss = SuperResolutionLoss(config, heads, small_vgg() if config.uses_vgg else None)
    total = loss(predictions, target)
    assert total.dtype == torch.float32
    assert total.shape == ()
    return float(total), {name: float(term) for name, term in loss.terms.items()}


@pytest.mark.parametrize(("kind", "power"), [("l1", 1), ("mse", 2)])
def test_the_pixel_term(kind: str, power: int) -> None:
    a, b = pictures(2, 3, 8, 8), pictures(2, 3, 8, 8, seed=1)
    total, terms = value(Loss(pixel=3, pixel_kind=kind), {1: 1}, {1: a}, b)
    meant = float((a - b).abs().pow(power).mean())
    assert terms == {"pixel": pytest.approx(meant)}
    assert total == pytest.approx(3 * meant)


@pytest.mark.parametrize("scale", [1, 4])
def test_the_colour_term_is_of_means_over_8_px_of_the_input(scale: int) -> None:
    """What adds up to 0 within each square costs nothing, however large; a shift costs what it is."""
    side = 8 * scale
    target = pictures(2, 3, 2 * side, 3 * side)
    texture = torch.tensor([0.5, -0.5]).repeat(side // 2)[:, None] * torch.ones(side)
    shift = torch.tensor([[0.01, -0.02, 0.03], [0.04, -0.05, 0.06]]).repeat_interleave(side, 0)
    shift = shift.repeat_interleave(side, 1)
    prediction = target + texture.repeat(2, 3) + shift
    total, terms = value(Loss(pixel=0, colour=2), {scale: 1}, {scale: prediction}, target)
    assert terms == {"colour": pytest.approx(0.035, abs=1e-6)}
    assert total == pytest.approx(0.07, abs=2e-6)


@pytest.mark.parametrize("normalise", [False, True])
def test_the_terms_of_vgg(normalise: bool) -> None:
    a, b = pictures(2, 3, 16, 16), pictures(2, 3, 16, 16, seed=1)
    config = Loss(
        pixel=0,
        features=0.3,
        gram=7,
        gram_layer_power=2,
        layers={**WEIGHTS, "relu2_2": 0},
        normalise=normalise,
    )
    total, terms = value(config, {1: 1}, {1: a}, b)
    ours, theirs = small_vgg()(a), small_vgg()(b)
    meant, expected = {}, 0.0
    for name, weight in WEIGHTS.items():
        for key, x, y, factor in (
            (name, ours[name], theirs[name], 0.3 * weight),
            (f"gram_{name}", gram(ours[name]), gram(theirs[name]), 7 * weight**2),
        ):
            distance = (x - y).abs().mean() / (y.abs().mean() if normalise else 1)
            meant[key] = pytest.approx(float(distance), rel=1e-5)
            expected += factor * float(distance)
    assert terms == meant  # and none of relu2_2, which has the weight 0
    assert total == pytest.approx(expected, rel=1e-5)


def test_normalised_terms_do_not_depend_on_the_scale_of_activations() -> None:
    a, b = pictures(1, 3, 16, 16), pictures(1, 3, 16, 16, seed=1)
    for normalise, equal in ((True, True), (False, False)):
        config = Loss(pixel=0, features=1, gram=1, layers=WEIGHTS, normalise=normalise)
        terms = []
        for scale in (1.0, 10.0):
            loss = SuperResolutionLoss(config, {1: 1}, small_vgg(scale=scale))
            loss({1: a}, b)
            terms.append([float(term) for term in loss.terms.values()])
        assert np.allclose(*terms, rtol=1e-4) is equal


def test_heads_are_weighted_and_terms_are_their_mean() -> None:
    target = pictures(1, 3, 32, 32)
    predictions = {s: pictures(1, 3, 8 * s, 8 * s, seed=s) for s in (1, 2, 4)}
    total, terms = value(Loss(), {1: 0.5, 4: 2.0}, predictions, target)
    one = float(F.l1_loss(predictions[1], reduced(target, 4)))
    four = float(F.l1_loss(predictions[4], target))
    assert total == pytest.approx(0.5 * one + 2 * four)
    assert terms == {"pixel": pytest.approx((one + four) / 2)}


def test_terms_are_those_of_the_last_call_and_keep_no_graph() -> None:
    target = pictures(1, 3, 16, 16)
    predictions = [{1: pictures(1, 3, 16, 16, seed=seed).requires_grad_()} for seed in (1, 2)]
    loss = SuperResolutionLoss(Loss(pixel=1, features=1, gram=1, layers=WEIGHTS), {1: 1}, small_vgg())
    loss(predictions[1], target)
    alone = dict(loss.terms)
    loss(predictions[0], target)
    loss(predictions[1], target)
    assert loss.terms == alone
    assert not any(term.requires_grad for term in loss.terms.values())


def test_a_target_without_any_activation_gives_a_loss_that_is_a_number() -> None:
    target = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    prediction = pictures(1, 3, 16, 16).requires_grad_()
    config = Loss(pixel=0, features=1, gram=1, layers=WEIGHTS, normalise=True)
    loss = SuperResolutionLoss(config, {1: 1}, small_vgg())
    assert all(activation.max() == 0 for activation in loss.vgg(target).values())
    total = loss({1: prediction}, target)
    total.backward()
    assert total.isfinite()
    assert prediction.grad.isfinite().all()


def test_only_the_heads_that_count_are_needed() -> None:
    target = pictures(1, 3, 32, 32)
    assert value(Loss(), {1: 1}, {1: reduced(target, 4)}, target)[0] == 0


def test_gradients_flow_to_every_head_that_counts() -> None:
    target = pictures(1, 3, 32, 32)
    predictions = {s: pictures(1, 3, 16 * s, 16 * s, seed=s).requires_grad_() for s in (1, 2)}
    config = Loss(pixel=1, features=1, gram=1, layers=WEIGHTS)
    SuperResolutionLoss(config, {1: 1, 2: 1}, small_vgg())(predictions, target).backward()
    assert all(prediction.grad.isfinite().all() for prediction in predictions.values())
    assert all(prediction.grad.abs().sum() > 0 for prediction in predictions.values())


def test_autocast_changes_little() -> None:
    a, b = pictures(1, 3, 16, 16), pictures(1, 3, 16, 16, seed=1)
    loss = SuperResolutionLoss(Loss(features=1, gram=1, layers=WEIGHTS), {1: 1}, small_vgg())
    plain = float(loss({1: a}, b))
    with torch.autocast("cpu", torch.bfloat16):
        assert float(loss({1: a}, b)) == pytest.approx(plain, rel=0.02)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_targets_are_reduced_as_inputs_are(factor: int) -> None:
    picture = pictures(1, 3, 64, 64)
    ours = reduced(picture, factor)[0].permute(1, 2, 0).numpy()
    meant = bicubic_downsample(np.ascontiguousarray(picture[0].permute(1, 2, 0).numpy()), factor)
    assert ours.shape == meant.shape
    assert np.abs(ours - meant)[2:-2, 2:-2].max() < 1e-3
    assert np.abs(ours - meant).max() > 1e-3  # edges are cut there and mirrored here


@pytest.mark.parametrize("factor", [2, 4])
def test_reduced_targets_stay_between_black_and_white(factor: int) -> None:
    """The kernel goes below 0 beside an edge, where the inputs are cut as well."""
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., 13:45, 17:51] = 1
    ours = reduced(picture, factor)
    meant = bicubic_downsample(np.ascontiguousarray(picture[0].permute(1, 2, 0).numpy()), factor)
    assert (float(ours.min()), float(ours.max())) == (0, 1)
    assert np.abs(ours[0].permute(1, 2, 0).numpy() - meant)[2:-2, 2:-2].max() < 1e-5


def test_reduction_by_1_is_none() -> None:
    picture = pictures(1, 3, 8, 8)
    assert reduced(picture, 1) is picture


def test_a_loss_is_built_with_vgg_where_it_is_used(write: Callable[..., Path]) -> None:
    assert build(Loss(features=0, layers=WEIGHTS), {1: 1}, Path("not read")).vgg is None
    path = write(("relu1_2",))
    loss = build(Loss(features=1, layers={"relu1_2": 1, "relu5_3": 0}), {2: 1.0}, path)
    assert loss.vgg is not None
    assert list(loss.vgg.names.values()) == ["relu1_2"]
    assert loss.vgg.features[2].weight.is_contiguous(memory_format=torch.channels_last)
