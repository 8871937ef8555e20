"""Two networks in the memory of one CUDA device, the first at the photo's own size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from srbatch import weights
from srbatch.upscaling.arrays import Pixels
from srbatch.upscaling.devices import Devices
from srbatch.upscaling.upscaler import Upscaler
from tests.cuda.conftest import (
    DEVICE,
    NEEDS_CUDA,
    Greedy,
    Lagging,
    ask,
    assert_close,
    engine_of,
    enlarge,
    middle,
    noise,
    times,
    upscaler,
    with_released,
    with_what_fits,
)
from tests.networks import Local

pytestmark = NEEDS_CUDA


@pytest.mark.parametrize(("precision", "largest"), [("fp32", 2), ("bf16", 6), ("fp16", 4)])
def test_released_weights_one_after_the_other_give_what_they_give_on_the_cpu(
    released: weights.Weights, precision: str, largest: int
) -> None:
    restore = weights.load(weights.find("restore"))

    def made(device: str, precision: str) -> Pixels:
        first = engine_of(restore, device=device, precision=precision)
        engine = engine_of(released, device=device, precision=precision, first=first)
        return enlarge(engine, middle(), (384, 512))

    got = made(DEVICE, precision)
    assert_close(got, made("cpu", "fp32"), share=0.999 if precision == "fp32" else 0.97, largest=largest)
    alone = with_released(released, 2, DEVICE, precision)
    assert np.abs(got.astype(int) - alone).max() > largest, "the first was not run"


@pytest.mark.parametrize("batch", [1, 4])
def test_photos_through_two_networks_at_once_come_out_as_on_the_cpu(batch: int) -> None:
    """Alone and in batches that they share; the second network is given what the first has finished."""

    def engine(device: str) -> Upscaler:
        first = upscaler(Lagging(Local()), device=device, scales=(1,), batch=batch)
        return upscaler(Lagging(Local()), device=device, batch=batch, first=first)

    sizes = [(40, 70), (60, 64), (150, 200), (45, 90), (64, 64)] * 2
    pictures = [noise(*size, 3, seed=seed) for seed, size in enumerate(sizes)]
    expected = [enlarge(engine("cpu"), pixels, times(pixels, 2)) for pixels in pictures]
    with Devices(lambda: [engine(DEVICE)]) as made:
        asked = [ask(made, pixels, 2) for pixels in pictures]
        for one, whole in zip(asked, expected, strict=True):
            with one:
                assert_close(np.concatenate(list(one.bands(lambda: None))), whole)


@pytest.mark.parametrize("greedy", ["the first", "the second"])
def test_memory_that_is_short_for_either_makes_tiles_of_both_smaller(
    greedy: str, leave_free: Callable[[int], None]
) -> None:
    pixels, size = noise(600, 700, 3), (1200, 1400)
    networks = [Greedy(Local()), Local()] if greedy == "the first" else [Local(), Greedy(Local())]
    first = upscaler(networks[0], scales=(1,), tile=512, batch=4)
    engine = upscaler(networks[1], tile=512, batch=4, first=first)
    leave_free(700 << 20)
    got, failed, tiles = with_what_fits(engine, pixels, 2)
    assert failed > 0
    assert tiles.tile < 512
    alone = upscaler(Local(), device="cpu", first=upscaler(Local(), device="cpu", scales=(1,)))
    assert_close(got, enlarge(alone, pixels, size))
