"""Colours: profiles come back byte for byte, what they say stays true, and what cannot be kept is told."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image, ImageCms
from skimage import color, transform

from srbatch import profiles
from srbatch.formats import Format
from tests.conftest import Originals, crop, sample
from tests.networks import upscaled

D50 = (0.9642, 1.0, 0.8249)
# XYZ of red, green and blue adapted to D50, and a gamma: of SMPTE EG 432-1, Adobe RGB (1998), ROMM RGB.
SPACES: dict[str, tuple[tuple[profiles.Column, profiles.Column, profiles.Column], float]] = {
    "Display P3": (((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)), 2.2),
    "Adobe RGB": (((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)), 563 / 256),
    "ProPhoto": (((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249)), 1.8),
}


def profile(name: str) -> bytes | None:
    if name == "none":
        return None
    if name == "sRGB":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profiles.matrix_profile(name, *SPACES[name])


def grey_profile() -> bytes:
    """A profile of one curve with a gamma of 1.8, made from an RGB one's parts."""
    rgb = profiles.matrix_profile("grey", *SPACES["ProPhoto"])
    assert rgb.count(b"rTRC") == 1
    return rgb.replace(b"RGB XYZ ", b"GRAYXYZ ").replace(b"rTRC", b"kTRC")


def lab(pixels: np.ndarray, name: str) -> np.ndarray:
    """(H, W, 3) numbers in [0, 1] to CIE Lab, by the definition of the space and no colour engine."""
    if name in ("none", "sRGB"):
        return color.rgb2lab(pixels)
    primaries, gamma = SPACES[name]
    return color.xyz2lab(pixels.clip(0) ** gamma @ np.array(primaries), illuminant="D50")


def reduced(pixels: np.ndarray, times: int) -> np.ndarray:
    return transform.downscale_local_mean(pixels.astype(float), (times, times, 1))


def icc_of(path: Path) -> bytes | None:
    with Image.open(path) as image:
        found: bytes | None = image.info.get("icc_profile")
        return found


@pytest.mark.parametrize("name", ["none", "sRGB", *SPACES])
def test_colours_and_profile_stay(originals: Originals, tmp_path: Path, name: str) -> None:
    icc = profile(name)
    photo = crop(96, 128, name="flower.jpg", top=150, left=200)
    for suffix, how in (("png", {}), ("tif", {}), ("jpg", {"quality": 98, "subsampling": 0}), ("webp", {})):
        photo.save(originals.folder / f"a.{suffix}", icc_profile=icc, **how)
    deep = np.asarray(photo).astype(np.uint16) * 257
    tags = [(34675, "B", len(icc), icc, True)] if icc else []
    tifffile.imwrite(originals.folder / "deep.tif", deep, photometric="rgb", extratags=tags)
    originals.remember()
    outcomes = upscaled(originals.folder, tmp_path / "hi", quality=98)
    assert len(outcomes) == 5
    for path in sorted(originals.folder.iterdir()):
        assert (outcomes[path.name].status, outcomes[path.name].notes) == ("done", ())
        made = tmp_path / "hi" / path.name
        before, after = (pyvips.Image.new_from_file(str(p)).numpy() for p in (path, made))
        top = np.iinfo(before.dtype).max
        error = color.deltaE_ciede2000(
            lab(reduced(before, 4) / top, name), lab(reduced(after, 8) / top, name)
        ).mean()
        limit = 0.4 if path.suffix == ".webp" else 0.3  # lossy WebP has half the colour resolution
        assert error < limit, (path.name, error)
        assert icc_of(made) == icc


def test_a_grey_profile_stays(originals: Originals, tmp_path: Path) -> None:
    icc = grey_profile()
    for suffix in ("png", "tif", "jpg"):
        crop().convert("L").save(originals.folder / f"a.{suffix}", icc_profile=icc)
    originals.remember()
    outcomes = upscaled(originals.folder, tmp_path / "hi")
    for name, outcome in outcomes.items():
        assert (outcome.status, outcome.notes) == ("done", ()), outcome
        assert icc_of(tmp_path / "hi" / name) == icc
    refused = upscaled(originals.folder, tmp_path / "webp", format=Format.WEBP)
    assert {outcome.error for outcome in refused.values()} == {"UnsupportedPhoto"}
    assert all("grey" in outcome.reason and "--format png" in outcome.reason for outcome in refused.values())


DAMAGED = {
    "no profile at all": b"hello" * 100,
    "cut off": profiles.wide_rgb()[:-40],
    "cut off and its size corrected": (len(profiles.wide_rgb()) - 60).to_bytes(4, "big")
    + profiles.wide_rgb()[4:-60],
    "of unknown version": b"".join([profiles.wide_rgb()[:8], b"\xff", profiles.wide_rgb()[9:]]),
    "few bytes": b"xyz",
}


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_a_broken_profile_costs_itself(originals: Originals, tmp_path: Path, case: str, suffix: str) -> None:
    crop().save(originals.folder / f"a.{suffix}", icc_profile=DAMAGED[case])
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", 1).values()
    assert outcome.status == "done", outcome
    assert "colour profile is damaged" in outcome.notes[0]
    assert icc_of(tmp_path / "hi" / f"a.{suffix}") is None


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_profile_for_other_colours_costs_itself(originals: Originals, tmp_path: Path, suffix: str) -> None:
    crop().convert("L").save(originals.folder / f"a.{suffix}", icc_profile=profiles.wide_rgb())
    crop().save(originals.folder / f"b.{suffix}", icc_profile=grey_profile())
    originals.remember()
    outcomes = upscaled(originals.folder, tmp_path / "hi", 1)
    for name, (has, is_for) in {"a": ("grey", "RGB"), "b": ("RGB", "grey")}.items():
        outcome = outcomes[f"{name}.{suffix}"]
        assert outcome.status == "done", outcome
        assert outcome.notes == (
            f"the colour profile is for {is_for} and the picture is {has}: it was not carried",
        )


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_bytes_behind_a_profile_do_not_harm(originals: Originals, tmp_path: Path, suffix: str) -> None:
    icc = profiles.wide_rgb()
    crop().save(originals.folder / f"a.{suffix}", icc_profile=icc + bytes(3))
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", 1, format=Format.PNG).values()
    assert (outcome.status, outcome.notes) == ("done", ())
    assert icc_of(next((tmp_path / "hi").glob("a.*"))) == icc


def test_the_profile_that_we_make_is_sound() -> None:
    made = ImageCms.ImageCmsProfile(BytesIO(profiles.wide_rgb()))
    assert ImageCms.getProfileDescription(made).strip() == "Compatible with Adobe RGB (1998)"
    assert np.abs(np.array(made.profile.red_colorant[0]) - (0.60974, 0.31111, 0.01947)).max() < 1e-4
    assert made.profile.media_white_point[0] == pytest.approx(D50, abs=1e-4)


# ---- gamma in PNG ----------------------------------------------------------------------------------


def test_png_gamma_stays_beside_untouched_pixels(originals: Originals, tmp_path: Path) -> None:
    data = BytesIO()
    crop().save(data, "PNG")
    chunk = b"gAMA" + (100_000).to_bytes(4, "big")
    framed = (4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (originals.folder / "a.png").write_bytes(data.getvalue()[:33] + framed + data.getvalue()[33:])
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", 1).values()
    assert (outcome.status, outcome.notes) == ("done", ())
    assert framed in (tmp_path / "hi" / "a.png").read_bytes()
    with Image.open(tmp_path / "hi" / "a.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(crop()))
    (refused,) = upscaled(originals.folder, tmp_path / "jpeg", 1, format=Format.JPEG).values()
    assert refused.error == "UnsupportedPhoto"
    assert "gamma is 1 " in refused.reason


# ---- CMYK ------------------------------------------------------------------------------------------


def press() -> bytes:
    """libvips' own CMYK profile."""
    found = pyvips.Operation.call("profile_load", "cmyk")
    return bytes(found)


def inks(height: int, width: int) -> np.ndarray:
    """A photograph in the four inks of :func:`press`."""
    photo = pyvips.Image.new_from_array(
        np.ascontiguousarray(sample("flower.jpg")[100 : 100 + height, 150 : 150 + width])
    )
    return photo.copy(interpretation="srgb").icc_transform("cmyk", input_profile="srgb").numpy()


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize("with_profile", [True, False])
def test_cmyk_looks_the_same_in_rgb(
    originals: Originals, tmp_path: Path, suffix: str, with_profile: bool
) -> None:
    icc = press() if with_profile else None
    cmyk = inks(96, 128)
    source = originals.folder / f"a.{suffix}"
    how = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    Image.fromarray(cmyk, "CMYK").save(source, icc_profile=icc, **how)
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", 2, quality=98).values()
    assert outcome.status == "done", outcome
    assert "CMYK colours were converted to RGB" in outcome.notes[0]
    assert any("common press" in note for note in outcome.notes) is not with_profile
    made = tmp_path / "hi" / source.name
    assert icc_of(made) == profiles.wide_rgb()
    # By another door into the colour engine, and to numbers that no profile's table rounds.
    to_lab = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(BytesIO(press())),
        ImageCms.ImageCmsProfile(BytesIO(profiles.wide_rgb())),
        "CMYK",
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    with Image.open(source) as image:
        expected = np.asarray(ImageCms.applyTransform(image, to_lab))
    with Image.open(made) as image:
        result = np.asarray(image)
    error = color.deltaE_ciede2000(
        lab(reduced(expected, 4) / 255, "Adobe RGB"), lab(reduced(result, 8) / 255, "Adobe RGB")
    ).mean()
    assert error < 0.3


def test_cmyk_of_16_bits(originals: Originals, tmp_path: Path) -> None:
    deep = inks(40, 50).astype(np.uint16) * 257
    tifffile.imwrite(originals.folder / "a.tif", deep, photometric="separated")
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", 1).values()
    assert outcome.status == "done", outcome
    result = tifffile.imread(tmp_path / "hi" / "a.tif")
    assert (result.dtype, result.shape) == (np.uint16, (40, 50, 3))
