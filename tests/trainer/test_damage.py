"""Fixed damage to measure by."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.crops import check, flat, photo
from trainer.degradations import photographic
from trainer.degradations.damage import parse_damage
from trainer.degradations.photographic import Jpeg


@pytest.mark.parametrize("name", ["holes", "text", "watermark", "scratches", "dust"])
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
    with pytest.raises(ValueError, match=r"no known damage: jpeg:q10.*noise:25.*holes, text, .*dust"):
        parse_damage(name)


@pytest.mark.parametrize(
    ("name", "from_black", "from_grey", "said"),
    [
        ("watermark", {0.35}, {0.5 + 0.35 * 0.5}, "opacity 0.35"),
        ("scratches", {0.9}, {0.95, 0.05}, "opacity up to 0.9"),
        ("dust", {0.9}, {0.95, 0.05}, "opacity 0.9"),
        ("text", {1.0}, {1.0}, "opaque"),
    ],
)
def test_fixed_damage_is_as_strong_as_its_description_says(
    name: str, from_black: set[float], from_grey: set[float], said: str
) -> None:
    """What has been measured under these names stays comparable."""
    damage = parse_damage(name)
    assert said in damage.description
    for level, ends in ((0.0, from_black), (0.5, from_grey)):
        found = [damage(np.full((256, 256, 3), level, np.float32), seed)[0] for seed in range(12)]
        extremes = [max(one.max() for one in found), min(one.min() for one in found)]
        for end in ends:
            nearest = min(abs(extreme - end) for extreme in extremes)
            # Few strokes cover a whole pixel, and dirt and paper differ in lightness.
            assert nearest < (0.08 if name in ("scratches", "dust") else 0.01)
