"""Photos of 1 to 16 bits for each colour: every level comes back, and is rounded once where it cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from srbatch.codecs import encode, picture
from srbatch.codecs.encode import Encoding
from srbatch.codecs.picture import Header
from srbatch.discovery.found import Photo
from srbatch.errors import WrongOutput
from srbatch.formats import Format
from srbatch.metadata.reading import Metadata
from srbatch.model import Passes
from srbatch.preflight import Job
from srbatch.reporting.estimate import BYTES_PER_DEEP_SAMPLE, BYTES_PER_SAMPLE, Space, space_of, too_little
from srbatch.resume import Todo
from srbatch.upscaling.upscaler import Upscaler
from tests.conftest import Originals
from tests.networks import Nothing, upscaled

LEVELS = np.arange(65_536, dtype=np.uint16).reshape(256, 256, 1)


def saved(pixels: np.ndarray, path: Path) -> None:
    """Write (H, W, C) of 16 bits; PNG by libvips, TIFF by tifffile."""
    if path.suffix == ".png":
        names = {1: "grey16", 2: "grey16", 3: "rgb16", 4: "rgb16"}
        image = pyvips.Image.new_from_array(pixels).copy(interpretation=names[pixels.shape[2]])
        image.pngsave(str(path), compression=1)
        return
    channels = pixels.shape[2]
    tifffile.imwrite(
        path,
        pixels[:, :, 0] if channels == 1 else pixels,
        photometric="rgb" if channels >= 3 else "minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
    )


def read(path: Path) -> np.ndarray:
    """(H, W, C) by a reader that is not the one that wrote; PNG has none but libvips that knows 16 bits."""
    if path.suffix == ".tif":
        found = tifffile.imread(path)
        return found.reshape(*found.shape[:2], -1)
    found = pyvips.Image.new_from_file(str(path)).numpy()
    return found.reshape(*found.shape[:2], -1)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_every_level_comes_back_from_end_to_end(originals: Originals, tmp_path: Path, suffix: str) -> None:
    turned = np.rot90(LEVELS)
    pixels = {
        1: LEVELS,
        2: np.concatenate([LEVELS, LEVELS.clip(1)], axis=2),  # colour below alpha 0 is not kept
        3: np.concatenate([LEVELS, turned, LEVELS[::-1]], axis=2),
        4: np.concatenate([LEVELS, turned, LEVELS[::-1], turned.clip(1)], axis=2),
    }
    for channels, array in pixels.items():
        saved(np.ascontiguousarray(array), originals.folder / f"{channels}{suffix}")
    originals.remember()
    outcomes = upscaled(originals.folder, tmp_path / "hi", 1)
    assert {(outcome.status, outcome.notes) for outcome in outcomes.values()} == {("done", ())}
    for channels, array in pixels.items():
        result = read(tmp_path / "hi" / f"{channels}{suffix}")
        assert result.dtype == np.uint16
        assert np.array_equal(result, array)


def test_levels_cross_from_png_to_tiff_and_back(originals: Originals, tmp_path: Path) -> None:
    pixels = np.concatenate([LEVELS, np.rot90(LEVELS), LEVELS[::-1]], axis=2)
    for suffix in (".png", ".tif"):
        saved(np.ascontiguousarray(pixels), originals.folder / f"a{suffix}")
    originals.remember()
    upscaled(originals.folder, tmp_path / "png", 1, format=Format.PNG)
    upscaled(originals.folder, tmp_path / "tiff", 1, format=Format.TIFF)
    assert np.array_equal(read(tmp_path / "png" / "a.tif.png"), pixels)
    assert np.array_equal(read(tmp_path / "tiff" / "a.png.tif"), pixels)


@pytest.mark.parametrize("fmt", [Format.JPEG, Format.WEBP])
def test_where_8_bits_are_kept_that_is_told(originals: Originals, tmp_path: Path, fmt: Format) -> None:
    y, x = np.mgrid[0:64, 0:96]
    pixels = np.stack([x * 600, y * 900, (x + y) * 400], axis=2).astype(np.uint16)
    saved(pixels, originals.folder / "a.png")
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", 1, format=fmt, quality=100).values()
    assert outcome.notes == (f"of its 16 bits for each colour 8 were kept: {fmt.value} holds no more",)
    with Image.open(next((tmp_path / "hi").glob("a.png.*"))) as image:
        result = np.asarray(image.convert("RGB"))
    assert np.abs(result - pixels / 257).mean() < 1


@settings(max_examples=30)
@given(
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    factor=st.sampled_from([1, 1.5, 2, 4, 5]),
    seed=st.integers(0, 1000),
)
def test_floats_are_rounded_once(height: int, width: int, factor: float, seed: int) -> None:
    """8 bits of a 16-bit photo are never further than half a level from what 16 bits say."""
    pixels = np.random.default_rng(seed).integers(0, 65_536, (height, width, 3), dtype=np.uint16)
    engine = Upscaler(Nothing(), scales=(1, 2, 4), halo=8, ramp=16, device="cpu", precision="fp32", tile=96)
    size = (round(height * factor), round(width * factor))
    deep = np.concatenate(list(engine.enlarge(pixels, size)))
    flat = np.concatenate(list(engine.enlarge(pixels, size, bits=8)))
    assert (deep.dtype, flat.dtype) == (np.uint16, np.uint8)
    assert np.abs(flat - deep / 257).max() <= 0.5 + 0.5 / 257 + 1e-3


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fmt=st.sampled_from([Format.PNG, Format.TIFF]),
    channels=st.integers(1, 4),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_what_is_written_is_read_again(
    tmp_path: Path, fmt: Format, channels: int, height: int, width: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 65_536, (height, width, channels), dtype=np.uint16)
    pixels[:, :, -1] |= 1
    raw, path = tmp_path / "raw", tmp_path / f"a{fmt.suffixes[0]}"
    raw.write_bytes(pixels.tobytes())
    path.unlink(missing_ok=True)
    encode.encode(raw, path, Encoding(fmt, height, width, channels, 16, 95, True, Metadata(), None))
    found = picture.decode(path, tmp_path / "back", 1e9)
    assert found.header.bits == 16
    assert np.array_equal(found.pixels(), pixels)


def test_a_difference_of_one_level_in_65535_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = encode._encoder
    monkeypatch.setattr(
        encode, "_encoder", lambda image, encoding: real((image + 1).cast("ushort"), encoding)
    )
    (tmp_path / "raw").write_bytes(np.full((20, 20, 3), 40_000, np.uint16).tobytes())
    with pytest.raises(WrongOutput, match="by 1 of 65535 levels"):
        encode.encode(
            tmp_path / "raw",
            tmp_path / "a.png",
            Encoding(Format.PNG, 20, 20, 3, 16, 95, True, Metadata(), None),
        )


def test_fewer_bits_than_were_meant_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = encode._encoder

    def shallow(image: Any, encoding: Encoding) -> Any:
        return real(image.cast("uchar", shift=True).copy(interpretation="srgb"), encoding)

    monkeypatch.setattr(encode, "_encoder", shallow)
    (tmp_path / "raw").write_bytes(bytes(20 * 20 * 6))
    with pytest.raises(WrongOutput, match="16 bits"):
        encode.encode(
            tmp_path / "raw",
            tmp_path / "a.tif",
            Encoding(Format.TIFF, 20, 20, 3, 16, 95, True, Metadata(), None),
        )


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_of_few_bits_becomes_8_bits(tmp_path: Path, bits: int, suffix: str) -> None:
    steps = 2**bits
    pixels = (np.arange(64 * 64).reshape(64, 64, 1) % steps * (255 // (steps - 1))).astype(np.uint8)
    image = pyvips.Image.new_from_array(pixels).copy(interpretation="b-w")
    image.write_to_file(str(tmp_path / f"a{suffix}"), bitdepth=bits)
    found = picture.decode(tmp_path / f"a{suffix}", tmp_path / "raw", 1e9)
    assert (found.header.channels, found.header.bits) == (1, 8)
    assert np.array_equal(found.pixels(), pixels)


@pytest.mark.parametrize("colours", [2, 4, 16, 200])
def test_a_palette_becomes_its_colours(tmp_path: Path, colours: int) -> None:
    y, x = np.mgrid[0:60, 0:60]
    rgb = np.stack([x * 4, y * 4, x + y], axis=2).astype(np.uint8)
    image = Image.fromarray(rgb).quantize(colours)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "clear.png", transparency=1)
    found = picture.decode(tmp_path / "a.png", tmp_path / "raw", 1e9)
    assert np.array_equal(found.pixels(), np.asarray(image.convert("RGB")))
    clear = picture.decode(tmp_path / "clear.png", tmp_path / "raw", 1e9)
    assert clear.header.channels == 4
    with Image.open(tmp_path / "clear.png") as expected:
        assert np.array_equal(clear.pixels()[:, :, 3], np.asarray(expected.convert("RGBA"))[:, :, 3])


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "zlib", "predictor": True},
        {"tile": (32, 32)},
        {"planarconfig": "separate"},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"rowsperstrip": 7},
    ],
    ids=str,
)
def test_tiff_in_all_its_arrangements(tmp_path: Path, how: dict[str, Any]) -> None:
    pixels = np.random.default_rng(5).integers(0, 65_536, (70, 90, 3), dtype=np.uint16)
    stored = np.moveaxis(pixels, 2, 0) if "planarconfig" in how else pixels
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", **how)
    found = picture.decode(tmp_path / "a.tif", tmp_path / "raw", 1e9)
    assert np.array_equal(found.pixels(), pixels)


def test_tiff_whose_white_is_0(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", LEVELS[:, :, 0], photometric="miniswhite")
    found = picture.decode(tmp_path / "a.tif", tmp_path / "raw", 1e9)
    assert np.array_equal(found.pixels(), 65_535 - LEVELS)


def test_space_counts_two_bytes() -> None:
    def job(bits: int, fmt: Format) -> Job:
        header = Header(Format.PNG, 100, 200, 3, bits)
        photo = Photo(Path("a.png"), Path("a.png"), Path("/nowhere/a.png"), fmt, 1, 1)
        return Job(photo, Todo(replace=False), header, fmt, (400, 800))

    samples = 400 * 800 * 3

    def space(one: Job, head: int = 4, *, first: bool = False) -> Space:
        return space_of([one], Path("/"), Path("/"), at_once=1, passes=Passes(head, first=first))

    deep, flat = (space(job(bits, Format.PNG)) for bits in (16, 8))
    assert deep.outputs == round(samples * BYTES_PER_DEEP_SAMPLE)
    assert flat.outputs == round(samples * BYTES_PER_SAMPLE[Format.PNG] / 2)
    assert deep.scratch == 2 * flat.scratch == (100 * 200 + 400 * 800) * 3 * 2
    lossy = space(job(16, Format.JPEG))
    assert lossy.scratch == 100 * 200 * 6 + 400 * 800 * 3
    assert lossy.outputs == round(samples * BYTES_PER_SAMPLE[Format.JPEG] / 2)
    between = 200 * 400 * 3 * 2
    assert space(job(8, Format.PNG), head=2).scratch == flat.scratch + between, "x4 by two passes of x2"
    both = space(job(8, Format.PNG), head=2, first=True)
    assert both.scratch == flat.scratch + between + 100 * 200 * 3 * 2, "and one before"


def test_scratch_space_on_another_disk_is_held_against_that_disk() -> None:
    space = Space(outputs=100, scratch=50, replaced=0, free=100, free_for_scratch=None)
    assert not space.fits
    assert replace(space, free_for_scratch=50).fits
    assert not replace(space, free_for_scratch=49).fits
    assert "choose another --scratch" in too_little(replace(space, free_for_scratch=49))
    assert "choose another disk" in too_little(space)
