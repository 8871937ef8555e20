"""A photo in eight views."""

from __future__ import annotations

import numpy as np
import pytest

from srbatch.errors import WrongOutput
from srbatch.upscaling import tiling
from srbatch.upscaling.arrays import Pixels
from tests.networks import Faulty, Local, Nothing
from tests.upscaling.upscaler.conftest import enlarge, noise, upscaler


def views(array: Pixels) -> list[Pixels]:
    """Of a photo (H, W, C): four turns, each as it is and mirrored."""
    turns = [np.rot90(array, k) for k in range(4)]
    return [np.ascontiguousarray(view) for turn in turns for view in (turn, turn[:, ::-1])]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_tta_is_the_mean_over_the_photo_turned_and_mirrored(scale: int, precision: str) -> None:
    photo = noise(64, 96, 3, np.uint16) // 2 + 2**14
    size = {view.shape: (view.shape[0] * scale, view.shape[1] * scale) for view in views(photo)}
    engine = upscaler(Local(), precision=precision)
    single = [enlarge(engine, view, size[view.shape]) for view in views(photo)]
    # Back in the other order: mirrored first, then turned.
    ways = [(turn, mirrored) for turn in range(4) for mirrored in (False, True)]
    back = [np.rot90(one[:, ::-1] if m else one, -k) for one, (k, m) in zip(single, ways, strict=True)]
    found = enlarge(upscaler(Local(), precision=precision, tta=True), photo, size[photo.shape])
    assert np.abs(found - np.mean(back, axis=0)).max() < 1
    assert np.abs(found - single[0].astype(float)).mean() > 100, "one view would have done"


def test_tta_is_the_same_for_a_photo_lying_on_its_side() -> None:
    """Several tiles, of which the borders lie at the same places whichever side is up."""
    photo = noise(128, 128, 3) // 2 + 64
    engine = upscaler(Local(), tta=True)
    upright, turned = (enlarge(engine, view, (256, 256)).astype(int) for view in views(photo)[:3:2])
    assert np.abs(np.rot90(upright) - turned).max() <= 1


def test_one_view_that_is_not_a_number_is_done_again_in_fp32() -> None:
    pixels = noise(96, 64, 3)
    expected = enlarge(upscaler(Local(), tta=True), pixels, (192, 128))
    assert np.array_equal(
        enlarge(upscaler(Faulty(Local(), 5, "nan"), tta=True), pixels, (192, 128)), expected
    )


def test_a_tile_in_eight_views_can_be_left_after_each() -> None:
    network = Faulty(Local(), -1, "raise")

    def stop(_: float) -> None:
        if network.calls == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(upscaler(network, tta=True).enlarge(noise(96, 64, 3), (192, 128), tick=stop))
    assert network.calls == 3


def test_progress_goes_on_with_each_view() -> None:
    ticks: list[float] = []
    engine = upscaler(Nothing(), tta=True, batch=2)
    list(engine.enlarge(noise(150, 170, 3), (300, 340), tick=ticks.append))
    plan = tiling.plan(150, 170, tile=96, margins=tiling.Margins(8, 16, 32))
    assert max(ticks) == pytest.approx(150 * 170 / plan.tiles / 8 * 2), "both tiles of a batch"
    assert sum(ticks) == pytest.approx(150 * 170)


@pytest.mark.parametrize("call", [0, 3])
def test_a_wrong_shape_in_any_view_is_told(call: int) -> None:
    engine = upscaler(Faulty(Local(), call, "shape"), tta=True)
    with pytest.raises(WrongOutput, match=r"returned .* where .* was due"):
        enlarge(engine, noise(96, 64, 3), (192, 128))
