"""Colours: profiles come back byte for byte, what they say stays true, and what cannot be kept is told."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image, ImageCms
from skimage import color, transform

from srbatch.formats import Format
from srbatch.metadata import profiles
from tests.conftest import Originals, crop, sample
from tests.files import SHORT, block, inks, press, raw_profile, splice
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


def test_a_profile_that_a_png_file_keeps_as_text_is_one(originals: Originals, tmp_path: Path) -> None:
    for name, icc in (("sound", profiles.wide_rgb()), ("broken", DAMAGED["cut off"])):
        crop().save(path := originals.folder / f"{name}.png")
        path.write_bytes(splice(path.read_bytes(), 33, raw_profile("icc", icc)))
    originals.remember()
    outcomes = upscaled(originals.folder, tmp_path / "hi", 1)
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    assert icc_of(tmp_path / "hi" / "sound.png") == profiles.wide_rgb()
    assert icc_of(tmp_path / "hi" / "broken.png") is None
    assert (outcomes["sound.png"].notes, len(outcomes["broken.png"].notes)) == ((), 1)
    assert "colour profile is damaged" in outcomes["broken.png"].notes[0]
    for path in (tmp_path / "hi").glob("*.png"):
        assert b"Raw profile" not in path.read_bytes()


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


# ---- Adobe RGB by EXIF alone ------------------------------------------------------------------------


def dcf(space: int, index: str) -> Image.Exif:
    """EXIF data as a camera writes them, with a colour space and the index of the interoperability rules."""
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8769).update({0xA001: space, 0xA005: {1: index, 2: b"0100"}})
    return exif


@pytest.mark.parametrize("fmt", [None, Format.PNG, Format.TIFF, Format.WEBP])
def test_adobe_rgb_that_exif_alone_tells_of_gets_its_profile(
    originals: Originals, tmp_path: Path, fmt: Format | None
) -> None:
    exif = dcf(0xFFFF, "R03")
    crop().save(originals.folder / "a.jpg", exif=exif)
    crop().convert("L").save(originals.folder / "grey.jpg", exif=exif)
    crop().save(originals.folder / "own.jpg", exif=exif, icc_profile=profile("ProPhoto"))
    originals.remember()
    outcomes = upscaled(originals.folder, tmp_path / "out", format=fmt)
    profile_of = {name: icc_of(outcome.photo.target) for name, outcome in outcomes.items()}
    assert profile_of == {"a.jpg": profiles.wide_rgb(), "grey.jpg": None, "own.jpg": profile("ProPhoto")}
    told = {
        name for name, outcome in outcomes.items() if any("Adobe RGB by EXIF" in n for n in outcome.notes)
    }
    assert told == {"a.jpg"}


@pytest.mark.parametrize(("space", "index"), [(1, "R98"), (0xFFFF, "R98"), (1, "R03")])
def test_other_colours_by_exif_get_no_profile(
    originals: Originals, tmp_path: Path, space: int, index: str
) -> None:
    crop().save(originals.folder / "a.jpg", exif=dcf(space, index))
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "out").values()
    assert icc_of(outcome.photo.target) is None
    assert not outcome.notes


# ---- CMYK ------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("fmt", [None, Format.TIFF, Format.PNG])
def test_exif_no_longer_tells_of_inks(originals: Originals, tmp_path: Path, fmt: Format | None) -> None:
    """Nor of sRGB, which editors write there whatever they convert to."""
    eight = struct.pack("<4H", 8, 8, 8, 8)
    extra = [(0x0106, SHORT, 1, b"\5\0"), (0x0115, SHORT, 1, b"\4\0"), (0x0102, SHORT, 4, eight)]
    extra += [(0x012D, SHORT, 768, bytes(1536)), (0x014C, SHORT, 1, b"\1\0")]
    source = bytearray(block(extra=extra))
    # The size is in the way, and no matter here.
    at = source.index(struct.pack("<HHII", 0xA002, SHORT, 1, 640))
    source[at : at + 12] = struct.pack("<HHII", 0xA001, SHORT, 1, 1)
    Image.fromarray(inks(96, 128), "CMYK").save(originals.folder / "a.jpg", exif=b"Exif\0\0" + source)
    crop().save(originals.folder / "rgb.jpg", exif=b"Exif\0\0" + source)
    originals.remember()
    outcomes = upscaled(originals.folder, tmp_path / "out", format=fmt)
    with Image.open(outcomes["a.jpg"].photo.target) as image:
        found = image.getexif()
        assert found[0x010F] == "Camera"
        assert found.get_ifd(0x8769)[0xA001] == 0xFFFF
        stored = {0x0102, 0x0106, 0x0115} if fmt is Format.TIFF else set()
        assert found.keys() & {0x0102, 0x0106, 0x0115, 0x012D, 0x014C} == stored
        assert found.get(0x0106, 2) == 2
    with Image.open(outcomes["rgb.jpg"].photo.target) as image:
        assert image.getexif().get_ifd(0x8769)[0xA001] == 1
        assert 0x012D in image.getexif(), "it holds for colours that stay"


def test_cmyk_of_16_bits(originals: Originals, tmp_path: Path) -> None:
    deep = inks(40, 50).astype(np.uint16) * 257
    tifffile.imwrite(originals.folder / "a.tif", deep, photometric="separated")
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", 1).values()
    assert outcome.status == "done", outcome
    result = tifffile.imread(tmp_path / "hi" / "a.tif")
    assert (result.dtype, result.shape) == (np.uint16, (40, 50, 3))


def jpeg_of_inks(cmyk: np.ndarray, transform: int | None) -> bytes:
    """A JPEG file of four inks (H, W, 4), 255 being full ink; in the file 0 is, as Photoshop writes it.

    ``transform`` is that of the Adobe marker: 0 for CMYK, 2 for YCCK; None leaves the marker out.
    """
    stored = 255 - cmyk
    if transform == 2:  # 255 less the first three, as if it were RGB, becomes YCbCr; K stays
        ycc = Image.fromarray(np.ascontiguousarray(255 - stored[:, :, :3])).convert("YCbCr")
        stored = np.concatenate([np.asarray(ycc), stored[:, :, 3:]], axis=2)
    data = BytesIO()
    # Pillow writes four channels as they are, but for an inversion that is taken back here.
    Image.fromarray(255 - np.ascontiguousarray(stored), "CMYK").save(data, "JPEG", quality=100, subsampling=0)
    segments = data.getvalue()
    at = segments.index(b"\xff\xee\0\x0eAdobe")
    marker = segments[at : at + 15] + bytes([transform]) if transform is not None else b""
    return segments[:at] + marker + segments[at + 16 :]


@pytest.mark.parametrize("transform", [0, 2, None], ids=["CMYK", "YCCK", "without a marker"])
def test_inks_of_jpeg_are_inverted_and_those_of_tiff_are_not(
    originals: Originals, tmp_path: Path, transform: int | None
) -> None:
    """Without Adobe's marker nothing says so; libvips, Pillow and OpenCV take it so all the same."""
    cmyk = inks(96, 128)
    (originals.folder / "a.jpg").write_bytes(jpeg_of_inks(cmyk, transform))
    Image.fromarray(cmyk, "CMYK").save(originals.folder / "b.tif")
    originals.remember()
    outcomes = upscaled(originals.folder, tmp_path / "hi", 1, format=Format.PNG)
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    first, second = (np.asarray(Image.open(tmp_path / "hi" / name)) for name in ("a.jpg.png", "b.tif.png"))
    assert np.abs(first.astype(int) - second).mean() < 1.5


# ---- linear light ----------------------------------------------------------------------------------


def linear_photo(height: int, width: int) -> np.ndarray:
    """A photograph in numbers of 16 bits that are in proportion to light, in sRGB's primaries."""
    photo = sample("flower.jpg")[150 : 150 + height, 200 : 200 + width] / 255
    return (np.where(photo <= 0.04045, photo / 12.92, ((photo + 0.055) / 1.055) ** 2.4) * 65_535).round()


SRGB_PRIMARIES = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))


def save_linear(pixels: np.ndarray, path: Path, icc: bytes) -> None:
    image = pyvips.Image.new_from_array(np.ascontiguousarray(pixels.astype(np.uint16)))
    image = image.copy(interpretation="rgb16" if pixels.shape[2] == 3 else "grey16")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)
    image.write_to_file(str(path))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("kind", ["RGB", "grey"])
def test_linear_light_comes_back_linear(originals: Originals, tmp_path: Path, suffix: str, kind: str) -> None:
    pixels = linear_photo(96, 128)
    icc = profiles.matrix_profile("linear", SRGB_PRIMARIES, 1.0)
    if kind == "grey":
        pixels, icc = pixels[:, :, 1:2], profiles.grey_profile("linear", 1.0)
    save_linear(pixels, originals.folder / f"a.{suffix}", icc)
    originals.remember()
    for scale in (1, 2):
        (outcome,) = upscaled(originals.folder, tmp_path / str(scale), scale).values()
        assert (outcome.status, outcome.notes) == ("done", ())
        assert icc_of(tmp_path / str(scale) / f"a.{suffix}") == icc
    same, large = (
        pyvips.Image.new_from_file(str(tmp_path / f"{scale}" / f"a.{suffix}"))
        .numpy()
        .reshape(96 * scale, -1, pixels.shape[2])
        for scale in (1, 2)
    )
    assert np.abs(same - pixels).max() <= 1
    before, after = (
        np.broadcast_to(reduced(p, n) / 65_535, (24, 32, 3)) for p, n in ((pixels, 4), (large, 8))
    )
    error = color.deltaE_ciede2000(
        *(color.xyz2lab(p @ np.array(SRGB_PRIMARIES), "D50") for p in (before, after))
    )
    assert error.mean() < 0.3


def test_an_edge_in_linear_light_gets_no_dark_halo(originals: Originals, tmp_path: Path) -> None:
    """Seen in lightness, the dark side of an edge dips no lower than that of the same edge encoded."""
    edge = np.full((48, 64, 3), 0.02)
    edge[:, 32:] = 0.8
    encoded = (edge ** (1 / profiles.GAMMA) * 65_535).round()
    save_linear(
        (edge * 65_535).round(),
        originals.folder / "linear.png",
        profiles.matrix_profile("l", SRGB_PRIMARIES, 1.0),
    )
    save_linear(
        encoded,
        originals.folder / "encoded.png",
        profiles.matrix_profile("e", SRGB_PRIMARIES, profiles.GAMMA),
    )
    originals.remember()
    upscaled(originals.folder, tmp_path / "hi", 4)
    dips = {}
    for name, power in (("linear", 1.0), ("encoded", profiles.GAMMA)):
        made = pyvips.Image.new_from_file(str(tmp_path / "hi" / f"{name}.png")).numpy() / 65_535
        dips[name] = color.xyz2lab(made**power @ np.array(SRGB_PRIMARIES), "D50")[..., 0].min()
    assert dips["linear"] == pytest.approx(dips["encoded"], abs=0.1)


@pytest.mark.parametrize("fmt", [Format.JPEG, Format.AVIF])
def test_linear_light_is_encoded_where_bits_are_few(
    originals: Originals, tmp_path: Path, fmt: Format
) -> None:
    pixels = linear_photo(96, 128)
    save_linear(pixels, originals.folder / "a.tif", profiles.matrix_profile("flat", SRGB_PRIMARIES, 1.0))
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", 1, format=fmt, quality=98).values()
    assert any("linear numbers" in note and "gamma 2.2" in note for note in outcome.notes)
    made = tmp_path / "hi" / f"a.tif{fmt.suffixes[0]}"
    icc = icc_of(made)
    assert icc is not None
    assert profiles.description(icc) == "flat, encoded with gamma 2.2"
    assert not profiles.is_linear(icc)
    with Image.open(made) as image:
        found = np.asarray(image.convert("RGB")) / 255
    before, after = (
        color.xyz2lab(reduced(p, 4) @ np.array(SRGB_PRIMARIES), "D50")
        for p in (pixels / 65_535, found**profiles.GAMMA)
    )
    assert color.deltaE_ciede2000(before, after).mean() < 0.6  # the loss of the format itself is in it


def test_linear_png_without_a_profile(originals: Originals, tmp_path: Path) -> None:
    pixels = linear_photo(40, 50).astype(np.uint16)
    pyvips.Image.new_from_array(pixels).copy(interpretation="rgb16").pngsave(str(originals.folder / "a.png"))
    data = (originals.folder / "a.png").read_bytes()
    chunk = b"gAMA" + (100_000).to_bytes(4, "big")
    framed = (4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (originals.folder / "a.png").write_bytes(data[:33] + framed + data[33:])
    originals.remember()
    (outcome,) = upscaled(originals.folder, tmp_path / "hi", 1).values()
    assert (outcome.status, outcome.notes) == ("done", ())
    assert framed in (tmp_path / "hi" / "a.png").read_bytes()
    found = pyvips.Image.new_from_file(str(tmp_path / "hi" / "a.png")).numpy()
    assert 0 < np.abs(found.astype(int) - pixels).max() <= 1  # it was encoded and made linear again


@pytest.mark.parametrize(
    ("curve", "linear", "kind"),
    [
        (b"curv" + bytes(8), True, "RGB, matrix, gamma 1"),
        (b"curv" + bytes(4) + b"\0\0\0\1\1\0", True, "RGB, matrix, gamma 1"),
        (b"curv" + bytes(4) + b"\0\0\0\2\0\0\xff\xff", True, "RGB, matrix, curve"),
        (b"curv" + bytes(4) + b"\0\0\0\3\0\0\x30\0\xff\xff", False, "RGB, matrix, curve"),
        (b"curv" + bytes(4) + b"\0\0\0\1\2\x33", False, "RGB, matrix, gamma 2.2"),
        (b"para" + bytes(4) + b"\0\0\0\0\0\1\0\0", True, "RGB, matrix, gamma 1"),
        (b"para" + bytes(4) + b"\0\0\0\0\xff\xff\0\0", False, "RGB"),
        (b"para" + bytes(4) + b"\0\x09\0\0\0\1\0\0", False, "RGB"),
        (b"curv" + bytes(4) + b"\xff\xff\xff\xff\0\0", False, "RGB"),
        (b"", False, "RGB"),
    ],
    ids=str,
)
def test_which_curves_are_linear(curve: bytes, linear: bool, kind: str) -> None:
    icc = profiles._profile(
        b"RGB ", "x", dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve or b"\x00\x00\x00\x00")
    )
    assert profiles.is_linear(icc) is linear
    assert profiles.kind(icc) == kind


def test_srgb_is_not_linear() -> None:
    assert not profiles.is_linear(profile("sRGB") or b"")
    assert not profiles.is_linear(press())
    assert profiles.kind(press()) == "CMYK, table"
