"""What only a CUDA device can show: its rounding, copies still under way, its memory; upscaling and training.

The CPU is the measure. Networks are copied for each upscaler, because one on the CPU and one on CUDA cannot
share a module.
"""

from __future__ import annotations

import copy
import functools
import gc
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from srbatch import weights
from srbatch.arrays import Pixels
from srbatch.card import Card, NetworkConfig
from srbatch.devices import Devices
from srbatch.errors import Interrupted, OutOfMemory, WrongOutput
from srbatch.network import SuperResolutionNet
from srbatch.tile_memory import Tiles
from srbatch.upscaler import Upscaler, in_memory
from tests.networks import Local, Nothing

if TYPE_CHECKING:  # fastai takes seconds to import, and here there is mostly no device to train on
    from trainer.config import Config

DEVICE = "cuda"
ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    # What torch warns of depends on the card and its driver; here it is listed and fails nothing.
    pytest.mark.filterwarnings("default"),
]


# ---- networks --------------------------------------------------------------------------------------


class Still(nn.Module):
    """Adds nothing, by a convolution that computes in half precision where that is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(3, 3, 3, 3), requires_grad=False)

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        return F.interpolate(F.conv2d(x, self.kernel, padding=1), scale_factor=scale, mode="nearest")


class Lagging(nn.Module):
    """``inner`` on a device that is milliseconds behind, so that who reads a result too early has another."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        if x.is_cuda:
            torch.cuda._sleep(6_000_000)  # clock ticks, about 3 ms; torch's own tests delay a stream so
        result: torch.Tensor = self.inner(x, scale)
        return result


class Brightness(nn.Module):
    """Adds ``step`` where a tile is bright on average, and nothing elsewhere."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        added = torch.where(_is_bright(x), self.step, 0.0)  # (B, 1, 1, 1)
        return added.expand(-1, 3, x.shape[2] * scale, x.shape[3] * scale).contiguous()


class Swelling(nn.Module):
    """Overflows fp16 where a tile is bright. Beyond that it adds 1/8 if it was run in fp32, and nothing else.

    So it does what ``Brightness(1 / 8)`` does if its bright tiles, and no others, are done again in fp32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.eye(3).view(3, 3, 1, 1).clone(), requires_grad=False)

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        seen = F.conv2d(x, self.kernel)  # autocast decides on its type
        swollen = torch.where(_is_bright(x), seen * 1e6, seen)
        mark = 0.125 if seen.dtype == torch.float32 else 0.0
        residual = swollen * 0 + mark  # infinity times 0 is no number
        return F.interpolate(residual, scale_factor=scale, mode="nearest")


def _is_bright(x: torch.Tensor) -> torch.Tensor:
    return x.mean(dim=(1, 2, 3), keepdim=True) > 0.6


class Greedy(nn.Module):
    """``inner`` with a need of memory that grows with the tiles: 16 KiB for each of their pixels."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor, scale: int) -> torch.Tensor:
        torch.empty(x.shape[0], x.shape[2], x.shape[3], 16_384, dtype=torch.uint8, device=x.device)
        result: torch.Tensor = self.inner(x, scale)
        return result


@functools.cache
def small_network() -> SuperResolutionNet:
    """The real architecture with random weights, whose residuals are a few levels."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        config = NetworkConfig("resnet18", features=4, refine_blocks=0, stages=2, blur=True)
        network = SuperResolutionNet(config).eval().requires_grad_(False)
        for head in network.heads:
            nn.init.normal_(head.weight)
        seen = torch.from_numpy(photograph()[:128, :128] / np.float32(255)).permute(2, 0, 1)[None]
        for head, residual in zip(network.heads, network.residuals(seen), strict=True):
            head.weight.mul_(0.02 / residual.std())
    return network


# ---- photos and calls ------------------------------------------------------------------------------


@functools.cache
def photograph() -> Pixels:
    """512 x 512 x 3: scikit-image's, or where that is not installed something with edges, skies and grain."""
    try:
        from skimage.data import astronaut

        return np.ascontiguousarray(astronaut())
    except Exception:  # not there, or it does not go with this numpy
        y, x = np.mgrid[0:512, 0:512]
        waves = np.sin(x * y / 900) * 60 + np.where((x // 40 + y // 56) % 2, 40, -40)
        planes = np.stack([waves + 128, x / 2, 255 - y / 2], axis=2)
        return (planes + np.random.default_rng(0).normal(0, 4, planes.shape)).clip(0, 255).astype(np.uint8)


def noise(height: int, width: int, channels: int, dtype: Any = np.uint8, seed: int = 0) -> Pixels:
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top + 1, (height, width, channels), dtype=dtype)


def upscaler(network: nn.Module, **changes: Any) -> Upscaler:
    settings = {"scales": (1, 2, 4), "halo": 8, "ramp": 16, "device": DEVICE, "precision": "fp32", "tile": 96}
    return Upscaler(copy.deepcopy(network), **{**settings, **changes})


def bands_of(engine: Upscaler, pixels: Pixels, size: tuple[int, int]) -> Iterator[Pixels]:
    return engine.enlarge(pixels, size)


def enlarge(engine: Upscaler, pixels: Pixels, size: tuple[int, int]) -> Pixels:
    return np.concatenate(list(bands_of(engine, pixels, size)))


def assert_close(got: Pixels, expected: Pixels, *, share: float = 0.999, largest: int = 2) -> None:
    """At least that share of samples within a level of 8 bits, and none off by more than ``largest``."""
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    level = np.iinfo(got.dtype).max / 255
    difference = np.ceil(np.abs(got.astype(int) - expected.astype(int)) / level).astype(int)
    histogram = np.bincount(difference.ravel())
    assert (difference <= 1).mean() >= share, f"differences by level: {histogram}"
    assert len(histogram) <= largest + 1, f"differences by level: {histogram}"


# ---- the released weights --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released() -> weights.Weights:
    if not (ROOT / "weights" / "photo.safetensors").is_file():
        pytest.skip("the released weights are not here")
    return weights.load(weights.find("photo"))


def with_released(released: weights.Weights, scale: int, device: str, precision: str) -> Pixels:
    card, pixels = released.card, np.ascontiguousarray(photograph()[20:212, 120:376])
    changes = {"scales": card.scales, "halo": card.halo_px, "ramp": card.ramp_px, "tile": 256}
    engine = upscaler(released.network, device=device, precision=precision, **changes)
    return enlarge(engine, pixels, (192 * scale, 256 * scale))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_released_weights_give_what_they_give_on_the_cpu(released: weights.Weights, scale: int) -> None:
    """fp32 is fp32 there too, added up in another order."""
    expected = with_released(released, scale, "cpu", "fp32")
    assert_close(with_released(released, scale, DEVICE, "fp32"), expected)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_released_weights_in_half_precision_are_close_to_fp32(
    released: weights.Weights, scale: int, precision: str
) -> None:
    expected = with_released(released, scale, DEVICE, "fp32")
    got = with_released(released, scale, DEVICE, precision)
    assert_close(got, expected, largest=4)
    assert abs((got.astype(float) - expected).mean()) < 0.02, "it is brighter or darker as a whole"


# ---- depth and channels ----------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [1, 8])
def test_all_16_bit_levels_come_back_from_half_precision(channels: int, batch: int) -> None:
    rng = np.random.default_rng(0)
    levels = np.arange(65_536, dtype=np.uint16)
    pixels = np.stack([rng.permutation(levels).reshape(256, 256) for _ in range(channels)], axis=2)
    assert np.array_equal(
        enlarge(upscaler(Still(), precision="bf16", batch=batch), pixels, (256, 256)), pixels
    )


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_and_alpha_are_enlarged_as_on_the_cpu(channels: int, dtype: Any) -> None:
    pixels = noise(150, 170, channels, dtype)
    expected = enlarge(upscaler(Local(), device="cpu"), pixels, (600, 680))
    assert_close(enlarge(upscaler(Local(), batch=2), pixels, (600, 680)), expected)


# ---- tiles and bands -------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_tiled_is_untiled_and_what_the_cpu_gives(scale: int) -> None:
    pixels, size = noise(250, 330, 3), (250 * scale, 330 * scale)
    whole = enlarge(upscaler(Local(), tile=352, batch=1), pixels, size)
    assert_close(whole, enlarge(upscaler(Local(), tile=352, device="cpu"), pixels, size))
    for tile in (96, 128, 224):
        for batch in (1, 2, 8):
            assert_close(enlarge(upscaler(Local(), tile=tile, batch=batch), pixels, size), whole)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_same_photo_gives_the_same_bytes_again(precision: str) -> None:
    engine = upscaler(small_network(), precision=precision, tile=160, batch=8)
    pixels = np.ascontiguousarray(photograph()[:300, :420])
    first = enlarge(engine, pixels, (600, 840))
    assert np.array_equal(enlarge(engine, pixels, (600, 840)), first)
    another = upscaler(small_network(), precision=precision, tile=160, batch=8)
    assert np.array_equal(enlarge(another, pixels, (600, 840)), first)


@dataclass(frozen=True)
class Wide:
    """A photo whose bands take a while to cross the bus, and what the CPU makes of it."""

    pixels: Pixels
    size: tuple[int, int]
    expected: Pixels


@pytest.fixture(scope="module")
def wide() -> Wide:
    pixels, size = noise(300, 1200, 3, np.uint16), (1200, 4800)
    return Wide(pixels, size, enlarge(upscaler(Local(), device="cpu"), pixels, size))


@pytest.mark.parametrize("batch", [1, 8])
def test_bands_are_whole_whenever_they_are_taken(wide: Wide, batch: int) -> None:
    """Neither before they have arrived, nor after their memory went to another band or photo."""
    engine = upscaler(Lagging(Local()), batch=batch)
    at_once = np.concatenate([band.copy() for band in bands_of(engine, wide.pixels, wide.size)])
    assert_close(at_once, wide.expected)
    late = []
    for band in bands_of(engine, wide.pixels, wide.size):
        time.sleep(0.02)
        late.append(band.copy())
    assert np.array_equal(np.concatenate(late), at_once)
    kept = list(bands_of(engine, wide.pixels, wide.size))
    enlarge(engine, wide.pixels[::-1], wide.size)
    assert len(kept) > 4
    assert np.array_equal(np.concatenate(kept), at_once)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_photo_that_is_left_early_does_not_show_in_the_next(wide: Wide, taken: int) -> None:
    engine = upscaler(Lagging(Local()), batch=8)
    pixels = noise(200, 260, 3, np.uint16, seed=1)
    expected = enlarge(engine, pixels, (800, 1040))
    bands = bands_of(engine, wide.pixels, wide.size)
    for _ in range(taken):
        next(bands)
    bands.close()  # type: ignore[attr-defined]
    assert np.array_equal(enlarge(engine, pixels, (800, 1040)), expected)
    unended = bands_of(engine, wide.pixels, wide.size)
    for _ in range(taken):
        next(unended)
    assert np.array_equal(enlarge(engine, pixels, (800, 1040)), expected)
    del unended


def test_photos_that_share_a_batch_come_out_as_each_alone() -> None:
    engine = upscaler(Lagging(Local()), batch=4)
    pictures = [noise(*size, 3, seed=seed) for seed, size in enumerate([(90, 90), (70, 96), (96, 66)])]
    asked = [(p, (p.shape[0] * 4, p.shape[1] * 4), lambda _: None, None) for p in pictures]
    assert len({engine.batch_key(pixels, size) for pixels, size, *_ in asked}) == 1
    kept = [list(bands) for bands in engine.enlarge_together(asked)]
    whole = [np.concatenate(bands) for bands in kept]
    for got, (pixels, size, *_) in zip(whole, asked, strict=True):
        assert_close(got, enlarge(engine, pixels, size))
    left, *others = engine.enlarge_together(asked)
    next(left)
    left.close()  # type: ignore[attr-defined]
    for bands, expected in zip(others, whole[1:], strict=True):
        assert np.array_equal(np.concatenate(list(bands)), expected)


def test_photos_of_other_sizes_and_factors_follow_each_other() -> None:
    """x3 is the head x4 reduced, x1.5 the head x2; x8 takes two passes."""
    engine, slow = upscaler(Local(), batch=4), upscaler(Local(), device="cpu")
    photos = [
        (noise(210, 150, 3), (630, 450)),
        (noise(60, 90, 4, np.uint16, seed=1), (480, 720)),
        (noise(33, 300, 1, seed=2), (50, 450)),
        (noise(96, 96, 2, seed=3), (96, 96)),
        (noise(210, 150, 3, seed=4), (420, 300)),
    ]
    for pixels, size in photos:
        assert_close(enlarge(engine, pixels, size), enlarge(slow, pixels, size))


# ---- threads ---------------------------------------------------------------------------------------


def test_two_threads_on_one_device_give_what_each_gives_alone() -> None:
    pictures = [np.ascontiguousarray(photograph()[top : top + 200, :340]) for top in (0, 150, 300)]

    network = Lagging(small_network())
    engines = [upscaler(network, precision="bf16", tile=160, batch=batch) for batch in (2, 4)]
    both = threading.Barrier(2)

    def done(engine: Upscaler, begin: Callable[[], Any] = lambda: None) -> Pixels:
        begin()
        return np.stack([enlarge(engine, pixels, (400, 680)) for pixels in pictures])

    alone = [done(engine) for engine in engines]
    with ThreadPoolExecutor(2) as threads:
        together = threads.map(lambda engine: done(engine, both.wait), engines)
        for got, expected in zip(together, alone, strict=True):
            assert np.array_equal(got, expected)


def test_many_photos_through_the_devices_come_out_as_each_alone() -> None:
    engine = upscaler(Lagging(Local()), precision="bf16", batch=1)
    sizes = [(60, 70), (300, 200), (96, 96), (150, 400), (20, 30), (250, 90)] * 2
    pictures = [noise(*size, 3, seed=seed) for seed, size in enumerate(sizes)]
    expected = [enlarge(engine, pixels, _times(pixels, 4)) for pixels in pictures]

    def result(asked: Any) -> Pixels:
        with asked:
            return np.concatenate(list(asked.bands(lambda: None)))

    with Devices(lambda: [engine]) as made, ThreadPoolExecutor(4) as threads:
        asked = [_ask(made, pixels) for pixels in pictures]
        for got, whole in zip(threads.map(result, asked), expected, strict=True):
            assert np.array_equal(got, whole)


def _times(pixels: Pixels, factor: int) -> tuple[int, int]:
    return pixels.shape[0] * factor, pixels.shape[1] * factor


def _ask(made: Devices, pixels: Pixels, factor: int = 4) -> Any:
    return made.enlarge(pixels, _times(pixels, factor), spool=in_memory, tick=lambda _: None, bits=None)


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
        asked = [_ask(made, pixels) for pixels in pictures]
        for enlargement, pixels in zip(asked, pictures, strict=True):
            with enlargement:
                if pixels[0, 0, 0] == 250:
                    with pytest.raises(WrongOutput):
                        list(enlargement.bands(lambda: None))
                else:
                    got = np.concatenate(list(enlargement.bands(lambda: None)))
                    assert (got == pixels[0, 0, 0]).all()


# ---- memory ----------------------------------------------------------------------------------------


@pytest.fixture
def leave_free() -> Iterator[Callable[[int], None]]:
    """Have torch take at most so many further bytes of the device."""

    def limit(free: int) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + free) / total)

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()
    torch.cuda.empty_cache()


def with_what_fits(engine: Upscaler, pixels: Pixels, factor: int) -> tuple[Pixels, int, Tiles]:
    """The photo, how often it had no room, and the tiles that it was done with in the end."""
    with Devices(lambda: [engine]) as made:
        for failed in range(40):
            with _ask(made, pixels, factor) as asked:
                try:
                    done = np.concatenate(list(asked.bands(lambda: None)))
                except OutOfMemory:
                    continue
                return done, failed, asked.taken_by[1]
    raise AssertionError("it never fits")


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
    card, pixels = released.card, np.ascontiguousarray(np.tile(photograph(), (1, 2, 1))[:500, :900])
    changes = {"scales": card.scales, "halo": card.halo_px, "ramp": card.ramp_px, "precision": "bf16"}
    expected = enlarge(upscaler(released.network, tile=512, batch=1, **changes), pixels, (2000, 3600))
    engine = upscaler(released.network, tile=512, batch=8, **changes)
    leave_free(1200 << 20)
    got, failed, tiles = with_what_fits(engine, pixels, 4)
    assert failed > 0
    assert tiles != Tiles(512, 8)
    assert_close(got, expected, share=0.99, largest=16)


# ---- the command -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, network = tmp_path_factory.mktemp("model") / "small.safetensors", small_network()
    card = Card("small", "1", "Random.", "none", network.config, (1, 2, 4), halo_px=16, ramp_px=16)
    weights.save(path, network, card, "int8")
    return path


def test_the_command_gives_the_same_files_whatever_is_in_hand_at_once(
    model_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        part = photograph()[60 * number :][:90, 40 * number :][:, :110]
        Image.fromarray(part).convert(["RGB", "L", "RGBA"][number % 3]).save(folder / f"{number}.png")
    Image.fromarray(photograph()[:300, :440]).save(folder / "large.tif")
    alone = _command(folder, tmp_path / "alone", model_file, "--workers", "1", "--device", "cuda")
    at_once = _command(folder, tmp_path / "at once", model_file, "--workers", "4")  # auto is CUDA here
    assert len(alone) == 6
    assert at_once == alone
    engine = upscaler(weights.load(model_file).network, halo=16, ramp=16, tile=128, batch=1, precision="bf16")
    with Image.open(tmp_path / "alone" / "large.tif") as image:
        assert_close(np.asarray(image), enlarge(engine, np.asarray(photograph()[:300, :440]), (600, 880)))


def _command(folder: Path, out: Path, model: Path, *flags: str) -> dict[str, str]:
    """Run it with tiles of one size, whose batches do not depend on what waits; hashes of its files."""
    report = out.with_suffix(".json")
    command = [sys.executable, "-m", "srbatch", "upscale", folder, "--scale", "2", "--out", out]
    command += ["--model", model, "--precision", "bf16", "--tile", "128", "--batch", "1", "--report", report]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*command, *flags],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert {record["status"] for record in json.loads(report.read_text())} == {"done"}
    ledger = sqlite3.connect(out / ".srbatch" / "ledger.sqlite")
    details = [json.loads(text) for (text,) in ledger.execute("SELECT details FROM photos")]
    ledger.close()
    assert {(found["device"].split(":")[0], found["precision"]) for found in details} == {(DEVICE, "bf16")}
    files = (path for path in out.rglob("*.*") if path.is_file() and ".srbatch" not in path.parts)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ---- training --------------------------------------------------------------------------------------


@dataclass
class Trained:
    """A run that was never stopped."""

    config: Config
    photos: Path
    path: Path
    peak: int
    """Bytes that torch had on the device."""
    measured_on: list[str] = field(default_factory=list)
    """Devices of networks whose halo was measured."""


def configuration(folder: Path, **data: Any) -> Config:
    """Two phases of a few steps: restoration, then x2 with features and added-up gradients."""
    from trainer import reading

    phase = {"size": 32, "scale": 1, "samples_per_epoch": 6, "batch": 2, "lr": 1e-4, "epochs": 2}
    grown = {"size": 64, "scale": 2, "samples_per_epoch": 8, "accumulate": 2, "loss": "seen", "epochs": 1}
    return reading.parse(
        {
            "network": {"encoder": "resnet18", "features": 4, "refine_blocks": 0},
            "start": {"encoder": "random"},
            "data": {"valid_percent": 50.0, "valid_crops": 2, "workers": 0, **data},
            "losses": {
                "default": {"pixel": 1.0},
                "seen": {"pixel": 1.0, "layers": {"relu2_2": 1.0}, "features": 0.1, "gram": 0.1},
            },
            "vgg_weights": str(folder / "vgg.safetensors"),
            "run": {"precision": "bf16", "panel_photos": 1, "log_every": 1, "device": DEVICE},
            "release": {"storage": "fp32", "name": "tiny"},
            "phases": [{"name": "one", **phase}, {"name": "two", **phase, **grown}],
        },
        "test",
    )


def train(config: Config, photos: Path, out: Path) -> Path:
    from trainer import run

    return run.train(config, (photos,), out, say=lambda _: None)


@pytest.fixture(scope="module")
def repeatable() -> Iterator[None]:
    """cuDNN as far as it repeats itself."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = before


@pytest.fixture(scope="module")
def trained(repeatable: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    import safetensors.torch

    from trainer import halo
    from trainer.losses import Vgg16

    folder = tmp_path_factory.mktemp("training")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        safetensors.torch.save_file(Vgg16(("relu2_2",)).state_dict(), folder / "vgg.safetensors")
    photos = folder / "photos"
    photos.mkdir()
    for number in range(10):  # by these names, some are for training and some for validation
        Image.fromarray(photograph()[20 * number :][:300, 20 * number :][:, :300]).save(
            photos / f"{number}.png"
        )
    found = Trained(configuration(folder, workers=2), photos, folder / "run" / "tiny.safetensors", peak=0)
    measure = halo.measure

    def noted(network: SuperResolutionNet, *arguments: Any, **named: Any) -> Any:
        found.measured_on.append(next(network.parameters()).device.type)
        return measure(network, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(halo, "measure", noted)
        if DEVICE == "cuda":
            torch.cuda.reset_peak_memory_stats()
        assert train(found.config, photos, folder / "run") == found.path
        found.peak = torch.cuda.max_memory_allocated()
    return found


def test_a_run_ends_in_weights_that_srbatch_takes(trained: Trained) -> None:
    loaded = weights.load(trained.path)
    assert loaded.card.scales == (1, 2)
    assert loaded.card.training["hardware"] == torch.cuda.get_device_name()
    assert trained.peak > 100 << 20, "the network, its average and its moments were elsewhere"
    assert set(trained.measured_on) == {DEVICE}
    assert "within 1/255" in str(loaded.card.training["halo"])
    log = (trained.path.parent / "log.csv").read_text()
    for name in ("relu2_2", "gram_relu2_2", "psnr_x1", "psnr_x2"):
        assert f",{name}," in log
    assert "nan" not in log
    card, pixels = loaded.card, np.ascontiguousarray(photograph()[:200, :300])
    changes = {"scales": card.scales, "halo": card.halo_px, "ramp": card.ramp_px, "tile": 256}
    got, expected = (
        enlarge(upscaler(loaded.network, device=device, **changes), pixels, (400, 600))
        for device in (DEVICE, "cpu")
    )
    assert_close(got, expected, share=0.99, largest=4)
    assert not np.array_equal(expected, enlarge(upscaler(Nothing(), tile=256), pixels, (400, 600)))


def test_a_resumed_run_equals_one_that_was_never_stopped(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers, or where CUDA adds up in another order each time, the same way from the origin.

    Files are not compared: a card tells the seconds. Workers count for nothing.
    """
    from trainer import run
    from trainer.losses import SuperResolutionLoss

    forward, calls = SuperResolutionLoss.forward, [0]

    def stopped(self: SuperResolutionLoss, *arguments: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 2:
            signal.raise_signal(signal.SIGTERM)
        return forward(self, *arguments)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(SuperResolutionLoss, "forward", stopped)
        with pytest.raises(Interrupted):
            train(trained.config, trained.photos, out)
    assert calls[0] == 2
    alone = configuration(trained.path.parents[1], workers=0)
    got = weights.load(train(alone, trained.photos, out)).network.state_dict()
    expected = weights.load(trained.path).network.state_dict()
    assert got.keys() == expected.keys()
    if all(torch.equal(got[name], expected[name]) for name in got):
        return
    prepared = run.prepare(
        alone, (trained.photos,), tmp_path / "origin", out / "cache", run.Interrupt(), lambda _: None
    )
    origin = run.first_network(prepared).state_dict()
    assert _similarity(got, expected, origin) > 0.9, "without its optimiser it would be 0.76"


def _similarity(a: dict[str, Any], b: dict[str, Any], origin: dict[str, Any]) -> float:
    """Cosine of the angle between two ways from an origin."""
    names = [name for name in origin if origin[name].is_floating_point()]
    ways = [torch.cat([(end[n] - origin[n]).double().flatten() for n in names]) for end in (a, b)]
    return float(F.cosine_similarity(*ways, dim=0))


def test_a_rate_is_found(trained: Trained, tmp_path: Path) -> None:
    """fastai keeps network and optimiser in a file meanwhile, and puts both back on the device."""
    from trainer import run

    config = configuration(trained.path.parents[1])
    first = config.phases[0].model_copy(update={"lr": "find"})
    config = config.model_copy(update={"phases": (first, *config.phases[1:])})
    rate = run.find_rate(config, (trained.photos,), tmp_path, 0, say=lambda _: None)
    assert 0 < rate < 1
    assert (tmp_path / "lr-one.png").stat().st_size > 0


def test_weights_are_measured_with_the_figures_of_the_cpu(trained: Trained, tmp_path: Path) -> None:
    import safetensors.torch
    import torchvision

    from trainer.evaluate import evaluate

    features = tmp_path / "densenet169.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        network = torchvision.models.densenet169(weights=None)
    safetensors.torch.save_file(network.state_dict(), features)
    data = tmp_path / "data"
    data.mkdir()
    for number in range(2):
        Image.fromarray(photograph()[200 * number :][:160, 100:260]).save(data / f"{number}.png")
    ours, theirs = (
        evaluate(
            trained.path,
            data,
            scale=2,
            out=tmp_path / device,
            feature_weights=features,
            device=device,
            precision="fp32",
        )
        for device in (DEVICE, "cpu")
    )
    for got, expected in zip(ours.rows, theirs.rows, strict=True):
        assert (got.image, got.method) == (expected.image, expected.method)
        assert got.values == pytest.approx(expected.values, rel=2e-2, abs=2e-2)
