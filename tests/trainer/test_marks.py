"""Marks that lie on a picture: lettering, watermarks, scratches, dust, folds, holes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.degradations import holes, lettering, marks, wear
from trainer.degradations.holes import Holes
from trainer.degradations.layers import Canvas, Layer, composed, covered, wander
from trainer.degradations.marks import Text, Watermark
from trainer.degradations.wear import Dust, Folds, Scratches

GREY = np.full((128, 128, 3), 0.5, np.float32)


def changed(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the pixels that differ."""
    return float((before != after).any(axis=2).mean())


# --- layers


@given(
    top=st.integers(-20, 20),
    left=st.integers(-20, 20),
    size=st.tuples(st.integers(1, 15), st.integers(1, 15)),
)
def test_layers_reach_beyond_every_edge(top: int, left: int, size: tuple[int, int]) -> None:
    pixels = np.zeros((9, 11, 3), np.float32)
    layer = Layer(top, left, np.full(size, 0.5, np.float32), (1.0, 0.5, 0.0))
    inside = np.zeros((60, 60), np.bool_)
    inside[20 + top : 20 + top + size[0], 20 + left : 20 + left + size[1]] = True
    inside = inside[20:29, 20:31]
    result = composed(pixels, [layer])
    assert np.array_equal(covered(9, 11, [layer]), inside)
    assert np.array_equal(result, inside[..., None] * np.array([0.5, 0.25, 0], np.float32))


def test_later_layers_lie_above() -> None:
    ones = np.ones((4, 4), np.float32)
    result = composed(GREY[:4, :4], [Layer(0, 0, ones, (1, 0, 0)), Layer(0, 0, ones, (0, 1, 0))])
    assert np.array_equal(result[0, 0], [0, 1, 0])


def test_strokes_have_smooth_edges_and_fractional_widths() -> None:
    inks = []
    for width in (0.5, 1, 2, 4):
        canvas = Canvas(20, 40)
        line = np.array([[-5, 10.25], [45, 10.25]], np.float32)
        canvas.stroke(line, np.array([width], np.float32), np.ones(1, np.float32))
        inks.append(canvas.layers((1, 1, 1))[0].alpha.sum() / 40)
    assert inks == pytest.approx([0.5, 1, 2, 4], rel=0.3)
    assert Canvas(5, 5).layers((1, 1, 1)) == []


def test_wander_is_as_long_as_asked_and_smooth() -> None:
    for seed in range(20):
        line = wander(np.random.default_rng(seed), (3, 4), 1.0, 100, bend=0.4)
        steps = np.diff(line, axis=0)
        assert np.hypot(*steps.T).sum() == pytest.approx(100, rel=1e-3)
        turns = np.diff(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0])))
        assert np.abs(turns).max() < 0.3


# --- holes


@settings(max_examples=60)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    share=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)).map(sorted),
    side=st.tuples(st.integers(1, 9), st.integers(1, 9)).map(sorted),
    seed=st.integers(0, 999),
)
def test_holes_keep_to_their_area(
    size: tuple[int, int], share: list[float], side: list[int], seed: int
) -> None:
    one = Holes.model_validate({"share": share, "size_px": side})
    mask = np.zeros(size, np.bool_)
    for rows, columns, shape in holes.hole_places(*size, np.random.default_rng(seed), one):
        assert max(shape.shape) <= side[1]
        mask[rows, columns] |= shape
    assert mask.sum() <= share[1] * mask.size
    assert mask.sum() >= min(share[0] * mask.size, share[1] * mask.size - side[0] ** 2)


@pytest.mark.parametrize("fill", ["black", "white", "mean", "colour", "noise"])
def test_holes_are_filled_as_asked(fill: str) -> None:
    pixels = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32) * np.float32(0.5)
    one = Holes(share=(0.1, 0.1), fills=(fill,), size_px=(8, 8), shapes=("rectangle",))  # type: ignore[arg-type]
    result = holes.holes(pixels, np.random.default_rng(1), one)
    gone = (result != pixels).any(axis=2)
    assert 0.05 < gone.mean() <= 0.1
    filled = result[gone]
    expected = {"black": 0, "white": 1, "mean": pixels.mean(axis=(0, 1))}
    if fill in expected:
        assert (filled == expected[fill]).all()
    else:
        different = len(np.unique(filled, axis=0))
        assert different > 300 if fill == "noise" else 2 <= different <= 20


def test_ellipses_are_rounder_than_squares() -> None:
    areas = {}
    for shape in ("square", "ellipse"):
        one = Holes(share=(0.02, 0.02), size_px=(16, 16), shapes=(shape,))  # type: ignore[arg-type]
        places = holes.hole_places(400, 400, np.random.default_rng(0), one)
        areas[shape] = max(part.sum() for _, _, part in places)
    assert areas["square"] == 256
    assert areas["ellipse"] == pytest.approx(np.pi * 64, rel=0.05)


# --- lettering


@pytest.mark.parametrize("fonts", ["LATIN", "DIGITAL", "SYMBOLIC"])
def test_every_font_has_every_sign_it_is_used_for(fonts: str) -> None:
    rng = np.random.default_rng(0)
    makers = {
        "LATIN": [lettering.caption, lettering.credit, lettering.stamp],
        "DIGITAL": [lettering.date_stamp],
        "SYMBOLIC": [lettering.symbols],
    }[fonts]
    signs = sorted({sign for maker in makers for _ in range(400) for sign in maker(rng)} - {" "})
    for font in getattr(lettering, fonts):
        missing = lettering.rendered("\ue123", font, 24)  # of the private use area: no font has it
        for sign in signs:
            ink = lettering.rendered(sign, font, 24)
            assert ink.max() > 0.5, (font, sign)
            assert ink.shape != missing.shape or not np.array_equal(ink, missing), (font, sign)


def test_lettering_has_its_size() -> None:
    small, large = (lettering.rendered("Sample 1998", "DejaVuSans", size) for size in (10, 40))
    assert large.shape[0] == pytest.approx(4 * small.shape[0], rel=0.2)
    assert large.shape[1] == pytest.approx(4 * small.shape[1], rel=0.1)
    upright = lettering.turned(small, 90)
    assert abs(upright.shape[0] - small.shape[1]) <= 2


def test_texts_vary() -> None:
    rng = np.random.default_rng(0)
    for maker in (
        lettering.caption,
        lettering.credit,
        lettering.date_stamp,
        lettering.stamp,
        lettering.symbols,
    ):
        assert len({maker(rng) for _ in range(100)}) > 50, maker.__name__


def test_opaque_text_reaches_its_colour_and_faint_text_does_not() -> None:
    seeds = range(12)
    strong = Text(lines=(1, 1), size_px=(20, 20), opacity=(1, 1), outlined=0)
    faint = strong.model_copy(update={"opacity": (0.2, 0.2)})
    for seed in seeds:
        layers = marks.text_layers(128, 128, np.random.default_rng(seed), strong)
        assert layers[0].alpha.max() > 0.8
        layers = marks.text_layers(128, 128, np.random.default_rng(seed), faint)
        assert layers[0].alpha.max() <= 0.2 + 1e-6


def test_nearly_every_text_is_seen() -> None:
    one = Text(lines=(1, 1))
    seen = [changed(GREY, marks.text(GREY, np.random.default_rng(seed), one)) > 0.002 for seed in range(100)]
    assert sum(seen) >= 95


@pytest.mark.parametrize("repeated", [0, 1])
def test_watermark_is_half_transparent_and_repeats(repeated: float) -> None:
    one = Watermark(
        opacity=(0.3, 0.3), size_px=(12, 12), repeated=repeated, embossed=0, crossed=0, turned=0, logo=0
    )
    shares, steps = [], []
    for seed in range(20):
        result = marks.watermark(GREY, np.random.default_rng(seed), one)
        shares.append(changed(GREY, result))
        steps.append(np.abs(result - GREY).max())
    assert max(steps) <= 0.15 + 1e-6
    assert np.median(steps) > 0.1
    assert (np.mean(shares) > 0.12) == bool(repeated)


# --- wear


@pytest.mark.parametrize("bright", [0, 1])
def test_scratches_are_thin_and_of_one_kind(bright: float) -> None:
    one = Scratches(bright=bright, count=(3, 3), width_px=(1, 1), opacity=(1, 1), length_px=(100, 100))
    for seed in range(20):
        difference = wear.scratches(GREY, np.random.default_rng(seed), one) - GREY
        assert (difference >= 0).all() if bright else (difference <= 0).all()
        assert 0 < (difference != 0).any(axis=2).mean() < 0.08


def test_more_scratches_and_dust_leave_more() -> None:
    for kind, few, many in (
        (wear.scratches, Scratches(count=(1, 1)), Scratches(count=(12, 12))),
        (wear.dust, Dust(count=(3, 3)), Dust(count=(60, 60))),
    ):
        shares = [
            np.mean([changed(GREY, kind(GREY, np.random.default_rng(seed), one)) for seed in range(10)])  # type: ignore[operator]
            for one in (few, many)
        ]
        assert shares[1] > 4 * shares[0]


def test_dust_is_as_dense_on_any_crop() -> None:
    one = Dust(count=(20, 20), hairs=0)
    small, large = (
        np.mean([
            changed(field, wear.dust(field, np.random.default_rng(seed), one)) for seed in range(12)
        ])
        for field in (np.full((64, 64, 3), 0.5, np.float32), np.full((192, 192, 3), 0.5, np.float32))
    )  # fmt: skip
    assert small == pytest.approx(large, rel=0.35)


def test_fold_is_a_light_ridge_between_a_lit_and_a_shaded_flank() -> None:
    one = Folds(count=(1, 1), shade=(0.15, 0.15), cracked=(1, 1), shade_px=(10, 10))
    for seed in range(20):
        difference = (wear.folds(GREY, np.random.default_rng(seed), one) - GREY).mean(axis=2)
        if np.abs(difference).max() < 0.2:  # the crease only just touches a corner
            continue
        assert difference.max() > 0.25
        assert -0.08 < difference.min() <= 0
        assert (difference > 0.15).mean() < 0.1
