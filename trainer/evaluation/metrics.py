"""What the trainer measures pictures by: each function with its formula and its source.

A picture is an array (H, W, 3), RGB in [0, 1], gamma-encoded as in its file. ``crop`` is the number of pixels
left out along each side, which the field sets to the scale factor.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from srbatch.card import IMAGENET_MEAN, IMAGENET_STD
from srbatch.errors import WeightsError
from trainer.tensors import load_tensors

Picture = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


class NotMeasured(Exception):
    """A metric needs something that is not there; the message names it."""


# ---- against the target: pixels ----------------------------------------------------------------------------


def luma(rgb: Picture) -> Picture:
    """The Y of BT.601 in studio swing, (H, W, 3) in [0, 1] to (H, W) in [16, 235] / 255.

    ``Y = (65.481 R + 128.553 G + 24.966 B + 16) / 255``: MATLAB's ``rgb2ycbcr``, which papers on
    super-resolution use, without its rounding to 8 bits.
    """
    result: Picture = (rgb @ np.array([65.481, 128.553, 24.966]) + 16) / 255
    return result


def psnr(a: Picture, b: Picture, crop: int, *, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB, ``10 log10(1 / MSE)``, of (H, W) or (H, W, C); inf where equal.

    The mean runs over pixels and channels, with a ``mask`` (H, W) over the pixels where it is True.

    Raises:
        ValueError: the shapes differ or no pixel is left.
    """
    error = (cropped(a, crop).astype(np.float64) - cropped(b, crop)) ** 2
    if mask is not None:
        error = error[cropped(mask, crop)]
    if error.size == 0:
        raise ValueError("no pixel is left to compare")
    mse = float(error.mean())
    return float("inf") if mse == 0 else -10 * float(np.log10(mse))


def ssim(a: Picture, b: Picture, crop: int) -> float:
    """Structural similarity of (H, W) or (H, W, C), 1 where equal; the mean over pixels, then channels.

    Wang et al. 2004 (doi:10.1109/TIP.2003.819861), equation 13: Gaussian window of 11 px with sigma 1.5,
    K1 = 0.01, K2 = 0.03, and only places where the whole window lies inside the picture.

    Raises:
        ValueError: the shapes differ or a side is less than the window's 11 px.
    """
    x, y = (cropped(picture, crop).astype(np.float64) for picture in (a, b))
    if x.shape != y.shape or min(x.shape[:2]) < _WINDOW.size:
        raise ValueError(f"SSIM of {x.shape} and {y.shape}: equal shapes, {_WINDOW.size} px a side at least")
    mean_x, mean_y = _smoothed(x), _smoothed(y)
    var_x = _smoothed(x * x) - mean_x**2
    var_y = _smoothed(y * y) - mean_y**2
    covariance = _smoothed(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return float((structure * (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)).mean())


_WINDOW = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
_WINDOW /= _WINDOW.sum()


def _smoothed(x: Picture) -> Picture:
    rows = sliding_window_view(x, _WINDOW.size, axis=0) @ _WINDOW
    result: Picture = sliding_window_view(rows, _WINDOW.size, axis=1) @ _WINDOW
    return result


def cropped(x: NDArray[Any], crop: int) -> NDArray[Any]:
    """(H, W, ...) without ``crop`` pixels along each side."""
    return x[crop : x.shape[0] - crop, crop : x.shape[1] - crop]


# ---- against the target: what a network sees ---------------------------------------------------------------


class FeatureDistance:
    """Distance of two pictures in the activations of DenseNet-169; smaller is closer, 0 is equal.

    ``sum over layers of mean over pixels of |u(a) - u(b)|^2``, where u is the layer's activation divided by
    its length over channels at each pixel: LPIPS (Zhang et al. 2018, arXiv:1801.03924) without its learnt
    weights per channel. Layers: the stem and the dense blocks 1 to 3 (Huang et al. 2017, arXiv:1608.06993).
    The figures are comparable among themselves only, not with LPIPS.
    """

    LAYERS = ("pool0", "denseblock1", "denseblock2", "denseblock3")
    MIN_SIDE_PX = 32
    """Below it the last layer, on 1/16 of the grid, sees mostly padding."""

    def __init__(self, weights: Path, device: torch.device | str = "cpu") -> None:
        """``weights`` holds torchvision's tensors of ``densenet169``, as safetensors or as its own ``.pth``.

        What lies behind dense block 3 may be missing.

        Raises:
            WeightsError: the file cannot be read or tensors are missing or of another shape.
        """
        self._layers = _densenet_until(self.LAYERS[-1])
        _load(self._layers, weights)
        self._layers.eval().requires_grad_(False).to(device)
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def __call__(self, pictures: Iterable[Picture], target: Picture) -> list[float]:
        """The distance of each picture to the target; all are of one size, `MIN_SIDE_PX` a side at least."""
        wanted = self._units(target)
        return [
            sum((u - v).square().sum(dim=1).mean().item() for u, v in zip(units, wanted, strict=True))
            for units in map(self._units, pictures)
        ]

    def _units(self, picture: Picture) -> list[Tensor]:
        """Activations of unit length, (1, C, h, w) per layer."""
        x = (_tensor(picture, self._mean.device) - self._mean) / self._std
        units = []
        for name, layer in self._layers.named_children():
            x = layer(x)
            if name in self.LAYERS:
                units.append(F.normalize(x, dim=1, eps=1e-10))
        return units


class Lpips:
    """LPIPS 0.1 (Zhang et al. 2018, arXiv:1801.03924) on AlexNet, by its authors' package ``lpips``."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Load it; torchvision fetches AlexNet's weights if they are not in torch's cache.

        Raises:
            NotMeasured: the package is not installed or the backbone cannot be had.
        """
        try:
            import lpips
        except ImportError:
            raise NotMeasured("the package lpips is not installed") from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the package calls torchvision by deprecated names
                self._network = lpips.LPIPS(net="alex", verbose=False).eval().to(device)
        except (OSError, RuntimeError) as error:
            raise NotMeasured(f"the AlexNet backbone of lpips cannot be loaded: {error}") from error
        self._device = torch.device(device)

    @torch.inference_mode()
    def __call__(self, pictures: Iterable[Picture], target: Picture) -> list[float]:
        """The distance of each picture to the target; all are of one size."""
        wanted = _tensor(target, self._device) * 2 - 1
        return [float(self._network(_tensor(p, self._device) * 2 - 1, wanted)) for p in pictures]


def _tensor(picture: Picture, device: torch.device) -> Tensor:
    """(H, W, 3) to (1, 3, H, W) in fp32 on the device."""
    return torch.from_numpy(np.float32(picture)).permute(2, 0, 1)[None].to(device)


def _densenet_until(last: str) -> nn.Sequential:
    import torchvision

    features = torchvision.models.densenet169(weights=None).features
    names = [name for name, _ in features.named_children()]
    result: nn.Sequential = features[: names.index(last) + 1]
    return result


def _load(network: nn.Module, file: Path) -> None:
    # torchvision's own file is older than its module: there a layer is "norm.1" where it is "norm1" now.
    state = {
        re.sub(r"(norm|conv)\.([12])\.", r"\1\2.", name.removeprefix("features.")): tensor
        for name, tensor in load_tensors(file).items()
    }
    expected = network.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}  # only training reads them
    wrong = [n for n in expected.keys() - counters if n not in state or state[n].shape != expected[n].shape]
    if wrong:
        raise WeightsError(
            f"{file} does not hold DenseNet-169 up to dense block 3: {len(wrong)} tensors are missing or of"
            f" another shape ({', '.join(sorted(wrong)[:3])}); give torchvision's file or one made from it"
        )
    network.load_state_dict({name: state.get(name, tensor) for name, tensor in expected.items()})


# ---- artefacts ---------------------------------------------------------------------------------------------

GRID_PERIODS_PX = (2, 4)
"""Periods of the checkerboards that one and two sub-pixel shuffles leave."""
GRID_BAR = 1.1
"""What `grid_ratio` must not exceed."""
_PATCH_PX, _STEP_PX = 64, 32
_BLOCKS = 8
_FLAT_STD = 4 / 255


def grid_energy(picture: Picture) -> NDArray[np.float64]:
    """How far the spectral lines of a grid stand out of their neighbourhood, (patches, periods).

    Patches are 64 x 64 px of Y, one every 32 px; periods are `GRID_PERIODS_PX`. The power of a patch's 2-D
    Fourier transform under a Hann window is summed along one axis. On the other, the mean of the three bins
    around 1/period cycles/px, which is what the window makes of a line, is divided by what the bins beside
    them lead to expect; both directions are added up before the division. About 1 is no grid.

    Expected at 1/4 cycles/px is the geometric mean of the bins 2 and 3 away on either side; at 1/2, where the
    spectrum is folded, the bins 2 and 3 away, continued by those 4 and 5 away as a parabola of log power. The
    power of rounding to 8 bits is added everywhere, so that nothing is made of lines that no file can hold.
    The measure is ours.
    """
    patches = _patches(luma(picture))
    window = np.hanning(_PATCH_PX + 1)[:-1]
    window = np.outer(window, window)
    mean = (patches * window).sum(axis=(1, 2), keepdims=True) / window.sum()
    power = np.abs(np.fft.fft2((patches - mean) * window)) ** 2
    power += (window**2).sum() / 255**2 / 12
    profiles = power.sum(axis=1), power.sum(axis=2)  # (patches, frequencies)
    shares = []
    for period in GRID_PERIODS_PX:
        (line_x, expected_x), (line_y, expected_y) = (_line(p, _PATCH_PX // period) for p in profiles)
        shares.append((line_x + line_y) / (expected_x + expected_y))
    return np.stack(shares, axis=1).astype(np.float64)


def _line(profile: Picture, k: int) -> tuple[Picture, Picture]:
    """Power at bin ``k`` of (patches, frequencies) and what its neighbours lead to expect."""

    def band(*offsets: int) -> Picture:
        chosen = profile[:, [(k + offset) % _PATCH_PX for offset in offsets]]
        return np.asarray(chosen.mean(axis=1))

    line = band(-1, 0, 1)
    if k < _PATCH_PX // 2:
        return line, np.sqrt(band(-3, -2) * band(2, 3))
    near, far = band(2, 3), band(4, 5)
    # log power = a + b d^2 through d^2 = 6.5 (near) and 20.5 (far); a is the expectation.
    return line, near * (near / far) ** (6.5 / 14)


def flat_patches(target: Picture) -> Mask:
    """Which patches of `grid_energy` are flat, (patches,): standard deviation within 8 px below 4/255."""
    patches = _patches(luma(target))
    blocks = patches.reshape(-1, _BLOCKS, _PATCH_PX // _BLOCKS, _BLOCKS, _PATCH_PX // _BLOCKS)
    flat: Mask = blocks.var(axis=(2, 4)).mean(axis=(1, 2)) < _FLAT_STD**2
    return flat


def _patches(y: Picture) -> Picture:
    if min(y.shape) < _PATCH_PX:
        return np.empty((0, _PATCH_PX, _PATCH_PX))
    views = sliding_window_view(y, (_PATCH_PX, _PATCH_PX))[::_STEP_PX, ::_STEP_PX]
    return views.reshape(-1, _PATCH_PX, _PATCH_PX)


def grid_ratio(prediction: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much more of a grid the prediction has, (periods,), from the `grid_energy` of the same patches.

    ``max(1, p) / max(1, t)`` of the geometric means over the patches. Below 1 there is no line at all, only a
    spectrum that falls steeply, and noise alone would lift it to 1.

    Raises:
        ValueError: there is no patch.
    """
    if len(prediction) == 0 or prediction.shape != target.shape:
        raise ValueError(
            f"grid energies of shape {prediction.shape} and {target.shape}: at least one patch, alike"
        )
    p, t = (np.maximum(np.exp(np.log(shares).mean(axis=0)), 1.0) for shares in (prediction, target))
    return np.asarray(p / t)


def colour_drift(prediction: Picture, source: Picture, scale: int) -> float:
    """Largest difference in units of 1/255 between mean colours of blocks of 32 x 32 px of the source.

    ``prediction`` is ``scale`` times as large as ``source``; the mean of a block is that of the prediction
    reduced by averaging. Blocks that would reach beyond the picture are left out.
    """
    block = min(32, *source.shape[:2])
    difference = _block_means(prediction, block * scale) - _block_means(source, block)
    return float(np.abs(difference).max() * 255)


def colour_error(prediction: Picture, target: Picture, scale: int) -> float:
    """As :func:`colour_drift`, of the same blocks, but against the truth: a repair moves colours.

    ``prediction`` and ``target`` are alike in size, ``scale`` times the source.

    Raises:
        ValueError: they are not alike.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"pictures of shape {prediction.shape} and {target.shape} cannot be compared")
    block = min(32 * scale, *target.shape[:2])
    return float(np.abs(_block_means(prediction, block) - _block_means(target, block)).max() * 255)


def _block_means(picture: Picture, block: int) -> Picture:
    rows, columns = picture.shape[0] // block, picture.shape[1] // block
    whole = picture[: rows * block, : columns * block]
    result: Picture = whole.reshape(rows, block, columns, block, -1).mean(axis=(1, 3))
    return result
