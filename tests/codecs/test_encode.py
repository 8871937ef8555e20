"""From pixels to a file that was read back; what reading back must find."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from srbatch.codecs import encode
from srbatch.codecs.encode import Encoding, Written
from srbatch.errors import WrongOutput
from srbatch.formats import Format
from srbatch.metadata.reading import Metadata
from tests.conftest import WRITTEN, sample

SUFFIX = {fmt: fmt.suffixes[0] for fmt in WRITTEN}


def encoded(pixels: np.ndarray, path: Path, fmt: Format, **changes: Any) -> Written:
    raw = path.with_suffix(".raw")
    raw.write_bytes(pixels.tobytes())
    settings = {
        "quality": 95,
        "lossless": not fmt.lossy,
        "metadata": Metadata(),
        "resolution": None,
        **dict(zip(("height", "width", "channels"), pixels.shape, strict=True)),
        "bits": pixels.dtype.itemsize * 8,
        **changes,
    }
    path.unlink(missing_ok=True)
    return encode.encode(raw, path, Encoding(format=fmt, **settings))


def noise(height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize(
    ("fmt", "channels"), [(fmt, c) for fmt in WRITTEN for c in (1, 2, 3, 4) if fmt.alpha or c in (1, 3)]
)
def test_what_is_written_is_what_was_meant(tmp_path: Path, fmt: Format, channels: int) -> None:
    pixels = noise(33, 47, channels) // 3 + 80
    path = tmp_path / f"a{SUFFIX[fmt]}"
    written = encoded(pixels, path, fmt)
    data = path.read_bytes()
    assert (written.size, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    with Image.open(path) as image:
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        result = np.asarray(image.convert(mode)).reshape(pixels.shape).astype(int)
    if fmt.lossy:
        assert np.abs(result.mean(axis=(0, 1)) - pixels.mean(axis=(0, 1))).max() < 2
    else:
        assert np.array_equal(result, pixels)


def test_lossless_webp(tmp_path: Path) -> None:
    pixels = noise(20, 30, 4)
    pixels[0, 0, 3] = 0
    encoded(pixels, tmp_path / "a.webp", Format.WEBP, lossless=True)
    with Image.open(tmp_path / "a.webp") as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_in_webp_edges_of_colours_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their half resolution is made up for by their light; beyond a size that would take too much memory."""
    drawn = (np.random.default_rng(5).random((40, 48)) < 0.5).repeat(3, 0).repeat(3, 1)
    pixels = np.array([[250, 10, 10], [10, 10, 250]], np.uint8)[drawn.astype(int)]

    def light(colours: np.ndarray) -> np.ndarray:
        """IEC 61966-2-1, without the straight piece near black."""
        seen: np.ndarray = (colours / 255.0) ** 2.2 @ (0.2126, 0.7152, 0.0722)
        return seen

    def error_of_light(path: Path) -> float:
        encoded(pixels, path, Format.WEBP, quality=90, lossless=False)
        with Image.open(path) as found:
            return float(np.abs(light(np.asarray(found)) - light(pixels)).mean())

    sharp = error_of_light(tmp_path / "a.webp")
    monkeypatch.setattr(encode, "_WEBP_SHARP_PX", pixels.shape[0] * pixels.shape[1] - 1)
    blurred = error_of_light(tmp_path / "b.webp")
    assert sharp < 0.5 * blurred, (sharp, blurred)


@pytest.mark.parametrize("fmt", WRITTEN)
def test_profile_and_resolution(tmp_path: Path, fmt: Format) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / f"a{SUFFIX[fmt]}"
    encoded(noise(20, 20, 3), path, fmt, metadata=Metadata(icc=icc), resolution=(300 / 25.4, 300 / 25.4))
    with Image.open(path) as image:
        assert image.info["icc_profile"] == icc
        if fmt is not Format.WEBP:  # it has no place for a resolution outside EXIF
            assert tuple(map(float, image.info["dpi"])) == pytest.approx((300, 300), abs=0.1)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fmt=st.sampled_from([Format.JPEG, Format.WEBP]),
    quality=st.integers(1, 100),
    kind=st.sampled_from(["noise", "photo", "checks", "flat", "saturated"]),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
)
def test_the_loss_of_a_codec_is_no_false_alarm(
    tmp_path: Path, fmt: Format, quality: int, kind: str, height: int, width: int
) -> None:
    y, x = np.mgrid[0:height, 0:width]
    pixels = {
        "noise": noise(height, width, 3),
        "photo": sample()[100 : 100 + height, 200 : 200 + width],
        "checks": np.repeat(((x + y) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2),
        "flat": np.full((height, width, 3), (3, 250, 128), np.uint8),
        "saturated": np.stack([x % 2 * 255, y % 2 * 255, (x + y) % 2 * 255], axis=2).astype(np.uint8),
    }[kind]
    encoded(np.ascontiguousarray(pixels), tmp_path / f"a{SUFFIX[fmt]}", fmt, quality=quality)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 9999),
    share=st.floats(0, 1),
    side=st.integers(1, 5),
    quality=st.integers(50, 100),
    fmt=st.sampled_from([Format.JPEG, Format.WEBP, Format.AVIF]),
)
def test_drawings_in_saturated_colours_are_no_false_alarm(
    tmp_path: Path, seed: int, share: float, side: int, quality: int, fmt: Format
) -> None:
    """Maps, screens and posters: WebP's colours of half the resolution move whole blocks of them."""
    rng = np.random.default_rng(seed)
    inks = rng.choice(np.array([0, 255], np.uint8), (2, 3))
    drawn = (rng.random((80 // side + 1, 96 // side + 1)) < share).repeat(side, 0).repeat(side, 1)[:80, :96]
    pixels = inks[drawn.astype(int)]
    pixels[:, 48:] = inks[0]
    encoded(np.ascontiguousarray(pixels), tmp_path / f"a{fmt.suffixes[0]}", fmt, quality=quality)


def test_an_alpha_that_webp_drops_must_have_been_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for channels in (2, 4):
        pixels = np.full((64, 64, channels), 255, np.uint8)
        pixels[:, :, :-1] = sample()[150:214, 200:264, : channels - 1]
        encoded(pixels, tmp_path / "a.webp", Format.WEBP, lossless=False)
        real = encode._encoder
        with monkeypatch.context() as patch:
            patch.setattr(
                encode,
                "_encoder",
                lambda image, encoding, real=real: real(image.extract_band(0, n=image.bands - 1), encoding),
            )
            pixels[:16, :16, -1] = 0
            with pytest.raises(WrongOutput, match="transparency"):
                encoded(pixels, tmp_path / "a.webp", Format.WEBP, lossless=False)


@pytest.mark.parametrize("fmt", [Format.WEBP, Format.AVIF])
def test_what_nobody_sees_may_change(tmp_path: Path, fmt: Format) -> None:
    """Below transparency a codec writes what takes the least room; what is seen is compared as ever."""
    pixels = np.dstack([sample()[150:278, 200:328], np.full((128, 128), 255, np.uint8)])
    pixels[:64, :, 3] = 0
    pixels[:64, :, :3] = noise(64, 128, 3) // 64 * 85
    encoded(np.ascontiguousarray(pixels), tmp_path / f"a{fmt.suffixes[0]}", fmt)


@pytest.mark.parametrize("fmt", [Format.WEBP, Format.AVIF])
def test_a_wrong_colour_or_transparency_is_found_where_it_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fmt: Format
) -> None:
    real = encode._encoder
    pixels = np.dstack([sample()[150:278, 200:328], np.full((128, 128), 255, np.uint8)])
    pixels[:64, :, 3] = 0
    for ink in ([0, 0, 0, 255], [255, 255, 255, 0]):
        monkeypatch.setattr(
            encode,
            "_encoder",
            lambda image, encoding, ink=ink: real(image.draw_rect(ink, 64, 80, 32, 32, fill=True), encoding),
        )
        with pytest.raises(WrongOutput, match="differs from the picture"):
            encoded(np.ascontiguousarray(pixels), tmp_path / f"a{fmt.suffixes[0]}", fmt)


@pytest.mark.parametrize("fmt", WRITTEN)
@pytest.mark.parametrize("damage", ["black block", "shifted", "negative"])
def test_a_wrong_picture_is_found_when_it_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fmt: Format, damage: str
) -> None:
    real = encode._encoder

    def damaged(image: Any, encoding: Encoding) -> Any:
        match damage:
            case "black block":
                image = image.draw_rect([0, 0, 0], 64, 64, 32, 32, fill=True)
            case "shifted":
                image = image.wrap(x=24, y=0)
            case "negative":
                image = image.invert()
        return real(image, encoding)

    monkeypatch.setattr(encode, "_encoder", damaged)
    pixels = np.ascontiguousarray(sample()[150:350, 200:400])
    with pytest.raises(WrongOutput, match="differs from the picture"):
        encoded(pixels, tmp_path / f"a{SUFFIX[fmt]}", fmt)


def test_an_existing_file_is_never_opened_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    raw = tmp_path / "a.raw"
    raw.write_bytes(bytes(300))
    path.write_bytes(b"somebody's")
    with pytest.raises(FileExistsError):
        encode.encode(raw, path, Encoding(Format.PNG, 10, 10, 3, 8, 95, True, Metadata(), None))
    assert path.read_bytes() == b"somebody's"


@pytest.mark.parametrize("fmt", [Format.JPEG, Format.AVIF])
def test_what_always_loses_something_is_not_asked_for_every_level(tmp_path: Path, fmt: Format) -> None:
    """The output of a lossless WebP, say."""
    pixels = noise(64, 64, 3)
    assert encoded(pixels, tmp_path / f"a{fmt.suffixes[0]}", fmt, lossless=True).size > 0


@pytest.mark.parametrize(("limit", "start"), [(20 * 30 * 3, b"II*\0"), (20 * 30 * 3 - 1, b"II+\0")])
def test_a_tiff_file_that_may_pass_4_gb_is_a_bigtiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, start: bytes
) -> None:
    monkeypatch.setattr(encode, "_BIGTIFF_FROM_BYTES", limit)
    encoded(noise(20, 30, 3), tmp_path / "a.tif", Format.TIFF)
    assert (tmp_path / "a.tif").read_bytes()[:4] == start


@pytest.mark.parametrize("fmt", [Format.JPEG, Format.AVIF])
def test_colours_keep_their_whole_resolution(tmp_path: Path, fmt: Format) -> None:
    """Half of it, which codecs take by themselves, is the first thing that shows on an enlargement."""
    pixels = np.empty((64, 64, 3), np.uint8)
    pixels[:, ::2], pixels[:, 1::2] = (200, 60, 60), (60, 60, 200)
    path = tmp_path / f"a{fmt.suffixes[0]}"
    encoded(pixels, path, fmt)
    found = pyvips.Image.new_from_file(str(path)).numpy()
    assert np.abs(found.astype(int) - pixels).mean() < 8
