"""Numbers that are none and memory that is short on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from srbatch import weights
from srbatch.errors import OutOfMemory, WrongOutput
from srbatch.upscaling.arrays import Pixels
from srbatch.upscaling.devices import Devices
from srbatch.upscaling.tile_memory import Tiles
from tests.cuda.conftest import (
    NEEDS_CUDA,
    Brightness,
    Greedy,
    Swelling,
    ask,
    assert_close,
    engine_of,
    enlarge,
    noise,
    photograph,
    upscaler,
    with_what_fits,
)
from tests.networks import Local, Nothing

pytestmark = NEEDS_CUDA


# ---- numbers that are none -------------------------------------------------------------------------

BRIGHT = {
    "first": np.s_[:96, :96],
    "middle": np.s_[45:205, 270:430],
    "last": np.s_[-96:, -96:],
    "many": np.s_[:, 200:520],
}
"""Parts of a photo of 250 x 700 that each hold a whole tile of 96 px or less."""


def dark_but_for(where: str) -> Pixels:
    rng = np.random.default_rng(5)
    pixels = rng.integers(20, 80, (250, 700, 3), dtype=np.uint8)
    pixels[BRIGHT[where]] += 150
    return pixels


@pytest.mark.parametrize("where", BRIGHT)
@pytest.mark.parametrize("batch", [1, 2, 8])
def test_only_what_overflows_is_done_again_in_fp32(where: str, batch: int) -> None:
    pixels = dark_but_for(where)
    expected = enlarge(upscaler(Brightness(0.125), batch=batch), pixels, (500, 1400))
    assert not np.array_equal(expected, enlarge(upscaler(Nothing(), batch=batch), pixels, (500, 1400)))
    got = enlarge(upscaler(Swelling(), batch=batch, precision="fp16"), pixels, (500, 1400))
    assert np.array_equal(got, expected), f"off at {np.argwhere((got != expected).any(axis=2))[:5]}"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("where", BRIGHT)
@pytest.mark.parametrize("batch", [1, 8])
def test_what_is_no_number_in_fp32_either_is_an_error(where: str, precision: str, batch: int) -> None:
    engine = upscaler(Brightness(float("nan")), batch=batch, precision=precision)
    with pytest.raises(WrongOutput, match="not a number"):
        enlarge(engine, dark_but_for(where), (500, 1400))
    dark = np.minimum(dark_but_for(where), 80)
    expected = enlarge(upscaler(Nothing(), batch=batch), dark, (500, 1400))
    assert np.array_equal(enlarge(engine, dark, (500, 1400)), expected), "the next photo suffers for it"


def test_a_photo_with_no_numbers_costs_none_that_shares_its_batch() -> None:
    pictures = [np.full((80, 80, 3), level, np.uint8) for level in (40, 250, 90)]
    with Devices(lambda: [upscaler(Brightness(float("nan")), batch=4, precision="bf16")]) as made:
        asked = [ask(made, pixels) for pixels in pictures]
        for enlargement, pixels in zip(asked, pictures, strict=True):
            with enlargement:
                if pixels[0, 0, 0] == 250:
                    with pytest.raises(WrongOutput):
                        list(enlargement.bands(lambda: None))
                else:
                    got = np.concatenate(list(enlargement.bands(lambda: None)))
                    assert (got == pixels[0, 0, 0]).all()


# ---- memory ----------------------------------------------------------------------------------------


def test_out_of_memory_tiles_shrink_until_the_photo_fits(leave_free: Callable[[int], None]) -> None:
    pixels = noise(600, 700, 3)
    engine = upscaler(Greedy(Local()), tile=512, batch=4)
    leave_free(700 << 20)
    with pytest.raises(OutOfMemory):
        enlarge(engine, pixels, (1200, 1400))
    assert engine.shrink()
    got, failed, tiles = with_what_fits(engine, pixels, 2)
    assert failed > 0
    assert tiles.tile < 512
    assert_close(got, enlarge(upscaler(Local(), device="cpu"), pixels, (1200, 1400)))


def test_released_weights_get_along_with_little_memory(
    released: weights.Weights, leave_free: Callable[[int], None]
) -> None:
    """cuDNN wants memory of its own, and says in other words that it has none."""
    pixels = np.ascontiguousarray(np.tile(photograph(), (1, 2, 1))[:500, :900])
    expected = enlarge(engine_of(released, tile=512, batch=1, precision="bf16"), pixels, (2000, 3600))
    engine = engine_of(released, tile=512, batch=8, precision="bf16")
    leave_free(1200 << 20)
    got, failed, tiles = with_what_fits(engine, pixels, 4)
    assert failed > 0
    assert tiles != Tiles(512, 8)
    assert_close(got, expected, share=0.99, largest=16)
