"""Metrics against independent implementations, and against pictures that were spoilt on purpose."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import skimage.color
import skimage.metrics
import torch
import torchvision
from scipy import ndimage

from srbatch.errors import WeightsError
from tests.conftest import sample
from trainer.evaluation import metrics
from trainer.evaluation.metrics import FeatureDistance, Lpips, NotMeasured


def picture(height: int = 192, width: int = 256, *, name: str = "china.jpg") -> np.ndarray:
    return sample(name)[100 : 100 + height, 200 : 200 + width] / 255.0


def noisy(clean: np.ndarray, level: float, seed: int = 0) -> np.ndarray:
    return rounded(clean + np.random.default_rng(seed).normal(0, level / 255, clean.shape))


def rounded(x: np.ndarray) -> np.ndarray:
    return np.rint(x.clip(0, 1) * 255) / 255


# ---- pixels ------------------------------------------------------------------------------------------------


def test_luma_is_that_of_scikit_image() -> None:
    rgb = picture()
    assert np.allclose(metrics.luma(rgb) * 255, skimage.color.rgb2ycbcr(rgb)[..., 0], atol=1e-10)
    black_and_white = np.array([[[0.0, 0, 0], [1, 1, 1]]])
    assert (metrics.luma(black_and_white) * 255).tolist() == [[16, pytest.approx(235)]]


@pytest.mark.parametrize("crop", [0, 1, 4])
def test_psnr_is_that_of_scikit_image(crop: int) -> None:
    a = picture()
    b = noisy(a, 9)
    inside = slice(crop, -crop or None)
    for x, y in ((a, b), (metrics.luma(a), metrics.luma(b))):
        expected = skimage.metrics.peak_signal_noise_ratio(
            x[inside, inside], y[inside, inside], data_range=1.0
        )
        assert metrics.psnr(x, y, crop) == pytest.approx(expected, abs=1e-9)


def test_psnr_of_equal_pictures_is_infinite() -> None:
    assert metrics.psnr(picture(), picture(), 4) == float("inf")


def test_psnr_inside_a_mask_sees_only_the_mask() -> None:
    clean = picture()
    mask = np.zeros(clean.shape[:2], bool)
    mask[50:60, 70:90] = True
    spoilt = clean.copy()
    spoilt[50:60, 70:90] += 0.1
    assert metrics.psnr(spoilt, clean, 2, mask=mask) == pytest.approx(20)
    assert metrics.psnr(spoilt, clean, 2, mask=~mask) == float("inf")
    with pytest.raises(ValueError, match="no pixel"):
        metrics.psnr(spoilt, clean, 2, mask=np.zeros_like(mask))


@pytest.mark.parametrize("crop", [0, 3])
@pytest.mark.parametrize("level", [2, 30])
def test_ssim_is_that_of_scikit_image(crop: int, level: float) -> None:
    a = picture(90, 110)
    b = noisy(a, level)
    inside = slice(crop, -crop or None)
    for x, y, axis in ((a, b, 2), (metrics.luma(a), metrics.luma(b), None)):
        expected = skimage.metrics.structural_similarity(
            x[inside, inside],
            y[inside, inside],
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=axis,
        )
        assert metrics.ssim(x, y, crop) == pytest.approx(expected, abs=1e-9)


def test_ssim_needs_room_for_its_window() -> None:
    small = picture(20, 30)
    assert metrics.ssim(small, small, 4) == pytest.approx(1)
    with pytest.raises(ValueError, match="11 px"):
        metrics.ssim(small, small, 5)


# ---- features ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def densenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A file of random weights in fp16 up to dense block 3, and the network they are of."""
    torch.manual_seed(3)
    network = torchvision.models.densenet169(weights=None).eval()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    later = ("classifier", "features.transition3", "features.denseblock4", "features.norm5")
    kept = {
        name: tensor.half()
        for name, tensor in network.state_dict().items()
        if not name.startswith(later) and tensor.is_floating_point()
    }
    path = tmp_path_factory.mktemp("densenet") / "densenet169.safetensors"
    safetensors.torch.save_file(kept, path)
    return path, network


def test_feature_distance_is_its_formula(densenet: tuple[Path, torch.nn.Module]) -> None:
    path, network = densenet
    a = picture(64, 96)
    b = noisy(a, 20)
    expected = 0.0
    seen: dict[str, torch.Tensor] = {}
    for name in FeatureDistance.LAYERS:
        network.features.get_submodule(name).register_forward_hook(
            lambda _module, _input, output, name=name: seen.update({name: output.clone()})
        )
    with torch.no_grad():
        x = torch.from_numpy(np.stack([a, b])).permute(0, 3, 1, 2).float()
        network(torchvision.transforms.functional.normalize(x, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for layer in seen.values():
        unit = layer / layer.norm(dim=1, keepdim=True)
        expected += float(((unit[0] - unit[1]) ** 2).sum(0).mean())
    assert list(seen) == list(FeatureDistance.LAYERS)
    assert FeatureDistance(path)([a, b], b) == [pytest.approx(expected, rel=1e-4), 0]


def test_feature_distance_grows_with_damage(densenet: tuple[Path, torch.nn.Module]) -> None:
    distance = FeatureDistance(densenet[0])
    clean = picture(64, 64)
    none, some, much = distance([clean, noisy(clean, 5), noisy(clean, 25)], clean)
    assert none == 0 < some < much


def test_torchvisions_own_file_with_its_old_names(
    densenet: tuple[Path, torch.nn.Module], tmp_path: Path
) -> None:
    path, network = densenet
    old = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor
        for name, tensor in network.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet169.pth")
    a, b = picture(32, 32), noisy(picture(32, 32), 10)
    expected = FeatureDistance(path)([a], b)
    assert FeatureDistance(tmp_path / "densenet169.pth")([a], b) == pytest.approx(expected, rel=1e-5)


def test_files_that_hold_something_else(densenet: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    tensors = safetensors.torch.load_file(densenet[0])
    del tensors["features.conv0.weight"]
    tensors["features.norm0.bias"] = torch.zeros(3)
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"other.safetensors.*2 tensors.*conv0.weight, norm0.bias"):
        FeatureDistance(path)
    with pytest.raises(WeightsError, match=r"none.pth cannot be read"):
        FeatureDistance(tmp_path / "none.pth")


def test_lpips_where_the_package_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(NotMeasured, match="not installed"):
        Lpips()


def test_lpips_gets_pictures_as_its_package_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class LPIPS(torch.nn.Module):
        def __init__(self, net: str, verbose: bool) -> None:
            super().__init__()
            assert (net, verbose) == ("alex", False)

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            assert a.shape == b.shape == (1, 3, 20, 30)
            assert (a.min(), b.max()) == (-1, 1)
            return (a - b).abs().mean().reshape(1, 1, 1, 1)

    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=LPIPS))
    assert Lpips()([np.zeros((20, 30, 3))], np.ones((20, 30, 3))) == [2]


def test_lpips_without_its_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=offline))
    with pytest.raises(NotMeasured, match="no route"):
        Lpips()


# ---- artefacts ---------------------------------------------------------------------------------------------


def grid(prediction: np.ndarray, target: np.ndarray, *, flat: bool) -> np.ndarray:
    chosen = metrics.flat_patches(target) == flat
    return metrics.grid_ratio(metrics.grid_energy(prediction)[chosen], metrics.grid_energy(target)[chosen])


@pytest.fixture(scope="module", params=["china.jpg", "flower.jpg"])
def photo(request: pytest.FixtureRequest) -> np.ndarray:
    return np.asarray(sample(request.param) / 255.0)


def waves(photo: np.ndarray, period: int) -> np.ndarray:
    """Waves of that period in x and y, and of 1 in amplitude together."""
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    return (np.cos(2 * np.pi * x / period) + np.cos(2 * np.pi * y / period))[..., None] / 2


def test_photos_have_flat_and_textured_patches(photo: np.ndarray) -> None:
    flat = metrics.flat_patches(photo)
    assert flat.shape == (len(metrics.grid_energy(photo)),) == (12 * 19,)
    assert 10 < flat.sum() < flat.size - 10


@pytest.mark.parametrize("flat", [True, False])
def test_a_faint_grid_raises_its_period_and_no_other(photo: np.ndarray, flat: bool) -> None:
    for index, period in enumerate(metrics.GRID_PERIODS_PX):
        ratios = grid(rounded(photo + waves(photo, period) * 2 / 255), photo, flat=flat)
        assert ratios[index] > (2 if flat else 1.1)
        assert ratios[1 - index] == pytest.approx(1, abs=0.1)


def test_a_checkerboard_is_a_grid(photo: np.ndarray) -> None:
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    board = ((x + y) % 2 * 2 - 1)[..., None] / 255
    assert grid(rounded(photo + board), photo, flat=True)[0] > 2


@pytest.mark.parametrize("flat", [True, False])
def test_what_is_no_grid_stays_below_the_bar(photo: np.ndarray, flat: bool) -> None:
    harmless = {
        "shift": np.roll(photo, (1, 3), axis=(0, 1)),
        "noise": noisy(photo, 3),
        "blur": rounded(ndimage.gaussian_filter(photo, (0.6, 0.6, 0))),
        "contrast": rounded(photo * 0.8 + 0.1),
    }
    for name, changed in harmless.items():
        assert grid(changed, photo, flat=flat).max() <= 1.1, name


def test_a_ratio_is_that_of_geometric_means_and_less_than_no_grid_is_none() -> None:
    prediction, target = np.array([[4.0, 0.5], [1.0, 0.5]]), np.array([[0.5, 0.1], [1.0, 0.2]])
    assert metrics.grid_ratio(prediction, target).tolist() == [pytest.approx(2), pytest.approx(1)]
    assert metrics.grid_ratio(target, prediction).tolist() == [pytest.approx(0.5), pytest.approx(1)]


@pytest.mark.parametrize(("softness", "periods", "within"), [(0.8, (2, 4), 0.1), (1.2, (4,), 0.2)])
def test_a_spectrum_that_falls_steeply_has_no_grid(
    softness: float, periods: tuple[int, ...], within: float
) -> None:
    """Of noise that a Gaussian blurs the log of the power is a parabola."""
    noise = np.random.default_rng(0).normal(0.5, 0.2, (256, 256, 1)).repeat(3, axis=2)
    blurred = ndimage.gaussian_filter(noise, (softness, softness, 0), mode="wrap", truncate=8)
    energy = np.exp(np.log(metrics.grid_energy(blurred)).mean(axis=0))
    for period in periods:
        assert energy[metrics.GRID_PERIODS_PX.index(period)] == pytest.approx(1, abs=within)


def test_what_no_file_can_hold_is_no_grid() -> None:
    flat = np.full((96, 96, 3), 0.5)
    for amplitude in (0, 1e-5):
        energy = metrics.grid_energy(flat + waves(flat, 2) * amplitude)
        assert energy == pytest.approx(np.ones((4, 2)), abs=0.01)


def test_pictures_below_a_patch_have_no_grid_energy() -> None:
    small = picture(63, 200)
    assert metrics.grid_energy(small).shape == (0, 2)
    assert metrics.flat_patches(small).shape == (0,)
    with pytest.raises(ValueError, match="at least one patch"):
        metrics.grid_ratio(metrics.grid_energy(small), metrics.grid_energy(small))


def test_colour_drift_is_the_worst_blocks() -> None:
    source = picture(70, 100)
    prediction = source.repeat(2, axis=0).repeat(2, axis=1)
    assert metrics.colour_drift(prediction, source, 2) == pytest.approx(0, abs=1e-9)
    prediction[64:128, 64:128, 1] += 3 / 255
    prediction[:4, :4] = 1
    assert metrics.colour_drift(prediction, source, 2) == pytest.approx(3, abs=0.5)
    prediction[64:96, 64:96, 1] += 20 / 255  # a quarter of that block
    assert metrics.colour_drift(prediction, source, 2) == pytest.approx(3 + 5)


def test_colour_error_is_that_of_the_worst_block_against_the_truth() -> None:
    target = picture(150, 200)
    prediction = target.copy()
    prediction[64:128, 64:128, 1] += 3 / 255
    prediction[128:] = 1  # beyond the last whole block
    prediction[:2, :2] += 2 / 255
    assert metrics.colour_error(prediction, target, 2) == pytest.approx(3)
    assert metrics.colour_error(prediction[:20, :40], target[:20, :40], 4) == pytest.approx(2 * 4 / 400)
    with pytest.raises(ValueError, match="cannot be compared"):
        metrics.colour_error(prediction, target[::2, ::2], 2)


def test_colour_drift_of_a_picture_smaller_than_a_block() -> None:
    source = picture(20, 40)
    assert metrics.colour_drift(source + 2 / 255, source, 1) == pytest.approx(2)
