"""The pipeline, its presets, what a camera and a file format do, reduction, fixed damage for measuring."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from srbatch.card import FAITHFUL_DEGRADATIONS
from tests.conftest import sample
from trainer import degrade, photographic, reduction
from trainer.damage import parse_damage
from trainer.degrade import ORDER, PHOTO, PRESETS, RESTORE, STRONG, Degradations
from trainer.photographic import Blur, Grey, Jpeg, Noise, Poisson
from trainer.reduction import Kernel

CERTAIN = Degradations.model_validate({kind: {"probability": 1} for kind in ORDER})
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def photo(height: int = 96, width: int = 128) -> np.ndarray:
    piece = sample()[150 : 150 + height, 300 : 300 + width]
    return np.ascontiguousarray(piece).astype(np.float32) / 255


def flat(value: float, size: int = 256) -> np.ndarray:
    return np.full((size, size, 3), value, np.float32)


def check(result: np.ndarray, shape: tuple[int, ...]) -> None:
    assert result.shape == shape
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert result.min() >= 0
    assert result.max() <= 1


def error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.square(one - other).mean())


# --- the pipeline


@settings(deadline=None, max_examples=60)
@given(size=SIZES, seed=st.integers(0, 2**32), name=st.sampled_from([*PRESETS, "certain"]))
def test_any_size_keeps_shape_type_and_range(size: tuple[int, int], seed: int, name: str) -> None:
    pixels = np.random.default_rng(seed).random((*size, 3), dtype=np.float32)
    before = pixels.copy()
    chosen = PRESETS.get(name, CERTAIN)
    result = degrade.degrade(pixels, np.random.default_rng(seed), chosen)
    check(result, pixels.shape)
    assert np.array_equal(pixels, before)
    assert not np.shares_memory(result, pixels)
    assert np.array_equal(result, degrade.degrade(pixels, np.random.default_rng(seed), chosen))


@pytest.mark.parametrize("kind", ORDER)
def test_each_kind_is_pure_and_follows_the_seed_alone(kind: str) -> None:
    pixels = photo()
    pixels.flags.writeable = False
    one = CERTAIN.of(kind).strongest()
    results = [degrade.apply(kind, pixels, np.random.default_rng(seed), one) for seed in (1, 1, 2)]
    check(results[0], pixels.shape)
    assert results[0].tobytes() == results[1].tobytes()
    assert not np.array_equal(results[0], pixels)
    if kind not in ("grey", "jpeg"):  # grey draws nothing, and jpeg may choose the same sampling
        assert not np.array_equal(results[0], results[2])


@pytest.mark.parametrize("kind", ORDER)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_no_kind_minds_slivers(kind: str, size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 0.5, np.float32)
    for seed in range(8):
        for one in (CERTAIN.of(kind), CERTAIN.of(kind).strongest()):
            check(degrade.apply(kind, pixels, np.random.default_rng(seed), one), pixels.shape)


def test_probability_0_leaves_everything_as_it_is() -> None:
    pixels, rng = photo(), np.random.default_rng(3)
    result = degrade.degrade(pixels, rng, Degradations())
    assert np.array_equal(result, pixels)
    assert not np.shares_memory(result, pixels)
    assert rng.bit_generator.state == np.random.default_rng(3).bit_generator.state


def test_each_kind_strikes_as_often_as_its_probability_says() -> None:
    pixels, rng = photo(8, 8), np.random.default_rng(0)
    chosen = Degradations(noise=Noise(probability=0.3, sigma=(5, 5)))
    struck = sum(not np.array_equal(degrade.degrade(pixels, rng, chosen), pixels) for _ in range(2000))
    assert 0.26 < struck / 2000 < 0.34  # four standard deviations


def test_of_some_crops_one_kind_strikes_alone_chosen_by_the_probabilities() -> None:
    rng = np.random.default_rng(0)
    chosen = Degradations(
        noise=Noise(probability=0.6), jpeg=Jpeg(probability=0.2), grey=Grey(probability=0.4), alone=1.0
    )
    struck = [degrade.degrade_and_tell(photo(8, 8), rng, chosen)[1] for _ in range(2000)]
    assert {len(kinds) for kinds in struck} == {1}
    found = Counter(kind for (kind,) in struck)
    assert found["noise"] == pytest.approx(1000, abs=90)  # four standard deviations
    assert found["jpeg"] == pytest.approx(333, abs=70)
    mostly = chosen.model_copy(update={"alone": 0.75})
    several = [len(degrade.degrade_and_tell(photo(8, 8), rng, mostly)[1]) != 1 for _ in range(2000)]
    # of the other quarter, 0.464 suffer one kind alone by chance
    assert sum(several) / 2000 == pytest.approx(0.25 * (1 - 0.464), abs=0.03)


def test_what_struck_is_told() -> None:
    pixels, chosen = photo(24, 24), RESTORE.model_copy(update={"grey": Grey(probability=0.5)})
    for seed in range(40):
        result, struck = degrade.degrade_and_tell(pixels, np.random.default_rng(seed), chosen)
        assert result.tobytes() == degrade.degrade(pixels, np.random.default_rng(seed), chosen).tobytes()
        assert list(struck) == sorted(struck, key=ORDER.index)
        if not struck:
            assert np.array_equal(result, pixels)


def test_nothing_strikes_alone_where_nothing_may() -> None:
    assert np.array_equal(degrade.degrade(photo(), np.random.default_rng(0), Degradations(alone=1)), photo())


def test_wear_is_blurred_but_lettering_is_not() -> None:
    assert ORDER.index("scratches") < ORDER.index("blur") < ORDER.index("noise") < ORDER.index("text")
    assert ORDER.index("watermark") < ORDER.index("jpeg") < ORDER.index("holes") == len(ORDER) - 1


def test_names_are_those_of_the_card() -> None:
    assert Degradations().names() == ("downsampling",)
    assert Degradations(poisson=Poisson(probability=0.1)).names() == ("downsampling", "noise")
    assert FAITHFUL_DEGRADATIONS.issuperset(PHOTO.names())
    assert FAITHFUL_DEGRADATIONS.issuperset(STRONG.names())
    assert set(CERTAIN.names()) - FAITHFUL_DEGRADATIONS == {
        "holes", "text", "watermark", "scratches", "dust", "folds", "grey",
    }  # fmt: skip
    assert set(RESTORE.names()) == set(CERTAIN.names()) - {"grey"}
    assert len(set(CERTAIN.names())) == len(CERTAIN.names())


@pytest.mark.parametrize(("preset", "most"), [(PHOTO, 0.02), (STRONG, 0.05)], ids=["photo", "strong"])
def test_presets_reach_down_to_almost_nothing(preset: Degradations, most: float) -> None:
    errors = [
        error(degrade.degrade(photo(64, 64), np.random.default_rng(seed), preset), photo(64, 64))
        for seed in range(60)
    ]
    assert min(errors) == 0
    assert most / 100 < max(errors) < most


def test_strongest_takes_the_strong_end_of_every_bound() -> None:
    assert Jpeg(quality=(8, 90)).strongest().quality == (8, 8)
    assert Poisson(photons=(60, 500)).strongest().photons == (60, 60)
    assert Noise(sigma=(0, 30)).strongest().sigma == (30, 30)
    assert Jpeg().strongest().subsampling == Jpeg().subsampling
    assert Jpeg().strongest().probability == 1


# --- settings


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"jpeg": {"quality": (90, 30)}}, ["jpeg.quality", "low bound 90 is above the high bound 30"]),
        ({"jpeg": {"quality": (0, 30)}}, ["jpeg.quality.0", "greater than or equal to 1"]),
        ({"noise": {"probability": 1.5}}, ["noise.probability", "less than or equal to 1"]),
        ({"noise": {"sigma": (-1, 5)}}, ["noise.sigma.0", "greater than or equal to 0"]),
        ({"poisson": {"photons": (1, 5)}}, ["poisson.photons.0", "greater than or equal to 16"]),
        ({"nose": {}}, ["nose", "not permitted"]),
        ({"holes": {"fils": ()}}, ["holes.fils", "not permitted"]),
        ({"holes": {"fills": ()}}, ["holes.fills", "at least 1 item"]),
        ({"holes": {"share": (0.1, 0.9)}}, ["holes.share", "at most 0.5"]),
        ({"blur": {"defocus": 0.6, "motion": 0.6}}, ["blur", "defocus 0.6 and motion 0.6"]),
        ({"kernel": {"bicubic": 0}}, ["kernel", "at least one kernel"]),
        ({"kernel": {"bicubic": float("inf")}}, ["kernel.bicubic", "finite"]),
    ],
)
def test_wrong_settings_are_named(table: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ValidationError) as raised:
        Degradations.model_validate(table)
    for word in words:
        assert word in str(raised.value)


def test_settings_are_frozen_and_survive_json_and_workers() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RESTORE.jpeg.quality = (1, 2)  # type: ignore[misc]
    assert Degradations.model_validate_json(RESTORE.model_dump_json()) == RESTORE
    assert pickle.loads(pickle.dumps(RESTORE)) == RESTORE


# --- blur, noise, compression, grey


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
    result = degrade.apply("grey", photo(), np.random.default_rng(0), CERTAIN.grey)
    assert np.array_equal(result[..., 0], result[..., 1])
    assert np.array_equal(result[..., 0], result[..., 2])
    assert np.abs(result[..., 0] - photo() @ np.array([0.299, 0.587, 0.114])).max() < 1e-6


# --- reduction


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)), factor=st.integers(1, 8), seed=st.integers(0, 99)
)
def test_reduced_has_its_size_and_stays_flat(size: tuple[int, int], factor: int, seed: int) -> None:
    kernel = Kernel(bicubic=1, bilinear=1, area=1, lanczos3=1)
    shape = (size[0] * factor, size[1] * factor, 3)
    pixels = np.random.default_rng(seed).random(shape, dtype=np.float32)
    before = pixels.copy()
    result = reduction.downsample(pixels, factor, np.random.default_rng(seed), kernel)
    check(result, (*size, 3))
    assert np.array_equal(pixels, before)
    assert not np.shares_memory(result, pixels)
    grey = reduction.downsample(np.full(shape, 0.4, np.float32), factor, np.random.default_rng(seed), kernel)
    assert np.abs(grey - 0.4).max() < 1e-6


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_bicubic_equals_torch_away_from_the_edges(factor: int) -> None:
    pixels = photo(24 * factor // 2 * 2, 30 * factor // 2 * 2)
    whole = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    size = (pixels.shape[0] // factor, pixels.shape[1] // factor)
    expected = torch.nn.functional.interpolate(whole, size, mode="bicubic", antialias=True)
    expected_pixels = expected[0].permute(1, 2, 0).clamp(0, 1).numpy()
    result = reduction.bicubic_downsample(pixels, factor)
    assert np.abs(result - expected_pixels)[2:-2, 2:-2].max() < 1e-5
    assert np.abs(result - expected_pixels).max() < 0.1  # torch cuts the kernel at edges, MATLAB mirrors


def test_bicubic_mirrors_at_the_edges() -> None:
    pixels = photo(48, 64)
    mirrored = np.pad(pixels, ((16, 16), (16, 16), (0, 0)), mode="symmetric")
    whole = reduction.bicubic_downsample(mirrored, 4)
    assert np.abs(whole[4:-4, 4:-4] - reduction.bicubic_downsample(pixels, 4)).max() < 1e-6


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear", "area", "lanczos3"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_reduction_commutes_with_mirroring_and_shifting(kernel: str, factor: int) -> None:
    chosen = Kernel.model_validate({"bicubic": 0, kernel: 1})
    pixels = photo(48, 60)

    def reduced(part: np.ndarray) -> np.ndarray:
        return reduction.downsample(part, factor, np.random.default_rng(0), chosen)

    assert np.abs(reduced(pixels[::-1, ::-1]) - reduced(pixels)[::-1, ::-1]).max() < 1e-6
    shifted = reduced(np.ascontiguousarray(pixels[factor:, factor:]))
    assert np.abs(shifted[4:, 4:] - reduced(pixels)[5:, 5:]).max() < 1e-6


def test_area_is_the_mean_of_blocks() -> None:
    pixels = photo(48, 60)
    chosen = Kernel(bicubic=0, area=1)
    means = pixels.reshape(16, 3, 20, 3, 3).mean(axis=(1, 3))
    assert np.abs(reduction.downsample(pixels, 3, np.random.default_rng(0), chosen) - means).max() < 1e-6


def test_kernels_are_drawn_by_weight() -> None:
    rng, pixels = np.random.default_rng(0), photo(8, 8)
    one = reduction.Kernel(bicubic=3, area=1)
    bicubic = reduction.bicubic_downsample(pixels, 2)
    drawn = sum(np.array_equal(reduction.downsample(pixels, 2, rng, one), bicubic) for _ in range(1000))
    assert 0.69 < drawn / 1000 < 0.81


@pytest.mark.parametrize("factor", [0, -1, 5])
def test_a_factor_that_does_not_divide_is_refused(factor: int) -> None:
    with pytest.raises(ValueError, match="128 x 96 px is not reduced by"):
        reduction.bicubic_downsample(photo(), factor)


# --- fixed damage


@pytest.mark.parametrize("name", ["holes", "text", "watermark", "scratches"])
def test_outside_of_the_mask_nothing_is_touched(name: str) -> None:
    damage = parse_damage(name)
    for seed in range(5):
        damaged, mask = damage(photo(150, 200), seed)
        check(damaged, (150, 200, 3))
        assert mask is not None
        assert mask.shape == (150, 200)
        assert mask.dtype == np.bool_
        assert np.array_equal(damaged[~mask], photo(150, 200)[~mask])
        changed = (damaged != photo(150, 200)).any(axis=2)
        assert changed.sum() > 0.9 * mask.sum() > 0
        again, _ = damage(photo(150, 200), seed)
        assert damaged.tobytes() == again.tobytes()
    assert damage.name == name


def test_evaluation_holes_are_as_described() -> None:
    damage = parse_damage("holes")
    damaged, mask = damage(photo(160, 200), 0)
    assert mask is not None
    assert 0.05 - 16 / mask.size <= mask.mean() <= 0.05
    assert (damaged[mask] == 0.5).all()
    assert "5 %" in damage.description


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("jpeg:q10", "quality 10"),
        ("jpeg:q10+4", "quality 10"),
        ("noise:25", "25/255"),
        ("grain:15", "0.8 px"),
    ],
)
def test_damage_of_every_pixel_has_no_mask(name: str, words: str) -> None:
    damage = parse_damage(name)
    damaged, mask = damage(photo(), 1)
    check(damaged, photo().shape)
    assert mask is None
    assert words in damage.description


def test_evaluation_noise_and_jpeg_are_those_of_training() -> None:
    grain = parse_damage("noise:25")(flat(0.5), 0)[0] - 0.5
    assert grain.std() * 255 == pytest.approx(25, rel=0.02)
    grain = parse_damage("grain:15")(flat(0.5), 0)[0] - 0.5
    assert grain.std() * 255 == pytest.approx(15, rel=0.03)
    expected = photographic.jpeg(
        photo(), np.random.default_rng(9), Jpeg(quality=(10, 10), subsampling=("4:2:0",))
    )
    assert np.array_equal(parse_damage("jpeg:q10")(photo(), 0)[0], expected)


def test_evaluation_crops_before_it_measures() -> None:
    before = np.pad(photo(), ((4, 0), (4, 0), (0, 0)), mode="edge")
    damage = parse_damage("jpeg:q10+4")
    assert np.array_equal(damage(photo(), 0)[0], parse_damage("jpeg:q10")(before, 0)[0][4:, 4:])
    assert "blocks 4 px before the picture's corner" in damage.description


@pytest.mark.parametrize(
    "name",
    [
        "",
        "jpeg",
        "jpeg:q0",
        "jpeg:q101",
        "jpeg:10",
        "jpeg:q10+0",
        "jpeg:q10+16",
        "noise:-1",
        "noise:256",
        "grain:256",
        "fog",
    ],
)
def test_unknown_damage_is_refused_with_those_known(name: str) -> None:
    with pytest.raises(ValueError, match=r"no known damage: jpeg:q10.*noise:25.*holes, text, .*scratches"):
        parse_damage(name)
