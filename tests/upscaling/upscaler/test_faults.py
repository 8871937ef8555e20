"""Memory that is short, results that are no numbers, devices that are not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from srbatch.card import NetworkConfig
from srbatch.errors import DeviceError, NoRoom, OutOfMemory, UsageError, WrongOutput
from srbatch.network import SuperResolutionNet
from srbatch.upscaling import hardware
from srbatch.upscaling.hardware import means_out_of_memory, pick_device, pick_devices, pick_precision
from srbatch.upscaling.tile_memory import Tiles
from tests.networks import Faulty, Local, Nothing
from tests.upscaling.upscaler.conftest import enlarge, noise, upscaler


def test_want_of_memory_is_known_by_what_torch_says_on_a_cpu() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert not isinstance(caught.value, torch.OutOfMemoryError)
    assert means_out_of_memory(caught.value)
    assert not means_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_out_of_memory_at_any_call_gives_the_same_photo_after_shrinking() -> None:
    pixels = noise(150, 250, 3)
    counting = Faulty(Local(), -1, "out of memory")
    expected = enlarge(upscaler(counting, batch=2), pixels, (300, 500))
    for k in range(counting.calls):
        engine = upscaler(Faulty(Local(), k, "out of memory"), batch=2)
        with pytest.raises(OutOfMemory):
            enlarge(engine, pixels, (300, 500))
        assert engine.shrink()
        assert np.array_equal(enlarge(engine, pixels, (300, 500)), expected)


@pytest.mark.parametrize(("free_gb", "by_blocks", "whole"), [(32, 512, 512), (4, 512, 256), (0.1, 96, 96)])
def test_tiles_fit_into_free_memory(
    free_gb: float, by_blocks: int, whole: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network by blocks takes less. In fp32, at most 40 % of what is free."""
    monkeypatch.setattr("srbatch.upscaling.tile_memory.free_bytes", lambda device: int(free_gb * 1e9))
    config = NetworkConfig("resnet18", features=4, refine_blocks=0)
    for network, tile in ((SuperResolutionNet(config), by_blocks), (Local(), whole)):
        assert upscaler(network, tile=None).tiles == Tiles(tile, 1)


def test_tiles_of_a_very_wide_photo_are_low(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of them is in memory at once: 3 channels of floats, of twice the width."""
    pixels, size, row = noise(300, 1000, 3), (600, 2000), 1000 * 3 * 4 * 2**2
    expected = enlarge(upscaler(Local(), tile=256), pixels, size)
    shapes = []

    class Seen(Local):
        def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
            shapes.append(tuple(x.shape[2:]))
            return super().forward(x, scale)

    monkeypatch.setattr("srbatch.upscaling.tile_memory.free_bytes", lambda device: row * 400)
    found = enlarge(upscaler(Seen(), tile=256), pixels, size)
    assert {height for height, _ in shapes} == {128}, "40 % of 400 rows, less the overlap of 32"
    assert max(width for _, width in shapes) > 128
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert enlarge(upscaler(Seen(), tile=256), pixels[:, :200], (600, 400)).shape == (600, 400, 3)
    assert max(height for height, _ in shapes) > 128, "that of the next photo is as high as before"


def test_a_photo_too_wide_for_the_memory_is_told_before_the_system_ends_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("srbatch.upscaling.tile_memory.free_bytes", lambda device: 1000 * 3 * 4 * 2**2 * 127)
    with pytest.raises(NoRoom, match="1000 px across take"):
        enlarge(upscaler(Local(), tile=96), noise(300, 1000, 3), (600, 2000))
    assert enlarge(upscaler(Local(), tile=96), noise(300, 900, 3), (600, 1800)).shape == (600, 1800, 3)


def test_a_photo_too_wide_for_the_second_network_is_told_before_the_first_is_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The strips of what is enlarged are the wider ones."""
    monkeypatch.setattr("srbatch.upscaling.tile_memory.free_bytes", lambda device: 1000 * 3 * 4 * 2**2 * 127)
    first = Faulty(Local(), -1, "raise")
    with pytest.raises(NoRoom, match="1000 px across take"):
        enlarge(upscaler(Local(), tile=96, first=upscaler(first)), noise(300, 1000, 3), (600, 2000))
    assert first.calls == 0


def test_memory_that_was_short_at_the_start_and_is_free_now_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srbatch.upscaling.tile_memory.free_bytes", lambda device: 1000)
    engine = upscaler(Local(), tile=96)
    monkeypatch.setattr("srbatch.upscaling.tile_memory.free_bytes", lambda device: 10**9)
    assert enlarge(engine, noise(300, 1000, 3), (600, 2000)).shape == (600, 2000, 3)


def test_the_ladder_ends() -> None:
    engine = upscaler(Nothing(), tile=512, batch=8)
    seen = [engine.tiles]
    while engine.shrink():
        seen.append(engine.tiles)
    assert [t.batch for t in seen[:4]] == [8, 4, 2, 1]
    assert [t.tile for t in seen] == sorted((t.tile for t in seen), reverse=True)
    assert seen[-1].tile == 96
    assert not engine.shrink()


@pytest.mark.parametrize("k", [0, 3])
def test_tiles_that_are_not_numbers_are_done_again_in_fp32(k: int) -> None:
    pixels = noise(150, 250, 3)
    expected = enlarge(upscaler(Local()), pixels, (300, 500))
    result = enlarge(upscaler(Faulty(Local(), k, "nan")), pixels, (300, 500))
    assert np.array_equal(result, expected)


def test_what_stays_not_a_number_is_an_error() -> None:
    with pytest.raises(WrongOutput, match="not a number"):
        enlarge(upscaler(Faulty(Local(), 2, "nan", times=2)), noise(150, 250, 3), (300, 500))


def test_a_wrong_shape_is_an_error() -> None:
    with pytest.raises(WrongOutput, match="returned"):
        enlarge(upscaler(Faulty(Local(), 1, "shape")), noise(150, 250, 3), (300, 500))


def test_devices_and_precisions_that_are_not_there() -> None:
    for name in ("cuda:99", "nonsense", "meta"):
        with pytest.raises(DeviceError, match=f"--device {name}"):
            pick_device(name)
    with pytest.raises(DeviceError, match="named twice"):
        pick_devices("cpu, cpu")
    assert [device.type for device in pick_devices("cpu")] == ["cpu"]
    assert pick_devices("all")
    with pytest.raises(UsageError, match="fp16"):
        pick_precision("fp16", torch.device("cpu"))
    with pytest.raises(UsageError, match="at least"):
        upscaler(Nothing(), tile=32)


@pytest.mark.parametrize(
    ("seen", "bf16_seconds", "chosen"),
    [
        ({"_is_amx_tile_supported", "_is_avx512_bf16_supported"}, None, "bf16"),
        ({"_is_avx512_bf16_supported"}, 0.5, "bf16"),
        ({"_is_avx512_bf16_supported"}, 0.9, "fp32"),
        ({"_is_avx512_bf16_supported"}, 1.4, "fp32"),
        (set(), None, "fp32"),
    ],
    ids=["AMX", "clearly faster", "hardly faster", "slower", "emulated"],
)
def test_a_cpu_has_the_faster_precision(
    seen: set[str], bf16_seconds: float | None, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(kind: torch.dtype) -> float:
        assert bf16_seconds is not None, "measured where the instructions tell"
        return bf16_seconds if kind == torch.bfloat16 else 1.0

    monkeypatch.setattr(hardware, "_torch_sees", seen.__contains__)
    monkeypatch.setattr(hardware, "_convolution_seconds", seconds)
    hardware._cpu_is_faster_in_bf16.cache_clear()
    try:
        assert pick_precision("auto", torch.device("cpu")) == chosen
    finally:
        hardware._cpu_is_faster_in_bf16.cache_clear()


class _TooLarge(nn.Module):
    """There is no room for it on the device."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def to(self, *arguments: object, **named: object) -> nn.Module:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_a_network_that_the_device_does_not_hold_is_the_devices_error(error: Exception) -> None:
    with pytest.raises(DeviceError, match="does not hold the network"):
        upscaler(_TooLarge(error))
