"""The devices' threads: results as without them, shared batches, errors, and photos nobody waits for."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from srbatch.errors import DeviceError, DeviceOutOfMemory, Interrupted, OutOfMemory, WrongOutput
from srbatch.upscaling.devices import Devices, Enlargement
from srbatch.upscaling.upscaler import Upscaler, in_memory
from tests.networks import Faulty, Local

SIZES = [(40, 50), (64, 64), (33, 60), (10, 10), (200, 90), (61, 57)]


def upscaler(network: nn.Module | None = None, **changes: Any) -> Upscaler:
    settings = {"tile": 96, "batch": 4, "precision": "fp32", "device": "cpu", **changes}
    return Upscaler(network or Local(), scales=(1, 2, 4), halo=8, ramp=16, **settings)


@contextmanager
def devices(*upscalers: Upscaler) -> Iterator[Devices]:
    with Devices(lambda: upscalers) as made:
        yield made
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("srbatch cpu")]


def photo(size: tuple[int, int], channels: int = 3, seed: int = 0, dtype: Any = np.uint8) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (*size, channels)).astype(dtype)


def ask(made: Devices, pixels: Any, tick: Any = lambda _: None, factor: int = 2) -> Enlargement:
    size = (pixels.shape[0] * factor, pixels.shape[1] * factor)
    return made.enlarge(pixels, size, spool=in_memory, tick=tick, bits=None)


def result(enlargement: Enlargement) -> Any:
    with enlargement:
        return np.concatenate(list(enlargement.bands(lambda: None)))


def expected(pixels: Any, factor: int = 2) -> Any:
    size = (pixels.shape[0] * factor, pixels.shape[1] * factor)
    return np.concatenate(list(upscaler().enlarge(pixels, size)))


class Counting(nn.Module):
    """Notes the shape of each batch, and waits for the first one to be let through."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.shapes: list[tuple[int, ...]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        self.begun.set()
        assert self.go.wait(30)
        self.shapes.append(tuple(x.shape))
        result: torch.Tensor = self.inner(x, scale)
        return result


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_photos_that_share_a_batch_come_out_as_each_alone(channels: int) -> None:
    network = Counting(Local())
    pictures = [photo(size, channels, seed) for seed, size in enumerate(SIZES)]
    ticks: list[float] = []
    with devices(upscaler(network)) as made:
        blocked = ask(made, photo((96, 96)))
        assert network.begun.wait(30)
        asked = [ask(made, pixels, ticks.append) for pixels in pictures]
        network.go.set()
        result(blocked)
        for enlargement, pixels in zip(asked, pictures, strict=True):
            difference = np.abs(result(enlargement).astype(int) - expected(pixels).astype(int))
            assert difference.max() <= 1
            assert (difference == 0).mean() > 0.999
    sizes = [shape[0] for shape in network.shapes]
    assert max(sizes) == 4, "four photos of one tile shape went together"
    assert sum(ticks) == pytest.approx(sum(h * w for h, w in SIZES))


def test_photos_of_other_depth_or_colours_do_not_share() -> None:
    network = Counting(Local())
    with devices(upscaler(network)) as made:
        blocked = ask(made, photo((96, 96)))
        assert network.begun.wait(30)
        grey, deep, colour = photo((60, 60), 1), photo((60, 60), 3, dtype=np.uint16), photo((60, 60), 3)
        asked = [ask(made, pixels) for pixels in (grey, deep, colour)]
        network.go.set()
        result(blocked)
        for enlargement in asked:
            result(enlargement)
    assert [shape[0] for shape in network.shapes] == [1, 1, 1, 1]


def test_two_devices_share_the_work() -> None:
    networks = [Counting(Local()), Counting(Local())]
    with devices(*(upscaler(network, batch=1) for network in networks)) as made:
        asked = [ask(made, photo((60, 60), seed=seed)) for seed in range(6)]
        for network in networks:
            network.go.set()
        for seed, enlargement in enumerate(asked):
            assert (result(enlargement) == expected(photo((60, 60), seed=seed))).all()
    assert sum(len(network.shapes) for network in networks) == 6
    assert all(network.shapes for network in networks)


def test_out_of_memory_asks_again_and_the_smallest_tiles_are_the_end() -> None:
    with devices(upscaler(Faulty(Local(), 0, "out of memory", times=99), batch=2)) as made:
        outcomes = []
        for _ in range(9):
            try:
                result(ask(made, photo((200, 200))))
            except (OutOfMemory, DeviceOutOfMemory) as error:
                outcomes.append(type(error))
        assert outcomes[0] is OutOfMemory
        assert outcomes[-1] is DeviceOutOfMemory


@pytest.mark.parametrize("fault", ["raise", "shape", "out of memory"])
def test_a_fault_in_a_shared_batch_costs_none_of_them(fault: str) -> None:
    network = Counting(Faulty(Local(), 1, fault))
    pictures = [photo((60, 60), seed=seed) for seed in range(3)]
    with devices(upscaler(network)) as made:
        blocked = ask(made, photo((96, 96)))
        assert network.begun.wait(30)
        asked = [ask(made, pixels) for pixels in pictures]
        network.go.set()
        result(blocked)
        for enlargement, pixels in zip(asked, pictures, strict=True):
            assert np.abs(result(enlargement).astype(int) - expected(pixels).astype(int)).max() <= 1
    assert [shape[0] for shape in network.shapes] == [1, 4, 1, 1, 1]


def test_a_fault_reaches_the_one_who_waits_and_the_next_photo_is_done() -> None:
    with devices(upscaler(Faulty(Local(), 0, "shape"))) as made:
        with pytest.raises(WrongOutput):
            result(ask(made, photo((60, 60))))
        assert (result(ask(made, photo((60, 60)))) == expected(photo((60, 60)))).all()


def test_what_tick_raises_comes_out() -> None:
    def tick(_: float) -> None:
        raise Interrupted(2)

    with devices(upscaler()) as made, pytest.raises(Interrupted):
        result(ask(made, photo((60, 60)), tick))


def test_devices_that_cannot_be_made_say_so_to_each_photo() -> None:
    def fail() -> list[Upscaler]:
        raise DeviceError("there is none")

    with Devices(fail) as made:
        for _ in range(2):
            with pytest.raises(DeviceError, match="there is none"):
                ask(made, photo((60, 60)))


def test_a_photo_that_nobody_waits_for_any_more_stops() -> None:
    """Its bands are more than may lie ready, so that its thread would wait for ever."""
    with devices(upscaler(batch=1)) as made:
        with ask(made, photo((2000, 40))) as enlargement:
            next(enlargement.bands(lambda: None))
        start = time.monotonic()
        assert (result(ask(made, photo((60, 60)))) == expected(photo((60, 60)))).all()
        assert time.monotonic() - start < 30


def test_a_check_that_raises_while_waiting_comes_out() -> None:
    network = Counting(Local())

    def check() -> None:
        raise Interrupted(15)

    with devices(upscaler(network)) as made:
        with pytest.raises(Interrupted), ask(made, photo((60, 60))) as enlargement:
            list(enlargement.bands(check))
        network.go.set()


# ---- nobody waits for ever, and nothing is kept --------------------------------------------------


@pytest.mark.parametrize("where", ["batch_key", "shrink", "enlarge_together"])
def test_an_error_of_any_step_reaches_all_who_wait(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """As emptying its cache raises on a device that was lost."""

    def broken(*_: Any) -> None:
        raise SystemError("the device is lost")

    fault = "out of memory" if where == "shrink" else "none"
    network = Counting(Faulty(Local(), 1, fault) if where == "shrink" else Local())
    made_upscaler = upscaler(network)
    with devices(made_upscaler) as made:
        blocked = ask(made, photo((96, 96)))
        assert network.begun.wait(30)
        asked = [ask(made, photo((60, 60), seed=seed)) for seed in range(3)]
        monkeypatch.setattr(made_upscaler, where, broken)
        network.go.set()
        result(blocked)
        errors = 0
        for enlargement in asked:
            with enlargement:
                try:
                    list(enlargement.bands(_not_for_ever()))
                except SystemError:
                    errors += 1
        monkeypatch.undo()
        assert errors == {"batch_key": 3, "shrink": 3, "enlarge_together": 0}[where]
        assert (result(ask(made, photo((60, 60)))) == expected(photo((60, 60)))).all()


def _not_for_ever() -> Callable[[], None]:
    deadline = time.monotonic() + 5

    def check() -> None:
        assert time.monotonic() < deadline, "it hangs"

    return check


def test_tiles_that_shrink_while_a_batch_is_given_out_make_its_photos_again() -> None:
    """Each photo of the batch has run out of memory when its pixels were put together."""
    network = Counting(Local())
    made_upscaler = upscaler(network, tile=128)
    pictures = [photo((100, 100), seed=seed) for seed in range(4)]
    with devices(made_upscaler) as made:
        blocked = ask(made, photo((128, 128)))
        assert network.begun.wait(30)
        asked = [ask(made, pixels, _no_room_once()) for pixels in pictures[:3]] + [ask(made, pictures[3])]
        network.go.set()
        result(blocked)
        for enlargement in asked[:3]:
            with pytest.raises(OutOfMemory):
                result(enlargement)
        assert np.abs(result(asked[3]).astype(int) - expected(pictures[3]).astype(int)).max() <= 1
    assert made_upscaler.tiles.tile < 128


def _no_room_once() -> Callable[[float], None]:
    def tick(_: float) -> None:
        raise MemoryError

    return tick


def test_a_photo_that_was_done_is_not_kept_until_the_next_one_comes() -> None:
    with devices(upscaler()) as made:
        pixels = photo((60, 60))
        kept = weakref.ref(pixels)
        result(ask(made, pixels))
        del pixels
        deadline = time.monotonic() + 5
        while kept() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert kept() is None


def test_what_had_no_room_is_not_kept_while_smaller_tiles_are_tried() -> None:
    class Greedy(Local):
        def __init__(self) -> None:
            super().__init__()
            self.large: weakref.ref[torch.Tensor] | None = None
            self.kept: list[bool] = []

        def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
            if self.large is None:
                large = torch.zeros(1000)
                self.large = weakref.ref(large)
                raise torch.OutOfMemoryError("injected")
            self.kept.append(self.large() is not None)
            return super().forward(x, scale)

    network = Greedy()
    gc.disable()
    try:
        with devices(upscaler(network)) as made:
            with pytest.raises(OutOfMemory):
                result(ask(made, photo((60, 60))))
            result(ask(made, photo((60, 60))))
    finally:
        gc.enable()
    assert network.kept == [False]


def test_a_photo_that_is_not_wanted_any_more_stops_at_the_next_tile() -> None:
    network, ticks = Counting(Local()), list[float]()
    with devices(upscaler(network, batch=1)) as made:
        with ask(made, photo((90, 3000)), ticks.append):
            assert network.begun.wait(30)
        network.go.set()
        result(ask(made, photo((60, 60))))
    assert not ticks
    assert len(network.shapes) == 2


def test_the_device_is_told_as_it_is_put_to_work(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="srbatch"), devices(upscaler(batch=2)) as made:
        result(ask(made, photo((8, 8))))
    assert "on cpu in fp32 by torch: tiles of 96 px, 2 at once" in caplog.text
