"""Tiles, blending, precision, memory: the pixels that come out of an upscaler."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from srbatch import hardware, tiling, weights
from srbatch import upscaler as upscaler_module
from srbatch.arrays import Pixels
from srbatch.card import NetworkConfig
from srbatch.errors import DeviceError, NoRoom, OutOfMemory, UsageError, WrongOutput
from srbatch.hardware import means_out_of_memory, pick_device, pick_devices, pick_precision
from srbatch.network import SuperResolutionNet
from srbatch.tile_memory import Tiles
from srbatch.upscaler import Upscaler
from tests.networks import Faulty, Local, Nothing


def add(sums: list[float], index: int, amount: float) -> None:
    sums[index] += amount


class Negative(nn.Module):
    """Adds what makes a negative."""

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        assert scale == 1
        return 1 - 2 * x


def upscaler(network: nn.Module, **changes: object) -> Upscaler:
    settings = {"scales": (1, 2, 4), "halo": 8, "ramp": 16, "device": "cpu", "precision": "fp32", "tile": 96}
    return Upscaler(network, **{**settings, **changes})


def enlarge(engine: Upscaler, pixels: Pixels, size: tuple[int, int]) -> Pixels:
    bands = list(engine.enlarge(pixels, size))
    return np.concatenate(bands)


def noise(height: int, width: int, channels: int, dtype: type = np.uint8, seed: int = 0) -> Pixels:
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top + 1, (height, width, channels), dtype=dtype)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_a_network_that_adds_nothing_returns_the_photo(
    height: int, width: int, channels: int, dtype: type
) -> None:
    pixels = noise(height, width, channels, dtype)
    result = enlarge(upscaler(Nothing()), pixels, (height, width))
    assert result.dtype == dtype
    assert np.array_equal(result, pixels)


def test_all_16_bit_levels_come_back() -> None:
    levels = np.arange(65_536, dtype=np.uint16).reshape(256, 256, 1)
    assert np.array_equal(enlarge(upscaler(Nothing()), levels, (256, 256)), levels)


@pytest.mark.parametrize(("scale", "tolerance"), [(1, 0), (2, 1), (4, 1)])
def test_tiled_is_untiled(scale: int, tolerance: int) -> None:
    pixels = noise(250, 330, 3)
    size = (250 * scale, 330 * scale)
    tiled = enlarge(upscaler(Local(), tile=96), pixels, size)
    whole = enlarge(upscaler(Local(), tile=352), pixels, size)
    assert np.abs(tiled.astype(int) - whole.astype(int)).max() <= tolerance


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_the_size_of_batches_changes_nothing(batch: int) -> None:
    pixels = noise(200, 400, 3)
    one = enlarge(upscaler(Local(), batch=1), pixels, (400, 800))
    assert np.array_equal(enlarge(upscaler(Local(), batch=batch), pixels, (400, 800)), one)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    channels=st.integers(1, 4),
    factor=st.floats(1, 8),
    other=st.floats(0.98, 1),
)
def test_any_size_up_to_8_times_comes_out_as_asked(
    height: int, width: int, channels: int, factor: float, other: float
) -> None:
    size = (max(round(height * factor), 1), max(round(width * factor * other), 1))
    pixels = noise(height, width, channels)
    result = enlarge(upscaler(Nothing()), pixels, size)
    assert result.shape == (*size, channels)
    assert result.dtype == np.uint8


@pytest.mark.parametrize("factor", [1.5, 3, 3.7, 5, 8])
def test_a_flat_photo_stays_flat(factor: float) -> None:
    pixels = np.full((50, 70, 4), 137, np.uint8)
    result = enlarge(upscaler(Nothing()), pixels, (round(50 * factor), round(70 * factor)))
    assert (result == 137).all()


@pytest.mark.parametrize("factor", [1.5, 2, 3, 4, 6, 8])
def test_low_frequencies_stay_those_of_the_photo(factor: float) -> None:
    y, x = np.mgrid[0:64, 0:96]
    pixels = np.stack([y * 3, x * 2, 255 - y - x], axis=2).astype(np.uint8)
    size = (round(64 * factor), round(96 * factor))
    result = enlarge(upscaler(Nothing()), pixels, size)
    back = np.asarray(Image.fromarray(result).resize((96, 64), Image.Resampling.BOX))
    assert np.abs(back.astype(int) - pixels.astype(int))[4:-4, 4:-4].max() <= 2


def test_grey_is_three_equal_channels() -> None:
    grey = noise(80, 90, 1) // 4 + 96  # clear of the ends: a mean of clipped channels is another number
    colour = np.repeat(grey, 3, axis=2)
    expected = enlarge(upscaler(Local()), colour, (160, 180)).mean(axis=2)
    result = enlarge(upscaler(Local()), grey, (160, 180))[:, :, 0]
    assert np.abs(result - expected).max() <= 1


def test_alpha_takes_its_own_path() -> None:
    pixels = noise(60, 70, 4)
    pixels[:, :, 3] = 255
    pixels[20:40, 20:40, 3] = 0
    result = enlarge(upscaler(Local()), pixels, (240, 280))
    plane = Image.fromarray(pixels[:, :, 3].astype(np.float32), "F")
    expected = np.asarray(plane.resize((280, 240), Image.Resampling.BICUBIC)).clip(0, 255)
    assert np.abs(result[:, :, 3] - expected).max() <= 0.51
    assert np.array_equal(result[:, :, :3], enlarge(upscaler(Local()), pixels[:, :, :3], (240, 280)))


def test_strength_blends_with_the_bicubic_base() -> None:
    pixels = noise(64, 64, 3) // 2 + 64
    base, full, half = (
        enlarge(upscaler(Local(), strength=s), pixels, (128, 128)).astype(int) for s in (0.0, 1.0, 0.5)
    )
    assert np.abs(half - (base + full) / 2).max() <= 1
    assert np.array_equal(base, enlarge(upscaler(Nothing()), pixels, (128, 128)))
    assert np.abs(full - base).mean() > 2


def test_want_of_memory_is_known_by_what_torch_says_on_a_cpu() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert not isinstance(caught.value, torch.OutOfMemoryError)
    assert means_out_of_memory(caught.value)
    assert not means_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


# ---- eight views -----------------------------------------------------------------------------------


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


def test_progress_adds_up_to_the_photo() -> None:
    for factor in (2, 8):
        ticks: list[float] = []
        pixels = noise(150, 170, 3)
        engine = upscaler(Nothing(), tta=factor == 2)
        list(engine.enlarge(pixels, (150 * factor, 170 * factor), tick=ticks.append))
        assert sum(ticks) == pytest.approx(150 * 170)


# ---- a network that is run first --------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    channels=st.integers(1, 4),
    factor=st.sampled_from([1, 1.5, 2, 4, 6]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_what_is_run_first_is_a_run_of_its_own_that_is_held_in_16_bits(
    height: int, width: int, channels: int, factor: float, dtype: type
) -> None:
    pixels, size = noise(height, width, channels, dtype), (round(height * factor), round(width * factor))
    first = upscaler(Negative(), scales=(1,), strength=0.3)
    between = first.enlarge_whole(pixels, (height, width), bits=16)
    bits = pixels.dtype.itemsize * 8
    expected = upscaler(Local()).enlarge_whole(between, size, bits=bits)
    found = upscaler(Local(), first=first).enlarge_whole(pixels, size)
    assert found.dtype == dtype
    assert np.array_equal(found, expected)


def test_what_is_run_first_changes_the_result() -> None:
    pixels = noise(40, 60, 3)
    alone = enlarge(upscaler(Nothing()), pixels, (40, 60))
    assert np.array_equal(
        enlarge(upscaler(Nothing(), first=upscaler(Negative())), pixels, (40, 60)), 255 - alone
    )


@pytest.mark.parametrize("k", [0, 1, 4])
@pytest.mark.parametrize("is_first", [True, False])
def test_out_of_memory_in_either_network_gives_the_same_photo_after_shrinking(k: int, is_first: bool) -> None:
    pixels, size = noise(200, 200, 3), (400, 400)
    expected = upscaler(Local(), first=upscaler(Local())).enlarge_whole(pixels, size)
    faulty = Faulty(Local(), k, "out of memory")
    first, then = (faulty, Local()) if is_first else (Local(), faulty)
    engine = upscaler(then, batch=2, first=upscaler(first, batch=2))
    result = engine.enlarge_whole(pixels, size)
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1
    assert engine.tiles == Tiles(96, 1)


def test_the_ladder_of_two_networks_ends_with_the_longer_one() -> None:
    engine = upscaler(Local(), tile=96, first=upscaler(Local(), tile=160))
    assert [engine.shrink() for _ in range(2)] == [True, False]


def test_lanes_have_tiles_of_their_own_for_both_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(upscaler_module._LANES, "cpu", 2)
    lanes = upscaler(Local(), batch=4, first=upscaler(Local(), batch=2)).lanes()
    assert lanes[0].shrink()
    assert [lane.tiles.batch for lane in lanes] == [2, 4]
    small = noise(40, 60, 3), (80, 120)
    assert [lane.batch_key(*small) is None for lane in lanes] == [True, False]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bits", [None, 8, 16])
def test_photos_that_share_a_batch_of_both_networks_are_what_they_are_alone(
    dtype: type, bits: int | None
) -> None:
    engine = upscaler(Local(), batch=4, first=upscaler(Negative(), scales=(1,), batch=4, strength=0.3))
    photos = [noise(50 + 3 * i, 64, 4, dtype, seed=i) for i in range(3)]
    sizes = [(2 * len(pixels), 128) for pixels in photos]
    assert len({engine.batch_key(*one) for one in zip(photos, sizes, strict=True)}) == 1
    done = [0.0] * 3
    ticks = [partial(add, done, index) for index in range(3)]
    together = engine.enlarge_together(
        [(p, size, tick, bits) for p, size, tick in zip(photos, sizes, ticks, strict=True)]
    )
    for pixels, size, bands in zip(photos, sizes, together, strict=True):
        alone = engine.enlarge_whole(pixels, size, bits=bits)
        found = np.concatenate(list(bands))
        assert found.dtype == alone.dtype
        assert np.abs(found.astype(int) - alone.astype(int)).max() <= (1 if found.itemsize == 1 else 2)
    assert done == pytest.approx([pixels.shape[0] * pixels.shape[1] for pixels in photos])


def test_photos_that_do_not_fit_into_one_tile_of_either_network_share_no_batch() -> None:
    pixels, size = noise(150, 60, 3), (300, 120)
    large, small = {"tile": 192, "batch": 4}, {"tile": 96, "batch": 4}
    assert upscaler(Local(), **large, first=upscaler(Local(), **large)).batch_key(pixels, size) is not None
    assert upscaler(Local(), **large, first=upscaler(Local(), **small)).batch_key(pixels, size) is None
    assert upscaler(Local(), **small, first=upscaler(Local(), **large)).batch_key(pixels, size) is None
    alone = upscaler(Local(), **large, first=upscaler(Local(), tile=192, batch=1))
    assert alone.batch_key(pixels, size) is None


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_progress_of_two_networks_adds_up_to_the_photo(factor: int) -> None:
    done: list[float] = []
    engine = upscaler(Nothing(), first=upscaler(Nothing()))
    list(engine.enlarge(noise(150, 170, 3), (150 * factor, 170 * factor), tick=done.append))
    assert sum(done) == pytest.approx(150 * 170)
    assert min(done) > 0


def test_bands_keep_memory_flat() -> None:
    """However tall the photo, a band leaves as soon as its row of tiles is done."""
    counting = Faulty(Nothing(), -1, "")
    bands = upscaler(counting, tile=96, batch=1).enlarge(noise(2000, 40, 3), (4000, 80))
    before, rows = 0, 0
    for band in bands:
        assert counting.calls - before <= 2, "tiles that were run for it, one of them ahead"
        before, rows = counting.calls, rows + len(band)
    assert (rows, counting.calls > 20) == (4000, True)


# ---- faults ----------------------------------------------------------------------------------------


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
    monkeypatch.setattr("srbatch.tile_memory.free_bytes", lambda device: int(free_gb * 1e9))
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

    monkeypatch.setattr("srbatch.tile_memory.free_bytes", lambda device: row * 400)
    found = enlarge(upscaler(Seen(), tile=256), pixels, size)
    assert {height for height, _ in shapes} == {128}, "40 % of 400 rows, less the overlap of 32"
    assert max(width for _, width in shapes) > 128
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert enlarge(upscaler(Seen(), tile=256), pixels[:, :200], (600, 400)).shape == (600, 400, 3)
    assert max(height for height, _ in shapes) > 128, "that of the next photo is as high as before"


def test_a_photo_too_wide_for_the_memory_is_told_before_the_system_ends_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("srbatch.tile_memory.free_bytes", lambda device: 1000 * 3 * 4 * 2**2 * 127)
    with pytest.raises(NoRoom, match="1000 px across take"):
        enlarge(upscaler(Local(), tile=96), noise(300, 1000, 3), (600, 2000))
    assert enlarge(upscaler(Local(), tile=96), noise(300, 900, 3), (600, 1800)).shape == (600, 1800, 3)


def test_memory_that_was_short_at_the_start_and_is_free_now_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srbatch.tile_memory.free_bytes", lambda device: 1000)
    engine = upscaler(Local(), tile=96)
    monkeypatch.setattr("srbatch.tile_memory.free_bytes", lambda device: 10**9)
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


# ---- the released weights --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photo() -> Pixels:
    from sklearn.datasets import load_sample_image

    return np.ascontiguousarray(load_sample_image("china.jpg")[100:292, 200:456])


@pytest.fixture(scope="module")
def released() -> weights.Weights:
    return weights.load(weights.find("photo"))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_real_network_tiled_is_untiled(scale: int, photo: Pixels, released: weights.Weights) -> None:
    card = released.card
    size = (photo.shape[0] * scale, photo.shape[1] * scale)

    def done(tile: int) -> np.ndarray:
        engine = upscaler(released.network, halo=card.halo_px, ramp=card.ramp_px, tile=tile)
        return enlarge(engine, photo, size).astype(int)

    smallest = (2 * card.halo_px + card.ramp_px + 31) // 32 * 32 + 64
    difference = np.abs(done(smallest) - done(256))
    histogram = np.bincount(difference.ravel())
    assert (difference <= 1).mean() >= 0.999, f"differences by level: {histogram}"


def test_real_network_in_bf16_is_close_to_fp32(photo: Pixels, released: weights.Weights) -> None:
    halo, ramp = released.card.halo_px, released.card.ramp_px
    results = [
        enlarge(
            upscaler(released.network, halo=halo, ramp=ramp, tile=256, precision=precision), photo, (384, 512)
        ).astype(int)
        for precision in ("fp32", "bf16")
    ]
    difference = np.abs(results[0] - results[1])
    assert (difference <= 1).mean() >= 0.999, f"differences by level: {np.bincount(difference.ravel())}"


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
