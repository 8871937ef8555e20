"""The recipe: what changes an output's pixels, and nothing else."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from srbatch.options import Options, TargetSize
from srbatch.recipe import recipe

BASE = Options(inputs=(Path("photos"),), out=Path("hi"))


def test_the_recipe_is_the_same_text_each_time() -> None:
    assert recipe(BASE, "abc", lossy=True) == recipe(replace(BASE), "abc", lossy=True)


def test_recipes_of_older_ledgers_stay_what_they_were() -> None:
    """Whatever choices come later: else archives that are done would be reported as made otherwise."""
    expected = '{"model": "abc", "quality": 95, "size": "x4", "strength": 1.0}'
    assert recipe(BASE, "abc", lossy=True) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"size": TargetSize(scale=2)},
        {"size": TargetSize(scale=4.5)},
        {"size": TargetSize(long_edge=4)},
        {"size": TargetSize(megapixels=4)},
        {"strength": 0.5},
        {"tta": True},
        {"quality": 94},
    ],
    ids=str,
)
def test_what_changes_pixels_changes_the_recipe(changes: dict[str, object]) -> None:
    changed = replace(BASE, **changes)  # type: ignore[arg-type]
    assert recipe(changed, "abc", lossy=True) != recipe(BASE, "abc", lossy=True)


def test_other_weights_change_the_recipe() -> None:
    assert recipe(BASE, "abc", lossy=True) != recipe(BASE, "abd", lossy=True)
    firsts = (None, "abc", "abd")
    assert len({recipe(BASE, "abc", lossy=True, first_sha256=first) for first in firsts}) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TargetSize(scale=2.5), TargetSize(scale=2.5000001)),
        (TargetSize(megapixels=12.34567), TargetSize(megapixels=12.34574)),
    ],
    ids=str,
)
def test_sizes_that_give_other_pixels_give_other_recipes(one: TargetSize, other: TargetSize) -> None:
    sides = itertools.product(range(101, 131), repeat=2)
    assert any(one.of(*side) != other.of(*side) for side in sides)
    texts = {recipe(replace(BASE, size=size), "abc", lossy=True) for size in (one, other)}
    assert len(texts) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"out": Path("elsewhere")},
        {"inputs": (Path("a"), Path("b"))},
        {"device": "cuda"},
        {"precision": "fp32"},
        {"engine": "torch"},
        {"workers": 3},
        {"tile": 256},
        {"batch": 3},
        {"provenance": False},
        {"overwrite": True},
        {"scratch": Path("fast")},
        {"max_megapixels": 5.0},
    ],
    ids=str,
)
def test_what_leaves_pixels_alone_leaves_the_recipe_alone(changes: dict[str, object]) -> None:
    changed = replace(BASE, **changes)  # type: ignore[arg-type]
    assert recipe(changed, "abc", lossy=True) == recipe(BASE, "abc", lossy=True)


def test_the_quality_of_a_lossless_output_is_no_part_of_the_recipe() -> None:
    assert recipe(BASE, "abc", lossy=False) == recipe(replace(BASE, quality=50), "abc", lossy=False)
