"""What a camera and a file format do: blur, noise, compression, grey."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from tests.trainer.crops import error, flat, photo
from trainer.degradations import degrade, photographic
from trainer.degradations.photographic import Blur, Grey, Jpeg, Noise, Poisson


@pytest.mark.parametrize(
    "kind",
    [{}, {"anisotropic": 1}, {"defocus": 1}, {"motion": 1, "motion_px": (4, 4)}],
    ids=["isotropic", "ellipse", "disc", "streak"],
)
def test_blur_keeps_a_flat_picture_flat_and_the_mean(kind: dict[str, float]) -> None:
    one = Blur.model_validate({"anisotropic": 0, "sigma_px": (1.5, 2), "defocus_radius_px": (2, 2)} | kind)
    for seed in range(5):
        assert np.abs(photographic.blur(flat(0.3, 9), np.random.default_rng(seed), one) - 0.3).max() < 1e-6
    dot = np.zeros((41, 41, 3), np.float32)
    dot[20, 20] = 1
    spread = photographic.blur(dot, np.random.default_rng(0), one)
    assert spread.sum() == pytest.approx(3, abs=1e-4)
    assert spread.max() < 0.3
    assert np.abs(spread - spread[::-1, ::-1]).max() < 1e-6


def test_gaussian_has_the_spread_it_was_given() -> None:
    dot = np.zeros((41, 41, 3), np.float32)
    dot[20, 20] = 1
    spread = photographic.blur(dot, np.random.default_rng(0), Blur(sigma_px=(2, 2), anisotropic=0))
    distance = np.arange(41) - 20
    assert np.sqrt((spread[..., 0].sum(axis=0) * distance**2).sum()) == pytest.approx(2, rel=0.03)


def test_stronger_blur_costs_more() -> None:
    errors = [
        error(photographic.blur(photo(), np.random.default_rng(0), Blur(sigma_px=(s, s))), photo())
        for s in (0.2, 0.5, 1, 2, 4)
    ]
    assert all(low < high for low, high in pairwise(errors))


@pytest.mark.parametrize("sigma", [0, 4, 25])
@pytest.mark.parametrize("grey", [0, 1])
def test_noise_has_its_sigma(sigma: float, grey: float) -> None:
    one = Noise(sigma=(sigma, sigma), grey=grey)
    grain = photographic.noise(flat(0.5), np.random.default_rng(5), one) - 0.5
    assert grain.std() * 255 == pytest.approx(sigma, rel=0.02, abs=1e-4)
    assert abs(grain.mean()) * 255 < 0.3
    if sigma:
        equal = np.abs(grain[..., 0] - grain[..., 1]).max() == 0
        assert equal == bool(grey)


@pytest.mark.parametrize("grain_px", [0.4, 0.8, 1.3])
def test_correlated_noise_has_its_sigma_and_the_correlation_of_its_gaussian(grain_px: float) -> None:
    one = Noise(sigma=(25, 25), grey=0, correlated=1, grain_px=(grain_px, grain_px))
    grain = photographic.noise(flat(0.5), np.random.default_rng(5), one) - 0.5
    assert grain.std() * 255 == pytest.approx(25, rel=0.03)
    # What a filter gives white noise: its taps with themselves, shifted.
    places = np.arange(-8, 9)
    taps = np.exp(-0.5 * (places / grain_px) ** 2)
    for shift in (1, 2, 3):
        expected = np.sum(taps[shift:] * taps[:-shift]) / np.sum(taps**2)
        found = np.mean(grain[:, shift:] * grain[:, :-shift]) / grain.var()
        assert found == pytest.approx(expected, abs=0.03)
        found = np.mean(grain[shift:] * grain[:-shift]) / grain.var()
        assert found == pytest.approx(expected, abs=0.03)


def test_correlated_poisson_keeps_its_variance() -> None:
    one = Poisson(photons=(400, 400), correlated=1, grain_px=(1, 1))
    grain = photographic.poisson(flat(0.25), np.random.default_rng(6), one) - np.float32(0.25)
    assert grain.std() == pytest.approx((0.25 / 400) ** 0.5, rel=0.04)
    assert np.mean(grain[1:] * grain[:-1]) / grain.var() == pytest.approx(np.exp(-0.25), abs=0.04)


def test_noise_that_is_never_correlated_is_what_it_was() -> None:
    """The same seed gives the same pictures as before there was such a share."""
    expected = 0.5 + np.float32(5 / 255) * white_after(np.random.default_rng(3), 2)
    assert np.array_equal(
        photographic.noise(flat(0.5), np.random.default_rng(3), Noise(sigma=(5, 5), grey=0)), expected
    )


def white_after(rng: np.random.Generator, draws: int) -> np.ndarray:
    """Normal noise of the shape of `flat`, behind the draws of the strength and of whether it is grey."""
    for _ in range(draws):
        rng.random()
    return rng.standard_normal(flat(0.5).shape, dtype=np.float32)


def test_poisson_grows_with_the_root_of_the_brightness() -> None:
    one = Poisson(photons=(400, 400))
    for value in (0.0, 0.09, 0.25, 0.64):
        grain = photographic.poisson(flat(value), np.random.default_rng(6), one) - np.float32(value)
        assert grain.std() == pytest.approx((value / 400) ** 0.5, rel=0.02, abs=1e-6)


def test_lower_quality_costs_more() -> None:
    errors = []
    for quality in (95, 75, 50, 25, 10, 5):
        one = Jpeg(quality=(quality, quality), subsampling=("4:2:0",))
        errors.append(error(photographic.jpeg(photo(), np.random.default_rng(0), one), photo()))
    assert all(low < high for low, high in pairwise(errors))


def test_qualities_can_be_drawn_so_that_low_ones_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    save = Image.Image.save

    def noted(self: Image.Image, *args: object, **kwargs: object) -> None:
        found.append(kwargs["quality"])
        save(self, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", noted)
    rng = np.random.default_rng(0)
    for drawn, share in (("evenly", 11 / 73), ("log-uniformly", np.log(19 / 8) / np.log(81 / 8))):
        del found[:]
        for _ in range(2000):
            photographic.jpeg(photo(8, 8), rng, Jpeg(quality=(8, 80), drawn=drawn))
        assert (min(found), max(found)) == (8, 80)
        assert sum(quality <= 18 for quality in found) / 2000 == pytest.approx(share, abs=0.045)


def test_subsampling_costs_colour() -> None:
    whole, half = (
        photographic.jpeg(photo(), np.random.default_rng(0), Jpeg(quality=(90, 90), subsampling=(kind,)))
        for kind in ("4:4:4", "4:2:0")
    )
    assert error(half, photo()) > 1.5 * error(whole, photo())


def test_second_compression_is_on_another_grid() -> None:
    once = Jpeg(quality=(20, 20), subsampling=("4:4:4",))
    twice = once.model_copy(update={"double": 1.0})
    saved = photographic.jpeg(photo(), np.random.default_rng(0), once)
    # On the same grid compressing again changes next to nothing, on any other it does.
    same = error(photographic.jpeg(saved, np.random.default_rng(0), once), saved)
    for seed in range(10):
        assert error(photographic.jpeg(saved, np.random.default_rng(seed), twice), saved) > 10 * same


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """How far before the picture the blocks of each compression start; no pixel is changed."""
    found = []

    def kept(pixels: np.ndarray, before: np.ndarray, rng: np.random.Generator, one: Jpeg) -> np.ndarray:
        found.append((int(before[0]), int(before[1])))
        return pixels

    monkeypatch.setattr(photographic, "compressed", kept)
    return found


def test_first_of_two_grids_lies_1_to_7_px_off_both_ways(starts: list[tuple[int, int]]) -> None:
    for seed in range(200):
        photographic.jpeg(photo(40, 48), np.random.default_rng(seed), Jpeg(double=1))
    assert set(starts[1::2]) == {(0, 0)}
    for found in zip(*starts[::2], strict=True):
        assert set(found) == set(range(1, 8))


def test_blocks_of_a_picture_that_was_cropped_start_anywhere(starts: list[tuple[int, int]]) -> None:
    for seed in range(400):
        photographic.jpeg(photo(40, 48), np.random.default_rng(seed), Jpeg(cropped=1))
    for found in zip(*starts, strict=True):
        assert set(found) == set(range(16))
    del starts[:]
    for seed in range(400):
        photographic.jpeg(photo(40, 48), np.random.default_rng(seed), Jpeg(cropped=0.25))
    assert 0.7 < starts.count((0, 0)) / len(starts) < 0.82


@pytest.mark.parametrize("probabilities", [{}, {"cropped": 1}, {"double": 1}, {"cropped": 1, "double": 1}])
def test_blocks_elsewhere_leave_the_picture_its_size_and_place(probabilities: dict[str, float]) -> None:
    fine = Jpeg(quality=(100, 100), subsampling=("4:4:4",), **probabilities)
    for seed in range(10):
        result = photographic.jpeg(photo(41, 47), np.random.default_rng(seed), fine)
        assert result.shape == (41, 47, 3)
        assert error(result, photo(41, 47)) < (1.5 / 255) ** 2


def test_grey_is_luma() -> None:
    result = degrade.apply("grey", photo(), np.random.default_rng(0), Grey(probability=1))
    assert np.array_equal(result[..., 0], result[..., 1])
    assert np.array_equal(result[..., 0], result[..., 2])
    assert np.abs(result[..., 0] - photo() @ np.array([0.299, 0.587, 0.114])).max() < 1e-6
